"""A wrong page is worse than none: links, module names and words are checked."""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client import REGISTRY

from mlservice.cli.main import make_command

ROOT = Path(__file__).resolve().parents[2]
SERVICE = ROOT / "<<cookiecutter.service_slug>>"
PLATFORM = SERVICE / "src" / "mlservice"
OWNERS_PACKAGE = SERVICE / "src" / "<<cookiecutter.__package_name>>"
OF_TEMPLATE = [
    *ROOT.glob("*.md"),
    *(ROOT / "docs").rglob("*.md"),
    *(ROOT / "nomad_double").glob("*.md"),
]
OF_SERVICE = [SERVICE / "README.md", *(SERVICE / "docs").rglob("*.md")]
ARCHITECTURE = [ROOT / "docs" / "architecture.md", SERVICE / "docs" / "architecture.md"]
DECISIONS = sorted((ROOT / "docs" / "decisions").glob("[0-9]*.md"))
CODE_FILES = ("*.py", "*.hcl", "*.yml", "*.toml", "*.sh", "Makefile")
REFUSED_WORDS = (
    "anew|can be had|everybody|fares|for ever|he|him|his|is no use|no more(?! than)|nobody|"
    "of no use|somebody|times over|to be had|whence|whither"
)
PLAIN_WORDS = """
    api app batching callers challenge check cli command common compatibility connection consul
    context copier current decode decoding demo dependencies details diagnostics diff docs
    durations endpoint epsilon errors evaluate evaluation exit expiry fields functions git
    greedy group grpc hdfs headers keys kinds learning loading local log logs main memory
    message messages metrics models nomad openapi options output overview packing page
    parameters parse pb2 pending plan plot poller ports predictor process progress protocol
    provider quality reason report request rivals rules run samples schema selection serve
    server service servicer serving sizes source split start states strategies stream strings
    swapper testing thompson threads tls topics traffic trees types unit uvicorn validation
    variables watch webhdfs weights world
"""
"""Words of every engineer, which the glossary need not explain."""


def page_id(page: Path) -> str:
    """The page's path in this repository."""
    return str(page.relative_to(ROOT))


def text_of(page: Path) -> str:
    """The page without its code blocks."""
    return re.sub(r"(?ms)^```.*?^```$", "", page.read_text("utf-8"))


