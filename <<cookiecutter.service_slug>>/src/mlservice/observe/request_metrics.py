"""Counters and histograms for what happens with every request.

prometheus_client's own take a lock and a microsecond or two for each step, which is a tenth of a
request here. These are plain numbers that one thread writes; a scrape reads them as they are.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import accumulate

from prometheus_client import REGISTRY
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector


class RequestCounter(Collector):
    """A counter with labels: ``counts[values] += 1``."""

    def __init__(self, name: str, text: str, *labels: str) -> None:
        """Be scraped from now on."""
        self._name, self._text, self._labels = name, text, labels
        self.counts: defaultdict[tuple[str, ...], int] = defaultdict(int)
        REGISTRY.register(self)

    def collect(self) -> Iterator[Metric]:
        """The counts as they are; prometheus_client calls this."""
        family = CounterMetricFamily(self._name, self._text, labels=self._labels)
        for values, count in list(self.counts.items()):
            family.add_metric(values, count)
        yield family


class RequestHistogram(Collector):
    """Histograms with one label, all with the same upper ``bounds``."""

    def __init__(self, name: str, text: str, label: str, bounds: Sequence[float]) -> None:
        """Be scraped from now on."""
        self._names = (name, text, label)
        self._bounds = tuple(bounds)
        self._sums: dict[str, float] = {}
        self._counts: dict[str, list[int]] = {}
        REGISTRY.register(self)

    def observe(self, value: str, amount: float) -> None:
        """Count ``amount`` for the label's ``value``."""
        counts = self._counts.get(value)
        if counts is None:
            counts = self._counts[value] = [0] * (len(self._bounds) + 1)
            self._sums[value] = 0.0
        counts[bisect_left(self._bounds, amount)] += 1
        self._sums[value] += amount

    def collect(self) -> Iterator[Metric]:
        """The counts as they are; prometheus_client calls this."""
        name, text, label = self._names
        family = HistogramMetricFamily(name, text, labels=[label])
        limits = [*(str(bound) for bound in self._bounds), "+Inf"]
        for value, counts in list(self._counts.items()):
            buckets = list(zip(limits, accumulate(counts), strict=True))
            family.add_metric([value], buckets, self._sums[value])
        yield family
