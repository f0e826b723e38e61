"""A grid of hyper-parameters: the same artifacts as by hand, resumable, with the best named."""

from __future__ import annotations

import csv
import json
from datetime import datetime
from pathlib import Path
from typing import Any

import luigi
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlservice import HourParameter, PeriodParameter, Task, job
from mlservice.artifacts import open_store
from mlservice.errors import PipelineError
from mlservice.jobs import Job, JobCall
from mlservice.pipeline.grid import Grid, make_grid
from mlservice.pipeline.tasks import Runtime
from template_tests.support.laws import examples
from template_tests.support.toy_service import PERIOD, Toy

DAY = datetime(2024, 1, 2)
GRID = ("pipeline", "grid", "--period", PERIOD)


@job()
def row(output: Path) -> None:
    """One row."""


@job()
def model(rows: list[Path], output: Path, *, depth: int, rate: float) -> None:
    """One model."""


class GridRow(Task):
    """An hour's row."""

    job = row
    hour = HourParameter()


class GridModel(Task):
    """A model with one parameter that chooses inputs, and two that are the job's."""

    job = model
    period = PeriodParameter()
    rows = luigi.IntParameter(default=2)
    depth = luigi.IntParameter(default=3)
    rate = luigi.FloatParameter(default=0.1)

    def inputs(self) -> dict[str, list[Task]]:
        """The hours of the day up to ``rows``, read by a method of its own."""
        return {"rows": [GridRow(hour=self.period.replace(hour=n)) for n in self._hours()]}

    def _hours(self) -> range:
        return range(self.rows)


class GridDeep(Task):
    """A model whose inputs depend on one parameter only where another says so."""

    job = model
    period = PeriodParameter()
    deep = luigi.BoolParameter(default=False)
    rows = luigi.IntParameter(default=1)

    def inputs(self) -> dict[str, list[Task]]:
        """All rows where it is deep, else one."""
        count = self.rows if self.deep else 1
        return {"rows": [GridRow(hour=self.period.replace(hour=n)) for n in range(count)]}


class Nobody:
    """An executor that must not be asked."""

    def run(self, _: Job, call: JobCall) -> None:
        """Fail."""
        raise AssertionError(call)

    def close(self) -> None:
        """Do nothing."""


@pytest.fixture(scope="module")
def runtime(tmp_path_factory: pytest.TempPathFactory) -> Runtime:
    store = open_store(tmp_path_factory.mktemp("grid").as_uri())
    return Runtime("grid", store, Nobody())


AXES = st.fixed_dictionaries(
    {},
    optional={
        "rows": st.lists(st.integers(1, 5), min_size=1, max_size=3, unique=True),
        "depth": st.lists(st.integers(1, 99), min_size=1, max_size=3, unique=True),
        "rate": st.lists(st.floats(0.01, 1), min_size=1, max_size=3, unique=True),
    },
).filter(bool)


def test_two_runs_in_one_process_share_nothing(runtime: Runtime) -> None:
    other = Runtime("other", runtime.store, Nobody())
    here, there = (GridModel(period=DAY).bind(each) for each in (runtime, other))
    assert [task.path.split("/")[0] for task in (here, there)] == ["grid", "other"]
    assert [task.requires()[0].path.split("/")[0] for task in (here, there)] == ["grid", "other"]
    assert GridModel(period=DAY) is GridModel(period=DAY), "Luigi gives one instance for both"


def test_a_task_outside_of_a_run_says_so() -> None:
    with pytest.raises(PipelineError, match="it belongs to no run"):
        GridModel(period=DAY).complete()


@settings(max_examples=examples(50), deadline=None)
@given(axes=AXES)
def test_a_combination_is_the_artifact_and_the_call_of_a_task_with_its_values(
    runtime: Runtime, axes: dict[str, list[Any]]
) -> None:
    base = GridModel(period=DAY).bind(runtime)
    found = list(Grid(base, axes).combinations())
    assert len(found) == len(Grid(base, axes))
    for combination in found:
        task = GridModel(period=DAY, **combination.values).bind(runtime)
        assert combination.call == task.call()
    needed = {task.task_id for task in Grid(base, axes).needed()}
    assert needed == {
        task.task_id
        for rows in axes.get("rows", [2])
        for task in GridModel(period=DAY, rows=rows).bind(runtime).requires()
    }


