"""The toy service: a copy in a folder of its own, and ``mlservice`` run on it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SERVICE = ROOT / "<<cookiecutter.service_slug>>"
TOY = Path(__file__).resolve().parent / "toy"
PERIOD = "2024-01-02T00"


def clean_environ() -> dict[str, str]:
    """The environment without what could change a command's meaning in a test.

    What Python compiles and mypy has checked lies in one place for all tests, outside of every
    rendered tree; each of the processes that share the tests has a cache of mypy of its own.
    """
    dropped = (
        "GIT_", "MLSERVICE_", "COOKIECUTTER_", "COPIER_", "PYTHONPATH", "NOMAD_", "CONSUL_",
        "PACT_", "CI_COMMIT_",
    )  # fmt: skip
    kept = {key: value for key, value in os.environ.items() if not key.startswith(dropped)}
    process = os.environ.get("PYTEST_XDIST_WORKER", "alone")
    return {
        **kept,
        "PYTHONPYCACHEPREFIX": str(ROOT / ".cache" / "pycache"),
        "MYPY_CACHE_DIR": str(ROOT / ".cache" / "mypy-services" / process),
    }


@dataclass(frozen=True)
class Toy:
    """A copy of the toy service in a folder of its own."""

    folder: Path
    environ: dict[str, str] = field(default_factory=dict)

    def run(self, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
        """Run ``mlservice`` with ``arguments`` to its end."""
        return subprocess.run(
            [sys.executable, "-m", "mlservice", *arguments],
            cwd=self.folder,
            env={**self.environ, **environ},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    def start(self, *arguments: str, **environ: str) -> subprocess.Popen[str]:
        """Start ``mlservice`` with ``arguments``."""
        return subprocess.Popen(
            [sys.executable, "-m", "mlservice", *arguments],
            cwd=self.folder,
            env={**self.environ, **environ},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def train(self, **parameters: object) -> str:
        """Make a model; returns its URI."""
        settings = [f"--set={name}={value}" for name, value in parameters.items()]
        result = self.run("pipeline", "run", "--period", PERIOD, *settings)
        assert result.returncode == 0, result.stderr
        lines = [line for line in result.stdout.splitlines() if line.startswith("artifact")]
        return lines[0].split()[1]


MakeToy = Callable[[], Toy]
