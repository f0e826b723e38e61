"""Tasks as processes: environment, limits, restarts and signals."""

from __future__ import annotations

import signal
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from nomad_cluster import (
    SECOND,
    Cluster,
    batch_job,
    event_details,
    event_types,
    eventually,
    parameterized_job,
    running_cluster,
    service_job,
    shell_task,
    task_events,
)

EAT = "import time; kept = bytearray(200 * 1024 * 1024); time.sleep(60)"


def environment(cluster: Cluster, job: dict[str, Any]) -> dict[str, str]:
    """The environment that the job's task printed."""
    cluster.register(job)
    return dict(
        line.split("=", 1) for line in cluster.log(cluster.alloc_once_dead(job["ID"])).splitlines()
    )


@pytest.mark.fact("task-environment")
def test_a_task_has_nomads_environment_and_little_else(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLSERVICE_TEST_SEEN", "yes")
    monkeypatch.setenv("SOMETHING_ELSE", "no")
    env = {"OWN": "${NOMAD_JOB_ID}/${attr.kernel.name}/${nothing}", "NEXT": "${OWN}!"}
    task = shell_task("env", Env=env, Meta={"a-b": "task", "both": "task"})
    group = {
        "Count": 1,
        "Meta": {"both": "group"},
        "Networks": [{"DynamicPorts": [{"Label": "http"}]}],
    }
    found = environment(cluster, batch_job("j", task, group, Meta={"both": "job", "Mixed": "1"}))
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


@pytest.mark.fact("payload-file")
def test_a_child_has_its_payload_as_a_file_and_its_meta_with_the_optional_ones_empty(
    cluster: Cluster,
) -> None:
    script = (
        "env | grep -E 'META|PARENT'; cat local/in/call.json; ls -d local secrets ../alloc/data"
    )
    task = shell_task(script, DispatchPayload={"File": "in/call.json"})
    cluster.register(parameterized_job("p", task, MetaRequired=["out"], MetaOptional=["may"]))
    alloc = cluster.alloc_once_dead(cluster.dispatch("p", b"{}\n", out="o p")["DispatchedJobID"])
    lines = cluster.log(alloc).splitlines()
    assert {"NOMAD_META_out=o p", "NOMAD_META_OUT=o p", "NOMAD_META_may="} < set(lines)
    assert "NOMAD_JOB_PARENT_ID=p" in lines
    assert lines[-4:] == ["{}", "../alloc/data", "local", "secrets"]


@pytest.mark.fact("payload-file")
def test_without_a_payload_there_is_no_file(cluster: Cluster) -> None:
    cluster.register(
        parameterized_job("p", shell_task("ls local", DispatchPayload={"File": "call.json"}))
    )
    assert cluster.log(cluster.alloc_once_dead(cluster.dispatch("p")["DispatchedJobID"])) == ""


@pytest.mark.fact("job-dead", "task-failed")
@pytest.mark.parametrize("code", [0, 3])
def test_a_batch_job_is_dead_whether_it_failed_or_not(cluster: Cluster, code: int) -> None:
    cluster.register(batch_job("j", shell_task(f"exit {code}")))
    alloc = cluster.alloc_once_dead("j")
    failed = code != 0
    assert alloc["ClientStatus"] == ("failed" if failed else "complete")
    assert alloc["ClientDescription"] == ("Failed tasks" if failed else "All tasks have completed")
    state = alloc["TaskStates"]["t"]
    assert (state["State"], state["Failed"]) == ("dead", failed)
    expected = {"exit_code": str(code), "signal": "0", "oom_killed": "false"}
    assert event_details(alloc, "Terminated") == expected
    rest = ["Not Restarting"] if failed else []
    assert event_types(alloc) == ["Received", "Task Setup", "Started", "Terminated", *rest]
    summary = cluster.get("/v1/job/j/summary")["Summary"]["g"]
    assert (summary["Failed"], summary["Complete"]) == (code == 3, code == 0)


@pytest.mark.fact("task-states-null")
def test_task_states_are_null_until_the_client_reports(cluster: Cluster) -> None:
    cluster.register(batch_job("j", shell_task("sleep 60")))
    alloc = eventually(lambda: cluster.get("/v1/job/j/allocations"))[0]
    assert (alloc["ClientStatus"], alloc["TaskStates"]) == ("pending", None)
    assert cluster.get("/v1/job/j")["Status"] == "running"
    eventually(lambda: cluster.newest_alloc("j")["ClientStatus"] == "running")


@pytest.mark.fact("oom-kill")
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
    cluster: Cluster, driver: str, hidden: bool, expected: dict[str, str]
) -> None:
    cluster.double.faults.hide_oom = hidden
    config: dict[str, Any] = {"command": sys.executable, "args": ["-c", EAT]}
    if driver == "docker":
        config["image"] = "some:1"
    cluster.register(batch_job("j", shell_task("", Driver=driver, Config=config)))
    alloc = cluster.alloc_once_dead("j")
    assert alloc["ClientStatus"] == "failed"
    assert event_details(alloc, "Terminated") == expected


