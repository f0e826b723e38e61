"""What a change of a contract does to others: judged by a law, and read out of git."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from mlservice.api import (
    ContractChange,
    Side,
    as_readers_see,
    compare,
    compare_with_release,
    is_major,
)
from mlservice.api.compatibility import GONE, REASONS, UNKNOWN, UNPROVEN
from mlservice.api.schema_diff import differences
from mlservice.cli.main import main
from mlservice.errors import ContractError, ReleaseError
from template_tests.support.laws import examples
from template_tests.support.rendering import git
from template_tests.support.toy_service import SERVICE, TOY, clean_environ

CONTRACTS: dict[Side, dict[str, Any]] = {
    "request": json.loads((SERVICE / "contracts" / "request.schema.json").read_text("utf-8")),
    "response": json.loads((SERVICE / "contracts" / "response.schema.json").read_text("utf-8")),
}
Edited = Callable[[dict[str, Any]], Any]


def prediction(schema: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = schema["properties"]["prediction"]
    return found


# The example's contracts, changed as owners change them ----------------------------------

BREAKS: list[tuple[Side, str, str, Edited]] = [
    ("request", "#/required", REASONS["request"], lambda s: s["required"].append("weather")),
    ("request", "#/properties/weather", GONE, lambda s: s["properties"].pop("weather")),
    (
        "request",
        "#/properties/origin/enum",
        REASONS["request"],
        lambda s: s["properties"]["origin"]["enum"].remove("LGA"),
    ),
    (
        "request",
        "#/properties/distance_miles/maximum",
        REASONS["request"],
        lambda s: s["properties"]["distance_miles"].update(maximum=5000),
    ),
    (
        "request",
        "#/properties/distance_miles/type",
        UNPROVEN,
        lambda s: s["properties"]["distance_miles"].update(type="integer"),
    ),
    (
        "request",
        "#/properties/scheduled_departure/pattern",
        UNPROVEN,
        lambda s: s["properties"]["scheduled_departure"].update(pattern="^20[0-9]{2}"),
    ),
    (
        "request",
        "#/properties/distance_miles/x-unit",
        UNKNOWN,
        lambda s: s["properties"]["distance_miles"].update({"x-unit": "km"}),
    ),
    ("request", "#/default", UNKNOWN, lambda s: s.update(default={})),
    ("request", "#/$schema", UNKNOWN, lambda s: s.update({"$schema": "urn:other"})),
    ("response", "#/required", REASONS["response"], lambda s: s["required"].remove("prediction")),
    (
        "response",
        "#/properties/prediction/properties/likely_late",
        GONE,
        lambda s: prediction(s)["properties"].pop("likely_late"),
    ),
    (
        "response",
        "#/properties/prediction/properties/late_probability/maximum",
        REASONS["response"],
        lambda s: prediction(s)["properties"]["late_probability"].update(maximum=100),
    ),
    (
        "response",
        "#/properties/prediction/properties/likely_late/type",
        REASONS["response"],
        lambda s: prediction(s)["properties"]["likely_late"].update(type=["boolean", "null"]),
    ),
]
HARMLESS: list[tuple[Side, str, Edited]] = [
    ("request", "#/properties/seats", lambda s: s["properties"].update(seats={"type": "integer"})),
    ("request", "#/required", lambda s: s["required"].remove("carrier")),
    (
        "request",
        "#/properties/origin/enum",
        lambda s: s["properties"]["origin"]["enum"].append("X"),
    ),
    (
        "request",
        "#/properties/distance_miles/maximum",
        lambda s: s["properties"]["distance_miles"].update(maximum=20000),
    ),
    ("request", "#/title", lambda s: s.update(title="Any flight")),
    (
        "response",
        "#/properties/prediction/properties/minutes",
        lambda s: prediction(s)["properties"].update(minutes={"type": "number"}),
    ),
    (
        "response",
        "#/properties/prediction/required",
        lambda s: (
            prediction(s)["properties"].update(minutes={}),
            prediction(s)["required"].append("minutes"),
        ),
    ),
    (
        "response",
        "#/properties/prediction/properties/late_probability/maximum",
        lambda s: prediction(s)["properties"]["late_probability"].update(maximum=0.99),
    ),
]


@pytest.mark.parametrize(("side", "place", "why", "edit"), BREAKS)
def test_what_may_break_others_is_named_with_its_place(
    side: Side, place: str, why: str, edit: Edited
) -> None:
    changed = copy.deepcopy(CONTRACTS[side])
    edit(changed)
    (change,) = compare(CONTRACTS[side], changed, side)
    assert (change.place, change.breaks) == (place, why)


@pytest.mark.parametrize(("side", "place", "edit"), HARMLESS)
def test_what_breaks_nobody_is_named_as_compatible(side: Side, place: str, edit: Edited) -> None:
    changed = copy.deepcopy(CONTRACTS[side])
    edit(changed)
    changes = compare(CONTRACTS[side], changed, side)
    assert place in {change.place for change in changes}
    assert not any(change.breaks for change in changes)


def test_of_several_changes_those_that_break_are_told_from_the_others() -> None:
    changed = copy.deepcopy(CONTRACTS["request"])
    changed["properties"]["origin"]["enum"] = ["JFK", "EWR", "BOS"]
    changed["properties"]["seats"] = {"type": "integer"}
    found = {
        (c.place, c.what): bool(c.breaks) for c in compare(CONTRACTS["request"], changed, "request")
    }
    assert found == {
        ("#/properties/origin/enum", '"LGA" is gone'): True,
        ("#/properties/origin/enum", '"BOS" is new'): False,
        ("#/properties/seats", 'is new: {"type": "integer"}'): False,
    }


@pytest.mark.parametrize("side", ["request", "response"])
def test_a_contract_that_says_the_same_in_another_order_has_not_changed(side: Side) -> None:
    schema = CONTRACTS[side]
    turned = json.loads(json.dumps(schema, sort_keys=True))
    turned["required"] = turned["required"][::-1]
    assert compare(schema, turned, side) == []


def test_a_reference_that_is_replaced_by_what_it_refers_to_is_compatible() -> None:
    old = {"properties": {"a": {"$ref": "#/$defs/n"}}, "$defs": {"n": {"type": "number"}}}
    new = {"properties": {"a": {"type": "number"}}}
    assert not any(change.breaks for change in compare(old, new, "request"))


def test_words_may_change_in_a_contract_that_refers_to_itself() -> None:
    old = {"type": "object", "properties": {"next": {"$ref": "#"}}, "title": "a"}
    assert compare(old, {**old, "title": "b"}, "request") == [
        ContractChange("#/title", 'was "a", is "b"')
    ]


def test_changes_that_break_only_together_are_breaking() -> None:
    old = {"anyOf": [{"minimum": 1}, {"maximum": 1}]}
    new = {"anyOf": [{"minimum": 2}, {"maximum": 0}]}
    found = compare(old, new, "request")
    assert any(change.breaks for change in found)


# The laws --------------------------------------------------------------------------------

NAMES = ("a", "b", "c")
SIMPLE = st.sampled_from([None, True, False, 0, 1, 2, 5, -1, 0.5, 1.5, "", "a", "ab", "b1"])
VALUES = st.recursive(
    SIMPLE,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from([*NAMES, "d"]), inner)
    ),
    max_leaves=6,
)


def keywords(**options: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({}, optional=options)


def numbers(low: int, high: int) -> st.SearchStrategy[Any]:
    return st.integers(low, high)


LEAVES = st.one_of(
    keywords(
        type=st.sampled_from(["number", "integer", ["integer", "null"], ["string", "number"]]),
        minimum=numbers(-1, 2),
        exclusiveMaximum=numbers(1, 6),
        multipleOf=st.sampled_from([0.5, 1, 2]),
    ),
    keywords(
        type=st.just("string"),
        minLength=numbers(0, 1),
        maxLength=numbers(1, 3),
        pattern=st.sampled_from(["^a", "b$", "^[ab]+$"]),
        format=st.sampled_from(["date", "date-time"]),
    ),
    st.lists(SIMPLE, min_size=1, max_size=3).map(lambda values: {"enum": values}),
    st.sampled_from([True, False, {}, {"type": "boolean"}, {"const": "a"}, {"type": "null"}]),
)


def composed(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    several = st.lists(inner, min_size=1, max_size=2)
    closed = st.one_of(st.just(False), st.just(False), inner)
    return st.one_of(
        keywords(
            type=st.just("object"),
            properties=st.dictionaries(st.sampled_from(NAMES), inner, min_size=1),
            required=st.lists(st.sampled_from(NAMES), unique=True),
            additionalProperties=closed,
            minProperties=numbers(0, 2),
            dependentRequired=st.just({"a": ["b"]}),
            propertyNames=st.just({"maxLength": 1}),
            patternProperties=st.dictionaries(st.just("^c"), inner),
        ),
        keywords(
            type=st.just("object"),
            allOf=several,
            properties=st.dictionaries(st.sampled_from(NAMES), inner, min_size=1),
            unevaluatedProperties=st.just(False),
        ),
        keywords(
            type=st.just("array"),
            items=inner,
            prefixItems=several,
            maxItems=numbers(0, 3),
            uniqueItems=st.booleans(),
            contains=inner,
        ),
        st.builds(lambda key, parts: {key: parts}, st.sampled_from(["anyOf", "oneOf"]), several),
        st.builds(lambda schema: {"not": schema}, inner),
        st.builds(lambda test, then: {"if": test, "then": then}, inner, inner),
        st.just({"$ref": "#/$defs/x"}),
    )


SCHEMAS = st.builds(
    lambda schema, named: {**schema, "$defs": {"x": named}} if schema else schema,
    st.recursive(LEAVES, composed, max_leaves=6).filter(lambda schema: schema is not True),
    LEAVES,
)


@st.composite
def changed(draw: st.DrawFn) -> tuple[Any, Any]:
    """A schema and one that differs from it, mostly by a little."""
    old, other = draw(SCHEMAS), draw(SCHEMAS)
    parts = [difference.apply(old) for difference in differences(old, other)]
    new = draw(st.sampled_from([other, *parts]))
    assume(all(jsonschema_rs.meta.is_valid(schema) and compiles(schema) for schema in (old, new)))
    return (old, new) if draw(st.booleans()) else (new, old)


def compiles(schema: Any) -> bool:
    """Whether a contract can have this schema: a part of a difference may lose a ``$defs``."""
    try:
        check(schema)
    except jsonschema_rs.ValidationError:
        return False
    return True


def check(schema: Any) -> Callable[[Any], bool]:
    return jsonschema_rs.Draft202012Validator(schema, validate_formats=True).is_valid


@pytest.mark.parametrize("side", ["request", "response"])
def test_where_a_change_is_called_compatible_no_message_shows_the_opposite(side: Side) -> None:
    broken: set[bool] = set()

    @settings(max_examples=examples(200), deadline=None)
    @given(changed(), st.lists(VALUES, min_size=10, max_size=20))
    def law(pair: tuple[Any, Any], messages: list[Any]) -> None:
        old, new = pair
        breaking = any(change.breaks for change in compare(old, new, side))
        narrow, wide = (old, new) if side == "request" else (new, as_readers_see(old))
        keeps, would_keep = check(narrow), check(wide)
        shown = [message for message in messages if keeps(message) and not would_keep(message)]
        assert breaking or not shown, (old, new, shown)
        broken.add(bool(shown))

    law()
    assert broken == {True, False}, "the messages must be able to show a broken law"


@settings(max_examples=examples(150), deadline=None)
@given(SCHEMAS, st.lists(VALUES, min_size=10, max_size=20))
def test_a_reader_that_ignores_unknown_fields_takes_whatever_a_strict_one_takes(
    schema: Any, messages: list[Any]
) -> None:
    assume(jsonschema_rs.meta.is_valid(schema))
    keeps, seen = check(schema), check(as_readers_see(schema))
    assert all(seen(message) for message in messages if keeps(message))


ONLY_A = {"properties": {"a": {}}, "additionalProperties": False}
ONLY_B = {"properties": {"b": {}}, "additionalProperties": False}


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        ({"not": ONLY_A}, {"b": 1}),
        ({"oneOf": [ONLY_A, ONLY_B]}, {"a": 1}),
        ({"if": ONLY_A, "then": False}, {"b": 1}),
        ({"contains": ONLY_A, "maxContains": 1}, [{"a": 1}, {"b": 1}]),
        ({"not": {"$ref": "#/$defs/x"}, "$defs": {"x": ONLY_A}}, {"b": 1}),
        ({"const": {"additionalProperties": False}}, {"additionalProperties": False}),
    ],
)
def test_what_a_reader_takes_is_never_less_below_a_not_and_its_like(
    schema: Any, message: Any
) -> None:
    assert check(schema)(message)
    assert check(as_readers_see(schema))(message)


@settings(max_examples=examples(150), deadline=None)
@given(SCHEMAS, SCHEMAS)
def test_edits_are_none_between_equals_and_each_brings_the_new_schema_nearer(
    old: Any, new: Any
) -> None:
    assert differences(old, old) == []
    for difference in differences(old, new):
        nearer = difference.apply(old)
        assert differences(nearer, new) != differences(old, new)
        assert len(differences(nearer, new)) < len(differences(old, new))


# Versions --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("before", "after", "major"),
    [
        ("v1.4.0", "2.0.0", True),
        ("v1.4.0", "2.0.0rc1", True),
        ("v1.4.0", "1.5.0", False),
        ("v1.4.0", "1.4.0", False),
        ("v1.4.0", "0.9.0", False),
        ("v0.4.0", "0.4.1", False),
        ("v0.4.0", "0.5.0", True),
        ("v0.4.9", "1.0.0", True),
        ("v2.0.0", "1.9.0", False),
    ],
)
def test_a_greater_major_number_may_break_and_before_one_a_greater_minor(
    before: str, after: str, major: bool
) -> None:
    assert is_major(before, after) is major


# Read out of git -------------------------------------------------------------------------


class Repository:
    """A service's folder in git."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "contracts").mkdir(parents=True)
        (folder / "service.toml").write_text((TOY / "service.toml").read_text("utf-8"), "utf-8")
        self.version("0.1.0")
        for side, schema in CONTRACTS.items():
            self.write(side, schema)

    def version(self, version: str) -> None:
        text = f'[project]\nname = "toy"\nversion = "{version}"\n'
        (self.folder / "pyproject.toml").write_text(text, "utf-8")

    def write(self, side: Side, schema: dict[str, Any]) -> None:
        path = self.folder / "contracts" / f"{side}.schema.json"
        path.write_text(json.dumps(schema, indent=2), "utf-8")

    def commit(self, tag: str | None = None) -> None:
        git(self.folder, "add", "--all")
        git(self.folder, "commit", "--quiet", "--allow-empty", "--message", "feat: x")
        if tag:
            git(self.folder, "tag", tag)

    def narrow(self) -> None:
        """Break callers."""
        schema = copy.deepcopy(CONTRACTS["request"])
        schema["properties"]["origin"]["enum"].remove("LGA")
        self.write("request", schema)

    def changes(self, *arguments: str) -> int:
        environ = {**clean_environ(), "MLSERVICE_CONFIG": str(self.folder / "service.toml")}
        return main(["api", "changes", *arguments], environ)


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    found = Repository(tmp_path / "service")
    git(found.folder, "init", "--quiet", "--initial-branch=master")
    return found


