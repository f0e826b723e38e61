"""An owner's upgrades: what must arrive, what must survive, and what must be refused.

Every test renders, commits, releases and upgrades in real repositories of its own. Those that
ask how a service fares as a whole use the full template, the others one with fewer files.
"""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from template_tests.support.upgrades import (
    ROOT,
    SLUG,
    Service,
    Template,
    by_cookiecutter,
    by_copier,
    environment,
    run,
    small,
    working_tree,
)
from tools.releases import releases

Files = dict[str, "str | bytes | None"]
ANSWERS = ".copier-answers.yml"
PACKAGE = "src/flight_delay"
HOUSE: Files = {
    f"{PACKAGE}/data.py": '"""Mine."""\n',
    "contracts/request.schema.json": '{"title": "mine"}\n',
    "contracts/response.schema.json": None,
    "service.toml": "# mine\n",
    "requirements/service.in": "mine\n",
    "requirements/service.lock": "mine==1\n",
    "requirements/dev.lock": "mine==1\n",
    "README.md": None,
    "CHANGELOG.md": "# Mine\n",
    "tests/service/test_mine.py": "def test_mine(): ...\n",
    ".secrets.baseline": '{"mine": 1}\n',
    "docs/decisions/0000-form.md": "# Our form\n",
    "docs/decisions/0001-mine.md": "# Mine\n",
    "docs/decisions/README.md": "# Ours\n",
}


@dataclass(frozen=True)
class DueUpgrade:
    """A template with a release that is due, and a service that has not taken it yet."""

    template: Template
    service: Service

    def copy(self, folder: Path) -> DueUpgrade:
        """Both once more in a folder of their own, and the one knows the other."""
        template = Template(self.template.copy(folder / "template").folder)
        service = Service(self.service.copy(folder / "flight-delay").folder)
        service.commit(source_of(service, str(template.folder)), "chore: move the template")
        return DueUpgrade(template, service)


def source_of(service: Service, source: str) -> Files:
    """The answers file with another address of the template."""
    return {ANSWERS: re.sub(r"_src_path: .*", f"_src_path: {source}", service.read(ANSWERS))}


def refused(service: Service, *arguments: str, **extra: str) -> str:
    """The message of an upgrade that must be refused, and must leave all as it was."""
    before = service.state()
    result = service.upgrade(*arguments, **extra)
    assert result.returncode == 6, f"{result.stdout}\n{result.stderr}"
    assert service.state() == before
    assert "Traceback" not in result.stderr
    return result.stderr


def taken(service: Service, *arguments: str, **extra: str) -> str:
    """The report of an upgrade that must be taken: staged and not committed."""
    head = service.git("rev-parse", "HEAD")
    result = service.upgrade(*arguments, **extra)
    assert result.returncode == 0, f"{result.stdout}\n{result.stderr}"
    assert service.git("rev-parse", "HEAD") == head
    assert service.git("diff", "--name-only") == ""
    assert service.git("ls-files", "--unmerged", "--others", "--exclude-standard") == ""
    return result.stdout


def platform_release(template: Template) -> Files:
    """What a release changes: something of the platform's, and every example of the owner's."""
    dependencies = template.git("ls-files", "--", "*service.in*", "*.lock*").splitlines()
    makefile = template.replaced(template.path("Makefile"), "VENV ?=", "NEWER := 1\nVENV ?=")
    house: Files = {
        template.path(name): "from the template\n"
        for name in HOUSE
        if not name.startswith((PACKAGE, "requirements/"))
    }
    return {
        **makefile,
        **house,
        template.path("src/<<cookiecutter.__package_name>>/data.py"): "# from the template\n",
        template.path("contracts/new.schema.json"): "{}\n",
        template.path("platform.cfg"): "new\n",
        template.path("requirements/dev.in"): "copier\n",
        **dict.fromkeys(dependencies, "from-the-template\n"),
    }


