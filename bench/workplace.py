"""Makes the service to measure: rendered and trained in a folder of its own, with real requests.

The template is first copied to a repository with one commit. So the result does not depend on the
history, the ignored files or the branch of the person who runs the bench.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.errors import BenchError

ROOT = Path(__file__).parents[1]
SLUG = "bench-flight-delay"
_MIN_REQUESTS = 1000
_COMMITTER = ("-c", "user.name=bench", "-c", "user.email=bench@localhost")


@dataclass(frozen=True)
class Workplace:
    """The files of a run; ``bodies`` are requests as JSON.

    ``bare`` are the same requests without the field that an upstream adds.
    """

    folder: Path
    service: Path
    model: Path
    bodies: tuple[bytes, ...]
    bare: tuple[bytes, ...]
    expected: tuple[float, ...]


def environment(extra: Mapping[str, str]) -> dict[str, str]:
    """Return the environment for processes, without variables for git and for settings."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("GIT_", "MLSERVICE_"))}
    return {**kept, **extra}


def service_environment(service: Path, extra: Mapping[str, str]) -> dict[str, str]:
    """Return the environment in which a rendered service runs from its source."""
    return environment({"PYTHONPATH": f"{service / 'src'}{os.pathsep}{ROOT}", **extra})


def run(command: list[str], folder: Path, environ: Mapping[str, str]) -> str:
    """Return standard output of ``command``; raises ``BenchError`` with its last lines."""
    done = subprocess.run(
        command, cwd=folder, env=dict(environ), capture_output=True, text=True, check=False
    )
    if done.returncode:
        words = "\n".join((done.stdout + done.stderr).strip().splitlines()[-15:])
        raise BenchError(f"{' '.join(command)} ended with {done.returncode}:\n{words}")
    return done.stdout


def copy_template(target: Path) -> Path:
    """Copy the working tree of the template to a repository with one commit in ``target``."""
    listed = run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        ROOT,
        environment({}),
    )
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target / name, follow_symlinks=False)
    commit_all(target)
    return target


def commit_all(folder: Path) -> None:
    """Make ``folder`` a repository with one commit."""
    for arguments in (("init", "--quiet"), ("add", "--all"), ("commit", "--quiet", "-m", "bench")):
        run(["git", *_COMMITTER, *arguments], folder, environment({}))


def make_workplace(folder: Path, template: Path) -> Workplace:
    """Render a service with cookiecutter, train its model and collect real requests."""
    from cookiecutter.main import cookiecutter

    service = Path(
        cookiecutter(
            str(template),
            no_input=True,
            default_config=True,
            output_dir=str(folder),
            extra_context={"service_slug": SLUG, "framework": "lightgbm"},
        )
    )
    environ = service_environment(service, {})
    python = [sys.executable, "-m"]
    print(f"training the model of the rendered service in {service} ...", flush=True)
    run([*python, "mlservice", "pipeline", "run", "--period", "2013-10-07"], service, environ)
    run([*python, "bench.inside", str(folder)], service, environ)
    return _read(folder, service)


def _read(folder: Path, service: Path) -> Workplace:
    found: dict[str, Any] = json.loads((folder / "requests.json").read_text("utf-8"))
    bodies = tuple(body.encode() for body in found["bodies"])
    if len(set(bodies)) < _MIN_REQUESTS:
        raise BenchError(
            f"only {len(set(bodies))} different requests, not {_MIN_REQUESTS}: let samples() in "
            "data.py return more"
        )
    model = folder / "model" / "model.txt"
    bare = tuple(map(_without_weather, bodies))
    return Workplace(folder, service, model, bodies, bare, tuple(found["expected"]))


def _without_weather(body: bytes) -> bytes:
    request = json.loads(body)
    request.pop("weather", None)
    return json.dumps(request, separators=(",", ":")).encode()
