"""import-linter finds each kind of import that the platform's contracts forbid.

The owner's side is planted in a rendered service: `rendered/test_commit_checks.py`.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from template_tests.support.toy_service import SERVICE
from tools.imports import check

PLANTED = {
    "a layer imports one above it": (
        {"settings.py": "import mlservice.gateway\n"},
        "Imports of the platform go one way",
        "mlservice.settings is not allowed to import mlservice.gateway",
    ),
    "a new package is in no layer": (
        {"extra/__init__.py": ""},
        "Imports of the platform go one way",
        "mlservice.extra",
    ),
    "packages import each other": (
        {
            "live/extra.py": "import mlservice.cluster\n",
            "cluster/extra.py": "import mlservice.live\n",
        },
        "No packages of the platform import each other",
        "mlservice.live",
    ),
    "modules of a package import each other": (
        {"live/one.py": "from . import two\n", "live/two.py": "from . import one\n"},
        "No packages of the platform import each other",
        ".two -> .one",
    ),
    "a command imports what tests use": (
        {"cli/api.py": "import mlservice.testing\n"},
        "Only tests import mlservice.testing",
        "mlservice.cli.api -> mlservice.testing",
    ),
    "the queue imports the gateway": (
        {"queue/extra.py": "import mlservice.gateway.app\n"},
        "Gateway, queue, worker and pipeline stay apart",
        "mlservice.queue is not allowed to import mlservice.gateway",
    ),
}


@pytest.mark.parametrize("case", PLANTED)
def test_a_planted_import_breaks_its_contract(tmp_path: Path, case: str) -> None:
    files, contract, words = PLANTED[case]
    package = tmp_path / "src" / "mlservice"
    shutil.copytree(SERVICE / "src" / "mlservice", package)
    for name, text in files.items():
        (package / name).parent.mkdir(exist_ok=True)
        with (package / name).open("a", encoding="utf-8") as file:
            file.write(text)
    result = check(tmp_path / "src", tmp_path)
    assert result.returncode == 1, result.stderr
    assert f"{contract} BROKEN" in result.stdout
    assert words in result.stdout


def test_the_platform_keeps_its_contracts(tmp_path: Path) -> None:
    result = check(SERVICE / "src", tmp_path)
    assert result.returncode == 0, result.stdout
    assert "0 broken" in result.stdout