@pytest.fixture(scope="session")
def full(tmp_path_factory: pytest.TempPathFactory) -> DueUpgrade:
    """The full template with v0.2.0, and a service of its v0.1.0 by cookiecutter."""
    folder = tmp_path_factory.mktemp("full")
    template = working_tree(folder / "template")
    service = by_cookiecutter(template, folder)
    template.release("v0.2.0", platform_release(template))
    return DueUpgrade(template, service)


@pytest.fixture(scope="session")
def lean(tmp_path_factory: pytest.TempPathFactory) -> DueUpgrade:
    """A template with fewer files, and a service of its v0.1.0; v0.2.0 is not yet made."""
    folder = tmp_path_factory.mktemp("lean")
    template = working_tree(folder / "template")
    template.write({template.path("logo.bin"): b"\0old", template.path("table.txt"): "1\n2\n3\n"})
    small(template)
    return DueUpgrade(template, by_cookiecutter(template, folder))


@pytest.fixture(scope="session")
def lean_due(lean: DueUpgrade, tmp_path_factory: pytest.TempPathFactory) -> DueUpgrade:
    """The same with v0.2.0, which changes, adds, drops and renames files."""
    world = lean.copy(tmp_path_factory.mktemp("due"))
    template = world.template
    moved: Files = {
        template.path("ci/lock.sh"): None,
        template.path("ci/locks.sh"): template.read(template.path("ci/lock.sh")),
        template.path("table.txt"): None,
        template.path("logo.bin"): b"\0new",
    }
    template.release("v0.2.0", {**platform_release(template), **moved})
    return world


@pytest.fixture
def fresh(lean: DueUpgrade, tmp_path: Path) -> DueUpgrade:
    """A template of which the test makes v0.2.0, and a service."""
    return lean.copy(tmp_path)


@pytest.fixture
def due(lean_due: DueUpgrade, tmp_path: Path) -> DueUpgrade:
    """A template with v0.2.0, and a service of v0.1.0."""
    return lean_due.copy(tmp_path)


# A user's day


def test_an_upgrade_is_announced_rehearsed_and_staged_and_keeps_the_owners_house(
    full: DueUpgrade, tmp_path: Path
) -> None:
    service = Service(full.service.copy(tmp_path / "service").folder)
    platform = service.replaced("Makefile", "init:  ##", "mine:\n\techo mine\n\ninit:  ##")
    service.commit({**HOUSE, **platform, "mine/tool.py": "MINE = 1\n"})
    (service.folder / ".env").write_text("TOKEN=filled-in\n")

    said = service.upgrade("--check")
    assert (said.returncode, said.stdout) == (
        0,
        "template v0.1.0, newest v0.2.0: an upgrade is due: run `make upgrade`\n",
    )
    report = taken(service)

    assert service.changed == {
        ANSWERS: "M",
        "Makefile": "M",
        "platform.cfg": "A",
        "requirements/dev.in": "M",
    }
    assert "NEWER := 1" in service.read("Makefile")
    assert "mine:\n\techo mine" in service.read("Makefile")
    assert (service.folder / ".env").read_text() == "TOKEN=filled-in\n"
    added = r"added:\n    platform.cfg\n"
    assert re.search(added + r"  changed:\n(    .*\n)*    Makefile", report)
    assert re.search(r"at risk.*:\n    Makefile\n", report)
    assert "contracts/new.schema.json" in report
    for step in ("git diff --cached", "make lock", "make lint test", "git commit"):
        assert step in report

    staged = service.state()
    again = service.upgrade()
    assert again.returncode == 0
    assert "not committed yet" in again.stdout
    assert service.state() == staged
    service.git("commit", "--quiet", "-m", "chore: upgrade the template")
    for arguments in ((), ("--check",)):
        after = service.upgrade(*arguments)
        assert (after.returncode, after.stdout) == (
            0,
            "template v0.2.0, newest v0.2.0: up to date\n",
        )


