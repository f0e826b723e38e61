"""A rendered service under a fuzzer of its API, and its CI as GitLab runs it."""

from __future__ import annotations

import subprocess
import urllib.request
from pathlib import Path

import pytest

from template_tests.support.live_toy import wait_for
from template_tests.support.rendered_service import make
from template_tests.support.rendering import git, run
from template_tests.support.servers import free_ports, require
from template_tests.support.toy_service import clean_environ

pytestmark = pytest.mark.servers
CHECKS = ",".join(
    (
        "not_a_server_error",
        "status_code_conformance",
        "content_type_conformance",
        "response_headers_conformance",
        "response_schema_conformance",
        "positive_data_acceptance",
        "unsupported_method",
    )
)


def test_a_fuzzer_finds_no_answer_that_is_not_documented(service: Path) -> None:
    make(service, "train", "PERIOD=2013-10-07")
    gateway, worker = free_ports(2)
    environ = {
        "MLSERVICE_GATEWAY__PORT": str(gateway),
        "MLSERVICE_GATEWAY__WORKER": f"127.0.0.1:{worker}",
        "MLSERVICE_WORKER__PORT": str(worker),
    }
    url = f"http://127.0.0.1:{gateway}"
    with subprocess.Popen(
        [service / ".venv" / "bin" / "mlservice", "serve", "local"],
        cwd=service,
        env={**clean_environ(), **environ},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        try:
            wait_for(lambda: answers(f"{url}/ready"), 60)
            # Only the time is not left to chance: one of a millisecond rightly ends with 504.
            command = [require("schemathesis"), "run", f"{url}/openapi.json", "--checks", CHECKS]
            more = [
                "--max-examples",
                "80",
                "--seed",
                "1",
                "--header",
                "X-Request-Timeout-Ms: 60000",
            ]
            done = run([*command, *more], service)
            assert done.returncode == 0, done.stdout[-4000:] + done.stderr
            assert "Tested: 4" in done.stdout
        finally:
            process.terminate()


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as response:
            return bool(response.status == 200)
    except OSError:
        return False


@pytest.mark.timeout(1800)  # an installation, a cold type check and the tests, on a busy machine
def test_ci_runs_its_stages_and_fails_where_a_check_fails(service: Path, tmp_path: Path) -> None:
    """By gitlab-ci-local, with the shell executor, in a fresh clone that installs itself once."""
    clone = tmp_path / "clone"
    git(tmp_path, "clone", "--quiet", str(service), str(clone))
    git(clone, "remote", "set-url", "origin", "git@gitlab.example.com:ml/flight-delay.git")
    command = ["gitlab-ci-local", "--force-shell-executor", "--no-artifacts-to-source"]
    command += ["--concurrency", "1"]
    listed = run([*command, "--list"], clone)
    assert "lint" in listed.stdout, listed.stderr
    assert "upgrade-check" not in listed.stdout
    result = run(command, clone, timeout=900)
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-2000:]
    (clone / "src" / "flight_delay" / "extra.py").write_text("import os\n", "utf-8")
    git(clone, "add", "--all")
    broken = run([*command, "lint"], clone, timeout=900)
    assert broken.returncode != 0
