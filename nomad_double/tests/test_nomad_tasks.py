"""How the double runs tasks: as processes, with Nomad's environment, limits, restarts and logs."""

from __future__ import annotations

import base64
import json
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from nomad_world import (
    SECOND,
    World,
    batch,
    details,
    events,
    eventually,
    kinds,
    parent,
    service,
    shell,
    world,
)

EAT = "import time; kept = bytearray(200 * 1024 * 1024); time.sleep(60)"


@pytest.fixture
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    monkeypatch.setenv("MLSERVICE_TEST_SEEN", "yes")
    monkeypatch.setenv("SOMETHING_ELSE", "no")
    with world(tmp_path) as found:
        yield found


def environment(found: World, job: dict[str, Any]) -> dict[str, str]:
    """The environment that the job's task printed."""
    found.register(job)
    return dict(line.split("=", 1) for line in found.log(found.dead(job["ID"])).splitlines())


def test_a_task_has_nomads_environment_and_little_else(alone: World) -> None:
    env = {"OWN": "${NOMAD_JOB_ID}/${attr.kernel.name}/${nothing}", "NEXT": "${OWN}!"}
    task = shell("env", Env=env, Meta={"a-b": "task", "both": "task"})
    group = {
        "Count": 1,
        "Meta": {"both": "group"},
        "Networks": [{"DynamicPorts": [{"Label": "http"}]}],
    }
    found = environment(alone, batch("j", task, group, Meta={"both": "job", "Mixed": "1"}))
    assert found["NOMAD_JOB_ID"] == found["NOMAD_JOB_NAME"] == "j"
    assert found["NOMAD_ALLOC_NAME"] == "j.g[0]"
    assert (found["NOMAD_GROUP_NAME"], found["NOMAD_TASK_NAME"]) == ("g", "t")
    assert (found["NOMAD_MEMORY_LIMIT"], found["NOMAD_CPU_LIMIT"]) == ("50", "10")
    assert found["NOMAD_META_a_b"] == found["NOMAD_META_A_B"] == "task"
    assert found["NOMAD_META_both"] == found["NOMAD_META_BOTH"] == "task"
    assert found["NOMAD_META_Mixed"] == found["NOMAD_META_MIXED"] == "1"
    assert found["NOMAD_ADDR_http"] == f"127.0.0.1:{found['NOMAD_PORT_http']}"
    assert found["OWN"] == "j/linux/${nothing}"
    assert found["NEXT"] == "j/linux/${nothing}!"
    assert found["NOMAD_TASK_DIR"] == f"{found['PWD']}/local"
    assert found["NOMAD_ALLOC_DIR"].endswith(f"/{found['NOMAD_ALLOC_ID']}/alloc")
    assert found["MLSERVICE_TEST_SEEN"] == "yes"
    assert "SOMETHING_ELSE" not in found
    assert "NOMAD_JOB_PARENT_ID" not in found
    assert "NOMAD_MEMORY_MAX_LIMIT" not in found


def test_a_child_has_its_payload_as_a_file_and_its_meta_with_the_optional_ones_empty(
    alone: World,
) -> None:
    script = (
        "env | grep -E 'META|PARENT'; cat local/in/call.json; ls -d local secrets ../alloc/data"
    )
    task = shell(script, DispatchPayload={"File": "in/call.json"})
    alone.register(parent("p", task, MetaRequired=["out"], MetaOptional=["may"]))
    alloc = alone.dead(alone.dispatch("p", b"{}\n", out="o p")["DispatchedJobID"])
    lines = alone.log(alloc).splitlines()
    assert {"NOMAD_META_out=o p", "NOMAD_META_OUT=o p", "NOMAD_META_may="} < set(lines)
    assert "NOMAD_JOB_PARENT_ID=p" in lines
    assert lines[-4:] == ["{}", "../alloc/data", "local", "secrets"]


def test_without_a_payload_there_is_no_file(alone: World) -> None:
    alone.register(parent("p", shell("ls local", DispatchPayload={"File": "call.json"})))
    assert alone.log(alone.dead(alone.dispatch("p")["DispatchedJobID"])) == ""


