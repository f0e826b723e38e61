"""A platform engineer's day: the template renders alike by both engines, for all answers."""

from __future__ import annotations

import ast
import json
import keyword
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import hcl2
import pytest
import yaml
from covertable import make

import mlservice
from template_tests.support.rendering import (
    BIN,
    Answers,
    cookiecutter,
    copier,
    git,
    run,
    template_repository,
    tree,
)
from template_tests.support.toy_service import ROOT, SERVICE, clean_environ

CHOICES = {
    "service_slug": ["flight-delay", "zz9"],
    "description": [
        "Predicts whether a flight will be late.",
        "Größe: 'x' & <y> #1 {{z}} $HOME 🚀",
    ],
    "owner_email": ["team@example.com", "o'brien.x+y@a-b.co.uk"],
    "framework": ["lightgbm", "catboost", "sklearn"],
    "retrain_every": ["hour", "three-hours", "day", "week"],
    "artifact_store": ["file", "s3"],
    "model_reload": ["watch", "signal", "rolling"],
    "register_on_create": ["auto", "no"],  # yes would install each of them
}
PAIRS: list[Answers] = [dict(row) for row in make(CHOICES)]
DELIMITERS = re.compile(r"<<(?!EOT\n)|<%|<#")  # a heredoc of HCL is none


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return template_repository(tmp_path_factory.mktemp("template"))


@pytest.fixture(scope="module", params=PAIRS, ids=lambda answers: "-".join(answers.values())[:60])
def rendered(
    request: pytest.FixtureRequest, template: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Answers, Path, Path]:
    """The same answers, rendered by cookiecutter and by copier."""
    answers: Answers = request.param
    folder = tmp_path_factory.mktemp("rendered")
    slug = answers["service_slug"]
    first = cookiecutter(template, folder, answers)
    second = copier(template, folder, answers, "by-copier")
    assert (first.returncode, second.returncode) == (0, 0), first.stderr + second.stderr
    return answers, folder / slug, folder / "by-copier"


def test_the_pairs_hold_every_value_of_every_answer() -> None:
    for name, values in CHOICES.items():
        assert {answers[name] for answers in PAIRS} == set(values)


def test_both_engines_give_the_same_bytes_and_run_bits(
    rendered: tuple[Answers, Path, Path],
) -> None:
    _, first, second = rendered
    assert tree(first) == tree(second)


def test_every_file_can_be_read_by_its_own_language(
    rendered: tuple[Answers, Path, Path], tmp_path: Path
) -> None:
    answers, folder, _ = rendered
    for name, (content, _) in tree(folder).items():
        text = content.decode("utf-8")
        assert not DELIMITERS.search(text), name
        assert not re.search(r"[<%#]%?>>|%>", text) or name.endswith((".py", ".pyi", ".md")), name
        assert "\r" not in text, name
        if name.endswith((".py", ".pyi")):
            ast.parse(text)
        elif name.endswith(".json"):
            json.loads(text)
        elif name.endswith((".yml", ".yaml")):
            yaml.safe_load(text)
        elif name.endswith(".toml"):
            tomllib.loads(text)
        elif name.endswith(".hcl"):
            hcl2.loads(text)
        elif name.endswith(".sh"):
            assert run(["sh", "-n", name], folder).returncode == 0
        elif name.endswith(".proto"):
            command = [sys.executable, "-m", "grpc_tools.protoc", "-I", "src", name]
            assert run([*command, f"--python_out={tmp_path}"], folder).returncode == 0
    settings = tomllib.loads((folder / "service.toml").read_text("utf-8"))
    assert settings["service"]["owner"] == answers["owner_email"]
    project = tomllib.loads((folder / "pyproject.toml").read_text("utf-8"))
    assert project["project"]["description"] == answers["description"]


def test_what_is_rendered_is_formatted_and_free_of_lint(
    rendered: tuple[Answers, Path, Path],
) -> None:
    _, folder, _ = rendered
    for command in (["format", "--check"], ["check"]):
        result = run([str(BIN / "ruff"), *command, "--no-cache", "."], folder)
        assert result.returncode == 0, result.stdout


