"""The one door between the platform and the owner's package.

The platform never imports the owner's code by name: it asks here, and what is missing or has
another form is said at once, with the line to add. Each side of the service opens only its own
part, so the gateway never loads the framework, nor the worker the pipeline.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt

from mlservice.errors import DoorError, MlserviceError, ModelRefused
from mlservice.quality import Golden, QualityChecks

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class RequestSide:
    """What the gateway needs: numbers from a request, and an answer from a score.

    ``names`` are the features in the order in which ``features`` gives them.
    """

    names: tuple[str, ...]
    features: Callable[[Mapping[str, Any]], Sequence[float]]
    respond: Callable[[float], dict[str, Any]]


@dataclass(frozen=True)
class ModelSide:
    """What a worker needs: a model from its folder, and scores for rows of features.

    ``predict(model, rows)`` maps shape (n, features) to shape (n,).
    """

    load: Callable[[Path], Any]
    predict: Callable[[Any, Array], Array]
    checks: QualityChecks


@dataclass(frozen=True)
class Sample:
    """A real request whose outcome is known: what to call it, and what happened."""

    title: str
    request: dict[str, Any]
    happened: str


def open_request_side(package: str) -> RequestSide:
    """Load the owner's ``features`` and ``prediction``; raises ``DoorError``."""
    features = _module(package, "features")
    names = _get(features, "FEATURES", 'FEATURES = ("hour", "distance")')
    if isinstance(names, str) or not all(isinstance(name, str) for name in names) or not names:
        raise DoorError(f"{package}.features.FEATURES = {names!r}: give a tuple of names")
    if len(set(names)) != len(names):
        raise DoorError(f"{package}.features.FEATURES = {names!r}: a name stands twice")
    return RequestSide(
        tuple(names),
        _function(features, "features", "def features(request): ..."),
        _function(_module(package, "prediction"), "respond", "def respond(score): ..."),
    )


def open_model_side(package: str) -> ModelSide:
    """Load the owner's ``model`` and ``checks``; raises ``DoorError``."""
    model = _module(package, "model")
    checks = _get(_module(package, "checks"), "CHECKS", "CHECKS = QualityChecks(low=0, high=1)")
    if not isinstance(checks, QualityChecks):
        raise DoorError(
            f"{package}.checks.CHECKS is a {type(checks).__name__}: make it QualityChecks"
        )
    return ModelSide(
        _function(model, "load", "def load(folder): ..."),
        _function(model, "predict", "def predict(model, rows): ..."),
        checks,
    )


def try_model(side: ModelSide, folder: Path) -> tuple[Any, Golden]:
    """The model in ``folder``, loaded and tried, and the golden rows that it was tried on.

    Raises ``ModelRefused`` for a model that cannot be loaded, cannot predict, or fails its
    quality checks.
    """
    golden = Golden.load(folder)
    try:
        model = side.load(folder)
        scores = np.asarray(side.predict(model, golden.rows), dtype=np.float64)
    except MlserviceError:
        raise
    except Exception as error:
        raise ModelRefused(
            f"the model cannot be loaded and tried: {type(error).__name__}: {error}: load() in "
            "model.py must read what save() wrote, and predict() must take its rows"
        ) from error
    golden.verify(scores, side.checks)
    return model, golden


def open_pipeline(package: str) -> type[Any]:
    """The owner's root task ``pipeline.Pipeline``; raises ``DoorError``."""
    task = _get(_module(package, "pipeline"), "Pipeline", "class Pipeline(Task): ...")
    if not isinstance(task, type):
        raise DoorError(f"{package}.pipeline.Pipeline is not a class: make it a Task")
    return task


def open_samples(package: str) -> Callable[[datetime, int], Sequence[Sample]]:
    """The owner's ``data.samples(after, count)``: real requests; raises ``DoorError``."""
    return _function(_module(package, "data"), "samples", "def samples(after, count): ...")


def open_job_modules(package: str) -> None:
    """Import the modules that declare jobs, so that they are known by name."""
    for name in ("data", "training"):
        _module(package, name)


def demo_period(package: str) -> str:
    """The owner's ``data.DEMO_PERIOD``, a period whose data are at hand; raises ``DoorError``."""
    return str(_get(_module(package, "data"), "DEMO_PERIOD", 'DEMO_PERIOD = "2013-10-07"'))


def _module(package: str, name: str) -> ModuleType:
    full = f"{package}.{name}"
    try:
        return importlib.import_module(full)
    except ModuleNotFoundError as error:
        if error.name == package:
            raise DoorError(
                f"the package '{package}' ([service] package in service.toml) is not installed: "
                "run `make setup` in the service's folder"
            ) from error
        if error.name == full:
            file = f"src/{package}/{name}.py"
            raise DoorError(f"{file} is missing: add it, see docs/your-model.md") from error
        raise


def _get(module: ModuleType, name: str, example: str) -> Any:
    if not hasattr(module, name):
        file = f"src/{module.__name__.replace('.', '/')}.py"
        raise DoorError(f"{file} has no '{name}': add it, such as `{example}`")
    return getattr(module, name)


def _function(module: ModuleType, name: str, example: str) -> Callable[..., Any]:
    function = _get(module, name, example)
    if not callable(function):
        raise DoorError(f"{module.__name__}.{name} is not a function: write `{example}`")
    return function  # type: ignore[no-any-return]  # its own annotations are the owner's