@pytest.mark.parametrize("code", [0, 3])
def test_a_batch_job_is_dead_whether_it_failed_or_not(alone: World, code: int) -> None:
    alone.register(batch("j", shell(f"exit {code}")))
    alloc = alone.dead("j")
    failed = code != 0
    assert alloc["ClientStatus"] == ("failed" if failed else "complete")
    assert alloc["ClientDescription"] == ("Failed tasks" if failed else "All tasks have completed")
    state = alloc["TaskStates"]["t"]
    assert (state["State"], state["Failed"]) == ("dead", failed)
    expected = {"exit_code": str(code), "signal": "0", "oom_killed": "false"}
    assert details(alloc, "Terminated") == expected
    rest = ["Not Restarting"] if failed else []
    assert kinds(alloc) == ["Received", "Task Setup", "Started", "Terminated", *rest]
    summary = alone.get("/v1/job/j/summary")["Summary"]["g"]
    assert (summary["Failed"], summary["Complete"]) == (code == 3, code == 0)


def test_task_states_are_null_until_the_client_reports(alone: World) -> None:
    alone.register(batch("j", shell("sleep 60")))
    alloc = eventually(lambda: alone.get("/v1/job/j/allocations"))[0]
    assert (alloc["ClientStatus"], alloc["TaskStates"]) == ("pending", None)
    assert alone.get("/v1/job/j")["Status"] == "running"
    eventually(lambda: alone.newest("j")["ClientStatus"] == "running")


@pytest.mark.parametrize(
    ("driver", "hidden", "expected"),
    [
        (
            "docker",
            False,
            {"exit_code": "137", "signal": "0", "oom_killed": "true", "exit_message": "OOM Killed"},
        ),
        (
            "docker",
            True,
            {
                "exit_code": "137",
                "signal": "0",
                "oom_killed": "false",
                "exit_message": "Docker container exited with non-zero exit code: 137",
            },
        ),
        (
            "exec",
            False,
            {"exit_code": "137", "signal": "9", "oom_killed": "true", "exit_message": "OOM Killed"},
        ),
        ("raw_exec", False, {"exit_code": "137", "signal": "9", "oom_killed": "false"}),
    ],
)
def test_a_kill_for_memory_shows_as_the_driver_shows_it(
    alone: World, driver: str, hidden: bool, expected: dict[str, str]
) -> None:
    alone.double.faults.hide_oom = hidden
    config: dict[str, Any] = {"command": sys.executable, "args": ["-c", EAT]}
    if driver == "docker":
        config["image"] = "some:1"
    alone.register(batch("j", shell("", Driver=driver, Config=config)))
    alloc = alone.dead("j")
    assert alloc["ClientStatus"] == "failed"
    assert details(alloc, "Terminated") == expected


@pytest.mark.parametrize(("oversubscription", "status"), [(True, "running"), (False, "failed")])
def test_memory_max_counts_only_where_oversubscription_is_on(
    tmp_path: Path, oversubscription: bool, status: str
) -> None:
    config = {"command": sys.executable, "args": ["-c", EAT]}
    resources = {"CPU": 10, "MemoryMB": 50, "MemoryMaxMB": 500}
    with world(tmp_path, oversubscription=oversubscription) as there:
        there.register(batch("j", shell("", Config=config, Resources=resources)))
        eventually(lambda: there.newest("j")["ClientStatus"] != "pending")
        # 200 MB are taken within a moment of the start; the limit is looked at ten times a second.
        end = time.monotonic() + 3
        while time.monotonic() < end and there.newest("j")["ClientStatus"] == "running":
            time.sleep(0.1)
        assert there.newest("j")["ClientStatus"] == status


def test_the_memory_of_a_tasks_children_counts_and_they_die_with_it(alone: World) -> None:
    script = f"{sys.executable} -c '{EAT}' & echo $!; wait"
    alone.register(batch("j", shell(script, Driver="docker", Config={
        "image": "i", "command": "/bin/sh", "args": ["-c", script],
    })))  # fmt: skip
    alloc = alone.dead("j")
    assert details(alloc, "Terminated")["oom_killed"] == "true"
    stat = Path(f"/proc/{alone.log(alloc).strip()}/stat")
    assert not stat.exists() or stat.read_text().rpartition(") ")[2].startswith("Z")