def test_a_service_that_copier_started_with_other_answers_is_upgraded_alike(
    full: DueUpgrade, tmp_path: Path
) -> None:
    template = Template(full.template.copy(tmp_path / "template").folder)
    template.git("tag", "--delete", "v0.2.0")
    template.git("reset", "--quiet", "--hard", "v0.1.0")
    answers = {"service_slug": "sea-ice", "framework": "sklearn", "artifact_store": "s3"}
    service = by_copier(template, tmp_path, **answers, description="Größe des Meereises: heute")
    template.release("v0.2.0", platform_release(template))

    report = taken(service)

    assert set(service.changed) == {
        ANSWERS,
        "Makefile",
        "platform.cfg",
        "requirements/dev.in",
    }
    assert "src/sea_ice/data.py" in report
    assert "at risk" not in report
    assert "framework: sklearn" in service.read(ANSWERS)


def test_plain_copier_update_leaves_the_owners_house_alone_too(
    full: DueUpgrade, tmp_path: Path
) -> None:
    service = Service(full.service.copy(tmp_path / "service").folder)
    service.commit(HOUSE)
    (service.folder / ".env").write_text("TOKEN=filled-in\n")

    run(sys.executable, "-P", "-m", "copier", "update", "--defaults", cwd=service.folder)
    service.git("add", "--all")

    assert set(service.changed) == {
        ANSWERS,
        "Makefile",
        "platform.cfg",
        "requirements/dev.in",
    }
    assert (service.folder / ".env").read_text() == "TOKEN=filled-in\n"


# Owners of several kinds: what they did survives, or the upgrade is refused by its name

PERSONAS: dict[str, tuple[Files, bool]] = {
    "edits the own package": ({f"{PACKAGE}/data.py": "MINE = 1\n", f"{PACKAGE}/x.py": "\n"}, True),
    "adds files": ({"scripts/mine.py": "MINE = 1\n", "requirements/mine.in": "mine\n"}, True),
    "deletes examples": ({"contracts/request.schema.json": None, "README.md": None}, True),
    "adds a dependency": ({"requirements/service.in": "mine\n", "requirements/x.lock": ""}, True),
    "edits a file that stays": ({"ruff.toml": "# mine\n"}, True),
    "deletes a file of the platform": ({"requirements/dev.in": None, "logo.bin": None}, True),
    "replaces a file that changes": ({"Makefile": "all:\n\techo mine\n"}, False),
    "edits a file that is renamed": ({"ci/lock.sh": "#!/bin/sh\n# mine\n"}, False),
    "edits a file that is dropped": ({"table.txt": "1\n2\n3\nmine\n"}, False),
    "has a file that is added": ({"platform.cfg": "mine\n"}, False),
    "edits a binary file that changes": ({"logo.bin": b"\0mine"}, False),
}


@pytest.mark.parametrize("persona", PERSONAS)
def test_every_edit_of_an_owner_survives_or_is_reported(due: DueUpgrade, persona: str) -> None:
    edits, survives = PERSONAS[persona]
    service = due.service
    service.commit(edits)
    if survives:
        taken(service)
        assert set(service.changed).isdisjoint(edits)
    else:
        message = refused(service)
        assert all(f"- {name}: " in message for name in edits)
        assert "nothing in this repository has changed" in message


def test_edits_at_another_place_are_merged_and_the_executable_bit_stays(due: DueUpgrade) -> None:
    service = due.service
    (service.folder / "Makefile").chmod(0o755)
    service.commit(service.replaced("Makefile", "init:  ##", "mine:\n\techo mine\n\ninit:  ##"))

    report = taken(service)

    assert re.search(r"at risk.*\n    Makefile\n", report)
    assert "NEWER := 1" in service.read("Makefile")
    assert "mine:\n\techo mine" in service.read("Makefile")
    assert os.access(service.folder / "Makefile", os.X_OK)


def test_all_faults_are_told_at_once(due: DueUpgrade) -> None:
    due.service.commit({"ci/lock.sh": "# mine\n", "table.txt": "mine\n", "Makefile": "mine\n"})
    message = refused(due.service)
    assert "- ci/lock.sh: you edited the file" in message
    assert "renames it to ci/locks.sh: move what you need" in message
    assert "- table.txt: you edited the file" in message
    assert "- Makefile: your edit and the template's change are in conflict" in message
    assert "platform.cfg" in message, "what the upgrade would have brought is told too"


