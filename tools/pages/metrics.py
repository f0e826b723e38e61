"""The page on metrics, read from the calls that declare them.

The source is read, not the registry, where a metric shows its labels only once it was counted.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tools.pages.tables import table

_KINDS = {
    "Counter": "counter",
    "Gauge": "gauge",
    "Histogram": "histogram",
    "Info": "info",
    "RequestCounter": "counter",
    "RequestHistogram": "histogram",
    "Summary": "summary",
}
_SUFFIXES = {"counter": "_total", "info": "_info"}
_UNITS = {
    "_timestamp_seconds": "Unix time in seconds",
    "_seconds": "seconds",
    "_bytes": "bytes",
    "_share_asked": "0 to 1",
    "_share_observed": "0 to 1",
    "_breaker": "0, 1 or 2",
    "_model": "",
}
_COUNT = "count"
INTRODUCTION = """# Metrics

What does the service do right now, and is that good? Each metric answers a part of it.
[gateway.md](gateway.md) and [operations.md](operations.md) say when to worry, and what to do.

Prometheus reads them from `metrics_port` of each process (`[gateway]`, `[worker]`, `[queue]`). A
histogram and a summary have the series `_count` and `_sum` too, a histogram also `_bucket`. As an
example, the share of requests that failed in the last five minutes:

```text
sum(rate(mlservice_requests_total{status=~"5.."}[5m])) / sum(rate(mlservice_requests_total[5m]))
```

Made from the code that declares them.

"""


@dataclass(frozen=True)
class Declared:
    """A metric as its declaration says; ``name`` is the one that Prometheus shows."""

    name: str
    kind: str
    labels: tuple[str, ...]
    meaning: str

    @property
    def unit(self) -> str:
        """The unit that the name ends with; a metric without one counts things."""
        base = self.name.removesuffix(_SUFFIXES.get(self.kind, ""))
        return next((unit for end, unit in _UNITS.items() if base.endswith(end)), _COUNT)


def metrics_page(package: Path) -> str:
    """The page on the metrics that ``package`` declares."""
    titles = ("metric", "type", "unit", "labels", "meaning")
    rows = [
        (f"`{m.name}`", m.kind, m.unit, ", ".join(f"`{n}`" for n in m.labels), m.meaning)
        for m in declared_metrics(package)
    ]
    return INTRODUCTION + table(titles, rows)


def declared_metrics(package: Path) -> list[Declared]:
    """All metrics, sorted by name."""
    files = sorted(package.rglob("*.py"))
    found = [metric for file in files for metric in _declared(ast.parse(file.read_text("utf-8")))]
    return sorted(found, key=lambda metric: metric.name)


def _declared(module: ast.Module) -> Iterator[Declared]:
    for node in ast.walk(module):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            kind = _KINDS.get(node.func.id)
            texts = _texts([*node.args, *(k.value for k in node.keywords if k.arg != "bounds")])
            if kind and texts and texts[0].startswith("mlservice_"):
                name, meaning, *labels = texts
                yield Declared(name + _SUFFIXES.get(kind, ""), kind, tuple(labels), meaning)


def _texts(arguments: list[ast.expr]) -> list[str]:
    texts: list[str] = []
    for argument in arguments:
        value = ast.literal_eval(argument) if _is_literal(argument) else None
        texts += [value] if isinstance(value, str) else []
        texts += [v for v in value if isinstance(v, str)] if isinstance(value, list | tuple) else []
    return texts


def _is_literal(argument: ast.expr) -> bool:
    return isinstance(argument, ast.Constant | ast.List | ast.Tuple) and not any(
        isinstance(node, ast.Name | ast.Call) for node in ast.walk(argument)
    )