def links(page: Path) -> Iterator[tuple[Path, str]]:
    """File and anchor of each relative link."""
    for target in re.findall(r"\]\(([^)\s]+)\)", text_of(page)):
        if not re.match(r"[a-z]+:", target):
            path, _, anchor = target.partition("#")
            yield (page.parent / path if path else page), anchor


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitLab makes them."""
    titles = re.findall(r"(?m)^#+ (.+)$", text_of(page))
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", OF_TEMPLATE, ids=page_id)
def test_every_link_of_the_template_has_a_target(page: Path) -> None:
    for target, anchor in links(page):
        assert target.exists(), f"{page_id(page)}: {target} does not exist"
        assert not anchor or anchor in anchors(target), f"{page_id(page)}: no heading {anchor}"


@pytest.mark.parametrize("page", OF_SERVICE, ids=page_id)
def test_every_link_of_a_service_stays_in_the_service(page: Path) -> None:
    for target, anchor in links(page):
        assert target.resolve().is_relative_to(SERVICE), (
            f"{page_id(page)}: {target} is not rendered"
        )
        assert target.exists(), f"{page_id(page)}: {target} does not exist"
        assert not anchor or anchor in anchors(target), f"{page_id(page)}: no heading {anchor}"


def test_pages_of_the_platform_do_not_link_to_pages_that_an_older_service_lacks() -> None:
    own = SERVICE / "docs" / "decisions"
    for page in OF_SERVICE[1:]:
        if not page.is_relative_to(own):
            assert not [t for t, _ in links(page) if t.resolve().is_relative_to(own)], page


def test_every_page_that_code_or_configuration_names_is_rendered() -> None:
    for file in SERVICE.rglob("*"):
        if (
            not file.is_file()
            or file.suffix in {".lock", ".json", ".pyc"}
            or ".cache" in file.parts
        ):
            continue
        for name in re.findall(r"docs/[\w/-]+\.md", file.read_text("utf-8")):
            assert (SERVICE / name).exists(), f"{file.relative_to(SERVICE)} names {name}"
        assert "docs/decisions/0" not in file.read_text("utf-8"), (
            f"{file.relative_to(SERVICE)}: a service has no decisions of the template, "
            "name docs/platform-decisions.md"
        )


def test_every_page_is_in_its_index() -> None:
    for folder in (ROOT / "docs", SERVICE / "docs"):
        listed = {target.resolve() for target, _ in links(folder / "README.md")}
        missing = {page for page in folder.glob("*.md") if page.resolve() not in listed}
        assert missing == {folder / "README.md"}


@pytest.mark.parametrize("page", [*ARCHITECTURE, ROOT / "docs" / "developing.md"], ids=page_id)
def test_every_module_on_the_plan_exists(page: Path) -> None:
    for name in re.findall(r"`([\w./]+(?:/|\.py))`", text_of(page)):
        roots = (PLATFORM, SERVICE, SERVICE / "src", OWNERS_PACKAGE, ROOT, ROOT / "template_tests")
        found = [*(root / name for root in roots), *OWNERS_PACKAGE.glob(f"*{name}<%*")]
        assert any(path.exists() for path in found), f"{page_id(page)}: there is no {name}"


def packages_on(page: Path) -> list[str]:
    """The packages and modules that a plan lists, in its order."""
    table = page.read_text("utf-8").split("<!-- packages -->")[1].split("<!-- end -->")[0]
    return re.findall(r"\| `([\w./]+)` \|", table)


@pytest.mark.parametrize("page", ARCHITECTURE, ids=page_id)
def test_every_package_is_on_the_plan(page: Path) -> None:
    there = {
        f"{path.name}/" if path.is_dir() else path.name
        for path in PLATFORM.iterdir()
        if path.name not in {"__pycache__", "__init__.py", "py.typed"}
    }
    assert sorted(packages_on(page)) == sorted(there)


def test_the_plan_has_the_order_of_the_layers() -> None:
    project = (SERVICE / "pyproject.toml").read_text("utf-8")
    layers = re.findall(r'(?m)^    "([a-z_ |]+)",$', project.split("layers = [")[1].split("]")[0])
    depth = {name: number for number, names in enumerate(layers) for name in names.split(" | ")}
    names = [re.sub(r"/|\.py$", "", name) for name in packages_on(ARCHITECTURE[0])]
    found = [depth[name] for name in names if name != "__main__"]
    assert found == sorted(found)


@pytest.mark.parametrize("page", [*OF_TEMPLATE, *OF_SERVICE], ids=page_id)
def test_every_command_on_a_page_exists(page: Path) -> None:
    for said in re.findall(r"(?:`|bin/)mlservice((?: [a-z][a-z-]*)+)", page.read_text("utf-8")):
        command = make_command()
        for word in said.split():
            below = getattr(command, "commands", {})
            if not below:
                break  # the rest are arguments
            assert word in below, f"{page_id(page)}: there is no command mlservice{said}"
            command = below[word]


def test_every_metric_that_a_process_shows_is_on_the_page() -> None:
    importlib.import_module("mlservice.observe.metrics")
    shown = {f.name for f in REGISTRY.collect() if f.name.startswith("mlservice_")}
    page = (SERVICE / "docs" / "metrics.md").read_text("utf-8")
    listed = re.findall(r"(?m)^\| `(\w+?)(?:_total|_info)?` \|", page)
    assert shown
    assert shown <= set(listed)


# Decisions


@pytest.mark.parametrize("page", DECISIONS, ids=page_id)
def test_a_decision_has_the_form(page: Path) -> None:
    form = re.findall(r"(?m)^## .+$", DECISIONS[0].read_text("utf-8"))
    text = page.read_text("utf-8")
    assert re.findall(r"(?m)^## .+$", text) == form
    if page != DECISIONS[0]:
        assert text.startswith(f"# {page.name[:4]} ")
        assert re.search(r"(?m)^Status: .*Date: \d{4}-\d\d-\d\d\.", text)


def test_the_index_has_every_decision_under_its_title() -> None:
    titles = [page.read_text("utf-8").splitlines()[0].split(" ", 2)[2] for page in DECISIONS[1:]]
    rows = [
        f"| [{page.name[:4]}]({page.name}) | {title} |"
        for page, title in zip(DECISIONS[1:], titles, strict=True)
    ]
    index = (ROOT / "docs" / "decisions" / "README.md").read_text("utf-8")
    assert re.findall(r"(?m)^\| \[\d.+$", index) == rows


def test_the_new_names_of_modules_exist() -> None:
    text = (ROOT / "docs" / "decisions" / "0018-the-fields-words.md").read_text("utf-8")
    table = text.split("### Modules")[1].split("###")[0]
    for new in re.findall(r"(?m)^\| `[^|]+ \| `([\w./]+)`", table):
        assert (PLATFORM / new).exists() or (ROOT / new).exists(), new


def test_owners_read_of_decisions_that_there_are_and_have_the_same_form() -> None:
    known = {page.name[:4] for page in DECISIONS}
    short = (SERVICE / "docs" / "platform-decisions.md").read_text("utf-8")
    assert set(re.findall(r"(?m)^## (\d{4}) ", short)) <= known
    form = SERVICE / "docs" / "decisions" / "0000-form.md"
    assert form.read_text("utf-8") == DECISIONS[0].read_text("utf-8")


# Words


@pytest.mark.parametrize("page", [*OF_TEMPLATE, *OF_SERVICE], ids=page_id)
def test_a_page_has_none_of_the_words_that_the_guide_refuses(page: Path) -> None:
    if page.name not in {"writing.md", "CHANGELOG.md"}:
        found = re.findall(rf"(?i)\b(?:{REFUSED_WORDS})\b", text_of(page))
        assert not found, f"{page_id(page)}: see docs/writing.md"


def test_no_code_has_them_either() -> None:
    folders = (SERVICE, ROOT / "nomad_double", ROOT / "bench", ROOT / "hooks", ROOT / "tools")
    files = [file for folder in folders for kind in CODE_FILES for file in folder.rglob(kind)]
    for file in files:
        found = re.findall(rf"(?i)\b(?:{REFUSED_WORDS})\b", file.read_text("utf-8"))
        assert not found, f"{file.relative_to(ROOT)}: see docs/writing.md"


def glossary() -> list[str]:
    """The words of the glossary, in its order."""
    text = (ROOT / "docs" / "glossary.md").read_text("utf-8")
    return re.findall(r"(?m)^\| ([\w -]+) \|", text)[2:]


def singular(word: str) -> set[str]:
    """A word and what it may be a form of."""
    cut = {word.removesuffix(end) for end in ("", "s", "es", "d", "ed")}
    return cut | {re.sub("ies$", "y", word)}


def test_the_glossary_is_one_sorted_and_explains_the_words_that_it_uses() -> None:
    text = (ROOT / "docs" / "glossary.md").read_text("utf-8")
    assert text == (SERVICE / "docs" / "glossary.md").read_text("utf-8")
    words = glossary()
    assert words == sorted(set(words), key=str.lower)
    for used in re.findall(r"\*([^*]+?)(?:'s)?\*", text.split("| --- |")[1]):
        assert singular(used) & set(words), f"{used} has no entry"


def test_a_modules_name_is_made_of_words_that_the_glossary_knows() -> None:
    known = set(PLAIN_WORDS.split()) | {part for word in glossary() for part in word.split()}
    names = {path.relative_to(PLATFORM).with_suffix("") for path in PLATFORM.rglob("*.py")}
    parts = {part for name in names for part in name.parts if not part.startswith("__")}
    unknown = {
        f"{word} (in {part})"
        for part in parts
        for word in part.split("_")
        if word and not singular(word) & known
    }
    assert not unknown, "add them to the glossary, or use words that it has"