@pytest.fixture
def released(repository: Repository) -> Repository:
    repository.commit("v0.1.0")
    return repository


def test_before_the_first_release_nothing_can_be_broken(
    repository: Repository, capsys: pytest.CaptureFixture[str]
) -> None:
    repository.commit("not-a-release")
    assert repository.changes() == 0
    assert "there is no release yet" in capsys.readouterr().out


def test_a_breaking_change_fails_until_the_version_says_so(
    released: Repository, capsys: pytest.CaptureFixture[str]
) -> None:
    assert released.changes() == 0
    assert "no client of v0.1.0 breaks" in capsys.readouterr().out
    released.narrow()
    assert released.changes() == 1
    said = capsys.readouterr().out
    assert '#/properties/origin/enum  "LGA" is gone  breaking' in said
    assert "raise version in pyproject.toml" in said
    released.version("0.1.1")
    assert released.changes() == 1
    released.version("0.2.0")
    assert released.changes() == 0
    assert "breaking changes, as the version says" in capsys.readouterr().out


def test_the_nearest_release_counts_and_another_one_can_be_named(released: Repository) -> None:
    git(released.folder, "checkout", "--quiet", "-b", "two")
    released.narrow()
    released.version("2.0.0")
    released.commit("v2.0.0")
    assert released.changes() == 0
    git(released.folder, "checkout", "--quiet", "master")
    released.commit()
    assert compare_with_release(released.folder, clean_environ()).since == "v0.1.0"
    assert released.changes("--since", "v2.0.0") == 0


