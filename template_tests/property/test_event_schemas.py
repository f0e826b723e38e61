"""Events as types and as JSON Schemas: neither can change without the other."""

from __future__ import annotations

import json
import math
from typing import Any, get_type_hints

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlservice.bandit import Arm, Tally
from mlservice.contracts import Contract
from mlservice.errors import EventError
from mlservice.events import (
    KINDS,
    Event,
    EventKind,
    ExposureEvent,
    PredictionEvent,
    RewardEvent,
    decode_event,
    encode_event,
)
from mlservice.testing.strategies import messages
from template_tests.support.toy_service import SERVICE

FOLDER = SERVICE / "src" / "mlservice" / "events" / "schemas"
HEAD = {"event", "schema_version", "time"}
RENAMED = {"stages": "stages_us"}
"""A field of a type whose JSON has another unit, and so another name."""
each_kind = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)


def contract(kind: EventKind) -> Contract:
    return Contract.load(FOLDER / f"{kind.name}.v{kind.version}.schema.json")


def closed(kind: EventKind) -> Contract:
    """The schema, and no field that it does not name."""
    return Contract(kind.name, {**contract(kind).schema, "additionalProperties": False})


text = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
finite = st.floats(allow_nan=False, allow_infinity=False)
json_values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | finite | text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3),
    max_leaves=10,
)
FIELDS: dict[str, st.SearchStrategy[Any]] = {
    "time": st.floats(0, 4e9),
    "probability": st.floats(0, 1),
    "prediction": json_values,
    "fallbacks": st.lists(text, max_size=3).map(tuple),
    "stages": st.dictionaries(text, st.floats(0, 100), max_size=3),
    "reward": st.floats(-1e9, 1e9) | st.integers(-5, 5),
    "row": st.none() | st.integers(0, 1000),
    "unit": st.sampled_from(["user", "request", None]),
    "user": st.none() | text,
    "salt": st.none() | text,
}


def events_of(kind: EventKind) -> st.SearchStrategy[Event]:
    """Events of each value that the type allows."""
    fields = {name: FIELDS.get(name, text) for name in kind.type._fields}
    return st.builds(kind.type, **fields)


@given(st.data())
@each_kind
def test_every_event_that_is_written_keeps_its_schema_and_is_read_again(
    kind: EventKind, data: st.DataObject
) -> None:
    event = data.draw(events_of(kind))
    line = encode_event(event)
    assert line.count(b"\n") == 1
    assert not closed(kind).faults(orjson.loads(line))
    read = decode_event(line)
    assert type(read) is kind.type
    assert read is not None
    assert math.isclose(read.time, event.time, abs_tol=1e-5)
    if isinstance(event, PredictionEvent) and isinstance(read, PredictionEvent):
        assert read.stages.keys() == event.stages.keys()
        for stage, seconds in event.stages.items():
            assert abs(read.stages[stage] - seconds) <= 1.01e-6
        read = read._replace(stages=event.stages)
    assert read._replace(time=event.time) == event


@given(st.data())
@each_kind
def test_every_event_that_keeps_the_schema_is_read(kind: EventKind, data: st.DataObject) -> None:
    content = data.draw(messages(contract(kind)))
    event = decode_event(orjson.dumps(content | {"a_later_field": 1}))
    assert isinstance(event, kind.type)
    again = orjson.loads(encode_event(event))
    missing = again.keys() - content.keys()
    assert all(again[name] is None for name in missing - {"schema_version"})
    same = content.keys() - {"time", "stages_us"}
    assert {name: again[name] for name in same} == {name: content[name] for name in same}


