"""Laws of the platform's pure parts, for any input that hypothesis finds."""

from __future__ import annotations

import json
from contextlib import suppress
from datetime import UTC, datetime, timedelta

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlservice.artifacts import FileEntry, Manifest, artifact_path
from mlservice.contracts import Contract, parse
from mlservice.errors import ArtifactCorrupt, NotJson, PipelineError, RepeatedKey
from mlservice.pipeline import parse_period, weeks_before
from mlservice.pipeline.parameters import floor
from mlservice.protocol.packing import (
    MAX_MESSAGE_BYTES,
    RowPacker,
    pack_timeouts,
    unpack_rows,
    unpack_scores,
    unpack_timeouts,
)
from mlservice.settings import Granularity
from mlservice.testing import messages

NAMES = st.text(min_size=1, max_size=12)
PARAMETERS = st.dictionaries(NAMES, st.text(max_size=60), max_size=5)
EVERY = st.sampled_from(["hour", "three-hours", "day", "week"])
MOMENTS = st.datetimes(datetime(1990, 1, 1), datetime(2090, 1, 1))


# Artifact paths --------------------------------------------------------------------------


@given(NAMES, NAMES, PARAMETERS, NAMES, PARAMETERS)
def test_different_parameters_never_share_a_path(
    service: str, task: str, first: dict[str, str], code: str, second: dict[str, str]
) -> None:
    same = artifact_path(service, task, first, code) == artifact_path(service, task, second, code)
    assert same == (first == second)


@given(NAMES, NAMES, PARAMETERS, NAMES)
def test_a_path_has_four_safe_parts_and_does_not_depend_on_order(
    service: str, task: str, parameters: dict[str, str], code: str
) -> None:
    path = artifact_path(service, task, parameters, code)
    parts = path.split("/")
    assert len(parts) == 4
    assert all(0 < len(part) <= 120 and part.strip(".") for part in parts)
    assert path.isascii()
    assert path.isprintable()
    assert path == artifact_path(service, task, dict(reversed(parameters.items())), code)


# Manifests -------------------------------------------------------------------------------

ENTRIES = st.builds(
    FileEntry,
    key=NAMES,
    size=st.integers(0, 2**50),
    sha256=st.from_regex("[0-9a-f]{64}", fullmatch=True),
)
MANIFESTS = st.builds(
    Manifest,
    task=NAMES,
    job=NAMES,
    parameters=st.dictionaries(
        NAMES, st.one_of(st.integers(-(2**53), 2**53), NAMES, st.booleans())
    ),
    inputs=st.dictionaries(NAMES, st.lists(NAMES, max_size=3), max_size=3),
    metrics=st.dictionaries(NAMES, st.floats(allow_nan=False, allow_infinity=False), max_size=3),
    files=st.dictionaries(NAMES, ENTRIES, max_size=3),
    code=NAMES,
    git_commit=st.none() | NAMES,
    created=st.datetimes(datetime(2000, 1, 1), timezones=st.just(UTC)),
    seconds=st.floats(0, 1e6),
    environment=st.dictionaries(NAMES, NAMES, max_size=3),
)


@given(MANIFESTS)
def test_a_manifest_survives_its_text(manifest: Manifest) -> None:
    assert Manifest.decode(manifest.encode(), "uri") == manifest


@given(MANIFESTS, st.data())
def test_a_cut_manifest_is_never_taken_for_one(manifest: Manifest, data: st.DataObject) -> None:
    text = manifest.encode()
    cut = data.draw(st.integers(0, len(text) - 1))
    with pytest.raises(ArtifactCorrupt, match="uri"):
        Manifest.decode(text[:cut], "uri")


# Periods ---------------------------------------------------------------------------------


@given(MOMENTS, EVERY)
def test_a_period_begins_at_or_before_its_moments_and_is_its_own_start(
    moment: datetime, every: Granularity
) -> None:
    start = floor(moment, every)
    assert start <= moment
    assert floor(start, every) == start
    assert moment - start < timedelta(weeks=1)
    if every == "week":
        assert start.weekday() == 0


