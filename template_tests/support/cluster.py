"""The toy service on a cluster: the double of Nomad, and its jobs from the template's own HCL."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jinja2
import yaml

from mlservice.cluster import ListedJob, Nomad
from nomad_double import NomadDouble
from template_tests.support.toy_service import ROOT, SERVICE, Toy

_QUICK = {"shutdown_delay": "2s", "stagger_ms": "200"}


def render_nomad(into: Path, **answers: str) -> None:
    """Render the template's folder ``nomad`` with the defaults and these answers."""
    source = yaml.safe_load((ROOT / "copier.yml").read_text("utf-8"))
    questions = {key: value for key, value in source.items() if not key.startswith("_")}
    values: dict[str, Any] = {}
    for key, question in questions.items():
        values[key] = values[f"_{key}"] = question.get("default")
    values.update(answers)
    options = {key: value for key, value in source["_envops"].items() if key != "undefined"}
    engine = jinja2.Environment(undefined=jinja2.StrictUndefined, autoescape=False, **options)  # noqa: S701  # HCL
    into.mkdir(parents=True, exist_ok=True)
    for file in (SERVICE / "nomad").iterdir():
        text = engine.from_string(file.read_text("utf-8")).render(cookiecutter=values)
        (into / file.name).write_text(text, "utf-8")


def on_cluster(toy: Toy, nomad: str, consul: str = "", **environ: str) -> Toy:
    """The toy with its jobs' files, told of the cluster by its environment."""
    render_nomad(toy.folder / "nomad", service_slug="toy", model_reload="watch")
    script = toy.folder / "mlservice.sh"
    needed = {"PYTHONPATH", "PYTHONPYCACHEPREFIX"} & toy.environ.keys()
    exported = " ".join(f"{name}='{toy.environ[name]}'" for name in sorted(needed))
    script.write_text(
        f'#!/bin/sh\nexport {exported}\nexec {sys.executable} -m mlservice "$@"\n', "utf-8"
    )
    script.chmod(0o755)
    places = {
        "MLSERVICE_PIPELINE__EXECUTOR": "nomad",
        "NOMAD_ADDR": nomad,
        "CONSUL_HTTP_ADDR": consul,
        "NOMAD_VAR_driver": "raw_exec",
        "NOMAD_VAR_command": str(script),
        "NOMAD_VAR_config": str(toy.folder / "service.toml"),
        "NOMAD_VAR_nomad_address": nomad,
        "NOMAD_VAR_consul_address": consul,
        **{f"NOMAD_VAR_{name}": value for name, value in _QUICK.items()},
    }
    dropped = ("NOMAD_", "CONSUL_")
    kept = {key: value for key, value in toy.environ.items() if not key.startswith(dropped)}
    return Toy(toy.folder, {**kept, **places, **environ})


def task_environment(**values: str) -> dict[str, str]:
    """The HCL variable that gives every task these variables of the environment."""
    return {"NOMAD_VAR_env": json.dumps(values)}


def register(toy: Toy, *arguments: str, **environ: str) -> str:
    """Register the toy's jobs; returns what was printed. Without a Consul its key is refused."""
    result = toy.run("deploy", "register", *arguments, **environ)
    refused = [line for line in result.stdout.splitlines() if " refused " in line]
    assert all("mlservice/..." in line for line in refused), result.stdout + result.stderr
    return result.stdout


def children(double: NomadDouble, parent: str) -> Sequence[ListedJob]:
    """The dispatched children of a job."""
    return Nomad(double.address).jobs(f"{parent}/").jobs


def eventually(condition: Callable[[], Any], seconds: float = 30.0) -> Any:
    """What ``condition`` gives as soon as it is true; fails after ``seconds``."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := condition():
            return found
        time.sleep(0.05)
    raise AssertionError(f"not within {seconds:.0f} s")