@each_kind
def test_type_and_schema_have_the_same_fields_and_the_same_of_them_may_be_missing(
    kind: EventKind,
) -> None:
    schema = contract(kind).schema
    fields = {RENAMED.get(name, name) for name in kind.type._fields} | HEAD
    assert set(schema["properties"]) == fields, f"{kind.name}: other fields"
    optional = set(kind.type._field_defaults) | {"schema_version"}
    assert set(schema["required"]) == fields - optional
    assert schema["properties"]["event"] == {"const": kind.name}
    assert schema["properties"]["schema_version"]["const"] == kind.version
    assert set(get_type_hints(kind.type)) == set(kind.type._fields)


def test_each_kind_has_one_schema_and_each_schema_a_kind() -> None:
    names = {f"{kind.name}.v{kind.version}.schema.json" for kind in KINDS}
    assert {path.name for path in FOLDER.iterdir()} == names


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            {"time": "2026-01-01T00:00:00"},
            "time = '2026-01-01T00:00:00': give a date and time with",
        ),
        ({"time": "yesterday"}, "time = 'yesterday'"),
        ({"reward": True}, "reward = True: give a number from -1e+09 to 1e+09"),
        ({"reward": 2e9}, "reward = 2000000000.0"),
        ({"reward": "1"}, "reward = '1'"),
        ({"request_id": None}, "request_id = None: give a string"),
        ({"row": -1}, "row = -1: give a whole number from 0"),
        ({"row": 1.5}, "row = 1.5"),
        ({"event": 3}, "event = 3"),
        ({"schema_version": 2}, "schema_version = 2: only 1 of reward is known"),
    ],
)
def test_a_wrong_field_is_named_with_its_value(change: dict[str, Any], words: str) -> None:
    good = {"event": "reward", "time": "2026-01-01T00:00:00Z", "request_id": "r", "reward": 1}
    assert decode_event(json.dumps(good).encode()) == RewardEvent(1767225600.0, "r", 1)
    with pytest.raises(EventError) as caught:
        decode_event(json.dumps(good | change).encode())
    assert words in str(caught.value)


@pytest.mark.parametrize("line", [b"", b"{", b"[]", b"{}", b"\xff"])
def test_what_is_no_event_is_refused(line: bytes) -> None:
    with pytest.raises(EventError):
        decode_event(line)


def test_a_kind_that_a_newer_version_writes_is_passed_over() -> None:
    assert decode_event(b'{"event": "click", "time": "2026-01-01T00:00:00Z"}') is None


@pytest.mark.parametrize("value", [2**80, "\ud800", {1: 2}, object()])
def test_a_value_that_json_cannot_hold_is_refused(value: Any) -> None:
    event = ExposureEvent(0.0, "r", None, "flag", value)
    with pytest.raises(EventError):
        encode_event(event)


OLD = b"""\
{"event":"exposure","time":"2026-01-01T00:00:00.5Z","request_id":"a","user":null,"flag":"f","variant":"on"}
{"event":"prediction","time":"2026-01-01T00:00:01Z","request_id":"a","user":null,"policy":"thompson",\
"assigned":"stable","probability":0.5,"version":"stable","model_version":"m","prediction":{"score":1},\
"fallbacks":[],"stages_us":{"validate":10,"queue":100}}
{"event":"reward","time":"2026-01-01T00:00:02Z","request_id":"a","reward":1}
"""


def test_events_of_release_0_1_0_are_read_and_counted() -> None:
    lines = OLD.splitlines()
    found = [decode_event(line) for line in lines]
    exposure, prediction, reward = found
    assert exposure == ExposureEvent(1767225600.5, "a", None, "f", "on")
    assert isinstance(prediction, PredictionEvent)
    assert prediction.stages == {"validate": 1e-5, "queue": 1e-4}
    assert reward == RewardEvent(1767225602.0, "a", 1)
    for kind, line in zip((KINDS[1], KINDS[0], KINDS[2]), lines, strict=True):
        assert not contract(kind).faults(orjson.loads(line))
    tally = Tally(window=60)
    for event in found:
        assert event is not None
        tally.add(event)
    assert tally.arms(1767225603.0) == {"stable": Arm(count=1, sum=1, squares=1)}