def test_a_release_on_a_branch_that_was_not_merged_back_counts_too(repository: Repository) -> None:
    repository.commit()
    git(repository.folder, "checkout", "--quiet", "-b", "release")
    repository.commit("v0.9.0")
    repository.commit("v0.10.0")
    git(repository.folder, "checkout", "--quiet", "master")
    assert compare_with_release(repository.folder, clean_environ()).since == "v0.10.0"


def test_a_service_below_the_top_of_its_repository_is_compared_too(tmp_path: Path) -> None:
    git(tmp_path, "init", "--quiet")
    inner = Repository(tmp_path / "services" / "flight")
    inner.commit("v1.0.0")
    inner.version("1.1.0")
    inner.narrow()
    assert inner.changes() == 1


def test_git_variables_of_a_hook_do_not_lead_to_another_repository(
    released: Repository, tmp_path: Path
) -> None:
    git(tmp_path, "init", "--quiet", "other")
    released.narrow()
    environ = {**clean_environ(), "GIT_DIR": str(tmp_path / "other" / ".git")}
    assert compare_with_release(released.folder, environ).breaking


def test_a_release_without_contracts_promised_nothing(
    repository: Repository, capsys: pytest.CaptureFixture[str]
) -> None:
    contracts = repository.folder / "contracts"
    contracts.rename(repository.folder / "elsewhere")
    repository.commit("v0.1.0")
    (repository.folder / "elsewhere").rename(contracts)
    assert repository.changes() == 0
    assert "request.schema.json is new since v0.1.0" in capsys.readouterr().out


