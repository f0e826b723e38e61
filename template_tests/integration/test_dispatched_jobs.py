"""A pipeline whose jobs are dispatched to Nomad, and everything that can happen on the way."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from mlservice.artifacts import open_store
from mlservice.cluster import Nomad
from mlservice.jobs import Job, JobCall
from mlservice.jobs.nomad_executor import MAX_PAYLOAD_BYTES, NomadExecutor
from mlservice.jobs.watcher import ChildWatcher
from nomad_double import NomadDouble, TaskContext
from template_tests.support.cluster import (
    children,
    eventually,
    on_cluster,
    register,
    render_nomad,
    task_environment,
)
from template_tests.support.toy_service import PERIOD, MakeToy, Toy

RUN = ("pipeline", "run", "--period", PERIOD)
SMALL, LARGE = "toy-job-fit-300", "toy-job-fit-900"
DISPATCH = "POST /v1/job/:id/dispatch"


@pytest.fixture
def double(tmp_path: Path) -> Iterator[NomadDouble]:
    with NomadDouble(tmp_path / "nomad") as double:
        yield double


@pytest.fixture
def toy(make_toy: MakeToy, double: NomadDouble) -> Toy:
    toy = on_cluster(make_toy(), double.address)
    register(toy, "--only", "batch")
    return toy


def slow(toy: Toy, seconds: float = 4.0) -> None:
    """Let the training take a while."""
    register(toy, "--only", "batch", **task_environment(TOY_WAIT=str(seconds)))


def started(double: NomadDouble, parent: str = SMALL) -> list[str]:
    """The children of the training that run now; waits for the first."""

    def running() -> list[str]:
        return [job.name for job in children(double, parent) if job.status == "running"]

    found: list[str] = eventually(running)
    return found


def heard(process: subprocess.Popen[str], words: str) -> None:
    """Read what a command prints until it says ``words``."""
    assert process.stdout is not None
    assert any(words in line for line in process.stdout), f"it never said: {words}"


def finished(process: subprocess.Popen[str], seconds: float = 90) -> str:
    """What a command printed that must end well."""
    with process:
        try:
            output, _ = process.communicate(timeout=seconds)
        finally:
            process.kill()
    assert process.returncode == 0, output
    return output


def test_what_is_dispatched_is_what_runs_on_a_laptop(
    toy: Toy, double: NomadDouble, make_toy: MakeToy
) -> None:
    here, there = make_toy().train(), toy.train()
    assert here.partition("/toy/Fit/")[2] == there.partition("/toy/Fit/")[2]
    assert len(children(double, SMALL)) == 1
    assert "nothing to do" in toy.run(*RUN).stdout


def test_a_job_that_is_not_registered_is_said_so(make_toy: MakeToy, double: NomadDouble) -> None:
    toy = on_cluster(make_toy(), double.address)
    result = toy.run(*RUN)
    assert result.returncode == 4
    assert "toy-job-rows-300 is not registered: run `mlservice deploy register`" in result.stderr


def test_a_failing_job_shows_the_end_of_its_log_and_is_tried_twice(
    toy: Toy, double: NomadDouble
) -> None:
    register(toy, "--only", "batch", **task_environment(TOY_FAIL="yes"))
    result = toy.run(*RUN)
    assert result.returncode == 4
    assert "job 'fit' failed with exit code 1" in result.stderr
    assert "ValueError: the data of this hour are broken" in result.stderr
    assert len(children(double, SMALL)) == 2
    register(toy, "--only", "batch", **task_environment())
    toy.train()


@pytest.mark.parametrize("hidden", [False, True])
def test_a_job_that_is_killed_for_memory_goes_up_a_size_and_the_size_is_remembered(
    toy: Toy, double: NomadDouble, tmp_path: Path, *, hidden: bool
) -> None:
    if hidden:
        double.faults.hide_oom = True
    register(toy, "--only", "batch", **task_environment(TOY_EAT="450"))
    result = toy.run(*RUN, MLSERVICE_PIPELINE__METRICS_FILE=str(tmp_path / "run.prom"))
    assert result.returncode == 0, result.stderr
    assert "was killed for memory with 300 MB; it is tried with 900" in result.stderr
    counted = (tmp_path / "run.prom").read_text("utf-8")
    assert 'mlservice_jobs_out_of_memory_total{job="fit",memory_mb="300"} 1.0' in counted
    again = toy.run("pipeline", "run", "--period", "2024-01-02T01")
    assert again.returncode == 0, again.stderr
    assert (len(children(double, SMALL)), len(children(double, LARGE))) == (1, 2)


def test_a_job_that_no_size_is_enough_for_says_so(toy: Toy) -> None:
    register(toy, "--only", "batch", **task_environment(TOY_EAT="1200"))
    result = toy.run(*RUN)
    assert result.returncode == 4
    assert "was killed for memory with 900 MB, its largest size" in result.stderr


def test_a_coordinator_that_was_killed_picks_up_what_runs(toy: Toy, double: NomadDouble) -> None:
    slow(toy, 10)
    first = toy.start(*RUN)
    (child,) = started(double)
    first.send_signal(signal.SIGKILL)
    first.communicate()
    output = finished(toy.start(*RUN))
    assert f"{child} runs already and is waited for" in output
    assert len(children(double, SMALL)) == 1


def test_two_pipelines_of_one_period_make_one_child_and_one_artifact(
    toy: Toy, double: NomadDouble
) -> None:
    slow(toy, 2)
    both = [toy.start(*RUN) for _ in range(2)]
    artifacts = {
        line for process in both for line in finished(process).splitlines() if "artifact " in line
    }
    assert len(artifacts) == 1
    assert len(children(double, SMALL)) == 1


@pytest.mark.parametrize("when", ["at the dispatch", "while waiting"])
def test_nomad_may_be_away_for_a_minute(toy: Toy, double: NomadDouble, when: str) -> None:
    slow(toy, 3)
    if when == "at the dispatch":
        double.faults.away()
        process = toy.start(*RUN)
        heard(process, "does not answer")
    else:
        process = toy.start(*RUN)
        started(double)
        double.faults.away()
        heard(process, "does not answer")
        time.sleep(60)
    double.faults.back()
    finished(process)
    assert len(children(double, SMALL)) == 1


def test_an_answer_that_is_lost_is_not_a_second_run(toy: Toy, double: NomadDouble) -> None:
    double.faults.drop_responses(DISPATCH, 2)
    toy.train()
    assert len(children(double, SMALL)) == 1
    assert len(children(double, "toy-job-rows-300")) == 2


def test_a_cluster_without_leader_is_asked_again(toy: Toy, double: NomadDouble) -> None:
    double.faults.no_leader = True
    process = toy.start(*RUN)
    heard(process, "has no leader at the moment")
    double.faults.no_leader = False
    finished(process)


def test_an_expired_token_fails_the_pipeline_and_a_new_one_picks_the_child_up(
    make_toy: MakeToy, tmp_path: Path
) -> None:
    tokens = {"old": ["management"], "new": ["management"]}
    with NomadDouble(tmp_path / "nomad", acl=tokens) as double:
        toy = on_cluster(make_toy(), double.address, NOMAD_TOKEN="old")
        slow(toy, 12)
        process = toy.start(*RUN)
        eventually(
            lambda: [
                job
                for job in Nomad(double.address, token="new").jobs(f"{SMALL}/").jobs
                if job.status == "running"
            ]
        )
        double.faults.expire_token("old")
        output, _ = process.communicate(timeout=60)
        assert process.returncode == 4
        assert "give NOMAD_TOKEN a token whose policy allows this" in output
        assert "runs already and is waited for" in finished(toy.start(*RUN, NOMAD_TOKEN="new"))


def test_a_right_that_is_missing_is_named_at_once(make_toy: MakeToy, tmp_path: Path) -> None:
    tokens = {"all": ["management"], "reader": ["list-jobs", "read-job"]}
    with NomadDouble(tmp_path / "nomad", acl=tokens) as double:
        toy = on_cluster(make_toy(), double.address, NOMAD_TOKEN="all")
        register(toy, "--only", "batch")
        result = toy.run(*RUN, NOMAD_TOKEN="reader")
    assert result.returncode == 4
    assert "(403): Permission denied" in result.stderr


def test_a_token_that_may_not_register_is_told_so_and_the_doctor_names_the_right(
    make_toy: MakeToy, tmp_path: Path
) -> None:
    rights = ["list-jobs", "read-job", "parse-job"]
    tokens = {"reader": rights, "old": ["submit-job"]}
    with NomadDouble(tmp_path / "nomad", acl=tokens) as double:
        toy = on_cluster(make_toy(), double.address, NOMAD_TOKEN="reader")
        refused = toy.run("deploy", "register", "--only", "batch")
        doctor = toy.run("deploy", "doctor", CONSUL_HTTP_ADDR="127.0.0.1:9")
        double.faults.expire_token("old")
        expired = toy.run("deploy", "register", "--only", "batch", NOMAD_TOKEN="old")
        no_policy = toy.run("deploy", "register", "--only", "batch", NOMAD_TOKEN="unknown")
        nobody = toy.run("deploy", "doctor", NOMAD_TOKEN="unknown", CONSUL_HTTP_ADDR="127.0.0.1:9")
    remedy = "give NOMAD_TOKEN a token whose policy allows this in the namespace 'default'"
    assert refused.returncode == expired.returncode == no_policy.returncode == 7
    assert f"Permission denied: {remedy}" in refused.stdout
    assert f"ACL token expired: {remedy}" in expired.stderr
    assert f"Permission denied: {remedy}" in no_policy.stderr
    lines = [line.split(maxsplit=4) for line in doctor.stdout.splitlines()]
    found = {" ".join(line[1:4]): (line[0], line[4]) for line in lines if len(line) == 5}
    mark, words = found["batch cluster: rights"]
    assert mark == "WRONG"
    assert "submit-job, dispatch-job is denied in the namespace 'default'" in words
    assert found["batch cluster: version"][0] == "?"
    assert re.search("WRONG +batch cluster: rights .*Permission denied", nobody.stdout)


def test_a_child_that_an_operator_stops_is_not_started_again(toy: Toy, double: NomadDouble) -> None:
    slow(toy, 30)
    process = toy.start(*RUN)
    (child,) = started(double)
    double.faults.stop(child)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 4
    assert "was stopped by an operator" in output
    assert len(children(double, SMALL)) == 1


def test_a_node_that_is_lost_costs_no_run(toy: Toy, double: NomadDouble) -> None:
    slow(toy, 3)
    process = toy.start(*RUN)
    (child,) = started(double)
    double.faults.lose_node()
    finished(process)
    assert len(children(double, SMALL)) == 1
    assert len(Nomad(double.address).allocations(child)) == 2


def test_a_child_that_is_purged_while_it_is_waited_for_is_made_again(
    toy: Toy, double: NomadDouble
) -> None:
    slow(toy, 3)
    process = toy.start(*RUN)
    (child,) = started(double)
    Nomad(double.address).stop(child, purge=True)
    assert "was garbage-collected or purged" in finished(process)
    (again,) = children(double, SMALL)
    assert again.name != child


def test_children_that_are_collected_behind_a_run_leave_their_artifacts(
    toy: Toy, double: NomadDouble
) -> None:
    toy.train()
    double.collect_garbage()
    assert children(double, SMALL) == ()
    assert "nothing to do" in toy.run(*RUN).stdout


def test_a_server_error_of_nomads_is_no_end(toy: Toy, double: NomadDouble) -> None:
    slow(toy, 3)
    process = toy.start(*RUN)
    started(double)
    double.faults.answer("GET /v1/jobs", 500, "rpc error: EOF", 3)
    nomad = Nomad(double.address)
    written = nomad.job(SMALL)
    assert written
    nomad.register(written.spec, written.index)  # so that whoever waits asks again
    assert "answers 500: rpc error: EOF" in finished(process)


def test_a_dispatch_in_the_middle_of_an_election_is_repeated(toy: Toy, double: NomadDouble) -> None:
    double.faults.answer(DISPATCH, 500, "leadership lost while committing log", 2)
    toy.train()
    assert len(children(double, SMALL)) == 1


def test_a_cancelled_grid_ends_and_starts_nothing_more(toy: Toy, double: NomadDouble) -> None:
    slow(toy, 30)
    over = ("--over", "slope=0.5:1.0:0.05", "--workers", "2", "--stop-jobs")
    process = toy.start("pipeline", "grid", "--period", PERIOD, *over)
    eventually(lambda: len(started(double)) == 2)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=30)
    assert process.returncode
    found = children(double, SMALL)
    assert len(found) == 2
    assert all(job.stopped for job in found)


def test_a_call_that_nomad_would_not_take_goes_through_the_store(tmp_path: Path) -> None:
    store = open_store((tmp_path / "store").as_uri())
    call = JobCall("fit", "Fit", "a", "0", parameters={"text": "x" * MAX_PAYLOAD_BYTES})
    taken = []

    def run(context: TaskContext) -> int:
        stored = json.loads(context.payload)["stored"]
        taken.append(JobCall.decode(store.read(stored).decode()))
        store.create("a/manifest.json", b"{}")
        return 0

    with NomadDouble(tmp_path / "nomad", run=run) as double:
        render_nomad(tmp_path / "files", service_slug="toy")
        nomad = Nomad(double.address)
        hcl = (tmp_path / "files" / "job.nomad.hcl").read_text("utf-8")
        nomad.register(nomad.parse(hcl, 'job = "fit"\nmemory_mb = 64\ndriver = "raw_exec"\n'), 0)
        job = Job("fit", lambda: None, (64,))
        NomadExecutor(nomad, store, "toy").run(job, call)
    assert taken == [call]


def test_an_index_that_goes_back_right_after_a_dispatch_is_no_end(tmp_path: Path) -> None:
    with NomadDouble(tmp_path / "nomad", run=lambda _: 0) as double:
        render_nomad(tmp_path / "files", service_slug="toy")
        nomad = Nomad(double.address)
        hcl = (tmp_path / "files" / "job.nomad.hcl").read_text("utf-8")
        nomad.register(nomad.parse(hcl, 'job = "fit"\nmemory_mb = 64\ndriver = "raw_exec"\n'), 0)
        dispatched = [
            nomad.dispatch("toy-job-fit-64", b"{}", {"output": "a", "attempt": "0"}, f"token-{i}")
            for i in range(3)
        ]
        double.faults.reset_index()
        watcher = ChildWatcher(nomad, "toy-job-", placement_seconds=60, patience_seconds=60)

        def wait_for_all() -> None:
            for found in dispatched:
                watcher.wait(found.child)

        waits = threading.Thread(target=wait_for_all, daemon=True)
        waits.start()
        waits.join(20)
        assert not waits.is_alive()
        assert all(job.status == "dead" for job in children(double, "toy-job-fit-64"))


@pytest.mark.parametrize("trouble", ["index", "wakeups", "race"])
def test_indexes_that_lie_are_no_end(toy: Toy, double: NomadDouble, trouble: str) -> None:
    slow(toy, 3)
    double.faults.spurious_wakeups = trouble == "wakeups"
    double.faults.idempotency_race = trouble == "race"
    process = toy.start(*RUN)
    started(double)
    if trouble == "index":
        double.faults.reset_index()
    finished(process)
    assert len(children(double, SMALL)) == 1


def test_a_job_without_a_node_is_never_waited_for_in_silence(
    make_toy: MakeToy, tmp_path: Path
) -> None:
    with NomadDouble(tmp_path / "nomad", memory_mb=200) as double:
        toy = on_cluster(make_toy(), double.address, MLSERVICE_PIPELINE__PLACEMENT_MINUTES="0.25")
        register(toy, "--only", "batch")
        process = toy.start(*RUN)
        output, _ = process.communicate(timeout=90)
        assert process.returncode == 4
        assert "waits for a node since" in output
        assert "1 nodes lack memory" in output
        assert "found no node in" in output
        assert all(job.stopped for job in children(double, "toy-job-rows-300"))


@pytest.mark.parametrize("asked", [False, True])
def test_cancelling_stops_the_children_where_asked(
    toy: Toy, double: NomadDouble, *, asked: bool
) -> None:
    slow(toy, 20)
    process = toy.start(*RUN, *(["--stop-jobs"] if asked else []))
    (child,) = started(double)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=30)
    job = Nomad(double.address).job(child)
    assert job is not None
    assert job.stopped is asked
