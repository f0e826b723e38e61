"""Metrics of several processes, added up: no counter goes backwards, nothing counts twice."""

from __future__ import annotations

from collections import Counter as Counts

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Summary

from mlservice.observe.snapshots import MetricsSum, decode_snapshot, encode_snapshot
from template_tests.support.laws import examples

NAMES = st.sampled_from(["1", "2", "3"])


class Process:
    """A process with a registry of its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.counter = Counter("things", "Things", ["colour"], registry=self.registry)
        self.histogram = Histogram("times", "Times", buckets=[1], registry=self.registry)
        self.summary = Summary("sizes", "Sizes", registry=self.registry)
        self.gauge = Gauge("level", "Level", registry=self.registry)


class SumOfMetrics(RuleBasedStateMachine):
    """Processes count, are looked at, end and begin again."""

    def __init__(self) -> None:
        super().__init__()
        self.sum = MetricsSum()
        self.processes: dict[str, Process] = {}
        self.seen: dict[str, Counts[str]] = {}
        self.expected: Counts[str] = Counts()
        self.before: dict[str, float] = {}

    @rule(name=NAMES, colour=st.sampled_from(["red", "blue"]), amount=st.integers(1, 5))
    def count(self, name: str, colour: str, amount: int) -> None:
        process = self.processes.setdefault(name, Process())
        process.counter.labels(colour).inc(amount)
        process.histogram.observe(amount)
        process.summary.observe(amount)
        process.gauge.set(amount)

    @rule(name=NAMES)
    def look(self, name: str) -> None:
        if name in self.processes:
            content = encode_snapshot(self.processes[name].registry)
            self.sum.update(name, decode_snapshot(content))
            known = self.seen.get(name, Counts())
            new = Counts(
                {
                    colour: int(
                        self.processes[name].registry.get_sample_value(
                            "things_total", {"colour": colour}
                        )
                        or 0
                    )
                    for colour in ("red", "blue")
                }
            )
            self.expected += new - known
            self.seen[name] = new

    @rule(name=NAMES)
    def end(self, name: str) -> None:
        self.sum.end(name)
        self.processes.pop(name, None)
        self.seen.pop(name, None)

    def values(self) -> dict[str, float]:
        return {
            f"{name}{sorted(labels.items())}": value
            for metric in self.sum.collect()
            if metric.type != "gauge"
            for name, labels, value, *_ in metric.samples
        }

    @invariant()
    def what_was_seen_is_added_up(self) -> None:
        values = self.values()
        for colour in ("red", "blue"):
            key = f"things_total[('colour', '{colour}')]"
            assert values.get(key, 0) == self.expected[colour]

    @invariant()
    def nothing_goes_backwards(self) -> None:
        values = self.values()
        assert self.before.keys() <= values.keys()
        assert all(values[name] >= value for name, value in self.before.items())
        assert not any("_created" in name for name in values)
        self.before = values

    @invariant()
    def each_process_shows_its_own_gauge(self) -> None:
        gauges = [m for m in self.sum.collect() if m.name == "level"]
        shown = {labels["process"] for m in gauges for _, labels, *_ in m.samples}
        assert shown == self.seen.keys()


TestSumOfMetrics = SumOfMetrics.TestCase
TestSumOfMetrics.settings = settings(
    max_examples=examples(50), stateful_step_count=20, deadline=None
)
