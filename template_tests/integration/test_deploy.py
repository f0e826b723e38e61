"""``mlservice deploy``: registering twice is as good as once, and every refusal says why."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from mlservice.cluster import Nomad
from nomad_double import NomadDouble
from template_tests.support.cluster import (
    children,
    eventually,
    on_cluster,
    register,
    task_environment,
)
from template_tests.support.servers import free_ports
from template_tests.support.toy_service import MakeToy, Toy

JOBS = {
    "toy-job-fit-300", "toy-job-fit-900", "toy-job-rows-300",
    "toy-pipeline", "toy-retrain", "toy-worker", "toy-gateway",
}  # fmt: skip
BATCH = JOBS - {"toy-worker", "toy-gateway"}
REGISTER = ("deploy", "register")


@pytest.fixture
def double(tmp_path: Path) -> Iterator[NomadDouble]:
    with NomadDouble(tmp_path / "nomad") as double:
        yield double


@pytest.fixture
def toy(make_toy: MakeToy, double: NomadDouble) -> Toy:
    return on_cluster(make_toy(), double.address)


def actions(printed: str) -> dict[str, str]:
    """What was done with each job, by its name."""
    return dict(re.findall(r"^job +(\S+) +(\w+)", printed, re.MULTILINE))


def test_a_second_registration_changes_nothing(toy: Toy, double: NomadDouble) -> None:
    first = actions(register(toy, "--only", "batch"))
    indexes = {job.name: job.index for job in Nomad(double.address).jobs("toy-").jobs}
    second = actions(register(toy, "--only", "batch"))
    assert first == dict.fromkeys(BATCH, "created")
    assert second == dict.fromkeys(BATCH, "unchanged")
    assert indexes == {job.name: job.index for job in Nomad(double.address).jobs("toy-").jobs}


def test_a_dry_run_shows_each_change_and_makes_none(toy: Toy, double: NomadDouble) -> None:
    assert actions(register(toy, "--dry-run")) == dict.fromkeys(JOBS, "created")
    assert Nomad(double.address).jobs("toy-").jobs == ()
    register(toy, "--only", "batch")
    printed = register(toy, "--only", "batch", "--dry-run", "--var", "job_cpu=777")
    changed = {name for name, action in actions(printed).items() if action == "changed"}
    assert changed == {name for name in BATCH if "-job-" in name}
    assert re.search(r"~ .*CPU: 1000 -> 777", printed)
    assert set(actions(register(toy, "--only", "batch")).values()) == {"unchanged"}


def test_each_environment_has_its_own_numbers(toy: Toy, double: NomadDouble) -> None:
    vars_file = toy.folder / "nomad" / "production.vars.hcl"
    text = vars_file.read_text("utf-8").replace("gateway_count    = 3", "gateway_count    = 5")
    vars_file.write_text(text.replace('["dc1"]', '[\n  "dc1",\n  "dc2",\n]'), "utf-8")
    register(toy, "--env", "production", "--only", "services")
    job = Nomad(double.address).job("toy-gateway")
    assert job is not None
    assert job.spec.document["TaskGroups"][0]["Count"] == 5
    assert job.spec.document["Datacenters"] == ["dc1", "dc2"]


WRONG: dict[str, tuple[tuple[str, ...], int, str]] = {
    "no such environment": (
        ("--env", "test"), 2, "there is no such var file (there are: production.vars.hcl, staging",
    ),
    "a variable of no job": (("--var", "gatway_count=3"), 2, "variable gatway_count: no job in"),
    "no value": (("--var", "driver"), 2, "'driver': give it as NAME=VALUE"),
    "a driver that is none": (("--var", "driver=podman"), 7, "driver must be docker or raw_exec"),
    "no crons": (("--var", "crons=[]"), 2, "variable crons = []: retrain needs at least one: give"),
    "no number": (("--var", "gateway_count=many"), 7, "gateway.nomad.hcl"),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_a_variable_that_cannot_be_used_is_named(toy: Toy, double: NomadDouble, case: str) -> None:
    arguments, code, words = WRONG[case]
    result = toy.run(*REGISTER, *arguments)
    assert result.returncode == code, result.stderr
    assert words in result.stdout + result.stderr
    assert Nomad(double.address).jobs("toy-").jobs == ()


def test_a_refusal_leaves_the_rest_registered_and_shows_nomads_words(
    toy: Toy, double: NomadDouble
) -> None:
    double.faults.answer("POST /v1/job/:id/plan", 500, "index error: lookup failed", 1)
    result = toy.run(*REGISTER, "--only", "batch")
    assert result.returncode == 7
    refused = [line for line in result.stdout.splitlines() if line.startswith("job ")]
    assert next(line for line in refused if " refused " in line).endswith("lookup failed")
    assert sorted(actions(result.stdout).values()) == ["created"] * 4 + ["refused"]


@pytest.mark.parametrize("pattern", ["POST /v1/jobs", "POST /v1/job/:id/plan"])
def test_an_answer_that_is_lost_is_found_out(toy: Toy, double: NomadDouble, pattern: str) -> None:
    double.faults.drop_responses(pattern, 1)
    register(toy, "--only", "batch")
    assert {job.name for job in Nomad(double.address).jobs("toy-").jobs} == BATCH
    assert set(actions(register(toy, "--only", "batch")).values()) == {"unchanged"}


def test_a_nomad_that_is_away_is_named(make_toy: MakeToy) -> None:
    (port,) = free_ports(1)
    result = on_cluster(make_toy(), f"http://127.0.0.1:{port}").run(*REGISTER)
    assert result.returncode == 7
    assert f"Nomad at http://127.0.0.1:{port} does not answer" in result.stderr


def test_an_address_that_is_missing_is_asked_for(toy: Toy) -> None:
    result = toy.run(*REGISTER, NOMAD_ADDR="")
    assert result.returncode == 7
    assert "[batch_cluster] address = ''" in result.stderr


def test_two_clusters_get_their_own_jobs(
    make_toy: MakeToy, double: NomadDouble, tmp_path: Path
) -> None:
    with NomadDouble(tmp_path / "services") as services:
        toy = on_cluster(
            make_toy(), double.address, MLSERVICE_SERVICE_CLUSTER__ADDRESS=services.address
        )
        register(toy)
        assert {job.name for job in Nomad(double.address).jobs("toy-").jobs} == BATCH
        assert {job.name for job in Nomad(services.address).jobs("toy-").jobs} == JOBS - BATCH
        printed = toy.run("deploy", "status").stdout
        assert "toy-retrain" in printed.partition(services.address)[0]
        assert "toy-gateway" in printed.partition(services.address)[2]


def test_a_dispatched_job_can_be_read_and_stopped_with_its_children(
    toy: Toy, double: NomadDouble
) -> None:
    register(toy, "--only", "batch", **task_environment(TOY_WAIT="60"))
    meta = ("--meta", "period=2024-01-02T01")
    child = toy.run("deploy", "dispatch", "pipeline", *meta).stdout.strip()
    assert child.startswith("toy-pipeline/dispatch-")
    eventually(lambda: "started  Rows" in toy.run("deploy", "logs", "pipeline").stdout)
    eventually(lambda: children(double, "toy-job-fit-300"))
    assert "1 running" in toy.run("deploy", "status").stdout
    stopped = toy.run("deploy", "stop", "pipeline", "--children").stdout
    assert f"stopped  {child}" in stopped
    assert "stopped" in toy.run("deploy", "status").stdout
    missing = toy.run("deploy", "stop", "nothing")
    assert missing.returncode == 7
    assert "there is no job toy-nothing on either cluster" in missing.stderr


def test_a_job_whose_deployment_failed_is_not_called_unchanged(
    toy: Toy, double: NomadDouble
) -> None:
    register(toy, "--only", "services")
    nomad = Nomad(double.address)
    deployment = eventually(lambda: nomad.deployment("toy-gateway"))
    nomad.request("post", "deployment", "fail", deployment.id)
    result = toy.run(*REGISTER, "--only", "services")
    assert result.returncode == 7
    assert re.search(r"^job +toy-gateway +refused +its deployment failed", result.stdout, re.M)
    assert "`mlservice deploy stop toy-gateway` and register again" in result.stdout


DISPATCHES = {
    "an unknown key": (("pipeline", "--meta", "perod=1"), "unpermitted metadata keys: [perod]"),
    "no payload": (("job-fit-300", "--meta", "output=x"), "Payload is not provided but required"),
    "no such job": (("nothing",), "parameterized job not found"),
}


@pytest.mark.parametrize("case", DISPATCHES)
def test_a_dispatch_that_nomad_refuses_shows_its_words(toy: Toy, case: str) -> None:
    register(toy, "--only", "batch")
    arguments, words = DISPATCHES[case]
    result = toy.run("deploy", "dispatch", *arguments)
    assert result.returncode == 7
    assert words in result.stderr
