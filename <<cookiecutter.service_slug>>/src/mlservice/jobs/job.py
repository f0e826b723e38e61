"""Declares a job once: its command line, its checks and its documentation follow from that.

    @job(memory_mb=(1024, 2048))
    def train(examples: list[Path], output: Path, *, trees: int = 200) -> dict[str, float]: ...

Positional arguments are inputs: folders of artifacts, ``Path`` for one and ``list[Path]`` for
several. ``output`` is the folder to write into. Keyword-only arguments are parameters. The
function returns its metrics.
"""

from __future__ import annotations

import ast
import hashlib
import inspect
import sys
import typing
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from mlservice.errors import JobError

_JOBS: dict[str, Job] = {}


@dataclass(frozen=True)
class Job:
    """A declared job: its name, its function, and the memory it may need in MB, smallest first.

    ``model`` says that its artifact is a model, which is tried before it is published.
    """

    name: str
    function: Callable[..., dict[str, float] | None]
    memory_mb: tuple[int, ...]
    model: bool = False

    @property
    def module(self) -> str:
        """The module of the function."""
        return self.function.__module__

    @property
    def inputs(self) -> dict[str, bool]:
        """The names of the inputs, and whether each takes several artifacts."""
        return {
            name: typing.get_origin(annotation) is list
            for name, (kind, annotation) in self._arguments.items()
            if kind is not inspect.Parameter.KEYWORD_ONLY and name != "output"
        }

    @property
    def parameters(self) -> dict[str, Any]:
        """The names of the parameters and their types."""
        return {
            name: annotation
            for name, (kind, annotation) in self._arguments.items()
            if kind is inspect.Parameter.KEYWORD_ONLY
        }

    def convert(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return the declared parameters in their types; ``values`` are as they stand in JSON.

        Raises ``JobError`` that lists every missing or wrong parameter at once.
        """
        declared = self.parameters
        faults = []
        converted = {}
        for name, annotation in declared.items():
            if name not in values:
                if self._signature.parameters[name].default is inspect.Parameter.empty:
                    faults.append(f"{name}: is missing")
                continue
            try:
                converted[name] = TypeAdapter(annotation).validate_python(values[name])
            except ValidationError as error:
                reason = error.errors()[0]["msg"]
                faults.append(f"{name} = {values[name]!r}: {reason[0].lower()}{reason[1:]}")
        if faults:
            raise JobError(f"job '{self.name}' cannot run: " + "; ".join(sorted(faults)))
        return converted

    @cached_property
    def code(self) -> str:
        """Version of the code: a hash of the job's module and the owner's modules it imports."""
        digest = hashlib.sha256()
        package = self.module.partition(".")[0]
        for name, file in sorted(_closure(self.module, package).items()):
            digest.update(name.encode() + b"\0" + file.read_bytes() + b"\0")
        return digest.hexdigest()[:10]

    @cached_property
    def _signature(self) -> inspect.Signature:
        return inspect.signature(self.function)

    @cached_property
    def _arguments(self) -> dict[str, tuple[Any, Any]]:
        hints = typing.get_type_hints(self.function)
        return {
            name: (parameter.kind, hints.get(name))
            for name, parameter in self._signature.parameters.items()
        }


Function = typing.TypeVar("Function", bound=Callable[..., dict[str, float] | None])


def job(
    *, memory_mb: tuple[int, ...] = (1024, 2048), model: bool = False
) -> Callable[[Function], Function]:
    """Declare the decorated function as a job. The function's name is the job's.

    ``memory_mb`` are the sizes of memory to run it with: a job that is killed for memory is
    tried again with the next one. ``model`` declares that the job makes a model, so it must call
    ``accept_model``. Raises ``JobError`` if the function has not the form of a job.
    """

    def declare(function: Function) -> Function:
        declared = Job(function.__name__, function, memory_mb, model)
        _check_name(declared)
        _check(declared)
        _JOBS[declared.name] = declared
        return function

    return declare


def find_job(name: str | Callable[..., Any]) -> Job:
    """Return the job that is declared under ``name`` or by the function; raises ``JobError``."""
    wanted = name if isinstance(name, str) else name.__name__
    if wanted not in _JOBS:
        known = ", ".join(sorted(_JOBS)) or "none"
        raise JobError(
            f"there is no job '{wanted}' (there are: {known}): write `@job()` above `def {wanted}`"
        )
    return _JOBS[wanted]


def is_declared(name: str) -> bool:
    """Whether a job of that name is declared in a module that is imported."""
    return name in _JOBS


def declared_jobs() -> list[Job]:
    """Return all declared jobs, by name."""
    return [_JOBS[name] for name in sorted(_JOBS)]


def _check_name(declared: Job) -> None:
    other = _JOBS.get(declared.name)
    if other and other.module != declared.module:
        raise JobError(
            f"job '{declared.name}' is declared in {other.module} and in {declared.module}: "
            "rename one of the functions"
        )


def _check(declared: Job) -> None:
    sizes = declared.memory_mb
    if not sizes or any(size <= 0 for size in sizes) or list(sizes) != sorted(set(sizes)):
        raise JobError(
            f"job '{declared.name}': memory_mb = {sizes}: give sizes in MB, the smallest first"
        )
    arguments = declared._arguments
    if arguments.get("output", (None, None))[1] is not Path:
        raise JobError(f"job '{declared.name}': add the argument `output: Path`")
    for name in declared.inputs:
        if arguments[name][1] not in (Path, list[Path]):
            raise JobError(
                f"job '{declared.name}': the input '{name}' is annotated {arguments[name][1]}: "
                "make it Path or list[Path], or a parameter by putting it behind the `*`"
            )
    for name, annotation in declared.parameters.items():
        if annotation is None:
            raise JobError(f"job '{declared.name}': give the parameter '{name}' a type")


def _closure(module: str, package: str) -> dict[str, Path]:
    """The files of ``module`` and of all that it imports from ``package``, by module name."""
    start = Path(str(sys.modules[module].__file__))
    root = start.parents[module.count(".") + (start.name == "__init__.py")]
    found: dict[str, Path] = {}
    todo = {module}
    while todo:
        name = todo.pop()
        file = _source(root, name)
        if name in found or file is None:
            continue
        found[name] = file
        folder = name if file.name == "__init__.py" else name.rpartition(".")[0]
        for imported in _imports(ast.parse(file.read_bytes()), folder):
            parts = imported.split(".")
            if parts[0] == package:
                todo |= {".".join(parts[:count]) for count in range(1, len(parts) + 1)}
    return found


def _source(root: Path, module: str) -> Path | None:
    """The file of ``module``, whose package is in ``root``; None if it is no module."""
    base = root.joinpath(*module.split("."))
    files = (base / "__init__.py", base.with_suffix(".py"))
    return next((file for file in files if file.is_file()), None)


def _imports(tree: ast.AST, folder: str) -> Iterator[str]:
    """The full names of all imports in ``tree``, a module of the package ``folder``."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parts = folder.split(".")
            above = parts[: len(parts) + 1 - node.level] if node.level else []
            base = ".".join([*above, *filter(None, [node.module])])
            yield from (f"{base}.{alias.name}" for alias in node.names)
