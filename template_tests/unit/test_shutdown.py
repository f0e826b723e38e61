"""One budget for a stop: no step is longer than the one around it allows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mlservice.cluster import JobSpec, decode_spec
from mlservice.deploy.shutdown_rules import check_shutdown_times
from mlservice.errors import SettingsError
from mlservice.jobspec import parse_job
from mlservice.jobspec.durations import SECOND
from mlservice.settings import GatewaySettings, LiveSettings, load_settings
from mlservice.shutdown import SHUTDOWN
from template_tests.support.cluster import render_nomad
from template_tests.support.toy_service import Toy

JOB_FILES = ("gateway", "worker", "pipeline", "job")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The rendered folder of the job files."""
    into = tmp_path_factory.mktemp("jobs")
    render_nomad(into, service_slug="toy", model_reload="watch")
    return into


def parsed(folder: Path, name: str, *changes: tuple[str, str]) -> dict[str, Any]:
    text = (folder / f"{name}.nomad.hcl").read_text("utf-8")
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    return parse_job(text, "", "2.0.5")


def spec(folder: Path, name: str, *changes: tuple[str, str]) -> JobSpec:
    return decode_spec(parsed(folder, name, *changes))


@pytest.mark.parametrize("process", SHUTDOWN.longest_stops)
def test_every_process_ends_before_it_is_killed(process: str) -> None:
    assert SHUTDOWN.longest_stops[process] <= SHUTDOWN.kill


@pytest.mark.parametrize("name", JOB_FILES)
def test_the_job_files_keep_the_budget(folder: Path, name: str) -> None:
    check_shutdown_times(spec(folder, name))


def test_the_gateways_file_of_workers_is_read_before_a_worker_that_leaves_stops(
    folder: Path,
) -> None:
    (group,) = parsed(folder, "gateway")["TaskGroups"]
    (template,) = [t for t in group["Tasks"][0]["Templates"] if t["DestPath"] == "local/live.json"]
    rendered = template["Wait"]["Max"] / SECOND
    assert rendered + LiveSettings().poll_ms / 1000 <= SHUTDOWN.leave


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            ('kill_timeout = "30s"', 'kill_timeout = "12s"'),
            "job toy-gateway: kill_timeout = 12s: a stop may take 30s",
        ),
        (('kill_timeout = "30s"', ""), "job toy-gateway: kill_timeout = 5s: "),
        (
            ("shutdown_delay = var.shutdown_delay", 'shutdown_delay = "2s"'),
            "job toy-gateway: shutdown_delay = 2s: callers need 5s",
        ),
        (
            ("shutdown_delay = var.shutdown_delay", ""),
            "job toy-gateway: shutdown_delay = 0s: callers need 5s",
        ),
    ],
)
def test_a_job_that_leaves_too_little_time_is_refused(
    folder: Path, change: tuple[str, str], words: str
) -> None:
    with pytest.raises(SettingsError) as refused:
        check_shutdown_times(spec(folder, "gateway", change))
    assert words in str(refused.value)
    assert "give at least that" in str(refused.value)


def test_a_drain_that_outlasts_the_kill_timeout_is_refused(toy: Toy) -> None:
    longest = SHUTDOWN.longest_drain_ms
    assert GatewaySettings(drain_ms=longest).drain_ms == longest
    environ = {"MLSERVICE_GATEWAY__DRAIN_MS": str(longest + 1)}
    with pytest.raises(SettingsError) as refused:
        load_settings(toy.folder, environ)
    message = str(refused.value)
    assert f"gateway.drain_ms = '{longest + 1}' (from MLSERVICE_GATEWAY__DRAIN_MS)" in message
    assert (
        f"killed 30 s after SIGTERM, and needs 12 s of them after the drain: give at most {longest}"
        in message
    )


def test_deploy_check_compares_the_times_of_each_environment(toy: Toy) -> None:
    render_nomad(toy.folder / "nomad", service_slug="toy", model_reload="watch")
    assert toy.run("deploy", "check").returncode == 0
    file = toy.folder / "nomad" / "staging.vars.hcl"
    file.write_text(file.read_text("utf-8") + '\nshutdown_delay = "1s"\n', "utf-8")
    result = toy.run("deploy", "check")
    assert result.returncode == 2
    assert "job toy-worker: shutdown_delay = 1s: callers need 5s" in result.stderr
