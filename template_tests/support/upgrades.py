"""A template with releases and services made from it, for the tests of upgrades.

All of it is real: git repositories in temporary folders, rendered by cookiecutter or copier,
upgraded by the rendered service's own command.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SLUG = "<<cookiecutter.service_slug>>"
TIMEOUT = 300
CACHE = str(ROOT / ".cache" / "pycache")  # copier starts in half the time with its bytecode


def environment(**extra: str) -> dict[str, str]:
    """The environment of a user at whose machine nothing is configured."""
    dropped = ("GIT_", "MLSERVICE_", "COOKIECUTTER_", "COPIER_", "PYTHON", "NOMAD_", "CONSUL_")
    kept = {key: value for key, value in os.environ.items() if not key.startswith(dropped)}
    plain = {"GIT_CONFIG_NOSYSTEM": "1", "GIT_OPTIONAL_LOCKS": "0", "PYTHONPYCACHEPREFIX": CACHE}
    return {**kept, **plain, **extra}


def run(*command: str, cwd: Path, **extra: str) -> str:
    """The output of a command that must end well."""
    result = subprocess.run(
        command, cwd=cwd, env=environment(**extra), capture_output=True, text=True, timeout=TIMEOUT
    )
    assert result.returncode == 0, f"{command}\n{result.stdout}\n{result.stderr}"
    return result.stdout


@dataclass(frozen=True)
class Repo:
    """A git repository in a folder."""

    folder: Path

    def git(self, *arguments: str) -> str:
        """Run git here as somebody."""
        who = ("-c", "user.name=Owner", "-c", "user.email=owner@example.com")
        return run("git", *who, *arguments, cwd=self.folder)

    def write(self, files: Mapping[str, str | bytes | None]) -> None:
        """Write files; None deletes one."""
        for name, content in files.items():
            path = self.folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if content is None:
                path.unlink()
            elif isinstance(content, bytes):
                path.write_bytes(content)
            else:
                path.write_text(content, encoding="utf-8")

    def commit(self, files: Mapping[str, str | bytes | None], message: str = "feat: edit") -> None:
        """Write files and commit everything, ignored ones excepted."""
        self.write(files)
        self.git("add", "--all")
        self.git("commit", "--quiet", "--allow-empty", "-m", message)

    def read(self, name: str) -> str:
        """The text of a file."""
        return (self.folder / name).read_text(encoding="utf-8")

    def replaced(self, name: str, old: str, new: str) -> dict[str, str | bytes | None]:
        """The file with one text in place of another, which must be there."""
        text = self.read(name)
        assert old in text, f"{name} has no {old!r}"
        return {name: text.replace(old, new, 1)}

    def copy(self, into: Path) -> Repo:
        """The same repository in another folder."""
        shutil.copytree(self.folder, into, symlinks=True)
        return type(self)(into)


@dataclass(frozen=True)
class Template(Repo):
    """The template: a copy of the working tree that this test lies in."""

    def path(self, name: str) -> str:
        """Where a file of the service lies in the template."""
        return f"{SLUG}/{name}"

    def release(self, tag: str, files: Mapping[str, str | bytes | None]) -> None:
        """Commit changes and tag them."""
        self.commit(files, f"feat: {tag}")
        self.git("tag", tag)


@dataclass(frozen=True)
class Service(Repo):
    """A rendered service."""

    def upgrade(self, *arguments: str, **extra: str) -> subprocess.CompletedProcess[str]:
        """Run the service's own command, as ``make upgrade`` does."""
        own = self.folder / "src"
        path = str(own if (own / "mlservice").exists() else ROOT / SLUG / "src")
        return subprocess.run(
            (sys.executable, "-m", "mlservice", "upgrade", *arguments),
            cwd=self.folder,
            env=environment(**{"PYTHONPATH": path, **extra}),
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
            check=False,
        )

    def state(self) -> dict[str, object]:
        """Everything that a refused upgrade must leave as it was."""
        files = {
            str(path.relative_to(self.folder)): (path.lstat().st_mode, path.read_bytes())
            for path in sorted(self.folder.rglob("*"))
            if path.is_file() and ".git" not in path.relative_to(self.folder).parts
        }
        refs = self.git("for-each-ref")
        head = self.git("rev-parse", "HEAD", "--symbolic-full-name", "HEAD")
        index = self.git("ls-files", "--stage")
        return {"files": files, "refs": refs, "head": head, "index": index}

    @property
    def changed(self) -> dict[str, str]:
        """What is staged against the last commit, as path and kind."""
        lines = self.git("diff", "--cached", "--name-status", "--no-renames").splitlines()
        return {path: kind for kind, path in (line.split("\t") for line in lines)}


def working_tree(into: Path) -> Template:
    """The template's working tree, uncommitted work included, as release v0.1.0."""
    listed = run("git", "ls-files", "-z", "-co", "--exclude-standard", cwd=ROOT).split("\0")
    for name in filter(None, listed):
        source = ROOT / name
        if source.is_file():
            (into / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, into / name)
    template = Template(into)
    template.git("init", "--quiet", "--initial-branch=main")
    template.release("v0.1.0", {})
    return template


def small(template: Template) -> None:
    """Take away what costs time and says nothing of upgrades, and release v0.1.0 again."""
    for name in ("src/mlservice", "tests", "docs", "nomad"):
        shutil.rmtree(template.folder / template.path(name), ignore_errors=True)
    questions = template.read("copier.yml")
    names = re.compile(r"(?s)(reserved_package_names:.*?default: \[).*?\]")
    assert names.search(questions)
    template.commit({"copier.yml": names.sub(r"\1class, mlservice]", questions)})
    template.git("tag", "--force", "v0.1.0")


def by_cookiecutter(template: Template, into: Path, **answers: str) -> Service:
    """A service as a cookiecutter user starts it."""
    given = [f"{name}={value}" for name, value in answers.items()]
    options = ("--no-input", "--output-dir", str(into))
    tool = (sys.executable, "-P", "-m", "cookiecutter")
    run(*tool, *options, str(template.folder), *given, cwd=template.folder.parent)
    return Service(into / answers.get("service_slug", "flight-delay"))


def by_copier(template: Template, into: Path, **answers: str) -> Service:
    """A service as a copier user starts it, with the first commit that follows."""
    given = [f"--data={name}={value}" for name, value in answers.items()]
    folder = into / answers.get("service_slug", "flight-delay")
    tool = (sys.executable, "-P", "-m", "copier", "copy", "--quiet", "--defaults")
    run(*tool, *given, str(template.folder), str(folder), cwd=template.folder.parent)
    run(sys.executable, "ci/init_repo.py", cwd=folder)
    return Service(folder)