# What ends an upgrade, with the repository as it was


def test_a_conflict_is_no_success(due: DueUpgrade) -> None:
    due.service.commit(due.service.replaced("Makefile", "VENV ?= .venv", "VENV ?= .mine"))
    message = refused(due.service)
    assert "Makefile: your edit and the template's change are in conflict" in message
    assert "copier update --defaults --vcs-ref=v0.2.0" in message


def test_a_conflict_marker_in_a_tracked_file_is_solved_first(due: DueUpgrade) -> None:
    due.service.commit({"docs/mine.md": "a\n" + "<" * 7 + " before updating\nb\n"})
    assert "docs/mine.md:2: conflict markers of an earlier merge" in refused(due.service)


def test_an_ignored_reject_file_is_worked_in_first(due: DueUpgrade) -> None:
    due.service.write({"ci/lock.sh.rej": "+mine\n"})
    assert "ci/lock.sh.rej: rejected changes of an earlier update" in refused(due.service)


def test_a_reject_file_of_the_rehearsal_is_a_conflict(fresh: DueUpgrade) -> None:
    settings = with_migration(fresh.template, "touch ci/lock.sh.rej")
    message = refused(fresh.service, COPIER_SETTINGS_PATH=settings)
    assert "- ci/lock.sh: your edit and the template's change are in conflict" in message


def with_migration(template: Template, command: str) -> str:
    """Release v0.2.0 with a migration; returns copier settings that trust the template."""
    migration = f'_migrations:\n  - version: v0.2.0\n    command: "{command}"\n\n_exclude:\n'
    template.release("v0.2.0", template.replaced("copier.yml", "_exclude:\n", migration))
    settings = template.folder.parent / "settings.yml"
    settings.write_text(f"trust:\n  - {template.folder}\n")
    return str(settings)


def test_an_answer_that_is_no_choice_any_more_is_named_with_the_choices(fresh: DueUpgrade) -> None:
    template, service = fresh.template, fresh.service
    questions = template.replaced(
        "copier.yml",
        "choices: [lightgbm, catboost, sklearn]\n  default: lightgbm",
        "choices: [catboost, sklearn]\n  default: sklearn",
    )
    template.release("v0.2.0", questions)
    message = refused(service)
    assert "answer framework: 'lightgbm' is no longer among the choices" in message
    assert "['catboost', 'sklearn']" in message
    assert "mlservice upgrade --data framework=VALUE" in message
    taken(service, "--data", "framework=sklearn")
    assert "framework: sklearn" in service.read(ANSWERS)


def test_a_new_question_without_default_is_named_and_can_be_answered(fresh: DueUpgrade) -> None:
    questions = fresh.template.replaced(
        "copier.yml", "owner_email:\n", "team:\n  type: str\n  help: Team\n\nowner_email:\n"
    )
    fresh.template.release("v0.2.0", questions)
    message = refused(fresh.service)
    assert "answer team: the template's version v0.2.0 asks a new question" in message
    assert "mlservice upgrade --data team=VALUE" in message
    unknown = refused(fresh.service, "--data", "team=ice", "--data", "tema=ice")
    assert "--data tema: v0.2.0 asks no such question (it asks " in unknown
    renamed = refused(fresh.service, "--data", "team=ice", "--data", "service_slug=other")
    assert "--data service_slug=other: a service keeps its name" in renamed
    taken(fresh.service, "--data", "team=ice")
    assert "team: ice" in fresh.service.read(ANSWERS)


def test_a_template_that_runs_commands_is_refused_and_a_failing_one_too(fresh: DueUpgrade) -> None:
    code = "import sys; sys.exit(3)"
    settings = with_migration(fresh.template, f"{sys.executable} -c '{code}'")

    message = refused(fresh.service)
    assert "wants to run code of its own on this machine (migrations)" in message

    message = refused(fresh.service, COPIER_SETTINGS_PATH=settings)
    assert "a migration of the template's version v0.2.0 failed" in message
    assert "exit code 3" in message


