"""A grid of hyper-parameters as ONE Luigi task, whose combinations run in a bounded pool inside.

Luigi's scheduler looks through all pending tasks for each one, so thousands of tasks cost the
square. Here Luigi schedules the grid and what it needs; a combination is a path and a call,
made without a task of its own, and it is the very artifact that a task with the same parameters
would make.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import types
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from mlservice.artifacts import artifact_path
from mlservice.errors import PipelineError
from mlservice.jobs import JobCall
from mlservice.pipeline.tasks import Task

_MOST_STEPS = 1_000_000
_WHOLE = {"param_kwargs", "param_args", "task_id"}  # what stands for all parameters


@dataclass(frozen=True)
class Combination:
    """One point of the grid: its values, and the call that makes its artifact."""

    values: Mapping[str, Any]
    call: JobCall


@dataclass(frozen=True)
class Grid:
    """The task ``base`` with every combination of the values in ``axes`` in place of its own."""

    base: Task
    axes: Mapping[str, Sequence[Any]]

    def __len__(self) -> int:
        """The number of combinations."""
        count = 1
        for values in self.axes.values():
            count *= len(values)
        return count

    @property
    def family(self) -> str:
        """Where the artifacts of all combinations lie below the store's root."""
        return f"{self.base.runtime.service}/{self.base.task_family}"

    @cached_property
    def name(self) -> str:
        """A short name that the same grid always has."""
        written = {name: [str(value) for value in values] for name, values in self.axes.items()}
        text = json.dumps([self.base.path, written])
        return f"{self.base.task_family}-{hashlib.sha256(text.encode()).hexdigest()[:10]}"

    def combinations(self) -> Iterator[Combination]:
        """Every combination, one at a time: there may be more than memory should hold."""
        call = self.base.call()
        written = self.base.to_str_params(only_significant=True, only_public=True)
        parameters = dict(self.base.get_params())
        for values in self._points(self.axes):
            inputs, version = self._made_from(values)
            texts = {name: parameters[name].serialize(value) for name, value in values.items()}
            path = artifact_path(
                self.base.runtime.service,
                self.base.task_family,
                {**written, **{name: texts[name] for name in texts.keys() & written.keys()}},
                version,
            )
            plain = json.loads(json.dumps(values, default=str))
            yield Combination(
                values,
                replace(call, output=path, inputs=inputs, parameters={**call.parameters, **plain}),
            )

    def needed(self) -> list[Task]:
        """The tasks that any combination takes as inputs, each once."""
        found: dict[str, Task] = {}
        for values in self._points({name: self.axes[name] for name in self._read_by_inputs}):
            for task in self._task(values).requires():
                found.setdefault(task.task_id, task)
        return list(found.values())

    def _made_from(self, values: Mapping[str, Any]) -> tuple[Mapping[str, list[str]], str]:
        """The inputs of a combination, and its version; the same for the same inputs."""
        key = tuple(str(values[name]) for name in self._read_by_inputs)
        if key not in self._inputs:
            task = self._task({name: values[name] for name in self._read_by_inputs})
            self._inputs[key] = (task.call().inputs, task.version)
        return self._inputs[key]

    @cached_property
    def _inputs(self) -> dict[tuple[str, ...], tuple[Mapping[str, list[str]], str]]:
        return {}

    @cached_property
    def _read_by_inputs(self) -> tuple[str, ...]:
        """The axes that ``inputs()`` looks at: combinations that agree in them share inputs.

        One that is looked at may decide whether another is, so this goes on until none is added.
        """
        read: set[str] = set()
        while True:
            seen: set[str] = set()
            for values in self._points({n: self.axes[n] for n in self.axes if n in read}):
                probe = _Probe(self._task(values))
                try:
                    type(self.base).inputs(probe)  # type: ignore[arg-type]  # stands for the task
                except Exception:  # noqa: BLE001  # it needs the task itself: every axis counts
                    return tuple(self.axes)
                seen |= probe.__dict__["read"]
            if seen & _WHOLE:
                return tuple(self.axes)
            if seen & self.axes.keys() <= read:
                return tuple(name for name in self.axes if name in read)
            read |= seen & self.axes.keys()

    def _task(self, values: Mapping[str, Any]) -> Task:
        return type(self.base)(**{**self.base.param_kwargs, **values})

    @staticmethod
    def _points(axes: Mapping[str, Sequence[Any]]) -> Iterator[dict[str, Any]]:
        for values in itertools.product(*axes.values()):
            yield dict(zip(axes, values, strict=True))


class _Probe:
    """Stands for a task and notes which of its attributes are read, also by its own methods."""

    def __init__(self, task: Task) -> None:
        self.__dict__.update(task=task, read=set())

    def __getattr__(self, name: str) -> Any:
        self.__dict__["read"].add(name)
        task = self.__dict__["task"]
        found = getattr(type(task), name, None)
        if isinstance(found, types.FunctionType):
            return types.MethodType(found, self)
        if isinstance(found, property) and found.fget:
            return found.fget(self)
        return getattr(task, name)


def make_grid(base: Task, axes: Mapping[str, str]) -> Grid:
    """The grid over ``axes``, each written as ``1,2,5`` or as ``start:stop:step``.

    Raises ``PipelineError`` that lists every axis that cannot be used.
    """
    known = {name: parameter for name, parameter in base.get_params() if name != "period"}
    faults = []
    values = {}
    for name, text in axes.items():
        try:
            values[name] = _axis(known[name], text)
        except KeyError:
            faults.append(f"{name}: the pipeline has no such parameter")
        except (ValueError, TypeError) as error:
            faults.append(f"{name} = '{text}': {error}")
    if faults or not axes:
        there = ", ".join(known) or "none"
        wrong = "; ".join(faults) or "there is none"
        raise PipelineError(
            f"--over: {wrong}: give parameters of the pipeline (there are: {there}) as NAME=1,2,5 "
            "or NAME=start:stop:step"
        )
    return Grid(base, values)


def _axis(parameter: Any, text: str) -> list[Any]:
    texts = _steps(text) if text.count(":") == 2 else text.split(",")
    found = [parameter.parse(part.strip()) for part in texts]
    if len(set(map(str, found))) != len(found):
        raise ValueError("a value stands twice")
    return found


def _steps(text: str) -> list[str]:
    """``start:stop:step``, the stop included, in as many decimal places as were written."""
    start, stop, step = (float(part) for part in text.split(":"))
    if step <= 0 or stop < start:
        raise ValueError("start:stop:step needs a stop above its start and a step above 0")
    count = int((stop - start) / step + 1e-9) + 1
    if count > _MOST_STEPS:
        raise ValueError(f"{count} values are too many")
    places = max(len(part.partition(".")[2]) for part in text.split(":"))
    return [f"{start + number * step:.{places}f}" for number in range(count)]
