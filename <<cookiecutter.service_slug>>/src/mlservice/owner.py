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


def load_request_code(package: str) -> RequestCode:
    """Load the owner's ``features`` and ``prediction``; raises ``OwnerError``."""
    features = load_module(package, "features")
    names = get_value(features, "FEATURES", 'FEATURES = ("hour", "distance")')
    if isinstance(names, str) or not all(isinstance(name, str) for name in names) or not names:
        raise OwnerError(f"{package}.features.FEATURES = {names!r}: give a tuple of names")
    if len(set(names)) != len(names):
        raise OwnerError(f"{package}.features.FEATURES = {names!r}: a name stands twice")
    return RequestCode(
        tuple(names),
        get_function(features, "features", "def features(request): ..."),
        get_function(load_module(package, "prediction"), "respond", "def respond(score): ..."),
    )


def load_model_code(package: str) -> ModelCode:
    """Load the owner's ``model`` and ``checks``; raises ``OwnerError``."""
    model = load_module(package, "model")
    checks = get_value(
        load_module(package, "checks"), "CHECKS", "CHECKS = QualityChecks(low=0, high=1)"
    )
    if not isinstance(checks, QualityChecks):
        raise OwnerError(
            f"{package}.checks.CHECKS is a {type(checks).__name__}: make it QualityChecks"
        )
    return ModelCode(
        get_function(model, "load", "def load(folder): ..."),
        get_function(model, "predict", "def predict(model, rows): ..."),
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
    found = get_value(
        load_module(package, "upstreams"), "UPSTREAMS", 'UPSTREAMS = (Upstream("weather", ...),)'
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
    task = get_value(load_module(package, "pipeline"), "Pipeline", "class Pipeline(Task): ...")
    if not isinstance(task, type):
        raise OwnerError(f"{package}.pipeline.Pipeline is not a class: make it a Task")
    return task


def load_module(package: str, name: str) -> ModuleType:
    """The owner's module ``name``; raises ``OwnerError`` if it is missing."""
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


def get_value(module: ModuleType, name: str, example: str) -> Any:
    """What the owner's module calls ``name``; raises ``OwnerError`` with an ``example`` line."""
    if not hasattr(module, name):
        file = f"src/{module.__name__.replace('.', '/')}.py"
        raise OwnerError(f"{file} has no '{name}': add it, such as `{example}`")
    return getattr(module, name)


def get_function(module: ModuleType, name: str, example: str) -> Callable[..., Any]:
    """The owner's function ``name``; raises ``OwnerError`` with an ``example`` line."""
    function = get_value(module, name, example)
    if not callable(function):
        raise OwnerError(f"{module.__name__}.{name} is not a function: write `{example}`")
    return function  # type: ignore[no-any-return]  # its own annotations are the owner's