@pytest.mark.fact("memory-max", "memory-max-warning")
@pytest.mark.parametrize(("oversubscription", "status"), [(True, "running"), (False, "failed")])
def test_memory_max_counts_only_where_oversubscription_is_on(
    tmp_path: Path, oversubscription: bool, status: str
) -> None:
    config = {"command": sys.executable, "args": ["-c", EAT]}
    resources = {"CPU": 10, "MemoryMB": 50, "MemoryMaxMB": 500}
    with running_cluster(tmp_path, oversubscription=oversubscription) as cluster:
        cluster.register(batch_job("j", shell_task("", Config=config, Resources=resources)))
        eventually(lambda: cluster.newest_alloc("j")["ClientStatus"] != "pending")
        # 200 MB are taken within a moment of the start; the limit is looked at ten times a second.
        end = time.monotonic() + 3
        while time.monotonic() < end and cluster.newest_alloc("j")["ClientStatus"] == "running":
            time.sleep(0.1)
        assert cluster.newest_alloc("j")["ClientStatus"] == status


@pytest.mark.fact("oom-children")
def test_the_memory_of_a_tasks_children_counts_and_they_die_with_it(cluster: Cluster) -> None:
    script = f"{sys.executable} -c '{EAT}' & echo $!; wait"
    cluster.register(batch_job("j", shell_task(script, Driver="docker", Config={
        "image": "i", "command": "/bin/sh", "args": ["-c", script],
    })))  # fmt: skip
    alloc = cluster.alloc_once_dead("j")
    assert event_details(alloc, "Terminated")["oom_killed"] == "true"
    stat = Path(f"/proc/{cluster.log(alloc).strip()}/stat")
    assert not stat.exists() or stat.read_text().rpartition(") ")[2].startswith("Z")


@pytest.mark.fact("driver-config")
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
    cluster: Cluster, driver: str, config: dict[str, Any], kind: str, text: str
) -> None:
    answer = cluster.register(batch_job("j", shell_task("", Driver=driver, Config=config)))
    assert answer["Warnings"] == ""
    alloc = cluster.alloc_once_dead("j")
    event = next(event for event in task_events(alloc) if event["Type"] == kind)
    assert text in event["DisplayMessage"]
    assert event_details(alloc, "Not Restarting")["restart_reason"] == "Error was unrecoverable"
    assert alloc["ClientStatus"] == "failed"