def refused(repository: Repository, error: type[Exception], *words: str) -> None:
    with pytest.raises(error) as found:
        compare_with_release(repository.folder, clean_environ())
    assert all(word in str(found.value) for word in words), str(found.value)


def test_a_folder_without_git_is_told_what_is_missing(tmp_path: Path) -> None:
    refused(Repository(tmp_path / "plain"), ReleaseError, "git says", "make init")


def test_a_shallow_clone_without_tags_does_not_pass_for_one_without_releases(
    released: Repository, tmp_path: Path
) -> None:
    released.commit()
    source = f"file://{released.folder}"
    git(tmp_path, "clone", "--quiet", "--depth=1", "--no-tags", source, "shallow")
    clone = copy.copy(released)
    clone.folder = tmp_path / "shallow"
    refused(clone, ReleaseError, "shallow", "GIT_DEPTH")
    git(clone.folder, "fetch", "--quiet", "--unshallow", "--tags")
    assert clone.changes() == 0


@pytest.mark.parametrize(
    ("text", "error", "words"),
    [
        ("{", ReleaseError, "request.schema.json of v0.1.0 is not JSON"),
        ('{"type": "nonsense"}', ContractError, "request.schema.json of v0.1.0"),
    ],
)
def test_a_released_contract_that_cannot_be_used_is_named(
    repository: Repository, text: str, error: type[Exception], words: str
) -> None:
    (repository.folder / "contracts" / "request.schema.json").write_text(text, "utf-8")
    repository.commit("v0.1.0")
    repository.write("request", CONTRACTS["request"])
    refused(repository, error, words)


