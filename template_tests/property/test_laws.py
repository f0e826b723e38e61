"""Laws of the platform's pure parts, for any input that hypothesis finds."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlservice.artifacts import FileEntry, Manifest, artifact_path
from mlservice.contracts import Contract, parse
from mlservice.errors import ArtifactCorrupt, PipelineError, RequestRefused, Unavailable
from mlservice.pipeline import parse_period, weeks_before
from mlservice.pipeline.parameters import floor
from mlservice.prediction.batching import Batcher, Reply
from mlservice.protocol.packing import (
    MAX_MESSAGE_BYTES,
    RowPacker,
    Status,
    pack_timeouts,
    unpack_rows,
    unpack_scores,
    unpack_timeouts,
)
from mlservice.settings import Granularity
from mlservice.testing import messages

settings.register_profile("fast", deadline=None, derandomize=True, max_examples=200)
settings.load_profile("fast")

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
    rows = RowPacker(columns).most_rows
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
    with pytest.raises(RequestRefused) as refused:
        parse(again.encode())
    assert refused.value.code == "repeated_key"


@given(st.binary(max_size=30))
def test_any_bytes_are_a_message_or_are_refused_with_400(body: bytes) -> None:
    try:
        parse(body)
    except RequestRefused as error:
        assert error.status == 400


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


# Coalescing ------------------------------------------------------------------------------


class EchoWorker:
    """Answers each row with the number packed in it, out of step and with trouble."""

    def __init__(self, delays: Sequence[float], statuses: Sequence[int]) -> None:
        self.delays = list(delays)
        self.statuses = list(statuses)
        self.batches: list[int] = []
        self.running = 0
        self.most_running = 0

    async def __call__(self, rows: Sequence[bytes], timeouts: Sequence[int], _: float) -> Reply:
        assert len(rows) == len(timeouts)
        self.batches.append(len(rows))
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        await asyncio.sleep(self.delays.pop() if self.delays else 0)
        self.running -= 1
        values = [float(row) for row in rows]
        statuses = bytes(self.statuses[int(value) % len(self.statuses)] for value in values)
        return Reply(values, statuses, "v")


@given(
    st.lists(st.floats(0, 0.003), min_size=1, max_size=80),
    st.lists(st.floats(0, 0.002), max_size=30),
    st.lists(st.sampled_from(list(Status)), min_size=1, max_size=7),
    st.integers(1, 9),
    st.integers(1, 3),
)
@settings(max_examples=60)
def test_each_row_gets_its_own_answer_whatever_the_timing(
    arrivals: list[float], delays: list[float], statuses: list[int], most: int, in_flight: int
) -> None:
    worker = EchoWorker(delays, statuses)

    async def caller(coalescer: Batcher, number: int, wait: float) -> None:
        await asyncio.sleep(wait)
        deadline = time.perf_counter() + 30
        expected = statuses[number % len(statuses)]
        try:
            score = await coalescer.submit(str(number).encode(), deadline)
        except RequestRefused as error:
            assert error.status == (504 if expected == Status.EXPIRED else 500)
            assert expected != Status.OK
        else:
            assert score.value == number
            assert expected == Status.OK

    async def crowd() -> None:
        coalescer = Batcher(worker, max_rows=most, max_queue=1000, max_in_flight=in_flight)
        await asyncio.gather(*(caller(coalescer, n, wait) for n, wait in enumerate(arrivals)))

    asyncio.run(crowd())
    assert sum(worker.batches) == len(arrivals)
    assert max(worker.batches) <= most
    assert worker.most_running <= in_flight


@given(st.sampled_from([ValueError("bug"), RequestRefused(500, "x", "y"), Unavailable("z")]))
def test_a_batch_that_fails_fails_for_each_of_its_callers_and_the_next_goes_on(
    error: Exception,
) -> None:
    async def send(rows: Sequence[bytes], _timeouts: Sequence[int], _timeout: float) -> Reply:
        if rows[0] == b"bad":
            raise error
        return Reply([1.0] * len(rows), bytes(len(rows)), "v")

    async def crowd() -> None:
        coalescer = Batcher(send, max_rows=8, max_queue=100)
        deadline = time.perf_counter() + 5
        results = await asyncio.gather(
            *(coalescer.submit(b"bad", deadline) for _ in range(8)), return_exceptions=True
        )
        assert results == [error] * 8
        assert (await coalescer.submit(b"good", deadline)).value == 1.0

    asyncio.run(crowd())


@pytest.mark.parametrize("rows", [0, 1, 3])
def test_a_worker_that_answers_another_number_of_rows_fails_the_whole_batch(rows: int) -> None:
    async def send(_rows: Sequence[bytes], _timeouts: Sequence[int], _timeout: float) -> Reply:
        return Reply([0.5] * rows, bytes(rows), "v")

    async def crowd() -> list[object]:
        coalescer = Batcher(send, max_rows=8, max_queue=100)
        deadline = time.perf_counter() + 5
        return await asyncio.gather(
            *(coalescer.submit(b"", deadline) for _ in range(2)), return_exceptions=True
        )

    for result in asyncio.run(crowd()):
        assert isinstance(result, RequestRefused)
        assert result.status == 500


def test_rows_that_nobody_waits_for_are_not_sent() -> None:
    worker = EchoWorker([0.2], [Status.OK])

    async def crowd() -> None:
        coalescer = Batcher(worker, max_rows=1, max_queue=100, max_in_flight=1)
        now = time.perf_counter()
        first = asyncio.create_task(coalescer.submit(b"1", now + 5))
        await asyncio.sleep(0.01)
        leaving = asyncio.create_task(coalescer.submit(b"2", now + 5))
        expiring = asyncio.create_task(coalescer.submit(b"3", now + 0.05))
        await asyncio.sleep(0.02)
        leaving.cancel()
        assert (await first).value == 1
        with pytest.raises(RequestRefused, match="time ran out"):
            await expiring
        await coalescer.drain()

    asyncio.run(crowd())
    assert worker.batches == [1]


def test_more_rows_than_may_wait_are_refused_at_once() -> None:
    worker = EchoWorker([0.1], [Status.OK])

    async def crowd() -> list[object]:
        coalescer = Batcher(worker, max_rows=1, max_queue=5, max_in_flight=1)
        deadline = time.perf_counter() + 5
        return await asyncio.gather(
            *(coalescer.submit(str(n).encode(), deadline) for n in range(20)),
            return_exceptions=True,
        )

    results = asyncio.run(crowd())
    refused = [result for result in results if isinstance(result, Unavailable)]
    assert len(refused) == 15