@given(MOMENTS, EVERY)
def test_a_period_survives_its_text(moment: datetime, every: Granularity) -> None:
    start = floor(moment, every)
    assert parse_period(start.strftime("%Y-%m-%dT%H"), every) == start


@given(st.text(max_size=20))
def test_any_text_is_a_period_or_is_refused_by_our_own_error(text: str) -> None:
    try:
        found = parse_period(text, "day")
    except PipelineError as error:
        assert text in str(error)
    else:
        assert found.hour == 0


@given(MOMENTS, st.integers(0, 60))
def test_the_weeks_before_are_whole_and_end_by_the_moment(moment: datetime, count: int) -> None:
    weeks = weeks_before(moment, count)
    assert len(weeks) == count
    assert weeks == sorted(set(weeks))
    for monday in weeks:
        assert monday.weekday() == 0
        assert datetime(monday.year, monday.month, monday.day) + timedelta(weeks=1) <= moment


# Packing ---------------------------------------------------------------------------------


@given(st.integers(1, 40), st.data())
def test_rows_survive_packing(columns: int, data: st.DataObject) -> None:
    row = st.lists(st.floats(), min_size=columns, max_size=columns)
    rows = data.draw(st.lists(row, min_size=1, max_size=20))
    packer = RowPacker(columns)
    packed = b"".join(packer.pack(each) for each in rows)
    assert np.array_equal(unpack_rows(packed, len(rows)), np.array(rows), equal_nan=True)


@given(st.integers(1, 5), st.lists(st.floats(), max_size=8))
def test_a_row_of_another_length_is_refused(columns: int, row: list[float]) -> None:
    if len(row) != columns:
        with pytest.raises(ValueError, match="features"):
            RowPacker(columns).pack(row)


@given(st.integers(1, 100_000))
def test_a_full_batch_fits_into_a_message(columns: int) -> None:
    rows = RowPacker(columns).max_rows
    assert rows * (8 * columns + 4) < MAX_MESSAGE_BYTES


@given(st.lists(st.integers(0, 2**32 - 1)), st.lists(st.floats(allow_nan=False)))
def test_timeouts_and_scores_survive_packing(timeouts: list[int], scores: list[float]) -> None:
    assert unpack_timeouts(pack_timeouts(timeouts)).tolist() == timeouts
    assert list(unpack_scores(np.array(scores, dtype="<f8").tobytes())) == scores


# Parsing requests ------------------------------------------------------------------------

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**60), 2**60)
    | st.text(max_size=10)
    | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=10,
)


@given(JSON)
def test_what_was_written_as_json_is_read_as_it_was(message: object) -> None:
    assert parse(orjson.dumps(message)) == message
    assert parse(json.dumps(message).encode()) == message


@given(st.dictionaries(st.text(max_size=5), JSON, min_size=1), st.booleans())
def test_a_key_that_stands_twice_is_always_noticed(
    message: dict[str, object], ascii_: bool
) -> None:
    key, value = next(iter(message.items()))
    text = json.dumps(message, ensure_ascii=ascii_)
    again = f"{text[:-1]}, {json.dumps(key, ensure_ascii=not ascii_)}: {json.dumps(value)}}}"
    with pytest.raises(RepeatedKey):
        parse(again.encode())


@given(st.binary(max_size=30))
def test_any_bytes_are_a_message_or_are_refused_as_such(body: bytes) -> None:
    with suppress(NotJson, RepeatedKey):
        parse(body)


def test_strategies_make_messages_that_keep_their_schema() -> None:
    contract = Contract(
        "test",
        {
            "type": "object",
            "required": ["a", "b"],
            "additionalProperties": False,
            "properties": {
                "a": {"type": "integer", "minimum": 3},
                "b": {"anyOf": [{"type": "null"}, {"type": "string", "pattern": "^x+$"}]},
                "c": {"type": "array", "items": {"type": "boolean"}, "maxItems": 2},
                "d": {"type": "string", "format": "date-time"},
                "e": {"type": ["number", "string"], "exclusiveMaximum": 2},
                "f": {"const": "f"},
            },
        },
    )

    @given(messages(contract))
    def law(message: object) -> None:
        assert contract.faults(message) == ()

    law()
