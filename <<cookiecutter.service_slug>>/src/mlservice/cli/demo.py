"""``mlservice demo``: trains, serves and asks for real cases, then shows what came of it."""

from __future__ import annotations

import argparse
import json
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import orjson

from mlservice.artifacts import Artifact
from mlservice.cli.common import read_settings, settings_store, table
from mlservice.door import Sample, demo_period, open_samples
from mlservice.errors import DoorError, MlserviceError
from mlservice.local import LocalService, free_ports
from mlservice.observe.logs import log_as_text
from mlservice.settings import Settings

_SAMPLES = 12


def add_parser(verbs: Any) -> None:
    """Add the verb to the command line."""
    parser = verbs.add_parser("demo", help="train, serve, predict real cases and show the result")
    parser.add_argument("--keep", action="store_true", help="leave it running until Ctrl-C")
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace, environ: Mapping[str, str]) -> int:
    log_as_text()
    environ = {**environ, "MLSERVICE_ARTIFACTS__ROOT": ".mlservice/artifacts"}
    settings = read_settings(environ)
    model, period = _train(settings, environ)
    _say(2, "Serving it: a gateway (HTTP) and a worker (gRPC), two processes")
    places = environ if arguments.keep else free_ports(environ)
    with LocalService(settings.folder, places, model.uri, settings.state / "logs") as service:
        print(f"  {service.url} is ready")
        samples = open_samples(settings.service.package)(period, _SAMPLES)
        if not samples:
            raise DoorError(
                f"samples({period}, {_SAMPLES}) in data.py gave none: it must find cases from "
                "DEMO_PERIOD on"
            )
        _predict(service.url, samples)
        _report(settings, model)
        if arguments.keep:
            _keep(service, samples[0])
    return 0


def _train(settings: Settings, environ: Mapping[str, str]) -> tuple[Artifact, datetime]:
    from mlservice.pipeline import parse_period
    from mlservice.pipeline.run import make_executor, root_task, run_pipeline

    text = demo_period(settings.service.package)
    period = parse_period(text, settings.pipeline.retrain_every)
    _say(1, f"Training a model on what was known on {text}")
    store = settings_store(settings)
    task = root_task(settings, store, make_executor(settings, store, environ), period, {})
    started = time.monotonic()
    outcome = run_pipeline(task, settings.pipeline.workers)
    seconds = time.monotonic() - started
    print(f"  {outcome.ran} tasks ran in {seconds:.0f} s" if outcome.ran else "  made earlier")
    return outcome.artifact, period


def _predict(url: str, samples: Sequence[Sample]) -> None:
    _say(3, f"Asking for {len(samples)} real cases from after the training, and what happened then")
    rows = []
    for sample in samples:
        answer = _ask(url, sample)
        prediction = ", ".join(f"{key} {value}" for key, value in answer["prediction"].items())
        rows.append((sample.title, prediction, sample.happened))
    print(_indented(table(("case", "prediction", "what happened"), rows)))


def _report(settings: Settings, model: Artifact) -> None:
    _say(4, "The model beside the baseline (the same guess for everybody), on rows not trained on")
    metrics = model.manifest.metrics
    rows = [(name, f"{value:.4f}") for name, value in metrics.items()]
    print(_indented(table(("metric", "value"), rows)))
    _say(5, "Where things are, and what to do next")
    print(f"  artifacts   {settings.artifact_root}")
    print(f"  this model  {model.uri}")
    print("  its lineage: .venv/bin/mlservice artifacts show <the line above>")
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


def _ask(url: str, sample: Sample) -> dict[str, Any]:
    request = urllib.request.Request(
        f"{url}/v1/predict", orjson.dumps(sample.request), {"Content-Type": "application/json"}
    )
    try:
        with urllib.request.urlopen(request, timeout=10) as response:
            answer: dict[str, Any] = orjson.loads(response.read())
            return answer
    except urllib.error.HTTPError as error:
        with error:
            problem = orjson.loads(error.read())
        faults = [f"{f['field']} = {f['value']}: {f['rule']}" for f in problem["faults"]]
        raise MlserviceError(
            f"the sample '{sample.title}' (data.py, samples) got {error.code}: "
            f"{'; '.join([problem['detail'], *faults])}; the gateway's log may say more"
        ) from error


def _say(number: int, text: str) -> None:
    print(f"\n{number}. {text}", flush=True)


def _indented(text: str) -> str:
    return "\n".join(f"  {line}" for line in text.splitlines())
