"""Jobs are found in whatever module they stand, and one that cannot be found is refused early."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from nomad_double import NomadDouble
from template_tests.support.cluster import children, on_cluster, register
from template_tests.support.toy_service import PERIOD, MakeToy, Toy

RUN = ("pipeline", "run", "--period", PERIOD)
EVALUATION = '''
"""Judges a model in a job of its own."""

from pathlib import Path

from mlservice import job


@job(memory_mb=(200,))
def evaluate(model: Path, output: Path) -> dict[str, float]:
    """Count the model's files."""
    (output / "report.txt").write_text("good", "utf-8")
    return {"files": float(len(list(model.iterdir())))}
'''
PIPELINE = '''
from .evaluation import evaluate


class Evaluate(Task):
    """The report on the model of a period."""

    job = evaluate
    period = PeriodParameter()

    def inputs(self) -> Mapping[str, Sequence[Task] | Task]:
        """The model."""
        return {"model": Fit(period=self.period)}


Pipeline = Evaluate
'''


@pytest.fixture
def toy(make_toy: MakeToy) -> Toy:
    return with_evaluation(make_toy())


def with_evaluation(toy: Toy) -> Toy:
    """The toy with a job in a module that the platform has never heard of."""
    package = toy.folder / "src" / "toy"
    (package / "evaluation.py").write_text(EVALUATION.lstrip(), "utf-8")
    with (package / "pipeline.py").open("a", encoding="utf-8") as file:
        file.write(PIPELINE)
    return toy


def edit(toy: Toy, module: str, old: str, new: str) -> None:
    """Replace a text in a module of the toy."""
    file = toy.folder / "src" / "toy" / f"{module}.py"
    text = file.read_text("utf-8")
    assert old in text
    file.write_text(text.replace(old, new), "utf-8")


def test_a_job_in_another_module_runs_in_a_subprocess(toy: Toy) -> None:
    result = toy.run(*RUN)
    assert result.returncode == 0, result.stderr
    assert "/toy/Evaluate/" in result.stdout
    assert re.search(r"^files +\d+\.0000$", result.stdout, re.MULTILINE)


def test_a_job_in_another_module_is_registered_and_dispatched(toy: Toy, tmp_path: Path) -> None:
    with NomadDouble(tmp_path / "nomad") as double:
        placed = on_cluster(toy, double.address)
        assert "toy-job-evaluate-200" in register(placed, "--only", "batch")
        result = placed.run(*RUN)
        assert result.returncode == 0, result.stderr
        assert len(children(double, "toy-job-evaluate-200")) == 1


def load(toy: Toy, name: str, module: str) -> subprocess.CompletedProcess[str]:
    """Load a job as its process does, for a call that names ``module``."""
    script = (
        "from mlservice.jobs import JobCall, load_job\n"
        f"call = JobCall('{name}', 'Task', 'output', '0', module='{module}')\n"
        f"print(load_job('toy', '{name}', call).module)\n"
    )
    return subprocess.run(
        [sys.executable, "-c", script],
        cwd=toy.folder, env=toy.environ, capture_output=True, text=True, check=False,
    )  # fmt: skip


@pytest.mark.parametrize("module", ["", "toy.data", "toy.evaluation"])
def test_a_call_without_the_right_module_finds_the_job_through_the_pipeline(
    toy: Toy, module: str
) -> None:
    assert load(toy, "evaluate", module).stdout.strip() == "toy.evaluation"


def test_a_module_that_is_not_here_is_named(toy: Toy) -> None:
    words = "job 'judge': there is no module toy.judging here"
    assert words in load(toy, "judge", "toy.judging").stderr


def test_a_package_that_a_module_lacks_is_not_taken_for_the_module(toy: Toy) -> None:
    edit(toy, "evaluation", "from pathlib", "import toy_lacks_this\nfrom pathlib")
    assert "No module named 'toy_lacks_this'" in load(toy, "evaluate", "toy.evaluation").stderr


UNDECLARED = {
    "without the decorator": (
        ("evaluation", "@job(memory_mb=(200,))\n", ""),
        "its job 'evaluate' is not declared: write `@job()` above `def evaluate` in toy.evaluation",
    ),
    "by a name that no module declares": (
        ("pipeline", "job = evaluate", 'job = "evaluat"'),
        "there is no job 'evaluat': write `from MODULE import evaluat` in toy.pipeline",
    ),
    "neither function nor name": (
        ("pipeline", "job = evaluate", "job = 7"),
        "job = 7 is no function: write `job = NAME`, a function with `@job()`",
    ),
}


@pytest.mark.parametrize("case", UNDECLARED)
@pytest.mark.parametrize("command", [RUN, ("deploy", "check")], ids=["run", "check"])
def test_a_job_that_cannot_be_found_is_refused_before_anything_runs(
    toy: Toy, case: str, command: tuple[str, ...]
) -> None:
    change, words = UNDECLARED[case]
    edit(toy, *change)
    result = toy.run(*command)
    assert result.returncode == 4, result.stderr
    assert f"task Evaluate (toy.pipeline): {words}" in result.stderr
    assert "Traceback" not in result.stderr
    assert not (toy.folder / ".mlservice" / "artifacts" / "toy").exists()


def test_two_jobs_of_one_name_are_refused(toy: Toy) -> None:
    edit(toy, "evaluation", "def evaluate", "def fit")
    edit(toy, "pipeline", "import evaluate", "import fit as evaluate")
    result = toy.run(*RUN)
    assert result.returncode == 4
    assert "job 'fit' is declared in toy.training and in toy.evaluation: rename" in result.stderr


def test_a_declared_model_without_golden_rows_is_not_published(toy: Toy) -> None:
    edit(toy, "evaluation", "memory_mb=(200,)", "memory_mb=(200,), model=True")
    result = toy.run(*RUN)
    assert result.returncode == 4
    assert "declares model=True, but left no golden rows: let it call `accept_model`" in (
        result.stderr
    )
    assert "/toy/Evaluate/" not in result.stdout