def test_an_update_that_would_touch_the_owners_house_is_refused(fresh: DueUpgrade) -> None:
    template, service = fresh.template, fresh.service
    service.commit({"contracts/response.schema.json": None})
    excluding = template.read("copier.yml").splitlines(keepends=True)
    kept = [line for line in excluding if not re.search(r"/README.md|/contracts", line)]
    files: Files = {
        "copier.yml": "".join(kept),
        template.path("README.md"): "from the template\n",
        template.path("contracts/request.schema.json"): "{}\n",
    }
    template.release("v0.2.0", files)
    message = refused(service)
    for name in ("README.md", "contracts/request.schema.json"):
        assert f"- {name}: the file is yours, and the upgrade would touch it" in message


def test_the_guard_and_copier_yml_mean_the_same_house() -> None:
    excluded = re.findall(
        r"_copier_operation == 'update' %>/(.+?)<% endif %>",
        (ROOT / "copier.yml").read_text(encoding="utf-8"),
    )
    guarded = _guards("_HOUSE")
    package = "<< service_slug.replace('-', '_') >>"
    assert [path.replace(package, "{package}") for path in excluded] == [
        path.removesuffix("/*") for path in guarded
    ]


def _guards(name: str) -> list[str]:
    """A tuple of the guards."""
    return run(
        sys.executable,
        "-c",
        f"from mlservice.upgrade.guards import {name}; print(*{name}, sep='\\n')",
        cwd=ROOT,
        PYTHONPATH=str(ROOT / SLUG / "src"),
    ).splitlines()


def test_an_ignored_file_in_the_way_leaves_everything_as_it_was(due: DueUpgrade) -> None:
    service = due.service
    (service.folder / ".git/info/exclude").write_text("platform.cfg\n")
    service.write({"platform.cfg": "filled in\n"})
    message = refused(service)
    assert "platform.cfg" in message
    assert "out of the way" in message


# Words for what is missing


def test_a_folder_that_is_no_repository(due: DueUpgrade) -> None:
    shutil.rmtree(due.service.folder / ".git")
    result = due.service.upgrade(GIT_CEILING_DIRECTORIES="/")
    assert result.returncode == 6
    assert "is not a git repository: make it one by `make init`" in result.stderr


EDITS: dict[str, tuple[Files, str]] = {
    "a changed file": ({"README.md": "mine\n"}, "README.md: changes that are not committed"),
    "an untracked file": ({"note.txt": "mine\n"}, "note.txt: files that git does not know"),
    "no answers": ({ANSWERS: None}, f"{ANSWERS} is not in "),
    "no version": ({ANSWERS: "_src_path: /x\n"}, f"{ANSWERS} has no _commit"),
    "no source": ({ANSWERS: "_commit: v0.1.0\n"}, f"{ANSWERS} has no _src_path"),
    "a commit of digits alone, without quotes": (
        {ANSWERS: "_commit: 1234567\n_src_path: /x\n"},
        f"{ANSWERS} has a number for _commit (1234567)",
    ),
    "no YAML": ({ANSWERS: "a: [\n"}, f"{ANSWERS} is not YAML"),
    "no table": ({ANSWERS: "a\n"}, f"{ANSWERS} is not a table of names and values"),
}


@pytest.mark.parametrize("edit", EDITS)
def test_a_repository_that_is_not_ready(due: DueUpgrade, edit: str) -> None:
    files, message = EDITS[edit]
    due.service.write(files)
    assert message in refused(due.service)


SOURCES = {
    "../template": "'../template' is a relative path",
    "/nowhere/template": "the template's folder '/nowhere/template' does not exist",
    "file:///nowhere/template.git": "the template 'file:///nowhere/template.git' cannot be reached",
    "https://git.example.com/ml": "not take for git: write it as 'git+https://git.example.com/ml'",
}