@pytest.mark.fact("restart-policy", "task-events")
def test_a_task_is_restarted_by_its_policy_and_the_last_ten_events_are_kept(
    cluster: Cluster,
) -> None:
    policy = {"Attempts": 3, "Interval": 60 * SECOND, "Delay": SECOND // 20, "Mode": "fail"}
    cluster.register(batch_job("j", shell_task("echo once; exit 1"), {"RestartPolicy": policy}))
    alloc = cluster.alloc_once_dead("j")
    state = alloc["TaskStates"]["t"]
    assert (state["Restarts"], cluster.log(alloc)) == (3, "once\n" * 4)
    assert len(task_events(alloc)) == 10
    again = event_details(alloc, "Restarting")
    assert again["restart_reason"] == "Restart within policy"
    assert SECOND // 20 <= int(again["start_delay"]) <= SECOND // 16
    words = 'Exceeded allowed attempts 3 in interval 1m0s and mode is "fail"'
    assert event_details(alloc, "Not Restarting") == {"restart_reason": words, "fails_task": "true"}


@pytest.mark.fact("reschedule-policy")
def test_a_failed_batch_allocation_is_rescheduled_as_often_as_allowed(cluster: Cluster) -> None:
    policy = {
        "Attempts": 1, "Interval": 3600 * SECOND, "Delay": 5 * SECOND, "DelayFunction": "constant",
        "Unlimited": False,
    }  # fmt: skip
    cluster.register(batch_job("j", shell_task("exit 1"), {"ReschedulePolicy": policy}))
    first = eventually(
        lambda: [a for a in cluster.get("/v1/job/j/allocations") if a["FollowupEvalID"]]
    )[0]
    assert first["ClientStatus"] == "failed"
    # It waits for its delay: the job is neither running nor dead.
    assert cluster.get("/v1/job/j")["Status"] == "pending"
    cluster.alloc_once_dead("j")
    found = cluster.get("/v1/job/j/allocations")
    first, second = sorted(found, key=lambda alloc: alloc["CreateIndex"])
    assert first["NextAllocation"] == second["ID"]
    assert cluster.get(f"/v1/allocation/{second['ID']}")["PreviousAllocation"] == first["ID"]
    assert second["RescheduleTracker"]["Events"][0]["PrevAllocID"] == first["ID"]
    assert first["DesiredDescription"] == "alloc was rescheduled because it failed"


@pytest.mark.fact("reschedule-forced")
def test_an_operator_may_force_the_replacement_of_what_failed(cluster: Cluster) -> None:
    cluster.register(batch_job("j", shell_task("exit 1")))
    cluster.alloc_once_dead("j")
    body = {"JobID": "j", "EvalOptions": {"ForceReschedule": True}}
    cluster.post("/v1/job/j/evaluate", body)
    eventually(lambda: len(cluster.get("/v1/job/j/allocations")) == 2)


@pytest.mark.fact("task-stop")
def test_a_stopped_task_gets_its_signal_and_after_its_timeout_is_killed(cluster: Cluster) -> None:
    script = "trap 'echo {0}' {0}; echo up; while :; do sleep 0.1; done"
    polite = shell_task("trap 'echo bye; exit 0' TERM; echo up; while :; do sleep 0.1; done",
                   KillSignal="SIGTERM")  # fmt: skip
    stubborn = shell_task(script.format("INT"), KillTimeout=SECOND // 2)

    def stop_when_up(name: str, task: dict[str, Any]) -> None:
        cluster.register(batch_job(name, task))
        alloc = eventually(lambda: cluster.get(f"/v1/job/{name}/allocations"))[0]
        eventually(lambda: cluster.newest_alloc(name)["ClientStatus"] == "running")
        eventually(lambda: cluster.log(alloc) == "up\n")
        cluster.request("DELETE", f"/v1/job/{name}")

    stop_when_up("polite", polite)
    stop_when_up("stubborn", stubborn)
    alloc = cluster.newest_alloc("polite")
    eventually(lambda: cluster.newest_alloc("polite")["ClientStatus"] == "complete")
    assert cluster.log(alloc) == "up\nbye\n"
    eventually(lambda: cluster.newest_alloc("stubborn")["ClientStatus"] == "complete")
    alloc = cluster.newest_alloc("stubborn")
    # raw_exec's default signal is SIGINT.
    assert cluster.log(alloc).startswith("up\nINT\n")
    assert event_details(alloc, "Terminated")["signal"] == str(int(signal.SIGKILL))
    assert event_types(alloc)[-3:] == ["Killing", "Terminated", "Killed"]


@pytest.mark.fact("shutdown-delay")
def test_a_shutdown_delay_comes_before_the_signal(cluster: Cluster) -> None:
    cluster.register(batch_job("j", shell_task("sleep 60"), {"ShutdownDelay": SECOND}))
    eventually(lambda: cluster.newest_alloc("j")["ClientStatus"] == "running")
    begin = time.monotonic()
    cluster.request("DELETE", "/v1/job/j")
    alloc = eventually(
        lambda: [a for a in [cluster.newest_alloc("j")] if a["ClientStatus"] == "complete"]
    )[0]
    assert time.monotonic() - begin > 1
    assert event_types(alloc)[3:5] == ["Waiting for shutdown delay", "Killing"]


@pytest.mark.fact("sibling-failed")
def test_a_task_that_fails_takes_its_siblings_along(cluster: Cluster) -> None:
    tasks = [shell_task("sleep 0.3; exit 1"), {**shell_task("sleep 60"), "Name": "other"}]
    cluster.register(batch_job("j", {}, {"Tasks": tasks}))
    alloc = cluster.alloc_once_dead("j")
    state = alloc["TaskStates"]["other"]
    assert (alloc["ClientStatus"], state["Failed"], state["State"]) == ("failed", False, "dead")
    sibling = next(e for e in state["Events"] if e["Type"] == "Sibling Task Failed")
    assert sibling["Details"] == {"failed_sibling": "t"}


@pytest.mark.fact("alloc-actions")
def test_an_allocation_can_be_stopped_restarted_and_signalled(cluster: Cluster) -> None:
    script = "trap 'echo usr' USR1; echo up; while :; do sleep 0.1; done"
    cluster.register(service_job("s", shell_task(script)))
    eventually(lambda: cluster.deployment("s")["Status"] == "successful")
    alloc = cluster.newest_alloc("s")
    body = {"Signal": "SIGUSR1", "TaskName": "t"}
    cluster.post(f"/v1/client/allocation/{alloc['ID']}/signal", body)
    eventually(lambda: cluster.log(alloc) == "up\nusr\n")
    cluster.post(f"/v1/client/allocation/{alloc['ID']}/restart", {"TaskName": "t"})
    eventually(lambda: cluster.log(alloc) == "up\nusr\nup\n")
    eventually(lambda: cluster.newest_alloc("s")["TaskStates"]["t"]["Restarts"] == 1)
    wanted = "User requested running tasks to restart"
    assert event_details(cluster.newest_alloc("s"), "Restart Signaled") == {
        "restart_reason": wanted
    }
    answer = cluster.request(
        "POST", f"/v1/client/allocation/{alloc['ID']}/signal", {"Signal": "SIGNO"}
    )
    assert answer.status_code == 500
    cluster.post(f"/v1/allocation/{alloc['ID']}/stop")
    eventually(lambda: len(cluster.get("/v1/job/s/allocations")) == 2)