# Answers that are refused ----------------------------------------------------------------

BAD_ANSWERS = [
    *(
        ("service_slug", slug)
        for slug in ("A", "x", "-x", "x-", "a--b", "1x", "a b", "é", "x" * 41)
    ),
    *(("service_slug", slug) for slug in ("../evil", "a/b", ".", "a_b", "json", "import", "numpy")),
    *(("service_slug", slug) for slug in ("mlservice", "luigi", "lightgbm", "match", "tests")),
    *(("owner_email", mail) for mail in ("team", "a@b", "a@@b.de", "a b@c.de", "@x.de", "a@x.")),
    *(("description", text) for text in (" ", "two\nlines", 'a "quote"', "a\\b", "x" * 121, "'''")),
    ("description", "a\x07bell"),
    ("framework", "fortran"),
    ("retrain_every", "sometimes"),
    ("artifact_store", "floppy"),
    ("model_reload", "never"),
    ("register_on_create", "perhaps"),
]


@pytest.mark.parametrize(("name", "value"), BAD_ANSWERS)
def test_a_bad_answer_is_refused_by_name_and_nothing_is_written(
    template: Path, tmp_path: Path, name: str, value: str
) -> None:
    folder = tmp_path / "inner"
    folder.mkdir()
    for result in (
        cookiecutter(template, folder, {name: value}),
        copier(template, folder, {name: value}, "by-copier"),
    ):
        assert result.returncode != 0
        said = " ".join((result.stdout + result.stderr).split())
        assert name in said
        assert " ".join(value.split())[:80] in said or repr(value) in said
    assert [path for path in tmp_path.rglob("*") if path != folder] == []


def test_the_reserved_names_hold_keywords_standard_and_installed_modules() -> None:
    questions = yaml.safe_load((ROOT / "copier.yml").read_text("utf-8"))
    reserved = set(questions["reserved_package_names"]["default"])
    needed = set(keyword.kwlist) | set(sys.stdlib_module_names)
    for distribution in _distributions_of_the_locks():
        needed |= _modules(distribution)
    possible = {name for name in needed if re.fullmatch("[a-z][a-z0-9_]+", name)}
    assert possible - reserved == set(), "add these to reserved_package_names in copier.yml"


def _distributions_of_the_locks() -> set[str]:
    locks = [*SERVICE.glob("requirements/*.lock*")]
    assert len(locks) == 6
    return {name for lock in locks for name in re.findall(r"^([\w.-]+)==", lock.read_text(), re.M)}


def _modules(distribution: str) -> set[str]:
    """Top-level modules of an installed distribution; none where it is not installed here."""
    from importlib import metadata

    try:
        files = metadata.files(distribution) or []
    except metadata.PackageNotFoundError:
        return set()
    packages = {file.parts[0] for file in files if len(file.parts) > 1 and file.suffix == ".py"}
    modules = {file.stem for file in files if len(file.parts) == 1 and file.suffix == ".py"}
    return {name for name in packages | modules if name.isidentifier()}


# The template's own files ----------------------------------------------------------------


def test_cookiecutter_json_follows_from_copier_yml() -> None:
    assert run([sys.executable, "tools/questions.py", "--check"], ROOT).returncode == 0


def test_there_are_at_most_eight_questions_each_with_help_and_a_default() -> None:
    questions = yaml.safe_load((ROOT / "copier.yml").read_text("utf-8"))
    asked = {k: q for k, q in questions.items() if not k.startswith("_") and "when" not in q}
    assert len(asked) <= 8
    assert all(question["help"] and "default" in question for question in asked.values())
    assert not {"_tasks", "_migrations", "_jinja_extensions"} & questions.keys(), "need --trust"


def test_the_platform_holds_no_template_syntax_and_folders_no_conditions(
    template: Path,
) -> None:
    for name, (content, _) in tree(template / SERVICE.name).items():
        path = Path(name)
        assert "<%" not in str(path.parent), "cookiecutter would write to the root of the disk"
        if name.startswith(("src/mlservice/", "tests/platform/", "docs/")):
            assert not DELIMITERS.search(content.decode("utf-8")), name
    assert not any(path.is_symlink() for path in template.rglob("*"))


