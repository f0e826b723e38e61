"""The demo from its training to its experiment, one function for each step."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from mlservice.artifacts import Artifact, open_service_store
from mlservice.demo.challenge import compete
from mlservice.demo.processes import DemoProcesses
from mlservice.demo.report import Report
from mlservice.demo.requests import predict_all
from mlservice.demo.samples import (
    Challenge,
    Sample,
    demo_period,
    load_challenge,
    read_samples,
)
from mlservice.errors import PipelineError
from mlservice.local import LocalService, free_ports
from mlservice.pipeline import parse_period
from mlservice.pipeline.run import make_executor, root_task, run_pipeline
from mlservice.progress import Progress
from mlservice.settings import Settings, load_settings

ROOT_VARIABLE, ROOT = "MLSERVICE_ARTIFACTS__ROOT", ".mlservice/artifacts"
_SHOWN_CASES = 12
_MAX_CASES = 2000


def run_demo(
    usual: Settings, environ: Mapping[str, str], report: Report, progress: Progress, *, keep: bool
) -> None:
    """Run the demo of a service; ``keep`` leaves it running on its usual ports until Ctrl-C.

    Artifacts stay on this machine, whatever the ``usual`` settings say.
    """
    environ = {**environ, ROOT_VARIABLE: ROOT}
    settings = load_settings(usual.folder, environ)
    package = settings.service.package
    text = demo_period(package)
    training = _Training(
        settings, environ, parse_period(text, settings.pipeline.retrain_every), report, progress
    )
    challenge = load_challenge(package)
    report.step(1, f"Training {'two models' if challenge else 'a model'} on data before {text}")
    model = training.run({})
    challenger = training.run_challenger(challenge) if challenge else None
    addresses = environ if keep else free_ports(environ)
    with DemoProcesses(settings, addresses, model, challenger) as processes:
        report.step(2, "Serving, each of these as a process")
        report.table(("process", "address"), processes.addresses)
        samples = read_samples(package, training.period, _MAX_CASES)
        _predict(processes.service, _evenly(samples, _SHOWN_CASES), report)
        _show_metrics(model, report)
        if challenge and challenger:
            _compete(processes, challenge, samples, report, progress)
        is_elsewhere = usual.artifact_root != settings.artifact_root
        _show_places(settings, model, report, is_elsewhere=is_elsewhere)
        if keep:
            _keep(processes.service, samples[0], report)


@dataclass(frozen=True)
class _Training:
    """Trains the demo's models for one period."""

    settings: Settings
    environ: Mapping[str, str]
    period: datetime
    report: Report
    progress: Progress

    def run(self, parameters: Mapping[str, str]) -> Artifact:
        """Train the model with these parameters; raises ``PipelineError``."""
        store = open_service_store(self.settings, self.environ)
        executor = make_executor(self.settings, store, self.environ)
        task = root_task(self.settings, store, executor, self.period, parameters)
        started = time.monotonic()
        outcome = run_pipeline(task, self.settings.pipeline.at_once, self.progress)
        seconds = time.monotonic() - started
        tasks = "1 task" if outcome.ran == 1 else f"{outcome.ran} tasks"
        how = f"{tasks} ran in {seconds:.0f} s" if outcome.ran else "made earlier"
        given = ", ".join(f"{name} {value}" for name, value in parameters.items())
        self.report.line(f"{how}, with {given}" if given else how)
        return outcome.artifact

    def run_challenger(self, challenge: Challenge) -> Artifact | None:
        """Train the second model; None if that fails, and the demo shows the first one alone."""
        try:
            return self.run(challenge.parameters)
        except PipelineError as error:
            self.report.line(f"there is no second model: CHALLENGER in pipeline.py failed: {error}")
            return None


def _evenly(samples: Sequence[Sample], count: int) -> Sequence[Sample]:
    return samples[:: max(1, len(samples) // count)][:count]


def _predict(service: LocalService, samples: Sequence[Sample], report: Report) -> None:
    report.step(3, f"Predicting {len(samples)} real cases from after the training")
    rows = []
    answers = asyncio.run(predict_all(service.url, samples))
    for sample, answer in zip(samples, answers, strict=True):
        prediction = ", ".join(f"{key} {value}" for key, value in answer["prediction"].items())
        rows.append((sample.title, prediction, sample.happened))
    report.table(("case", "prediction", "what happened"), rows)


def _show_metrics(model: Artifact, report: Report) -> None:
    report.step(4, "The model beside the baseline (the same guess for all), on unseen data")
    rows = [(name, f"{value:.4f}") for name, value in model.manifest.metrics.items()]
    report.table(("metric", "value"), rows)


def _compete(
    processes: DemoProcesses,
    challenge: Challenge,
    samples: Sequence[Sample],
    report: Report,
    progress: Progress,
) -> None:
    report.step(5, "An A/B test with half of the users each, then a bandit that learns")
    compete(processes, challenge, samples, report, progress)


def _show_places(
    settings: Settings, model: Artifact, report: Report, *, is_elsewhere: bool
) -> None:
    report.step(6, "Where things are, and what to do next")
    prefix = f"{ROOT_VARIABLE}={ROOT} " if is_elsewhere else ""
    for line in (
        f"artifacts   {settings.artifact_root}",
        f"this model  {model.uri}",
        f"lineage     {prefix}.venv/bin/mlservice artifacts show <the line above>",
        f"events      {settings.state / 'demo' / 'events'}",
        f"your code   src/{settings.service.package}/ and contracts/; see docs/your-model.md",
        "checks      make test, make lint",
        "keep it     make demo KEEP=1 leaves it running",
    ):
        report.line(line)


def _keep(service: LocalService, sample: Sample, report: Report) -> None:
    body = json.dumps(sample.request)
    report.step(7, f"Running on {service.url} until Ctrl-C: paste these into another terminal")
    report.command(f"curl -s {service.url}/ready")
    report.command(f"curl -s {service.url}/openapi.json")
    header = "-H 'Content-Type: application/json'"
    report.command(f"curl -s {service.url}/v1/predict {header} -d '{body}'")
    try:
        service.supervise()
    except KeyboardInterrupt:
        report.line("stopping")