@pytest.mark.parametrize(
    ("driver", "config", "kind", "text"),
    [
        (
            "raw_exec",
            {"command": "true", "arg": []},
            "Failed Validation",
            'No argument or block type is named "arg".',
        ),
        ("raw_exec", {"args": []}, "Failed Validation", 'The argument "command" is required'),
        (
            "raw_exec",
            {"command": "true", "args": "x"},
            "Failed Validation",
            "list of string required",
        ),
        ("exec", {"command": "true", "image": "i"}, "Failed Validation", 'is named "image".'),
        ("docker", {"command": "true"}, "Failed Validation", 'The argument "image" is required'),
        (
            "docker",
            {"image": "i", "command": "true", "ports": ["x"]},
            "Driver Failure",
            'Port "x" not found',
        ),
        (
            "docker",
            {"image": "i", "command": "true", "volumes": ["/a:/b"]},
            "Driver Failure",
            'volumes are not enabled; cannot mount host path: "/a:/b"',
        ),
        (
            "raw_exec",
            {"command": "/no/such"},
            "Driver Failure",
            "failed to launch command with executor",
        ),
    ],
)
def test_a_drivers_configuration_is_looked_at_when_the_task_starts(
    alone: World, driver: str, config: dict[str, Any], kind: str, text: str
) -> None:
    answer = alone.register(batch("j", shell("", Driver=driver, Config=config)))
    assert answer["Warnings"] == ""
    alloc = alone.dead("j")
    event = next(event for event in events(alloc) if event["Type"] == kind)
    assert text in event["DisplayMessage"]
    assert details(alloc, "Not Restarting")["restart_reason"] == "Error was unrecoverable"
    assert alloc["ClientStatus"] == "failed"