def test_an_input_that_another_parameter_decides_on_is_seen(runtime: Runtime) -> None:
    base = GridDeep(period=DAY).bind(runtime)
    grid = Grid(base, {"deep": [False, True], "rows": [1, 3]})
    for combination in grid.combinations():
        task = GridDeep(period=DAY, **combination.values).bind(runtime)
        assert combination.call == task.call()
    assert len(grid.needed()) == 3


def test_a_fault_of_the_grids_own_is_told(toy: Toy) -> None:
    (toy.folder / ".mlservice" / "grids").mkdir(parents=True)
    result = toy.run(*GRID, "--over", "slope=1.0")
    (folder,) = (toy.folder / ".mlservice" / "grids").iterdir()
    (folder / "results.csv").unlink()
    (folder / "results.csv").mkdir()
    result = toy.run(*GRID, "--over", "slope=1.0")
    assert result.returncode == 4
    assert "IsADirectoryError" in result.stderr


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("1,2,5", [1, 2, 5]),
        ("10:50:20", [10, 30, 50]),
        ("7", [7]),
    ],
)
def test_an_axis_is_a_list_or_steps(text: str, values: list[int]) -> None:
    grid = make_grid(GridModel(period=DAY), {"depth": text})
    assert grid.axes["depth"] == values


def test_steps_of_fractions_are_what_was_written() -> None:
    grid = make_grid(GridModel(period=DAY), {"rate": "0.1:0.5:0.1"})
    assert grid.axes["rate"] == [0.1, 0.2, 0.3, 0.4, 0.5]


WRONG = {
    "an unknown parameter": ({"width": "1"}, "width: the pipeline has no such parameter"),
    "no number": ({"depth": "1,x"}, "depth = '1,x'"),
    "a value twice": ({"depth": "1,2,1"}, "a value is given twice"),
    "steps backwards": ({"depth": "5:1:1"}, "needs a stop above its start"),
    "a step of nothing": ({"depth": "1:5:0"}, "a step above 0"),
    "nothing": ({}, "there is none"),
}


@pytest.mark.parametrize("case", WRONG)
def test_an_axis_that_cannot_be_used_is_named(case: str) -> None:
    axes, words = WRONG[case]
    with pytest.raises(PipelineError) as caught:
        make_grid(GridModel(period=DAY), axes)
    assert words in str(caught.value)


def test_a_grid_names_the_best_and_draws_a_picture_and_again_runs_nothing(toy: Toy) -> None:
    arguments = (*GRID, "--over", "slope=0.5:1.0:0.25", "--over", "hours=2,3", "--workers", "3")
    first, second = toy.run(*arguments), toy.run(*arguments)
    assert first.returncode == second.returncode == 0, first.stderr + second.stderr
    assert "6 ran, 0 were complete, 0 failed" in first.stdout
    assert "0 ran, 6 were complete, 0 failed" in second.stdout
    assert "best  slope=1.0" in first.stdout
    (folder,) = (toy.folder / ".mlservice" / "grids").iterdir()
    assert (folder / "grid.png").read_bytes().startswith(b"\x89PNG")
    with (folder / "results.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert {(row["slope"], row["hours"]) for row in rows} == {
        (slope, hours) for slope in ("0.5", "0.75", "1.0") for hours in ("2", "3")
    }
    best = next(row["uri"] for row in rows if row["slope"] == "1.0")
    manifest = json.loads((Path(best.removeprefix("file://")) / "manifest.json").read_text("utf-8"))
    assert manifest["parameters"]["slope"] == 1.0


def test_combinations_that_fail_leave_the_others_alone_and_are_tried_again(toy: Toy) -> None:
    arguments = (*GRID, "--over", "slope=0.9,1.0,1.5")
    for ran, complete in ((2, 0), (0, 2)):
        result = toy.run(*arguments)
        assert result.returncode == 4
        assert f"{ran} ran, {complete} were complete, 1 failed" in result.stdout
        assert "leave the range 0 to 1" in result.stderr


def test_a_grid_and_a_run_share_their_artifacts(toy: Toy) -> None:
    toy.train(slope=0.9)
    result = toy.run(*GRID, "--over", "slope=0.9,1.0")
    assert "1 ran, 1 were complete" in result.stdout


def test_a_metric_that_no_job_gives_is_named(toy: Toy) -> None:
    result = toy.run(*GRID, "--over", "slope=1.0", "--metric", "auc")
    assert result.returncode == 4
    assert (
        "--metric auc: the job gives no such metric (there are: loss, baseline_loss, rows)"
        in result.stderr
    )