@pytest.mark.parametrize("source", SOURCES)
def test_a_template_that_cannot_be_found(due: DueUpgrade, source: str) -> None:
    due.service.commit(source_of(due.service, source))
    message = refused(due.service)
    assert SOURCES[source] in message
    assert "correct _src_path" in message


def test_the_token_of_an_address_is_not_printed(due: DueUpgrade) -> None:
    with socket.socket() as taken_port:
        taken_port.bind(("127.0.0.1", 0))
        address = f"https://oauth2:s3cret@127.0.0.1:{taken_port.getsockname()[1]}/template.git"
        due.service.commit(source_of(due.service, address))
        message = refused(due.service, NO_PROXY="127.0.0.1", no_proxy="127.0.0.1")
    assert "cannot be reached" in message
    assert "https://***@127.0.0.1" in message
    assert "s3cret" not in message


def test_a_template_without_release(due: DueUpgrade) -> None:
    due.template.git("tag", "--delete", "v0.1.0", "v0.2.0")
    due.template.git("tag", "nightly")
    assert "has no released version (a tag such as v0.1.0)" in refused(due.service)


def test_a_recorded_version_that_the_template_lost(due: DueUpgrade) -> None:
    due.service.commit(due.service.replaced(ANSWERS, "_commit: v0.1.0", "_commit: v0.1.1"))
    assert "_commit: 'v0.1.1' in .copier-answers.yml is not in the template" in refused(due.service)


@pytest.mark.parametrize("recorded", ["v0.3.0", "v0.2.0-4-g1234567", "v0.2.0"])
def test_an_older_or_equal_release_is_no_upgrade(due: DueUpgrade, recorded: str) -> None:
    due.service.commit(due.service.replaced(ANSWERS, "_commit: v0.1.0", f"_commit: {recorded}"))
    before = due.service.state()
    for arguments in ((), ("--check",)):
        result = due.service.upgrade(*arguments)
        expected = f"template {recorded}, newest v0.2.0: up to date\n"
        assert (result.returncode, result.stdout) == (0, expected)
    assert due.service.state() == before


def test_a_service_made_before_the_first_tag_is_upgraded_from_its_commit(fresh: DueUpgrade) -> None:
    commit = fresh.template.git("rev-parse", "--short", "HEAD").strip()
    while not re.fullmatch(r"\d+[abc]\d+", commit):  # such an id reads like a prerelease
        fresh.template.commit({})
        commit = fresh.template.git("rev-parse", "--short", "HEAD").strip()
    fresh.service.commit(fresh.service.replaced(ANSWERS, "v0.1.0", commit))
    fresh.template.git("tag", "--delete", "v0.1.0")
    fresh.template.release("v0.1.0", {fresh.template.path("platform.cfg"): "new\n"})
    taken(fresh.service)
    assert fresh.service.changed == {ANSWERS: "M", "platform.cfg": "A"}


def test_a_commit_after_the_newest_tag_is_up_to_date_and_a_prerelease_is_not_taken(
    fresh: DueUpgrade,
) -> None:
    fresh.template.release("v0.2.0rc1", {fresh.template.path("platform.cfg"): "new\n"})
    fresh.template.commit({"docs/x.md": "later\n"})
    assert "newest v0.1.0: up to date" in fresh.service.upgrade().stdout
    commit = fresh.template.git("rev-parse", "HEAD").strip()
    fresh.service.commit(fresh.service.replaced(ANSWERS, "v0.1.0", f"'{commit}'"))
    assert f"template {commit}, newest v0.1.0: up to date" in fresh.service.upgrade().stdout


# Environments of users


