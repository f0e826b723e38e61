"""A data scientist's day: a fresh service is installed, checked, tested, shown and committed to.

Everything is done by the commands of the rendered service, installed from its own files.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import httpx2
import pytest

from template_tests.support.live_toy import wait_for
from template_tests.support.rendered_service import make
from template_tests.support.rendering import (
    git,
    run,
)
from template_tests.support.toy_service import clean_environ


def test_a_fresh_service_is_green_before_its_first_edit(service: Path) -> None:
    make(service, "lint")
    assert " passed" in make(service, "test")
    assert git(service, "status", "--porcelain") == ""


def test_help_lists_every_command(service: Path) -> None:
    shown = make(service)
    for command in ("setup", "demo", "test", "lint", "upgrade", "lock"):
        assert f"make {command} " in shown


def test_a_lock_is_resolved_by_the_index_that_pip_is_told_of_or_not_at_all(service: Path) -> None:
    environ = {**clean_environ(), "PIP_INDEX_URL": "http://127.0.0.1:9/simple"}
    result = run(["make", "lock"], service, {**environ, "UV_HTTP_RETRIES": "0"})
    assert result.returncode != 0
    assert "127.0.0.1:9" in result.stderr
    assert git(service, "status", "--porcelain") == ""


def test_an_installation_that_is_there_is_brought_up_to_date_in_seconds(service: Path) -> None:
    lock = service / "requirements" / "dev.lock"
    os.utime(lock)
    inode = (service / ".venv" / "bin" / "python").lstat().st_ino
    make(service, "setup")
    assert (service / ".venv" / "bin" / "python").lstat().st_ino == inode
    assert (service / ".venv" / ".ready").stat().st_mtime > lock.stat().st_mtime


def test_the_demo_trains_serves_predicts_and_stops_what_it_started(service: Path) -> None:
    shown = make(service, "demo")
    assert "what happened" in shown
    assert "baseline_loss" in shown
    assert "late_probability" in shown
    assert ".mlservice/artifacts" in shown
    assert "bandit: stable had" in shown
    picture = service / ".mlservice" / "demo" / "bandit.png"
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert processes(service) == []
    start = time.monotonic()
    assert "made earlier" in make(service, "demo")
    assert time.monotonic() - start < 60


def test_a_demo_that_is_kept_runs_until_ctrl_c_and_its_curl_lines_work(service: Path) -> None:
    demo = subprocess.Popen(
        ["make", "--no-print-directory", "demo", "KEEP=1"],
        cwd=service,
        env=clean_environ(),
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert demo.stdout is not None
    lines: list[str] = []
    try:
        while len(lines) < 3:
            line = demo.stdout.readline()
            assert line, "the demo ended early"
            if line.startswith("curl"):
                lines.append(line.strip())
        for line in lines:
            answer = run(["sh", "-c", f"{line} --fail"], service)
            assert answer.returncode == 0, line
            assert answer.stdout
    finally:
        os.killpg(demo.pid, signal.SIGINT)
        demo.communicate(timeout=30)
    assert processes(service) == []
    with pytest.raises(httpx2.ConnectError):
        httpx2.get("http://127.0.0.1:8000/live")


def test_a_demo_that_is_stopped_in_the_middle_leaves_nothing_running(service: Path) -> None:
    source = service / "src" / "flight_delay" / "features.py"
    text = source.read_text("utf-8")
    source.write_text(text + "\n# changed, so that it trains\n", "utf-8")
    try:
        demo = subprocess.Popen(
            ["make", "--no-print-directory", "demo"],
            cwd=service,
            env=clean_environ(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        wait_for(lambda: any("mlservice job" in line for line in processes(service)), 60)
        os.killpg(demo.pid, signal.SIGINT)
        assert demo.wait(30) != 0
    finally:
        source.write_text(text, "utf-8")
    assert processes(service) == []


def test_a_demo_whose_training_fails_says_why_and_leaves_nothing_running(service: Path) -> None:
    source = service / "src" / "flight_delay" / "training.py"
    text = source.read_text("utf-8")
    broken = text.replace(
        "    train_set = pl.concat(past)\n", '    raise RuntimeError("no luck")\n'
    )
    assert broken != text
    source.write_text(broken, "utf-8")
    try:
        result = run(["make", "--no-print-directory", "demo"], service)
    finally:
        source.write_text(text, "utf-8")
    said = result.stdout + result.stderr
    assert result.returncode != 0
    assert "Train" in said
    assert "no luck" in said
    assert processes(service) == []


def processes(folder: Path) -> list[str]:
    """Command lines of the service's processes that run."""
    time.sleep(0.5)
    listed = subprocess.run(
        ["ps", "-eww", "-o", "args"], capture_output=True, text=True, check=True
    )
    return [line for line in listed.stdout.splitlines() if str(folder / ".venv") in line]
