"""Loads the owner's package, and checks that it has what the platform needs.

Only this module imports the owner's code. If a name is missing or has the wrong form, the error
comes at once and names the line to add. Each process loads only the modules that it needs, so the
gateway never imports the model's framework, and the worker never imports the pipeline.
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

from mlservice.errors import OwnerError
from mlservice.quality import QualityChecks

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class RequestCode:
    """The owner's code for requests: features from a request, and a response from a score.

    ``names`` are the names of the features, in the order in which ``features`` returns them.
    """

    names: tuple[str, ...]
    features: Callable[[Mapping[str, Any]], Sequence[float]]
    respond: Callable[[float], dict[str, Any]]


@dataclass(frozen=True)
class ModelCode:
    """The owner's code for models: load a model from its folder, and score rows of features.

    ``predict(model, rows)`` maps shape (n, features) to shape (n,).
    """

    load: Callable[[Path], Any]
    predict: Callable[[Any, Array], Array]
    checks: QualityChecks


@dataclass(frozen=True)
class Upstream:
    """Another service that knows something which requests lack.

    Its answer to ``GET path`` with the parameters ``query(request)`` becomes the request's field
    ``name``. If ``query`` returns None, it is not asked. ``contracts/upstreams/NAME.schema.json``
    is the contract of its answer. ``fallback`` is used if there is no usable answer within
    ``timeout_ms``. An answer is cached for ``max_age_s`` seconds (0: not at all).
    ``stand_in(parameters)`` returns the answer of the fake upstream in the demo and the tests; None
    stands for 404. ``provider`` is its name in pacts (empty: ``name``).
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
        raise OwnerError(f"{package}.features.FEATURES = {names!r}: a name is repeated")
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


def load_upstreams(package: str) -> tuple[Upstream, ...]:
    """Load ``upstreams.UPSTREAMS``, empty without that module; raises ``OwnerError``."""
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
                f"{where}: name = {item.name!r}, path = {item.path!r}: the name must be a Python "
                "identifier, as it becomes a field of the request, and the path must begin with /"
            )
        if item.timeout_ms <= 0 or item.max_age_s < 0:
            raise OwnerError(
                f"{where}: {item.name}: timeout_ms = {item.timeout_ms}, max_age_s = "
                f"{item.max_age_s}: give a timeout above 0, and an age of 0 or more"
            )
    if len({item.name for item in found}) != len(found):
        raise OwnerError(f"{where}: a name is repeated")
    return found


def load_pipeline(package: str) -> type[Any]:
    """Load the owner's root task ``pipeline.Pipeline``; raises ``OwnerError``."""
    task = get_value(load_module(package, "pipeline"), "Pipeline", "class Pipeline(Task): ...")
    if not isinstance(task, type):
        raise OwnerError(f"{package}.pipeline.Pipeline is not a class: make it a Task")
    return task


def load_module(package: str, name: str) -> ModuleType:
    """Import the owner's module ``name``; raises ``OwnerError`` if it is missing."""
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
    """Return ``name`` of the owner's module; raises ``OwnerError`` with an ``example`` line."""
    if not hasattr(module, name):
        file = f"src/{module.__name__.replace('.', '/')}.py"
        raise OwnerError(f"{file} has no '{name}': add it, such as `{example}`")
    return getattr(module, name)


def get_function(module: ModuleType, name: str, example: str) -> Callable[..., Any]:
    """Return the owner's function ``name``; raises ``OwnerError`` with an ``example`` line."""
    function = get_value(module, name, example)
    if not callable(function):
        raise OwnerError(f"{module.__name__}.{name} is not a function: write `{example}`")
    return function  # type: ignore[no-any-return]  # its own annotations are the owner's
