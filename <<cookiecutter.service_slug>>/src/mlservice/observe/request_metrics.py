"""Counters and histograms for what happens with every request.

prometheus_client's own take a lock and a microsecond or two for each step, which is a tenth of a
request here. These are plain numbers that one thread writes; a scrape reads them as they are.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Iterator
from itertools import accumulate

from prometheus_client import REGISTRY
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

Labels = tuple[str, ...]
"""The values of a metric's labels, in the order in which they are declared."""


class RequestCounter(Collector):
    """A counter: ``counts[labels] += 1``, or ``+= n`` for a batch."""

    def __init__(self, name: str, meaning: str, *labels: str) -> None:
        """Register with prometheus_client."""
        self._name, self._meaning, self._labels = name, meaning, labels
        self.counts: defaultdict[Labels, int] = defaultdict(int)
        REGISTRY.register(self)

    def collect(self) -> Iterator[Metric]:
        """The counts as they are; prometheus_client calls this."""
        family = CounterMetricFamily(self._name, self._meaning, labels=self._labels)
        for labels, count in list(self.counts.items()):
            family.add_metric(labels, count)
        yield family


class RequestHistogram(Collector):
    """Histograms with the same upper ``bounds``, one for each set of labels."""

    def __init__(self, name: str, meaning: str, *labels: str, bounds: Iterable[float]) -> None:
        """Register with prometheus_client."""
        self._name, self._meaning, self._labels = name, meaning, labels
        self._bounds = tuple(bounds)
        # One more count than bounds, then the sum: one look-up finds them all.
        self._series: dict[Labels, list[float]] = {}
        REGISTRY.register(self)

    def observe(self, labels: Labels, amount: float) -> None:
        """Count ``amount``."""
        series = self._series.get(labels)
        if series is None:
            series = self._begin(labels)
        series[bisect_left(self._bounds, amount)] += 1
        series[-1] += amount

    def observe_many(self, labels: Labels, amounts: Iterable[float]) -> None:
        """Count each of ``amounts``; cheaper than one by one."""
        series = self._series.get(labels)
        if series is None:
            series = self._begin(labels)
        bounds, total = self._bounds, 0.0
        for amount in amounts:
            series[bisect_left(bounds, amount)] += 1
            total += amount
        series[-1] += total

    def collect(self) -> Iterator[Metric]:
        """The counts as they are; prometheus_client calls this."""
        family = HistogramMetricFamily(self._name, self._meaning, labels=self._labels)
        limits = [*(str(bound) for bound in self._bounds), "+Inf"]
        for labels, (*counts, total) in list(self._series.items()):
            family.add_metric(labels, list(zip(limits, accumulate(counts), strict=True)), total)
        yield family

    def _begin(self, labels: Labels) -> list[float]:
        series = self._series[labels] = [0] * (len(self._bounds) + 2)
        return series