def test_version_and_changelog_agree() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    version = project["project"]["version"]
    assert mlservice.__version__ == version
    changes = (ROOT / "CHANGELOG.md").read_text("utf-8")
    assert re.findall(r"^## \[([\d.]+)\]", changes, re.M)[0] == version


def test_the_double_of_nomad_has_the_templates_version() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["version"]
    double = tomllib.loads((ROOT / "nomad_double" / "pyproject.toml").read_text("utf-8"))
    assert double["project"]["version"] == version


# The repository that a service starts as --------------------------------------------------


@pytest.mark.parametrize("place", ["plain", "ein Ordner für Ä", "inside another repository"])
def test_a_service_is_a_git_repository_with_its_branches(
    template: Path, tmp_path: Path, place: str
) -> None:
    folder = tmp_path / place
    folder.mkdir()
    if place.startswith("inside"):
        git(folder, "init", "--quiet")
    home = tmp_path / "home"
    home.mkdir()
    environ = {**clean_environ(), "HOME": str(home), "GIT_CONFIG_NOSYSTEM": "1"}
    environ["GIT_DIR"] = str(folder / ".git")
    result = cookiecutter(template, folder, {}, environ)
    assert result.returncode == 0, result.stderr
    service = folder / "flight-delay"
    assert git(service, "branch", "--format=%(refname:short)").split() == ["develop", "master"]
    assert git(service, "log", "--format=%s", "--all").count("\n") == 0
    assert git(service, "status", "--porcelain") == ""
    assert git(service, "branch", "--show-current") == "develop"
    if place.startswith("inside"):
        assert git(folder, "status", "--porcelain") == "?? flight-delay/"


def test_a_copier_user_gets_the_same_repository_by_make_init(
    template: Path, tmp_path: Path
) -> None:
    assert copier(template, tmp_path, {}, "flight-delay").returncode == 0
    service = tmp_path / "flight-delay"
    assert run(["make", "init"], service).returncode == 0
    assert git(service, "branch", "--format=%(refname:short)").split() == ["develop", "master"]
    assert "nothing to do" in run(["make", "init"], service).stdout


def test_answers_name_the_template_so_that_copier_finds_it_again(
    template: Path, tmp_path: Path
) -> None:
    near = tmp_path / "near"
    near.mkdir()
    (near / "template").symlink_to(template)
    assert cookiecutter("template", near, {}).returncode == 0
    text = (near / "flight-delay" / ".copier-answers.yml").read_text("utf-8")
    answers = yaml.safe_load(text)
    assert answers["_src_path"] == str(template.resolve())
    assert answers["_commit"] == "v0.1.0"


def test_an_organisation_sets_its_addresses_once_in_the_users_configuration(
    template: Path, tmp_path: Path
) -> None:
    config = tmp_path / "config.yml"
    config.write_text("default_context:\n  _org_s3_bucket: our-bucket\n", "utf-8")
    command = [str(BIN / "cookiecutter"), "--no-input", "--config-file", str(config)]
    result = run([*command, str(template), "artifact_store=s3"], tmp_path)
    assert result.returncode == 0, result.stderr
    settings = (tmp_path / "flight-delay" / "service.toml").read_text("utf-8")
    assert 's3://our-bucket/flight-delay"' in settings
    by_copier = tmp_path / "settings.yml"
    by_copier.write_text("defaults:\n  org_s3_bucket: our-bucket\n", "utf-8")
    environ = {**clean_environ(), "COPIER_SETTINGS_PATH": str(by_copier)}
    copy = [str(BIN / "copier"), "copy", "--quiet", "--defaults", "-d", "artifact_store=s3"]
    result = run([*copy, str(template), "c"], tmp_path, environ)
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "c" / "service.toml").read_text("utf-8") == settings


def test_nothing_of_this_machine_or_a_registry_is_named() -> None:
    listed = subprocess.run(
        ("git", "grep", "-nIE", r"(p[y]pi\.org|python[h]osted|registry\.n[p]mjs|d[e]bian\.org)"),
        cwd=ROOT,
        env=clean_environ(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert listed.stdout == ""
