"""A service to measure: rendered, trained and asked for its real requests, in a folder of its own.

The template is copied to a repository with one commit first, so that what is measured does not
depend on the history, the ignored files or the branch of whoever runs the bench.
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
_FEWEST_REQUESTS = 1000
_COMMITTER = ("-c", "user.name=bench", "-c", "user.email=bench@localhost")


@dataclass(frozen=True)
class Workplace:
    """Where the parts of a run lie; ``bodies`` has one request's JSON a line.

    ``bare`` are the same without what an upstream knows.
    """

    folder: Path
    service: Path
    model: Path
    bodies: tuple[bytes, ...]
    bare: tuple[bytes, ...]
    expected: tuple[float, ...]


def environment(extra: Mapping[str, str]) -> dict[str, str]:
    """The environment for processes: without git's variables and the service's overrides."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("GIT_", "MLSERVICE_"))}
    return {**kept, **extra}


def service_environment(service: Path, extra: Mapping[str, str]) -> dict[str, str]:
    """The environment in which a rendered service runs from its source."""
    return environment({"PYTHONPATH": f"{service / 'src'}{os.pathsep}{ROOT}", **extra})


def run(command: list[str], folder: Path, environ: Mapping[str, str]) -> str:
    """Standard output of ``command``; raises ``BenchError`` with its last words."""
    done = subprocess.run(
        command, cwd=folder, env=dict(environ), capture_output=True, text=True, check=False
    )
    if done.returncode:
        words = "\n".join((done.stdout + done.stderr).strip().splitlines()[-15:])
        raise BenchError(f"{' '.join(command)} ended with {done.returncode}:\n{words}")
    return done.stdout


def copy_template(target: Path) -> Path:
    """The template as it lies here, as a repository with one commit in ``target``."""
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
    if len(set(bodies)) < _FEWEST_REQUESTS:
        raise BenchError(
            f"only {len(set(bodies))} different requests: {_FEWEST_REQUESTS} are needed"
        )
    model = folder / "model" / "model.txt"
    bare = tuple(map(_without_weather, bodies))
    return Workplace(folder, service, model, bodies, bare, tuple(found["expected"]))


def _without_weather(body: bytes) -> bytes:
    request = json.loads(body)
    request.pop("weather", None)
    return json.dumps(request, separators=(",", ":")).encode()
