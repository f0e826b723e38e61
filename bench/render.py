"""Measures how long each engine takes for the default service and for a template of one file."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

from bench.report import Figure, table
from bench.workplace import SLUG, commit_all, environment, run

_BAR = 2.5
Render = Callable[[Path, Path], list[str]]


def measure_rendering(folder: Path, template: Path, rounds: int) -> list[Figure]:
    """Measure cookiecutter and copier, with the commands that users type."""
    small = _one_file_template(folder / "one-file")
    figures, rows = [], []
    for engine, render in (("cookiecutter", _cookiecutter), ("copier", _copier)):
        pairs = [
            (_seconds(render, small, folder / "out"), _seconds(render, template, folder / "out"))
            for _ in range(rounds)
        ]
        ones, defaults = zip(*pairs, strict=True)
        rows.append((engine, f"{median(defaults):.2f}", f"{median(ones):.2f}"))
        values = tuple(default / one for one, default in pairs)
        figures.append(Figure(f"{engine}: default service / one file", values, _BAR, False))
    print(f"\nRENDERING, seconds\n{table(('', 'service', 'one file'), rows)}", flush=True)
    return figures


def _seconds(render: Render, template: Path, target: Path) -> float:
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir()
    started = time.perf_counter()
    run(render(template, target), target, environment({}))
    return time.perf_counter() - started


def _cookiecutter(template: Path, target: Path) -> list[str]:
    module = [sys.executable, "-m", "cookiecutter", "--no-input", "--default-config"]
    return [*module, "--output-dir", str(target), str(template), f"service_slug={SLUG}"]


def _copier(template: Path, target: Path) -> list[str]:
    module = [sys.executable, "-m", "copier", "copy", "--defaults", "--quiet"]
    return [*module, "--data", f"service_slug={SLUG}", str(template), str(target / SLUG)]


def _one_file_template(folder: Path) -> Path:
    """Write the smallest template that both engines can render."""
    inner = folder / "{{cookiecutter.service_slug}}"
    inner.mkdir(parents=True)
    (folder / "cookiecutter.json").write_text('{"service_slug": "one"}\n', "utf-8")
    (inner / "README.md").write_text("# {{ cookiecutter.service_slug }}\n", "utf-8")
    copied = folder / "copied"
    copied.mkdir()
    (folder / "copier.yml").write_text(
        "_subdirectory: copied\n_templates_suffix: ''\nservice_slug: {type: str}\n", "utf-8"
    )
    (copied / "README.md").write_text("# {{ service_slug }}\n", "utf-8")
    commit_all(folder)
    return folder