def test_a_task_is_restarted_by_its_policy_and_the_last_ten_events_are_kept(alone: World) -> None:
    policy = {"Attempts": 3, "Interval": 60 * SECOND, "Delay": SECOND // 20, "Mode": "fail"}
    alone.register(batch("j", shell("echo once; exit 1"), {"RestartPolicy": policy}))
    alloc = alone.dead("j")
    state = alloc["TaskStates"]["t"]
    assert (state["Restarts"], alone.log(alloc)) == (3, "once\n" * 4)
    assert len(events(alloc)) == 10
    again = details(alloc, "Restarting")
    assert again["restart_reason"] == "Restart within policy"
    assert SECOND // 20 <= int(again["start_delay"]) <= SECOND // 16
    words = 'Exceeded allowed attempts 3 in interval 1m0s and mode is "fail"'
    assert details(alloc, "Not Restarting") == {"restart_reason": words, "fails_task": "true"}


def test_a_failed_batch_allocation_is_rescheduled_as_often_as_allowed(alone: World) -> None:
    policy = {
        "Attempts": 1, "Interval": 3600 * SECOND, "Delay": 5 * SECOND, "DelayFunction": "constant",
        "Unlimited": False,
    }  # fmt: skip
    alone.register(batch("j", shell("exit 1"), {"ReschedulePolicy": policy}))
    first = eventually(
        lambda: [a for a in alone.get("/v1/job/j/allocations") if a["FollowupEvalID"]]
    )[0]
    assert first["ClientStatus"] == "failed"
    # It waits for its delay: the job is neither running nor dead.
    assert alone.get("/v1/job/j")["Status"] == "pending"
    alone.dead("j")
    found = alone.get("/v1/job/j/allocations")
    first, second = sorted(found, key=lambda alloc: alloc["CreateIndex"])
    assert first["NextAllocation"] == second["ID"]
    assert alone.get(f"/v1/allocation/{second['ID']}")["PreviousAllocation"] == first["ID"]
    assert second["RescheduleTracker"]["Events"][0]["PrevAllocID"] == first["ID"]
    assert first["DesiredDescription"] == "alloc was rescheduled because it failed"


def test_an_operator_may_force_the_replacement_of_what_failed(alone: World) -> None:
    alone.register(batch("j", shell("exit 1")))
    alone.dead("j")
    body = {"JobID": "j", "EvalOptions": {"ForceReschedule": True}}
    alone.post("/v1/job/j/evaluate", body)
    eventually(lambda: len(alone.get("/v1/job/j/allocations")) == 2)


def test_a_stopped_task_gets_its_signal_and_after_its_timeout_is_killed(alone: World) -> None:
    script = "trap 'echo {0}' {0}; echo up; while :; do sleep 0.1; done"
    polite = shell("trap 'echo bye; exit 0' TERM; echo up; while :; do sleep 0.1; done",
                   KillSignal="SIGTERM")  # fmt: skip
    stubborn = shell(script.format("INT"), KillTimeout=SECOND // 2)

    def stop_when_up(name: str, task: dict[str, Any]) -> None:
        alone.register(batch(name, task))
        alloc = eventually(lambda: alone.get(f"/v1/job/{name}/allocations"))[0]
        eventually(lambda: alone.newest(name)["ClientStatus"] == "running")
        eventually(lambda: alone.log(alloc) == "up\n")
        alone.ask("DELETE", f"/v1/job/{name}")

    stop_when_up("polite", polite)
    stop_when_up("stubborn", stubborn)
    alloc = alone.newest("polite")
    eventually(lambda: alone.newest("polite")["ClientStatus"] == "complete")
    assert alone.log(alloc) == "up\nbye\n"
    eventually(lambda: alone.newest("stubborn")["ClientStatus"] == "complete")
    alloc = alone.newest("stubborn")
    # raw_exec's default signal is SIGINT.
    assert alone.log(alloc).startswith("up\nINT\n")
    assert details(alloc, "Terminated")["signal"] == str(int(signal.SIGKILL))
    assert kinds(alloc)[-3:] == ["Killing", "Terminated", "Killed"]


def test_a_shutdown_delay_comes_before_the_signal(alone: World) -> None:
    alone.register(batch("j", shell("sleep 60"), {"ShutdownDelay": SECOND}))
    eventually(lambda: alone.newest("j")["ClientStatus"] == "running")
    begin = time.monotonic()
    alone.ask("DELETE", "/v1/job/j")
    alloc = eventually(lambda: [a for a in [alone.newest("j")] if a["ClientStatus"] == "complete"])[
        0
    ]
    assert time.monotonic() - begin > 1
    assert kinds(alloc)[3:5] == ["Waiting for shutdown delay", "Killing"]


def test_a_task_that_fails_takes_its_siblings_along(alone: World) -> None:
    tasks = [shell("sleep 0.3; exit 1"), {**shell("sleep 60"), "Name": "other"}]
    alone.register(batch("j", {}, {"Tasks": tasks}))
    alloc = alone.dead("j")
    state = alloc["TaskStates"]["other"]
    assert (alloc["ClientStatus"], state["Failed"], state["State"]) == ("failed", False, "dead")
    sibling = next(e for e in state["Events"] if e["Type"] == "Sibling Task Failed")
    assert sibling["Details"] == {"failed_sibling": "t"}


def test_an_allocation_can_be_stopped_restarted_and_signalled(alone: World) -> None:
    script = "trap 'echo usr' USR1; echo up; while :; do sleep 0.1; done"
    alone.register(service("s", shell(script)))
    eventually(lambda: alone.deployment("s")["Status"] == "successful")
    alloc = alone.newest("s")
    body = {"Signal": "SIGUSR1", "TaskName": "t"}
    alone.post(f"/v1/client/allocation/{alloc['ID']}/signal", body)
    eventually(lambda: alone.log(alloc) == "up\nusr\n")
    alone.post(f"/v1/client/allocation/{alloc['ID']}/restart", {"TaskName": "t"})
    eventually(lambda: alone.log(alloc) == "up\nusr\nup\n")
    eventually(lambda: alone.newest("s")["TaskStates"]["t"]["Restarts"] == 1)
    wanted = "User requested running tasks to restart"
    assert details(alone.newest("s"), "Restart Signaled") == {"restart_reason": wanted}
    answer = alone.ask("POST", f"/v1/client/allocation/{alloc['ID']}/signal", {"Signal": "SIGNO"})
    assert answer.status_code == 500
    alone.post(f"/v1/allocation/{alloc['ID']}/stop")
    eventually(lambda: len(alone.get("/v1/job/s/allocations")) == 2)


def test_a_log_is_read_from_an_offset_from_either_end_plain_or_in_frames(alone: World) -> None:
    alone.register(batch("j", shell("printf 0123456789; printf err >&2")))
    alloc = alone.dead("j")
    assert alone.log(alloc) == "0123456789"
    assert alone.log(alloc, "stderr") == "err"
    assert alone.log(alloc, offset=3) == "3456789"
    assert alone.log(alloc, origin="end", offset=3) == "789"
    assert alone.log(alloc, origin="end", offset=300) == "0123456789"
    answer = alone.ask("GET", f"/v1/client/fs/logs/{alloc['ID']}?task=t&type=stdout")
    frame = json.loads(answer.text)
    assert frame["File"] == "alloc/logs/t.stdout.0"
    assert base64.b64decode(frame["Data"]) == b"0123456789"


@pytest.mark.parametrize(
    ("query", "status", "text"),
    [
        ("", 400, "must provide task name"),
        ("task=t", 400, "must provide log type (stdout/stderr)"),
        ("task=none&type=stdout", 400, 'unknown task name "none"'),
        ("task=t&type=stdout&origin=x", 400, "origin must be start or end"),
        ("task=t&type=stdout&offset=x", 400, "error parsing offset: "),
        ("task=t&type=stdout&follow=x", 400, "failed to parse follow field to boolean: "),
    ],
)
def test_a_log_that_is_asked_for_wrongly_is_refused(
    alone: World, query: str, status: int, text: str
) -> None:
    alone.register(batch("j", shell("true")))
    alloc = alone.dead("j")
    answer = alone.ask("GET", f"/v1/client/fs/logs/{alloc['ID']}?{query}")
    assert answer.status_code == status
    assert answer.text.startswith(text)


def test_a_log_of_a_task_that_did_not_start_is_not_there(alone: World) -> None:
    alone.register(batch("j", shell("", Config={"args": []})))
    alloc = alone.dead("j")
    answer = alone.ask("GET", f"/v1/client/fs/logs/{alloc['ID']}?task=t&type=stdout")
    assert answer.status_code == 404
    assert answer.text == 'task "t" not started yet. No logs available'


def test_a_followed_log_goes_on_until_the_task_ends(alone: World) -> None:
    alone.register(batch("j", shell("echo one; sleep 1; echo two")))
    alloc = eventually(lambda: alone.get("/v1/job/j/allocations"))[0]
    eventually(lambda: alone.newest("j")["ClientStatus"] == "running")
    url = f"{alone.double.address}/v1/client/fs/logs/{alloc['ID']}"
    parameters = {"task": "t", "type": "stdout", "plain": "true", "follow": "true"}
    with requests.get(url, parameters, stream=True, timeout=20) as answer:
        assert list(answer.iter_lines()) == [b"one", b"two"]


def test_templates_need_consul_template_and_say_so(alone: World) -> None:
    template = {"EmbeddedTmpl": "x", "DestPath": "local/x"}
    alone.register(batch("j", shell("true", Templates=[template])))
    alloc = alone.dead("j")
    assert alloc["ClientStatus"] == "failed"
    assert "the double has no consul-template" in details(alloc, "Setup Failure")["setup_error"]


@pytest.mark.parametrize(
    "block",
    [
        {"Artifacts": [{"GetterSource": "http://127.0.0.1/x"}]},
        {"Lifecycle": {"Hook": "prestart"}},
        {"VolumeMounts": [{"Volume": "x", "Destination": "/x"}]},
    ],
)
def test_what_the_double_does_not_do_fails_the_task(alone: World, block: dict[str, Any]) -> None:
    alone.register(batch("j", shell("true", **block)))
    alloc = alone.dead("j")
    assert alloc["ClientStatus"] == "failed"
    assert "the double knows no " in details(alloc, "Driver Failure")["driver_error"]
