"""``mlservice demo``: trains, serves and asks for real cases, then shows what came of it."""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from mlservice.artifacts import Artifact
from mlservice.cli.common import read_settings, settings_store, table
from mlservice.cli.demo_callers import ask_all
from mlservice.cli.demo_rivals import compete
from mlservice.cli.demo_world import DemoWorld
from mlservice.errors import OwnerError, PipelineError
from mlservice.local import LocalService, free_ports
from mlservice.observe.logs import log_as_text
from mlservice.owner import (
    Rivals,
    Sample,
    demo_period,
    load_rivals,
    load_samples,
    load_upstreams,
)
from mlservice.settings import Settings

_SAMPLES = 12
_MANY = 2000
_ROOT, _FOLDER = "MLSERVICE_ARTIFACTS__ROOT", ".mlservice/artifacts"


def add_parser(verbs: Any) -> None:
    """Add the verb to the command line."""
    parser = verbs.add_parser("demo", help="train, serve, predict real cases and show the result")
    parser.add_argument("--keep", action="store_true", help="leave it running until Ctrl-C")
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace, environ: Mapping[str, str]) -> int:
    log_as_text()
    usual = read_settings(environ)
    environ = {**environ, _ROOT: _FOLDER}
    settings = read_settings(environ)
    package = settings.service.package
    period, text = _period(settings), demo_period(package)
    rivals = load_rivals(package)
    _say(1, f"Training {'two models' if rivals else 'a model'} on what was known on {text}")
    model = _train(settings, environ, period, {})
    challenger = _train_rival(settings, environ, period, rivals) if rivals else None
    places = environ if arguments.keep else free_ports(environ)
    with DemoWorld(settings, places, model, challenger) as world:
        _say(2, "Serving, each of these a process")
        print(_indented(table(("process", "on"), world.processes)))
        samples = _samples(settings, period)
        _predict(world.service, samples[:: max(1, len(samples) // _SAMPLES)][:_SAMPLES])
        _report(model)
        if rivals and challenger:
            _compete(world, rivals, samples)
        _point(settings, model, elsewhere=usual.artifact_root != settings.artifact_root)
        if arguments.keep:
            _keep(world.service, samples[0])
    return 0


def _period(settings: Settings) -> datetime:
    from mlservice.pipeline import parse_period

    text = demo_period(settings.service.package)
    return parse_period(text, settings.pipeline.retrain_every)


def _train(
    settings: Settings,
    environ: Mapping[str, str],
    period: datetime,
    parameters: Mapping[str, str],
) -> Artifact:
    from mlservice.pipeline.run import make_executor, root_task, run_pipeline

    store = settings_store(settings)
    executor = make_executor(settings, store, environ)
    task = root_task(settings, store, executor, period, parameters)
    started = time.monotonic()
    outcome = run_pipeline(task, settings.pipeline.at_once)
    seconds = time.monotonic() - started
    how = f"{outcome.ran} tasks ran in {seconds:.0f} s" if outcome.ran else "made earlier"
    with_what = ", ".join(f"{name} {value}" for name, value in parameters.items())
    print(f"  {how}{f', with {with_what}' if with_what else ''}")
    return outcome.artifact


def _train_rival(
    settings: Settings, environ: Mapping[str, str], period: datetime, rivals: Rivals
) -> Artifact | None:
    """The second model; None where it cannot be made, which is no reason not to show the first."""
    try:
        return _train(settings, environ, period, rivals.challenger)
    except PipelineError as error:
        print(f"  CHALLENGER in pipeline.py makes no model, so nothing competes: {error}")
        return None


def _samples(settings: Settings, period: datetime) -> list[Sample]:
    """Real cases, without what the upstreams will say of them."""
    package = settings.service.package
    known = {upstream.name for upstream in load_upstreams(package)}
    samples = load_samples(package)(period, _MANY)
    if not samples:
        raise OwnerError(
            f"samples({period}, {_MANY}) in data.py gave none: it must find cases from "
            "DEMO_PERIOD on"
        )
    return [
        Sample(
            sample.title,
            {key: value for key, value in sample.request.items() if key not in known},
            sample.happened,
            sample.outcome,
        )
        for sample in samples
    ]


def _predict(service: LocalService, samples: Sequence[Sample]) -> None:
    _say(
        3,
        f"Asking for {len(samples)} real cases from after the training, and what happened then",
    )
    rows = []
    for sample, answer in zip(samples, asyncio.run(ask_all(service.url, samples)), strict=True):
        prediction = ", ".join(f"{key} {value}" for key, value in answer["prediction"].items())
        rows.append((sample.title, prediction, sample.happened))
    print(_indented(table(("case", "prediction", "what happened"), rows)))


def _compete(world: DemoWorld, rivals: Rivals, samples: Sequence[Sample]) -> None:
    _say(5, "An A/B test, half of the users each; then a bandit, which learns who is better")
    for line in compete(world, rivals, samples):
        print(f"  {line}", flush=True)


def _report(model: Artifact) -> None:
    _say(4, "The model beside the baseline (the same guess for everybody), on rows not trained on")
    metrics = model.manifest.metrics
    rows = [(name, f"{value:.4f}") for name, value in metrics.items()]
    print(_indented(table(("metric", "value"), rows)))


def _point(settings: Settings, model: Artifact, *, elsewhere: bool) -> None:
    _say(6, "Where things are, and what to do next")
    print(f"  artifacts   {settings.artifact_root}")
    print(f"  this model  {model.uri}")
    here = f"{_ROOT}={_FOLDER} " if elsewhere else ""
    print(f"  its lineage: {here}.venv/bin/mlservice artifacts show <the line above>")
    print(f"  events      {settings.state / 'demo' / 'events'}")
    print(f"  your code   src/{settings.service.package}/ and contracts/; see docs/your-model.md")
    print("  checks      make test, make lint; leave it running: make demo KEEP=1")


def _keep(service: LocalService, sample: Sample) -> None:
    body = json.dumps(sample.request)
    print(f"\nIt runs on {service.url} until Ctrl-C. Paste these into another terminal:\n")
    print(f"curl -s {service.url}/ready")
    print(f"curl -s {service.url}/openapi.json")
    print(
        f"curl -s {service.url}/v1/predict -H 'Content-Type: application/json' -d '{body}'",
        flush=True,
    )
    try:
        service.supervise()
    except KeyboardInterrupt:
        print("\nstopping")


def _say(number: int, text: str) -> None:
    print(f"\n{number}. {text}", flush=True)


def _indented(text: str) -> str:
    return "\n".join(f"  {line}" for line in text.splitlines())
