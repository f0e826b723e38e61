"""The one door between the platform and the owner's package.

The platform never imports the owner's code by name: it asks here, and what is missing or has
another form is said at once, with the line to add. Each side of the service opens only its own
part, so the gateway never loads the framework, nor the worker the pipeline.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt

from mlservice.errors import MlserviceError, ModelRefused, OwnerError
from mlservice.quality import Golden, QualityChecks

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class RequestCode:
    """What the gateway needs: numbers from a request, and an answer from a score.

    ``names`` are the features in the order in which ``features`` gives them.
    """

    names: tuple[str, ...]
    features: Callable[[Mapping[str, Any]], Sequence[float]]
    respond: Callable[[float], dict[str, Any]]


@dataclass(frozen=True)
class ModelCode:
    """What a worker needs: a model from its folder, and scores for rows of features.

    ``predict(model, rows)`` maps shape (n, features) to shape (n,).
    """

    load: Callable[[Path], Any]
    predict: Callable[[Any, Array], Array]
    checks: QualityChecks


@dataclass(frozen=True)
class Upstream:
    """A service that knows something which requests lack.

    Its answer to ``GET path`` with the parameters ``query(request)`` becomes the request's field
    ``name``; None instead of parameters: it is not needed. What it must answer stands in
    ``contracts/upstreams/NAME.schema.json``. ``fallback`` stands in where it does not answer
    within ``timeout_ms``. An answer is used again for ``max_age_s`` seconds; 0: never.
    ``stand_in(parameters)`` is what the demo and the tests have it answer; None: nothing (404).
    ``provider`` is what it is called in pacts; empty: ``name``.
    """

    name: str
    path: str
    query: Callable[[Mapping[str, Any]], Mapping[str, str] | None]
    fallback: Any
    stand_in: Callable[[Mapping[str, str]], Any]
    timeout_ms: int = 200
    max_age_s: float = 0.0
    provider: str = ""


@dataclass(frozen=True)
class Sample:
    """A real request whose outcome is known: what to call it, and what happened.

    ``outcome`` is for the owner's ``prediction.reward``, where there is one.
    """

    title: str
    request: dict[str, Any]
    happened: str
    outcome: Any = None


@dataclass(frozen=True)
class Rivals:
    """What lets two models compete in the demo.

    ``challenger`` are the parameters of the second model; ``reward(prediction, outcome)`` is what
    an answer turned out to be worth.
    """

    challenger: Mapping[str, str]
    reward: Callable[[dict[str, Any], Any], float]


def load_request_code(package: str) -> RequestCode:
    """Load the owner's ``features`` and ``prediction``; raises ``OwnerError``."""
    features = _module(package, "features")
    names = _get(features, "FEATURES", 'FEATURES = ("hour", "distance")')
    if isinstance(names, str) or not all(isinstance(name, str) for name in names) or not names:
        raise OwnerError(f"{package}.features.FEATURES = {names!r}: give a tuple of names")
    if len(set(names)) != len(names):
        raise OwnerError(f"{package}.features.FEATURES = {names!r}: a name stands twice")
    return RequestCode(
        tuple(names),
        _function(features, "features", "def features(request): ..."),
        _function(_module(package, "prediction"), "respond", "def respond(score): ..."),
    )


def load_model_code(package: str) -> ModelCode:
    """Load the owner's ``model`` and ``checks``; raises ``OwnerError``."""
    model = _module(package, "model")
    checks = _get(_module(package, "checks"), "CHECKS", "CHECKS = QualityChecks(low=0, high=1)")
    if not isinstance(checks, QualityChecks):
        raise OwnerError(
            f"{package}.checks.CHECKS is a {type(checks).__name__}: make it QualityChecks"
        )
    return ModelCode(
        _function(model, "load", "def load(folder): ..."),
        _function(model, "predict", "def predict(model, rows): ..."),
        checks,
    )


