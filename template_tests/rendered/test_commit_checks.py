"""What may be committed to a service: each violation is refused by the hook that is made for it."""

from __future__ import annotations

from pathlib import Path

import pytest

from template_tests.support.rendered_service import commit
from template_tests.support.rendering import git, run

PLATFORM = "src/mlservice/extra.py"
OWNER = "src/flight_delay/extra.py"
VIOLATIONS = [
    ("format (ruff)", OWNER, '"""A module."""\nx = {  "a":1 }\n'),
    ("lint (ruff)", OWNER, '"""A module."""\n\nimport os\n'),
    ("types (mypy, strict)", OWNER, '"""A module."""\n\nx: int = "one"\n'),
    ("imports go one way", PLATFORM, '"""A module."""\n\nimport flight_delay as flight_delay\n'),
    ("imports go one way", "src/mlservice/errors.py", "import mlservice.cli as cli\n"),
    ("imports go one way", OWNER, '"""A module."""\n\nimport mlservice.settings as settings\n'),
    ("JSON is valid", "contracts/x.json", "{"),
    ("YAML is valid", "x.yml", "a: [\n"),
    ("TOML is valid", "x.toml", "a = \n"),
    ("contracts are JSON Schemas", "contracts/x.schema.json", '{"type": "objekt"}\n'),
    ("Nomad's jobs parse", "nomad/staging.vars.hcl", "gateway_cuont = 1\n"),
    ("Nomad's jobs parse", "nomad/job.nomad.hcl", 'job "x" {\n  tpye = "batch"\n}\n'),
    ("follows GitLab's schema", ".gitlab-ci.yml", "lint:\n  script: 1\n  stages: 2\n"),
    ("follows from predict.proto", "src/mlservice/protocol/predict_pb2.py", "# edited\n"),
    ("lock files cover", "requirements/service.in", "no-such-package\n"),
    ("no secrets", "x.txt", "aws_secret = 'AKIAIOSFODNN7EXAMPLA'\n"),
    ("no large files", "x.bin", "x" * 2_000_000),
    ("no conflict markers", "x.txt", "<" * 7 + " ours\na\n" + "=" * 7 + "\nb\n" + ">" * 7 + " b\n"),
    ("no .rej files", "x.rej", "left over\n"),
]


@pytest.mark.parametrize(("check", "name", "text"), VIOLATIONS)
def test_a_violation_cannot_be_committed(service: Path, check: str, name: str, text: str) -> None:
    before = git(service, "rev-parse", "HEAD")
    try:
        said = commit(service, name, text, "feat: something")
    finally:
        git(service, "reset", "--hard", before)
    failed = [line for line in said.splitlines() if line.endswith("Failed")]
    assert any(check in line for line in failed), said


@pytest.mark.parametrize("message", ["work", "Fixed it", "feat something"])
def test_a_message_that_is_not_conventional_is_refused(service: Path, message: str) -> None:
    before = git(service, "rev-parse", "HEAD")
    said = commit(service, OWNER, None, message)
    git(service, "reset", "--hard", before)
    assert "commit message is conventional" in said


def test_a_commit_past_the_hooks_is_found_by_lint(service: Path) -> None:
    before = git(service, "rev-parse", "HEAD")
    git(service, "checkout", "-b", "feature/hasty")
    try:
        for message in ("fix: well said", "hasty work"):
            environ = ("-c", "user.name=t", "-c", "user.email=t@example.com")
            git(service, *environ, "commit", "--allow-empty", "--no-verify", "-m", message)
        result = run(["make", "lint"], service)
        assert result.returncode != 0
        assert ": 'hasty work'\nwrite them as `feat: what it does`" in result.stdout
        assert "well said" not in result.stdout
    finally:
        git(service, "checkout", "develop")
        git(service, "branch", "-D", "feature/hasty")
    assert git(service, "rev-parse", "HEAD") == before


def test_good_work_is_committed(service: Path) -> None:
    assert commit(service, OWNER, None, "feat: a module of our own") == ""
    assert git(service, "log", "-1", "--format=%s") == "feat: a module of our own"
