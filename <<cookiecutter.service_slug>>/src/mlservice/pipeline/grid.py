"""A grid of hyper-parameters as one Luigi task, whose combinations run in a bounded pool.

For each pending task, Luigi's scheduler looks through all of them, so the cost of thousands of
tasks grows with the square of their number. Here Luigi schedules only the grid and its inputs. A
combination is a path and a call without a task of its own. Its artifact is the one that a task
with the same parameters would make.
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
from mlservice.pipeline.tasks import Task, running

_MAX_STEPS = 1_000_000
_ALL_PARAMETERS = {"param_kwargs", "param_args", "task_id"}  # each holds every parameter


@dataclass(frozen=True)
class Combination:
    """One point of the grid: its values, and the call that makes its artifact."""

    values: Mapping[str, Any]
    call: JobCall


@dataclass(frozen=True)
class Grid:
    """The task ``base`` with every combination of the values in ``axes`` instead of its own."""

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
        """The folder of all combinations' artifacts, below the store's root."""
        return f"{self.base.runtime.service}/{self.base.task_family}"

    @cached_property
    def name(self) -> str:
        """A short name, always the same for the same grid."""
        written = {name: [str(value) for value in values] for name, values in self.axes.items()}
        text = json.dumps([self.base.path, written])
        return f"{self.base.task_family}-{hashlib.sha256(text.encode()).hexdigest()[:10]}"

    def combinations(self) -> Iterator[Combination]:
        """Yield every combination; there may be too many to keep them all in memory."""
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
        """Return the tasks that any combination takes as inputs, each once."""
        found: dict[str, Task] = {}
        for values in self._points({name: self.axes[name] for name in self._read_by_inputs}):
            for task in self._task(values).requires():
                found.setdefault(task.task_id, task)
        return list(found.values())

    def _made_from(self, values: Mapping[str, Any]) -> tuple[Mapping[str, list[str]], str]:
        """Return the inputs of a combination, and its version; cached by what they depend on."""
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
        """The axes that ``inputs()`` reads: combinations with the same values there share inputs.

        Without this, a grid of thousands would make the inputs of each combination again and keep
        them all. The task could declare its axes instead, but tasks of owners that exist do not,
        and they must keep working without an edit. So ``inputs()`` runs on a stand-in for the task
        that records which parameters are read. One that is read may decide whether another one is
        read, so this repeats until none is added. If ``inputs()`` fails on the stand-in, every
        axis counts: that is slower, but right.
        """
        read: set[str] = set()
        while True:
            seen: set[str] = set()
            for values in self._points({n: self.axes[n] for n in self.axes if n in read}):
                probe = _Probe(self._task(values))
                try:
                    with running(self.base.runtime):
                        type(self.base).inputs(probe)  # type: ignore[arg-type]  # for the task
                except Exception:  # noqa: BLE001  # it needs the task itself: every axis counts
                    return tuple(self.axes)
                seen |= probe.__dict__["read"]
            if seen & _ALL_PARAMETERS:
                return tuple(self.axes)
            if seen & self.axes.keys() <= read:
                return tuple(name for name in self.axes if name in read)
            read |= seen & self.axes.keys()

    def _task(self, values: Mapping[str, Any]) -> Task:
        task = type(self.base)(**{**self.base.param_kwargs, **values})
        return task.bind(self.base.runtime)

    @staticmethod
    def _points(axes: Mapping[str, Sequence[Any]]) -> Iterator[dict[str, Any]]:
        for values in itertools.product(*axes.values()):
            yield dict(zip(axes, values, strict=True))


class _Probe:
    """Stands for a task and records which attributes are read, also by its own methods."""

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
    """Return the grid over ``axes``, each written as ``1,2,5`` or as ``start:stop:step``.

    Raises ``PipelineError`` with every wrong axis.
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
        raise ValueError("a value is given twice")
    return found


def _steps(text: str) -> list[str]:
    """Return the values of ``start:stop:step``, with the decimal places that are written there."""
    start, stop, step = (float(part) for part in text.split(":"))
    if step <= 0 or stop < start:
        raise ValueError("start:stop:step needs a stop above its start and a step above 0")
    count = int((stop - start) / step + 1e-9) + 1
    if count > _MAX_STEPS:
        raise ValueError(f"{count} values are too many")
    places = max(len(part.partition(".")[2]) for part in text.split(":"))
    return [f"{start + number * step:.{places}f}" for number in range(count)]
