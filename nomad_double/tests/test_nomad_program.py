"""What the double does that Nomad does not: its program, its functions, its limits."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import requests

from nomad_cluster import (
    TRUE,
    Cluster,
    batch_job,
    event_details,
    eventually,
    parameterized_job,
    running_cluster,
    shell_task,
)
from nomad_double import TaskContext
from template_tests.support.toy_service import ROOT, SERVICE, clean_environ

DOUBLE = ROOT / "nomad_double"


@pytest.mark.fact("own-function")
def test_a_call_may_stand_for_the_processes(tmp_path: Path) -> None:
    seen: list[TaskContext] = []

    def run(context: TaskContext) -> int:
        seen.append(context)
        if context.meta["a"] == "2":
            raise MemoryError
        return int(context.meta["a"])

    with running_cluster(tmp_path, run=run) as cluster:
        cluster.register(parameterized_job("p", {**TRUE, "Driver": "exec"}, MetaOptional=["a"]))
        codes = {}
        for code in ("0", "1", "2"):
            child = cluster.dispatch("p", b"words", a=code)["DispatchedJobID"]
            states = cluster.alloc_once_dead(child)["TaskStates"]["t"]["Events"]
            codes[code] = next(e["Details"] for e in states if e["Type"] == "Terminated")
    assert codes["0"] == {"exit_code": "0", "signal": "0", "oom_killed": "false"}
    assert codes["1"]["exit_code"] == "1"
    assert (codes["2"]["exit_code"], codes["2"]["oom_killed"]) == ("137", "true")
    assert seen[0].payload == b"words"
    assert seen[0].environment["NOMAD_META_a"] == "0"


@pytest.mark.fact("own-program")
def test_the_program_serves_until_it_is_told_to_end(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "nomad_double", "--folder", str(tmp_path)]
    sources = os.pathsep.join(str(folder) for folder in (DOUBLE / "src", SERVICE / "src"))
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env={**clean_environ(), "PYTHONPATH": sources}
    ) as process:
        assert process.stdout
        address = process.stdout.readline().strip()
        script = f"echo $$ > {tmp_path}/pid; exec sleep 300"
        requests.post(
            f"{address}/v1/jobs", json={"Job": batch_job("j", shell_task(script))}, timeout=10
        )
        pid = eventually(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text())
        process.terminate()
        assert process.wait(20) == 0
    assert not Path(f"/proc/{pid.strip()}/cmdline").exists()


@pytest.mark.fact("own-refusal")
def test_templates_need_consul_template_and_say_so(cluster: Cluster) -> None:
    template = {"EmbeddedTmpl": "x", "DestPath": "local/x"}
    cluster.register(batch_job("j", shell_task("true", Templates=[template])))
    alloc = cluster.alloc_once_dead("j")
    assert alloc["ClientStatus"] == "failed"
    assert (
        "the double has no consul-template" in event_details(alloc, "Setup Failure")["setup_error"]
    )


@pytest.mark.fact("own-refusal")
@pytest.mark.parametrize(
    "block",
    [
        {"Artifacts": [{"GetterSource": "http://127.0.0.1/x"}]},
        {"Lifecycle": {"Hook": "prestart"}},
        {"VolumeMounts": [{"Volume": "x", "Destination": "/x"}]},
    ],
)
def test_what_the_double_does_not_do_fails_the_task(
    cluster: Cluster, block: dict[str, Any]
) -> None:
    cluster.register(batch_job("j", shell_task("true", **block)))
    alloc = cluster.alloc_once_dead("j")
    assert alloc["ClientStatus"] == "failed"
    assert "the double does not support " in event_details(alloc, "Driver Failure")["driver_error"]
