"""The pipeline as a data scientist runs it, and what happens when something breaks."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from mlservice.artifacts import list_artifacts, open_store
from template_tests.support.live_toy import wait_for
from template_tests.support.toy_service import PERIOD, SERVICE, MakeToy, Toy


def artifacts(toy: Toy) -> list[str]:
    """The tasks of the complete artifacts; their files are checked on the way."""
    store = open_store((toy.folder / ".mlservice" / "artifacts").as_uri())
    found = list_artifacts(store, "toy")
    for artifact in found:
        with artifact.files():
            pass
    return [artifact.manifest.task for artifact in found]


def test_a_first_run_makes_the_model_and_a_second_finds_nothing_to_do(toy: Toy) -> None:
    first = toy.run("pipeline", "run", "--period", PERIOD)
    second = toy.run("pipeline", "run", "--period", PERIOD)
    assert first.returncode == second.returncode == 0
    assert "nothing to do" in second.stdout
    assert "nothing to do" not in first.stdout
    assert sorted(artifacts(toy)) == ["Fit", "Rows", "Rows"]


def test_times_within_one_period_ask_for_the_same_model(toy: Toy) -> None:
    toy.train()
    result = toy.run("pipeline", "run", "--period", "2024-01-02")
    assert "nothing to do" in result.stdout


def test_a_hyper_parameter_makes_a_model_of_its_own_from_the_same_rows(toy: Toy) -> None:
    assert toy.train() != toy.train(slope=0.9)
    assert sorted(artifacts(toy)) == ["Fit", "Fit", "Rows", "Rows"]


def test_changed_code_never_takes_an_old_result_for_its_own(toy: Toy) -> None:
    before = toy.train()
    checks = toy.folder / "src" / "toy" / "checks.py"
    checks.write_text(checks.read_text("utf-8") + "\n# stricter one day\n", "utf-8")
    assert toy.train() != before
    assert artifacts(toy).count("Rows") == 2, "the rows do not depend on the checks"


def test_a_change_is_noticed_however_a_module_was_imported(toy: Toy) -> None:
    house = toy.folder / "src" / "toy"
    (house / "deep").mkdir()
    imported = {
        "one.py": "",
        "two.py": "",
        "three.py": "",
        "four.py": "from . import three\n",
        "deep/__init__.py": "",
        "deep/five.py": "from ..four import three\n",
    }
    for name, text in imported.items():
        (house / name).write_text(text, "utf-8")
    checks = house / "checks.py"
    more = "import json, toy.one\nfrom toy import (\n    __doc__,\n    two,\n)\n"
    inside = "\n\ndef never() -> None:\n    from .deep import five\n"
    checks.write_text(checks.read_text("utf-8") + more + inside, "utf-8")
    models = [toy.train()]
    for name in imported:
        with (house / name).open("a", encoding="utf-8") as file:
            file.write("# changed\n")
        models.append(toy.train())
    assert len(set(models)) == len(models)


def test_the_latest_model_is_none_of_a_comparison(toy: Toy) -> None:
    usual = toy.train()
    toy.train(slope=0.9)
    found = subprocess.run(
        [sys.executable, "-c", _LATEST],
        cwd=toy.folder,
        env=toy.environ,
        capture_output=True,
        text=True,
        check=True,
    )
    assert found.stdout.strip() == usual


_LATEST = """
import os
from pathlib import Path
from mlservice.models.selection import LATEST, find_model
from mlservice.settings import load_settings
print(find_model(load_settings(Path.cwd(), os.environ), os.environ, LATEST).uri)
"""


def test_what_a_complete_model_was_made_from_is_not_made_again(toy: Toy) -> None:
    toy.train()
    for folder in (toy.folder / ".mlservice" / "artifacts" / "toy").glob("Rows*"):
        shutil.rmtree(folder)
    assert "nothing to do" in toy.run("pipeline", "run", "--period", PERIOD).stdout


def test_other_inputs_make_a_model_of_their_own(toy: Toy) -> None:
    before = toy.train()
    pipeline = toy.folder / "src" / "toy" / "pipeline.py"
    text = pipeline.read_text("utf-8")
    assert "timedelta(hours=n)" in text
    pipeline.write_text(text.replace("timedelta(hours=n)", "timedelta(hours=n + 5)"), "utf-8")
    assert toy.train() != before


@pytest.mark.parametrize(
    ("file", "old", "new", "words"),
    [
        ("model.py", "return Model(**", "return open(**", "cannot be loaded and tried"),
        ("features.py", '("x", "trouble")', '("x",)', "FEATURES and features()"),
        ("checks.py", '"squared_error"', '"mse"', "QualityChecks(loss='mse')"),
        ("checks.py", "low=0.0", "low=2.0", "low must be below high"),
        ("checks.py", 'high=1.0, loss="squared_error"', "high=9.0", "log_loss is for prob"),
    ],
)
def test_what_no_worker_could_serve_is_not_published(
    toy: Toy, file: str, old: str, new: str, words: str
) -> None:
    source = toy.folder / "src" / "toy" / file
    text = source.read_text("utf-8")
    assert old in text
    source.write_text(text.replace(old, new), "utf-8")
    result = toy.run("pipeline", "run", "--period", PERIOD)
    assert result.returncode != 0
    assert words in result.stdout + result.stderr
    assert "Fit" not in artifacts(toy)


def test_status_tells_what_is_complete(toy: Toy) -> None:
    before = toy.run("pipeline", "status", "--period", PERIOD).stdout
    toy.train()
    after = toy.run("pipeline", "status", "--period", PERIOD).stdout
    assert "0 of 3 tasks are complete" in before
    assert "3 of 3 tasks are complete" in after


def test_show_leads_back_to_the_raw_data(toy: Toy) -> None:
    shown = toy.run("artifacts", "show", toy.train(slope=0.9)).stdout
    assert "slope" in shown
    assert "loss" in shown
    assert shown.count("Rows(hour=") == 2
    assert "raw data" in shown


def test_a_failed_task_is_named_with_its_reason_and_its_log(toy: Toy) -> None:
    result = toy.run("pipeline", "run", "--period", PERIOD, TOY_FAIL="1")
    assert result.returncode == 4
    assert "Fit(period=2024-01-02T00" in result.stderr
    assert "the data of this hour are broken" in result.stderr
    log = next(w for w in result.stderr.split() if w.endswith(".log"))
    assert "the data of this hour are broken" in Path(log).read_text("utf-8")
    assert sorted(artifacts(toy)) == ["Rows", "Rows"]
    assert toy.run("pipeline", "run", "--period", PERIOD).returncode == 0


@pytest.mark.parametrize(
    ("slope", "reason"),
    [("0.0", "constant"), ("-1.0", "leave the range"), ("0.3", "does not beat the baseline")],
)
def test_a_model_that_went_mad_is_not_published(toy: Toy, slope: str, reason: str) -> None:
    result = toy.run("pipeline", "run", "--period", PERIOD, f"--set=slope={slope}")
    assert result.returncode == 4
    assert reason in result.stderr
    assert "Fit" not in artifacts(toy)


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--period", "yesterday"], 4, ["period 'yesterday'", "2013-10-07"]),
        (["--set", "slope"], 2, ["'slope'", "NAME=VALUE"]),
        (["--set", "slop=1"], 4, ["slop", "no such parameter", "slope"]),
        (["--set", "slope=steep"], 4, ["slope", "steep"]),
    ],
)
def test_a_wrong_argument_is_named_with_its_remedy(
    toy: Toy, arguments: list[str], code: int, words: list[str]
) -> None:
    result = toy.run("pipeline", "run", *arguments)
    assert result.returncode == code
    assert all(word in result.stderr for word in words)
    assert "Traceback" not in result.stderr


def test_two_runs_at_once_give_one_artifact(toy: Toy) -> None:
    runs = [toy.start("pipeline", "run", "--period", PERIOD, TOY_WAIT="1") for _ in range(2)]
    outputs = [run.communicate(timeout=120)[0] for run in runs]
    assert [run.returncode for run in runs] == [0, 0], outputs
    assert sorted(artifacts(toy)) == ["Fit", "Rows", "Rows"]
    files = [p for p in (toy.folder / ".mlservice/artifacts").rglob("*") if p.is_file()]
    manifests = [file for file in files if file.name == "manifest.json"]
    named = sum(len(json.loads(file.read_text("utf-8"))["files"]) for file in manifests)
    assert len(files) == named + len(manifests), "the loser's files are gone"


def test_kill_9_at_any_moment_leaves_a_whole_artifact_or_none(make_toy: MakeToy) -> None:
    chooser = random.Random(1)
    toy = make_toy()
    whole_run = 0.0
    for attempt in range(21):
        run = subprocess.Popen(
            [sys.executable, "-c", _PUBLISH, str(toy.folder / "store"), str(attempt)],
            env=toy.environ,
            stdout=subprocess.PIPE,
        )
        assert run.stdout is not None
        run.stdout.readline()
        if attempt == 0:  # tells how long it takes here
            start = time.monotonic()
            run.wait()
            whole_run = time.monotonic() - start
        time.sleep(chooser.random() * whole_run)
        run.send_signal(signal.SIGKILL)
        run.communicate()
        store = open_store((toy.folder / "store").as_uri())
        for artifact in list_artifacts(store, ""):
            with artifact.files() as folder:
                assert len(list(folder.iterdir())) == 8
    begun = [folder for folder in (toy.folder / "store" / "a").iterdir() if any(folder.iterdir())]
    whole = [folder for folder in begun if (folder / "manifest.json").exists()]
    assert len(whole) < len(begun), "some runs were killed in the middle"


_PUBLISH = """
import sys, tempfile
from datetime import UTC, datetime
from pathlib import Path
from mlservice.artifacts import Manifest, open_store, publish
store = open_store(Path(sys.argv[1]).as_uri())
with tempfile.TemporaryDirectory() as folder:
    for number in range(8):
        (Path(folder) / f"{number}.bin").write_bytes(bytes(500_000))
    describe = lambda files: Manifest(
        task="T", job="j", parameters={}, inputs={}, metrics={}, files=files, code="c",
        git_commit=None, created=datetime.now(UTC), seconds=0, environment={},
    )
    print("ready", flush=True)
    publish(store, f"a/{sys.argv[2]}", Path(folder), describe)