def test_a_contract_of_today_that_is_gone_or_broken_is_named(released: Repository) -> None:
    (released.folder / "contracts" / "response.schema.json").unlink()
    refused(released, ContractError, "response.schema.json", "cannot be read")


@pytest.mark.parametrize(
    ("tag", "arguments", "words"),
    [
        ("v1x", (), "the tag 'v1x' is not a version"),
        ("v1.0.0", ("--since", "v7.0.0"), "--since v7.0.0: there is no such tag"),
        ("v1.0.0", ("--since", "--all"), "there is no such tag"),
        ("v1.0.0", ("--since=--all",), "there is no such tag"),
    ],
)
def test_a_tag_that_is_no_release_is_refused(
    repository: Repository,
    tag: str,
    arguments: tuple[str, ...],
    words: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    repository.commit(tag)
    try:
        code = repository.changes(*arguments)
    except SystemExit as left:
        code = int(left.code or 0)
    assert code == 2
    assert words in capsys.readouterr().err


@pytest.mark.parametrize(
    "text", ["[project]\n", "version = ", '[project]\nversion = "soon"\n', "project = 3\n"]
)
def test_a_version_that_cannot_be_read_is_refused(released: Repository, text: str) -> None:
    (released.folder / "pyproject.toml").write_text(text, "utf-8")
    refused(released, ReleaseError, "pyproject.toml")
