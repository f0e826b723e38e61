"""Fixtures for all tests: the service's settings and the model of its demo period.

The model is trained once and then read from the artifact store, like any artifact. A change of its
code gives the artifact another name, so the model is trained again.
"""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings as hypothesis_settings

from mlservice.artifacts import Artifact, Store, open_store
from mlservice.contracts import Contract
from mlservice.demo.samples import demo_period
from mlservice.local import LocalService, free_ports
from mlservice.owner import RequestCode, load_model_code, load_request_code
from mlservice.pipeline import parse_period
from mlservice.pipeline.run import make_executor, root_task, run_pipeline
from mlservice.settings import Settings, load_settings
from mlservice.worker.slot import ModelSlot, load_slot

FOLDER = Path(__file__).resolve().parent.parent

hypothesis_settings.register_profile("default", deadline=None, derandomize=True, max_examples=100)
hypothesis_settings.register_profile("nightly", deadline=None, max_examples=5000)
hypothesis_settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))

# Disables pact's telemetry.
os.environ["PACT_DO_NOT_TRACK"] = "true"


@pytest.fixture(scope="session")
def environ() -> dict[str, str]:
    """The environment, with artifacts on this machine, whichever store service.toml names."""
    return {**os.environ, "MLSERVICE_ARTIFACTS__ROOT": ".mlservice/artifacts"}


@pytest.fixture(scope="session")
def settings(environ: dict[str, str]) -> Settings:
    return load_settings(FOLDER, environ)


@pytest.fixture(scope="session")
def store(settings: Settings) -> Store:
    return open_store(settings.artifact_root)


@pytest.fixture(scope="session")
def request_side(settings: Settings) -> RequestCode:
    return load_request_code(settings.service.package)


@pytest.fixture(scope="session")
def request_contract(settings: Settings) -> Contract:
    return Contract.load(settings.contracts / "request.schema.json")


@pytest.fixture(scope="session")
def response_contract(settings: Settings) -> Contract:
    return Contract.load(settings.contracts / "response.schema.json")


@pytest.fixture(scope="session")
def model(settings: Settings, store: Store, environ: dict[str, str]) -> Artifact:
    """The model of the demo period."""
    period = parse_period(demo_period(settings.service.package), settings.pipeline.retrain_every)
    task = root_task(settings, store, make_executor(settings, store, environ), period, {})
    return run_pipeline(task, settings.pipeline.workers).artifact


@pytest.fixture(scope="session")
def slot(settings: Settings, model: Artifact) -> ModelSlot:
    """The model, loaded as a worker loads it."""
    return load_slot(model, load_model_code(settings.service.package))


@pytest.fixture(scope="session")
def service(
    settings: Settings,
    environ: dict[str, str],
    model: Artifact,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[LocalService]:
    """Gateway and worker as processes, with that model."""
    logs = tmp_path_factory.mktemp("logs")
    with LocalService(settings.folder, free_ports(environ), model.uri, logs) as running:
        yield running
