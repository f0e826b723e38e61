"""What the template's tests share: fresh toy services."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from template_tests.support.laws import load_profile
from template_tests.support.rendered_service import installed
from template_tests.support.rendering import cookiecutter, template_repository
from template_tests.support.toy_service import SERVICE, TOY, MakeToy, Toy, clean_environ

load_profile()

# Disables pact's telemetry.
os.environ["PACT_DO_NOT_TRACK"] = "true"


LONGEST = (
    "test_service_commands.py",
    "test_catboost_service.py",
    "test_sklearn_service.py",
    "test_commit_checks.py",
    "test_upgrade.py",
    "test_dispatched_jobs.py",
    "test_pipeline.py",
    "test_rendering.py",
    "test_grid.py",
    "test_queue.py",
    "test_model_reload.py",
    "test_rendered_service.py",
    "test_hdfs_store.py",
)
"""Files that take longest; they begin first, so that no process ends long after the others."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the longest files first."""
    items.sort(key=lambda item: _rank(item.path.name))


def _rank(name: str) -> int:
    return LONGEST.index(name) if name in LONGEST else len(LONGEST)


@pytest.fixture(scope="session")
def make_toy(tmp_path_factory: pytest.TempPathFactory) -> MakeToy:
    """Makes fresh copies of the toy service."""

    def make() -> Toy:
        folder = tmp_path_factory.mktemp("toy") / "toy"
        shutil.copytree(TOY, folder)
        path = os.pathsep.join([str(SERVICE / "src"), str(folder / "src")])
        return Toy(folder, {**clean_environ(), "PYTHONPATH": path})

    return make


@pytest.fixture
def toy(make_toy: MakeToy) -> Toy:
    """A fresh toy service."""
    return make_toy()


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A git repository of the template's working tree."""
    return template_repository(tmp_path_factory.mktemp("template"))


@pytest.fixture(scope="session")
def service(template: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A service with the default answers, installed by its own `make setup`."""
    folder = tmp_path_factory.mktemp("life")
    assert cookiecutter(template, folder, {}).returncode == 0
    return installed(folder / "flight-delay")
