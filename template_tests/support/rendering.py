"""Renders the template by both engines, as their users call them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from template_tests.support.toy_service import ROOT, clean_environ

Answers = dict[str, str]
BIN = Path(sys.executable).parent
VERSION = "v0.1.0"


def git(folder: Path, *arguments: str) -> str:
    """Run git in ``folder``; returns what it prints."""
    identity = ("-c", "user.name=t", "-c", "user.email=t@example.com")
    result = subprocess.run(
        ("git", *identity, "-c", "core.hooksPath=/dev/null", *arguments),
        cwd=folder,
        env=clean_environ(),
        capture_output=True,
        text=True,
        check=True,
    )
    return result.stdout.strip()


def template_repository(folder: Path) -> Path:
    """A git repository of the working tree, with a tag, as an organisation would publish it."""
    listing = subprocess.run(
        ("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"),
        cwd=ROOT,
        env=clean_environ(),
        capture_output=True,
        text=True,
        check=True,
    )
    for name in listing.stdout.split("\0"):
        source = ROOT / name
        if name and source.is_file():
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, target)
    git(folder, "init", "--quiet", "--initial-branch=master")
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message", "feat: publish")
    git(folder, "tag", VERSION)
    return folder


def run(
    command: list[str], folder: Path, environ: dict[str, str] | None = None, timeout: int = 600
) -> subprocess.CompletedProcess[str]:
    """Run a command as a user would in ``folder``."""
    return subprocess.run(
        command,
        cwd=folder,
        env={**(environ or clean_environ()), "PWD": str(folder)},
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


def cookiecutter(
    template: Path | str,
    folder: Path,
    answers: Answers,
    environ: dict[str, str] | None = None,
) -> subprocess.CompletedProcess[str]:
    """``cookiecutter --no-input`` in ``folder``."""
    pairs = [f"{name}={value}" for name, value in answers.items()]
    command = [str(BIN / "cookiecutter"), "--no-input", str(template), *pairs]
    return run(command, folder, environ)


def copier(
    template: Path | str, folder: Path, answers: Answers, name: str
) -> subprocess.CompletedProcess[str]:
    """``copier copy --defaults`` from ``folder`` into its subfolder ``name``."""
    pairs = [part for key, value in answers.items() for part in ("--data", f"{key}={value}")]
    command = [str(BIN / "copier"), "copy", "--quiet", "--defaults", *pairs, str(template), name]
    return run(command, folder)


def tree(folder: Path) -> dict[str, tuple[bytes, bool]]:
    """Content and run bit of every file below ``folder`` but those of git."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.is_file() and not name.startswith(".git/"):
            found[name] = (path.read_bytes(), os.access(path, os.X_OK))
    return found
