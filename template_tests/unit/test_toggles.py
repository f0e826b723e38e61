"""Feature toggles and A/B tests: who sees which variant, and what is told of it."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlservice import toggle
from mlservice.errors import LiveError
from mlservice.events import Event, EventLog, ExposureEvent
from mlservice.live import FlagSet, read_live
from mlservice.toggles import ToggleContext, Toggles
from mlservice.toggles.current import CURRENT_TOGGLES
from template_tests.support.laws import examples

USERS = [f"user-{n}" for n in range(3000)]
ON_OFF = {"on": True, "off": False}


class Memory(EventLog):
    """Events that stay in memory."""

    def __init__(self) -> None:
        super().__init__(None, 0)
        self.events: list[Event] = []

    def put(self, event: Event) -> None:
        self.events.append(event)


@pytest.fixture
def events() -> Memory:
    return Memory()


@pytest.fixture
def toggles(events: Memory) -> Iterator[Toggles]:
    made = Toggles(events)
    yield made
    made.close()


def flag(variants: dict[str, Any], default: str, **more: Any) -> dict[str, Any]:
    return {"state": "ENABLED", "variants": variants, "defaultVariant": default, **more}


def use(toggles: Toggles, **flags: Any) -> None:
    toggles.apply(FlagSet.model_validate({"flags": flags}))


def share(percent: float) -> dict[str, Any]:
    """A flag that is on for so many percent, in steps of a hundredth."""
    fractions = [["on", round(percent * 100)], ["off", round((100 - percent) * 100)]]
    return flag(ON_OFF, "off", targeting={"fractional": fractions})


def value(toggles: Toggles, name: str, user: str | None, **attributes: Any) -> Any:
    return ToggleContext(toggles, user, "request", attributes).value(name, False)


def test_a_toggle_is_on_or_off_for_all(toggles: Toggles) -> None:
    use(toggles, new=flag(ON_OFF, "on"))
    assert value(toggles, "new", "u") is True
    use(toggles, new=flag(ON_OFF, "off"))
    assert value(toggles, "new", "u") is False
    assert value(toggles, "unheard-of", "u") is False


@pytest.mark.parametrize("percent", [0, 0.1, 5, 50, 99.9, 100])
def test_a_percentage_of_the_users_has_it(toggles: Toggles, percent: float) -> None:
    use(toggles, new=share(percent))
    found = sum(value(toggles, "new", user) for user in USERS) / len(USERS) * 100
    assert abs(found - percent) < 3 * (percent * (100 - percent) / len(USERS)) ** 0.5 + 1e-9


def test_a_user_keeps_their_variant_in_every_process(toggles: Toggles) -> None:
    use(toggles, new=share(50))
    before = [value(toggles, "new", user) for user in USERS[:10]]
    assert before == [value(toggles, "new", user) for user in USERS[:10]]
    # What flagd itself deals them, in any process and language.
    assert before == [True, True, False, True, True, True, True, True, True, False]


def test_a_share_that_grows_takes_nobody_out(toggles: Toggles) -> None:
    use(toggles, new=share(10))
    first = {user for user in USERS if value(toggles, "new", user)}
    use(toggles, new=share(30))
    assert first < {user for user in USERS if value(toggles, "new", user)}


def test_two_experiments_deal_the_users_independently(toggles: Toggles) -> None:
    use(toggles, one=share(50), two=share(50))
    table = Counter((value(toggles, "one", u), value(toggles, "two", u)) for u in USERS)
    assert all(0.22 < count / len(USERS) < 0.28 for count in table.values()), table


def test_an_allow_list_and_attributes_of_the_request_choose(toggles: Toggles) -> None:
    rule = {
        "if": [
            {"in": [{"var": "targetingKey"}, ["tester-1", "tester-2"]]},
            "on",
            {"and": [{"==": [{"var": "carrier"}, "AA"]}, {">": [{"var": "weather.wind"}, 20]}]},
            "on",
            "off",
        ]
    }
    use(toggles, new=flag(ON_OFF, "off", targeting=rule))
    assert value(toggles, "new", "tester-2") is True
    assert value(toggles, "new", "u", carrier="AA", weather={"wind": 30}) is True
    assert value(toggles, "new", "u", carrier="AA", weather={"wind": 10}) is False
    assert value(toggles, "new", "u") is False


def test_a_kill_switch_gives_everybody_the_default_of_the_code(
    toggles: Toggles, events: Memory
) -> None:
    use(toggles, new={**flag(ON_OFF, "on"), "state": "DISABLED"})
    assert value(toggles, "new", "u") is False
    assert events.events == []


@pytest.mark.parametrize("default", [False, 1, 0.5, "plain"])
def test_the_default_says_the_type(toggles: Toggles, default: Any) -> None:
    values = {bool: True, int: 7, float: 0.25, str: "bold"}
    use(toggles, new=flag({"v": values[type(default)]}, "v"), odd=flag({"v": "text"}, "v"))
    context = ToggleContext(toggles, "u", "r", {})
    assert context.value("new", default) == values[type(default)]
    if not isinstance(default, str):
        assert context.value("odd", default) == default  # another type than the code expects


def test_an_exposure_is_told_once_where_a_variant_was_used(
    toggles: Toggles, events: Memory
) -> None:
    use(toggles, shown=share(100), unasked=share(100))
    context = ToggleContext(toggles, "u", "r1", {})
    token = CURRENT_TOGGLES.set(context)
    try:
        assert toggle("shown", default=False) is True
        assert toggle("shown", default=False) is True
        assert toggle("unheard-of", default=5) == 5
    finally:
        CURRENT_TOGGLES.reset(token)
    (event,) = events.events
    assert abs(event.time - time.time()) < 60
    assert event == ExposureEvent(event.time, "r1", "u", "shown", "on", "shown", "user")


@pytest.mark.parametrize(
    ("targeting", "salt"),
    [
        ({"fractional": [["on", 1], ["off", 0]]}, "f"),
        ({"fractional": [{"var": "country"}, ["on", 1], ["off", 0]]}, None),
        ({"if": [True, "on", "off"]}, None),
        ({"if": [True, {"fractional": [["on", 1]]}, {"fractional": ["own", ["on", 1]]}]}, None),
        ({"$ref": "half"}, "f"),
    ],
)
def test_an_exposure_names_the_salt_if_the_flag_randomises_users_by_its_name(
    toggles: Toggles, events: Memory, targeting: Any, salt: str | None
) -> None:
    flags = {
        "flags": {"f": flag(ON_OFF, "off", targeting=targeting)},
        "$evaluators": {"half": {"fractional": [["on", 1], ["off", 0]]}},
    }
    toggles.apply(FlagSet.model_validate(flags))
    ToggleContext(toggles, None, "r1", {"country": "de"}).value("f", False)
    (event,) = events.events
    assert isinstance(event, ExposureEvent)
    assert (event.salt, event.unit, event.user) == (salt, "request", None)


def test_outside_of_a_request_a_toggle_has_its_default(toggles: Toggles) -> None:
    use(toggles, new=flag(ON_OFF, "on"))
    assert toggle("new", default=False) is False


def test_without_a_user_the_request_decides(toggles: Toggles) -> None:
    use(toggles, new=share(50))
    contexts = [ToggleContext(toggles, None, f"request-{n}", {}) for n in range(50)]
    values = {context.value("new", False) for context in contexts}
    assert values == {True, False}


def test_a_rule_that_fails_for_a_request_gives_the_default_and_is_said_once(
    toggles: Toggles, caplog: pytest.LogCaptureFixture
) -> None:
    rule = {"if": [{"var": "odd"}, "no-such-variant", "on"]}
    use(toggles, new=flag(ON_OFF, "on", targeting=rule))
    assert value(toggles, "new", "u") is True
    assert value(toggles, "new", "u", odd=True) is False
    assert value(toggles, "new", "u", odd=True) is False
    assert len([r for r in caplog.records if "cannot be evaluated" in r.message]) == 1


RULES: list[Any] = [
    {"fractional": [["on", 1], ["off", 1]]},
    {"fractional": [{"var": "carrier"}, ["on", 1], ["off", 1]]},
    {"if": [{"==": [{"var": "carrier"}, "a"]}, "on", {"fractional": [["on", 1], ["off", 3]]}]},
    {"if": [{"===": [{"var": ["n", 7]}, 1]}, "on", "off"]},
    {"if": [{"some": [{"var": "list"}, {"==": [{"var": ""}, "a"]}]}, "on", "off"]},
    {"if": [{"missing": ["carrier"]}, "on", "off"]},
    {"if": [{"$ref": "shared"}, "on", "off"]},
]
ATTRIBUTES = st.fixed_dictionaries(
    {},
    optional={
        "carrier": st.sampled_from(["a", "b"]),
        "n": st.sampled_from([1, True, 1.0, 2]),
        "list": st.lists(st.sampled_from(["a", "b"]), max_size=2),
    },
)


@given(st.lists(st.tuples(st.sampled_from("uvwxyz"), ATTRIBUTES), max_size=12))
@settings(max_examples=examples(40), deadline=None)
def test_what_is_kept_of_an_evaluation_is_what_a_new_one_would_give(
    requests: list[tuple[str, dict[str, Any]]],
) -> None:
    flags = FlagSet.model_validate(
        {
            "$evaluators": {"shared": {"==": [{"var": "n"}, 2]}},
            "flags": {f"f{n}": flag(ON_OFF, "off", targeting=rule) for n, rule in enumerate(RULES)},
        }
    )
    toggles = Toggles(Memory())
    try:
        for user, attributes in requests:
            for name in flags.flags:
                toggles.apply(flags)
                fresh = value(toggles, name, user, **attributes)
                assert fresh == value(toggles, name, user, **attributes)
        toggles.apply(flags)
        kept = [[value(toggles, n, u, **a) for n in flags.flags] for u, a in requests]
        for (user, attributes), found in zip(requests, kept, strict=True):
            toggles.apply(flags)
            assert found == [value(toggles, name, user, **attributes) for name in flags.flags]
    finally:
        toggles.close()


FAULTS: list[tuple[Any, list[str]]] = [
    (flag(ON_OFF, "maybe"), ["defaultVariant = 'maybe'", "on, off"]),
    (flag({"a": 1, "b": "x"}, "a"), ["number and string"]),
    ({**flag(ON_OFF, "on"), "state": "enabled"}, ["state", "'enabled'"]),
    ({**flag(ON_OFF, "on"), "targetting": {}}, ["targetting", "no such field"]),
    (flag(ON_OFF, "on", targeting={"fractionl": [["on", 1]]}), ["operator 'fractionl'"]),
    (flag(ON_OFF, "on", targeting={"fractional": [["onn", 1], ["off", 1]]}), ["variant 'onn'"]),
    (flag(ON_OFF, "on", targeting={"fractional": [["on", 0.5]]}), ["weight = 0.5", "whole"]),
    (flag(ON_OFF, "on", targeting={"fractional": [["on", 0], ["off", 0]]}), ["add up to 0"]),
    (flag(ON_OFF, "on", targeting={"if": [{"$ref": "x"}, "on"]}), ["$evaluators rule 'x'"]),
    (flag({}, "on"), ["variants"]),
]


@pytest.mark.parametrize(("wrong", "words"), FAULTS)
def test_a_flag_that_cannot_work_is_refused_by_name(
    tmp_path: Path, wrong: Any, words: list[str]
) -> None:
    path = tmp_path / "live.json"
    path.write_text(json.dumps({"format": 1, "toggles": {"flags": {"new": wrong}}}), "utf-8")
    with pytest.raises(LiveError) as caught:
        read_live(path)
    assert all(word in str(caught.value) for word in ["toggles", *words]), caught.value


def test_rules_can_be_shared(toggles: Toggles) -> None:
    toggles.apply(
        FlagSet.model_validate(
            {
                "$evaluators": {"testers": {"in": [{"var": "targetingKey"}, ["t"]]}},
                "flags": {
                    "new": flag(ON_OFF, "off", targeting={"if": [{"$ref": "testers"}, "on", "off"]})
                },
            }
        )
    )
    assert (value(toggles, "new", "t"), value(toggles, "new", "u")) == (True, False)