def test_nothing_of_the_users_git_changes_the_outcome_nor_is_a_token_shown(
    due: DueUpgrade, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    hooks = home / "hooks"
    hooks.mkdir(parents=True)
    for name in ("post-checkout", "pre-commit", "post-index-change"):
        (hooks / name).write_text("#!/bin/sh\necho hook >> $HOME/ran\nexit 1\n")
        (hooks / name).chmod(0o755)
    (home / "ignore").write_text("*.toml\nMakefile\n")
    (home / ".gitconfig").write_text(
        f"[core]\n hooksPath = {hooks}\n excludesFile = {home / 'ignore'}\n"
        "[commit]\n gpgSign = true\n[gpg]\n program = /bin/false\n[diff]\n noprefix = true\n"
        "[color]\n ui = always\n[apply]\n whitespace = error\n[status]\n showUntrackedFiles = no\n"
        f'[url "{due.template.folder}"]\n insteadOf = https://me:s3cret@git.example.com/t.git\n'
    )
    due.service.commit(source_of(due.service, "https://me:s3cret@git.example.com/t.git"))
    other = by_nobody(tmp_path / "other")
    before = other.state()
    mine = {"HOME": str(home), "GIT_DIR": str(other.folder / ".git"), "GIT_WORK_TREE": "/"}

    report = taken(due.service, **mine, GIT_INDEX_FILE=str(tmp_path / "index"))

    assert {"Makefile", "platform.cfg"} <= set(due.service.changed)
    assert "s3cret" not in report
    assert not (home / "ran").exists()
    assert not list(home.rglob("copier"))
    assert other.state() == before


def by_nobody(folder: Path) -> Service:
    """Some repository that has nothing to do with it."""
    service = Service(folder)
    service.write({"file.txt": "other\n"})
    service.git("init", "--quiet")
    service.commit({})
    return service


def test_a_shallow_checkout_of_a_larger_repository_is_upgraded_in_its_folder(
    due: DueUpgrade, tmp_path: Path
) -> None:
    large = by_nobody(tmp_path / "large repo")
    shutil.copytree(due.service.folder, large.folder / "services/delay")
    shutil.rmtree(large.folder / "services/delay/.git")
    large.commit({"services/delay/README.md": "mine\n"})
    folder = tmp_path / "checkout 100%"
    run("git", "clone", "-q", "--depth=1", large.folder.as_uri(), str(folder), cwd=tmp_path)
    checkout = Service(folder)
    checkout.git("checkout", "--quiet", "--detach")
    checkout.write({"file.txt": "dirty elsewhere\n", "note.txt": "untracked elsewhere\n"})
    service = Service(folder / "services/delay")

    result = service.upgrade()

    assert result.returncode == 0, result.stderr
    assert checkout.changed["services/delay/platform.cfg"] == "A"
    assert all(name.startswith("services/delay/") for name in checkout.changed)
    assert checkout.read("file.txt") == "dirty elsewhere\n"


# From every release to the working tree


OWNED: Files = {
    "live.json": """{
  "format": 1,
  "routing": {"policy": "weights", "weights": {"stable": 90, "canary": 10}, "salt": "ours"},
  "toggles": {"flags": {"cautious": {
    "state": "ENABLED", "variants": {"on": true, "off": false}, "defaultVariant": "off",
    "targeting": {"fractional": [["on", 20], ["off", 80]]}}}}
}
""",
    f"{PACKAGE}/counting.py": """from pathlib import Path

from mlservice import job


@job(memory_mb=(300,))
def count(examples: Path, output: Path) -> dict[str, float]:
    (output / "count.txt").write_text(str(len(list(examples.iterdir()))))
    return {"files": 1.0}
""",
    "docs/runbook.md": "# Who is called at night\n\nSee [gateway](gateway.md).\n",
    "scripts/mine.py": "MINE = 1\n",
}
"""What an owner adds: routing and a toggle in a live file, a job, a page."""


def owned(service: Service) -> Files:
    """What an owner adds, and changes in the examples to use it."""
    pipeline = """

class Count(Task):
    \"\"\"How many files a week has.\"\"\"

    job = count
    week = WeekParameter()

    def inputs(self) -> Mapping[str, Task]:
        return {"examples": Ingest(week=self.week)}
"""
    tasks = service.read(f"{PACKAGE}/pipeline.py")
    tasks = tasks.replace("from .data import", "from .counting import count\nfrom .data import")
    settings = service.read("service.toml") + '\n[live]\nfile = "live.json"\n'
    return {
        **OWNED,
        f"{PACKAGE}/pipeline.py": tasks + pipeline,
        "service.toml": settings,
        **service.replaced(
            f"{PACKAGE}/prediction.py",
            "return {",
            'round_up = toggle("round-up", default=False)\n'
            "    score = 1.0 if round_up and score > 0.99 else score\n    return {",
        ),
    }


UPGRADED = """
from pathlib import Path
from flight_delay.pipeline import Count
from mlservice.cli.main import main
from mlservice.live import read_live
live = read_live(Path("live.json"))
assert live.routing.weights == {"stable": 90, "canary": 10}, live
assert set(live.toggles.flags) == {"cautious"}, live
assert Count.job.__name__ == "count"
"""


def test_every_release_is_upgraded_by_its_own_command_and_its_owners_work_goes_on(
    tmp_path: Path,
) -> None:
    """Routing, toggles, a job and a page of the owner's; then the newest platform runs them."""
    _, services = every_release(tmp_path)
    assert services
    for service in services:
        before = owned(service)
        service.commit(before)
        taken(service)
        assert set(service.changed).isdisjoint(before)
        service.commit({}, "chore: upgrade the template")
        environ = environment(PYTHONPATH=f"{service.folder / 'src'}")
        for command in (("-c", UPGRADED), ("-m", "mlservice", "api", "show")):
            done = subprocess.run(
                (sys.executable, *command),
                cwd=service.folder,
                env=environ,
                capture_output=True,
                text=True,
                timeout=120,
                check=False,
            )
            assert done.returncode == 0, done.stderr


def test_every_release_so_far_is_upgraded_to_the_working_tree(tmp_path: Path) -> None:
    _, services = every_release(tmp_path, with_head=True)
    for service in services:
        own: Files = {"scripts/mine.py": "MINE = 1\n", f"{PACKAGE}/mine.py": "MINE = 1\n"}
        edits = HOUSE | own
        service.commit(edits)
        taken(service, PYTHONPATH=str(ROOT / SLUG / "src"))
        assert set(service.changed).isdisjoint(edits)


def every_release(folder: Path, *, with_head: bool = False) -> tuple[Template, list[Service]]:
    """A service of each release, of the last commit too if it is asked for; the newest is due."""
    template = Template(folder / "template")
    run("git", "clone", "-q", "--no-tags", ROOT.as_uri(), str(template.folder), cwd=folder)
    commits = [release.commit for release in releases(template.folder)]
    if with_head:
        commits.append(template.git("rev-parse", "HEAD").strip())
    services = []
    for number, commit in enumerate(dict.fromkeys(commits), start=1):
        template.git("tag", f"v0.0.{number}", commit)
        services.append(started(template, folder / str(number), f"v0.0.{number}"))
    newest = working_tree(folder / "newest")
    template.git("rm", "-r", "--quiet", ".")
    shutil.copytree(
        newest.folder, template.folder, ignore=shutil.ignore_patterns(".git"), dirs_exist_ok=True
    )
    template.release("v9999.0.0", {})
    return template, services


def started(template: Template, into: Path, tag: str) -> Service:
    """A service of an older release."""
    folder = into / "flight-delay"
    options = ("copy", "--quiet", "--defaults", f"--vcs-ref={tag}")
    tool = (sys.executable, "-P", "-m", "copier", *options)
    run(*tool, str(template.folder), str(folder), cwd=template.folder.parent)
    service = Service(folder)
    service.git("init", "--quiet")
    service.commit({})
    return service


def test_a_service_without_copier_says_how_to_get_it(due: DueUpgrade) -> None:
    """As in a container: the command is there, copier and its libraries are not."""
    code = (
        "import sys; sys.modules.update(yaml=None)\n"
        "import os; from mlservice.cli.main import main; sys.exit(main(['upgrade'], os.environ))"
    )
    result = subprocess.run(
        (sys.executable, "-c", code),
        cwd=due.service.folder,
        env=environment(PYTHONPATH=str(ROOT / SLUG / "src")),
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 6
    assert "`make upgrade`, which installs requirements/dev.lock" in result.stderr
