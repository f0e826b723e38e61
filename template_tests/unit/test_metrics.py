"""Metrics: each is declared in one place and used, and counts right with any labels."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import REGISTRY

from mlservice.observe.request_metrics import RequestCounter, RequestHistogram
from template_tests.support.toy_service import SERVICE

PLATFORM = SERVICE / "src" / "mlservice"
HOME = PLATFORM / "observe" / "metrics.py"
CLASSES = {"Counter", "Gauge", "Histogram", "Info", "Summary", "RequestCounter", "RequestHistogram"}


def trees() -> Iterator[tuple[Path, ast.Module]]:
    for path in sorted(PLATFORM.rglob("*.py")):
        yield path, ast.parse(path.read_text("utf-8"))


def makes_metric(node: ast.AST) -> bool:
    """Whether a metric is made, told by its class and the first argument."""
    return (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name | ast.Attribute)
        and (node.func.id if isinstance(node.func, ast.Name) else node.func.attr) in CLASSES
        and bool(node.args)
        and isinstance(node.args[0], ast.Constant)
        and str(node.args[0].value).startswith("mlservice_")
    )


def declared() -> set[str]:
    """The constants of the module that declares metrics."""
    return {
        target.id
        for node in ast.parse(HOME.read_text("utf-8")).body
        if isinstance(node, ast.Assign) and makes_metric(node.value)
        for target in node.targets
        if isinstance(target, ast.Name)
    }


def used_elsewhere() -> set[str]:
    """The constants that other modules use, as ``metrics.NAME``."""
    return {
        node.attr
        for _, tree in trees()
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id == "metrics"
        and node.attr.isupper()
    }


def used_at_home() -> set[str]:
    """The names that the module itself uses."""
    nodes = ast.walk(ast.parse(HOME.read_text("utf-8")))
    return {n.id for n in nodes if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load)}


def test_every_metric_that_is_declared_is_used() -> None:
    assert declared()
    assert not declared() - used_elsewhere() - used_at_home()


def test_every_metric_that_is_used_is_declared() -> None:
    assert used_elsewhere() <= declared(), "declare it in observe/metrics.py"


def test_metrics_are_declared_in_one_module() -> None:
    homes = {path for path, tree in trees() if any(makes_metric(node) for node in ast.walk(tree))}
    assert homes == {HOME}


def test_every_metric_has_a_meaning() -> None:
    for node in ast.walk(ast.parse(HOME.read_text("utf-8"))):
        if makes_metric(node):
            assert isinstance(node, ast.Call)
            meaning = node.args[1]
            assert isinstance(meaning, ast.Constant)
            assert str(meaning.value)[0].isupper()


@pytest.fixture(scope="module")
def counter() -> RequestCounter:
    return RequestCounter("test_things", "Things", "colour", "size")


@pytest.fixture(scope="module")
def plain() -> RequestCounter:
    return RequestCounter("test_plain", "Things without labels")


@pytest.fixture(scope="module")
def histogram() -> RequestHistogram:
    return RequestHistogram("test_seconds", "Times", "colour", "size", bounds=(0.1, 1.0))


def test_a_counter_counts_one_by_one_and_in_bulk(
    counter: RequestCounter, plain: RequestCounter
) -> None:
    counter.counts["red", "big"] += 1
    counter.counts["red", "big"] += 41
    plain.counts[()] += 3
    labels = {"colour": "red", "size": "big"}
    assert REGISTRY.get_sample_value("test_things_total", labels) == 42
    assert REGISTRY.get_sample_value("test_plain_total") == 3


@given(st.lists(st.floats(0, 2), max_size=20), st.text(max_size=5))
def test_a_histogram_counts_many_as_it_counts_each(
    histogram: RequestHistogram, amounts: list[float], colour: str
) -> None:
    one, many = (colour, "one"), (colour, "many")
    for amount in amounts:
        histogram.observe(one, amount)
    histogram.observe_many(many, amounts)
    for suffix, more in (("_count", {}), ("_sum", {}), ("_bucket", {"le": "0.1"})):
        of_one, of_many = (
            REGISTRY.get_sample_value(f"test_seconds{suffix}", dict(colour=c, size=s, **more)) or 0
            for c, s in (one, many)
        )
        assert of_one == pytest.approx(of_many)