def try_model(side: ModelCode, folder: Path) -> tuple[Any, Golden]:
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


def load_upstreams(package: str) -> tuple[Upstream, ...]:
    """The owner's ``upstreams.UPSTREAMS``, empty without that module; raises ``OwnerError``."""
    if importlib.util.find_spec(f"{package}.upstreams") is None:
        return ()
    found = _get(
        _module(package, "upstreams"), "UPSTREAMS", 'UPSTREAMS = (Upstream("weather", ...),)'
    )
    where = f"{package}.upstreams.UPSTREAMS"
    if not isinstance(found, tuple) or not all(isinstance(item, Upstream) for item in found):
        raise OwnerError(f"{where} = {found!r}: give a tuple of Upstream")
    for item in found:
        if not item.name.isidentifier() or not item.path.startswith("/"):
            raise OwnerError(
                f"{where}: name = {item.name!r}, path = {item.path!r}: the name becomes a field "
                "of the request, and the path begins with a slash"
            )
        if item.timeout_ms <= 0 or item.max_age_s < 0:
            raise OwnerError(
                f"{where}: {item.name}: timeout_ms = {item.timeout_ms}, max_age_s = "
                f"{item.max_age_s}: give a time above 0, and an age from 0 on"
            )
    if len({item.name for item in found}) != len(found):
        raise OwnerError(f"{where}: a name stands twice")
    return found


def load_pipeline(package: str) -> type[Any]:
    """The owner's root task ``pipeline.Pipeline``; raises ``OwnerError``."""
    task = _get(_module(package, "pipeline"), "Pipeline", "class Pipeline(Task): ...")
    if not isinstance(task, type):
        raise OwnerError(f"{package}.pipeline.Pipeline is not a class: make it a Task")
    return task


def load_samples(package: str) -> Callable[[datetime, int], Sequence[Sample]]:
    """The owner's ``data.samples(after, count)``: real requests; raises ``OwnerError``."""
    return _function(_module(package, "data"), "samples", "def samples(after, count): ...")


def load_rivals(package: str) -> Rivals | None:
    """The owner's ``pipeline.CHALLENGER`` and ``prediction.reward``; None where one is missing."""
    challenger = getattr(_module(package, "pipeline"), "CHALLENGER", None)
    reward = getattr(_module(package, "prediction"), "reward", None)
    return Rivals(challenger, reward) if challenger is not None and callable(reward) else None


def load_job_modules(package: str) -> None:
    """Import the modules that declare jobs, so that they are known by name."""
    for name in ("data", "training"):
        _module(package, name)


def demo_period(package: str) -> str:
    """The owner's ``data.DEMO_PERIOD``, a period whose data are at hand; raises ``OwnerError``."""
    return str(_get(_module(package, "data"), "DEMO_PERIOD", 'DEMO_PERIOD = "2013-10-07"'))


def _module(package: str, name: str) -> ModuleType:
    full = f"{package}.{name}"
    try:
        return importlib.import_module(full)
    except ModuleNotFoundError as error:
        if error.name == package:
            raise OwnerError(
                f"the package '{package}' ([service] package in service.toml) is not installed: "
                "run `make setup` in the service's folder"
            ) from error
        if error.name == full:
            file = f"src/{package}/{name}.py"
            raise OwnerError(f"{file} is missing: add it, see docs/your-model.md") from error
        raise


def _get(module: ModuleType, name: str, example: str) -> Any:
    if not hasattr(module, name):
        file = f"src/{module.__name__.replace('.', '/')}.py"
        raise OwnerError(f"{file} has no '{name}': add it, such as `{example}`")
    return getattr(module, name)


def _function(module: ModuleType, name: str, example: str) -> Callable[..., Any]:
    function = _get(module, name, example)
    if not callable(function):
        raise OwnerError(f"{module.__name__}.{name} is not a function: write `{example}`")
    return function  # type: ignore[no-any-return]  # its own annotations are the owner's
