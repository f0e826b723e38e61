"""Adds up the metrics of several processes that serve as one.

A process sends a snapshot of its registry. Counters, histograms and summaries are added. What a
process that ended has counted stays in the sum, so no counter ever goes backwards. Other metrics
cannot be added, so each process keeps its own value under the label ``process``.

prometheus_client's own multiprocess mode was not used: it replaces the values of its classes by
memory-mapped files, knows no collectors such as ours, and must be set before the first import.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import TypeAlias

from prometheus_client.core import Metric
from prometheus_client.registry import Collector

SampleLabels: TypeAlias = tuple[tuple[str, str], ...]
Values: TypeAlias = dict[tuple[str, SampleLabels], float]
_ADDED = frozenset({"counter", "histogram", "summary"})
_NOT_ADDED_SUFFIX = "_created"
"""Suffix of a sample with the time at which a counter began, which has no sum."""


def encode_snapshot(registry: Collector) -> bytes:
    """All metrics of ``registry`` as they are now."""
    families = [
        (family.name, family.type, family.documentation, [sample[:3] for sample in family.samples])
        for family in registry.collect()
    ]
    return json.dumps(families).encode()


def decode_snapshot(content: bytes) -> list[Metric]:
    """The metrics of a snapshot."""
    found = []
    for name, kind, documentation, samples in json.loads(content):
        metric = Metric(name, documentation, kind)
        for sample, labels, value in samples:
            if not sample.endswith(_NOT_ADDED_SUFFIX):
                metric.add_sample(sample, labels, value)
        found.append(metric)
    return found


class MetricsSum(Collector):
    """The metrics of several processes, each known by a name; collect it like a registry."""

    def __init__(self) -> None:
        """Begin without a process."""
        self._live: dict[str, list[Metric]] = {}
        self._ended: dict[str, Metric] = {}

    def update(self, process: str, snapshot: list[Metric]) -> None:
        """Replace what ``process`` counted so far."""
        self._live[process] = snapshot

    def end(self, process: str) -> None:
        """Keep what ``process`` counted; a new process of this name begins at 0."""
        for metric in self._live.pop(process, []):
            if metric.type in _ADDED:
                before = self._ended.get(metric.name)
                self._ended[metric.name] = _added([before, metric] if before else [metric])

    def collect(self) -> Iterator[Metric]:
        """The sums, and what cannot be added with the label ``process``."""
        families: dict[str, list[tuple[str, Metric]]] = {
            name: [("", metric)] for name, metric in self._ended.items()
        }
        for process, metrics in sorted(self._live.items()):
            for metric in metrics:
                families.setdefault(metric.name, []).append((process, metric))
        for found in families.values():
            if found[0][1].type in _ADDED:
                yield _added([metric for _, metric in found])
            else:
                yield _side_by_side(found)


def _added(metrics: Iterable[Metric]) -> Metric:
    """One metric whose values are the sums."""
    first, *_ = metrics = list(metrics)
    sums: Values = {}
    for metric in metrics:
        for name, labels, value, *_ in metric.samples:
            key = (name, tuple(labels.items()))
            sums[key] = sums.get(key, 0.0) + value
    merged = Metric(first.name, first.documentation, first.type)
    for (name, items), value in sums.items():
        merged.add_sample(name, dict(items), value)
    return merged


def _side_by_side(metrics: Iterable[tuple[str, Metric]]) -> Metric:
    """One metric with the values of all processes."""
    first, *_ = metrics = list(metrics)
    merged = Metric(first[1].name, first[1].documentation, first[1].type)
    for process, metric in metrics:
        for name, labels, value, *_ in metric.samples:
            merged.add_sample(name, {**labels, "process": process}, value)
    return merged