"""


def test_a_cancelled_pipeline_leaves_no_job_behind_not_even_one_that_will_not_end(
    toy: Toy,
) -> None:
    run = toy.start("pipeline", "run", "--period", PERIOD, TOY_WAIT="60", TOY_DEAF="1")
    logs = toy.folder / ".mlservice" / "logs"
    wait_for(lambda: any("deaf" in log.read_text("utf-8") for log in logs.glob("*.log")), 60)
    children = psutil.Process(run.pid).children(recursive=True)
    assert children
    run.send_signal(signal.SIGINT)
    assert run.wait(20) == 130
    run.communicate()
    assert [child for child in children if child.is_running()] == []
    assert artifacts(toy).count("Fit") == 0


def test_a_killed_pipeline_takes_up_where_it_was(toy: Toy) -> None:
    run = toy.start("pipeline", "run", "--period", PERIOD, TOY_WAIT="30")
    deadline = time.monotonic() + 60
    while artifacts(toy).count("Rows") < 2 and time.monotonic() < deadline:
        time.sleep(0.2)
    run.terminate()
    output = run.communicate(timeout=30)[0]
    assert run.returncode == 143, output
    result = toy.run("pipeline", "run", "--period", PERIOD)
    assert "1 of the pipeline's tasks are to run" in result.stderr


def in_own_mounts(toy: Toy, mount: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run ``mlservice`` where ``mount`` has been carried out, in a mount namespace of its own."""
    store = toy.folder / ".mlservice" / "artifacts"
    store.mkdir(parents=True)
    run = f"{sys.executable} -m mlservice {' '.join(arguments)}"
    listing = f"{sys.executable} -m mlservice artifacts list"
    command = f"{mount.format(store=store)} && {{ {run}; code=$?; {listing}; exit $code; }}"
    return subprocess.run(
        ["unshare", "--map-root-user", "--mount", "sh", "-c", command],
        cwd=toy.folder,
        env=toy.environ,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_a_full_disk_fails_the_pipeline_with_a_remedy_and_publishes_nothing(toy: Toy) -> None:
    mount = "mount -t tmpfs -o size=200k none {store}"
    result = in_own_mounts(
        toy, mount, "pipeline", "run", "--period", PERIOD, "--set", "padding=900000"
    )
    assert result.returncode == 4, result.stderr
    assert "the disk is full" in result.stderr
    assert "toy/Rows/" in result.stdout, "there was room for the rows"
    assert "toy/Fit/" not in result.stdout


def test_a_read_only_store_fails_with_a_remedy(toy: Toy) -> None:
    mount = "mount -t tmpfs -o ro none {store}"
    result = in_own_mounts(toy, mount, "pipeline", "run", "--period", PERIOD)
    assert result.returncode == 4, result.stderr
    assert "Read-only" in result.stderr
    assert "[artifacts] root" in result.stderr


def test_a_clock_that_jumps_back_changes_nothing(toy: Toy) -> None:
    jump = toy.folder / "src" / "sitecustomize.py"
    jump.write_text(
        "import datetime, itertools, time\n"
        "real, calls = time.time, itertools.count()\n"
        "jumped = lambda: 3600 if next(calls) > 3 else 0\n"
        "time.time = lambda: real() - jumped()\n"
        "class Jumping(datetime.datetime):\n"
        "    @classmethod\n"
        "    def now(cls, tz=None):\n"
        "        return super().now(tz) - datetime.timedelta(seconds=jumped())\n"
        "datetime.datetime = Jumping\n",
        "utf-8",
    )
    result = toy.run("pipeline", "run", "--period", PERIOD)
    assert result.returncode == 0, result.stderr
    assert sorted(artifacts(toy)) == ["Fit", "Rows", "Rows"]


def test_no_task_is_forked(toy: Toy) -> None:
    """A fork of a process that has used the object store hangs; four workers must not."""
    result = toy.run("pipeline", "run", "--period", PERIOD, "--set=hours=6", "--workers=4")
    assert result.returncode == 0, result.stderr


def test_the_platform_is_what_the_template_ships() -> None:
    import mlservice

    assert Path(mlservice.__file__).is_relative_to(SERVICE)
    assert os.environ.get("MLSERVICE_CONFIG") is None
