"""A rendered service, installed by its own `make setup`, and its commands."""

from __future__ import annotations

from pathlib import Path

from template_tests.support.rendering import Answers, copier, git, run
from template_tests.support.toy_service import clean_environ


def installed(folder: Path) -> Path:
    """Install the service in ``folder``."""
    result = run(["make", "setup"], folder)
    assert result.returncode == 0, result.stdout + result.stderr
    return folder


def make(folder: Path, *arguments: str) -> str:
    """Run make; returns what it prints."""
    result = run(["make", "--no-print-directory", *arguments], folder)
    assert result.returncode == 0, result.stdout[-4000:] + result.stderr[-2000:]
    return result.stdout + result.stderr


def commit(folder: Path, name: str, text: str | None, message: str) -> str:
    """Commit a file with ``text`` through the hooks; returns what was said, "" when it went in."""
    target = folder / name
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text('"""A module."""\n' if text is None else text, "utf-8")
    environ = {**clean_environ(), "PRE_COMMIT_COLOR": "never"}
    for variable in ("AUTHOR", "COMMITTER"):
        environ |= {f"GIT_{variable}_NAME": "t", f"GIT_{variable}_EMAIL": "t@example.com"}
    git(folder, "add", "--force", name)
    result = run(["git", "commit", "--message", message], folder, environ)
    return "" if result.returncode == 0 else result.stdout + result.stderr


def is_green(template: Path, folder: Path, answers: Answers) -> None:
    """Render a service by copier; its checks, tests and demo pass, and work can be committed."""
    assert copier(template, folder, answers, "service").returncode == 0
    service = folder / "service"
    make(service, "init")
    installed(service)
    make(service, "lint")
    assert " passed" in make(service, "test")
    shown = make(service, "demo")
    assert "challenger" in shown
    assert "its picture: " in shown
    commit(service, "src/x.py", None, "feat: nothing yet")
