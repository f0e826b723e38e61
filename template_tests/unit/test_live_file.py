"""The live file and who follows it: what is wrong with it, and what is done about that."""

from __future__ import annotations

import asyncio
import json
import os
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from prometheus_client import REGISTRY

from mlservice.errors import LiveError
from mlservice.live import ListedWorker, Live, LiveFollower, ModelRecord, read_live
from mlservice.settings import LiveSettings, load_settings
from template_tests.support.laws import examples

RECORD: dict[str, Any] = {
    "uri": "s3://bucket/flights/Fit/1",
    "sha256": "ab" * 32,
    "version": "20240101T000000-00000000",
    "metrics": {"loss": 0.5},
    "created": "2024-01-01T00:00:00Z",
    "period": "2024-01-01T00",
}


def write(path: Path, content: bytes) -> None:
    """Put the content into place by a rename."""
    fresh = path.with_name("fresh")
    fresh.write_bytes(content)
    fresh.replace(path)


# Reading ---------------------------------------------------------------------------------


def test_a_file_says_which_model_and_which_workers(tmp_path: Path) -> None:
    path = tmp_path / "live.json"
    path.write_text(json.dumps({"format": 1, "model": RECORD, "workers": ["a:1", "[::1]:8001"]}))
    live = read_live(path)
    assert live.model is not None
    assert live.model.metrics == {"loss": 0.5}
    assert live.workers == (ListedWorker(address="a:1"), ListedWorker(address="[::1]:8001"))
    path.write_text('{"format": 1}')
    assert (read_live(path).model, read_live(path).workers) == (None, None)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", ["(the whole text)", "cut or no JSON", "rename"]),
        ('{"format": 1, "wor', ["(the whole text)", "cut or no JSON"]),
        ("[]", ["(the whole text)", "[]"]),
        ("{}", ["format", "is missing: add it"]),
        ('{"format": 2}', ["format = 2", "same commit"]),
        ('{"format": 1, "worker": []}', ["worker = []", "no such field", "remove it"]),
        ('{"format": 1, "workers": "a:1"}', ["workers = 'a:1'"]),
        (
            '{"format": 1, "workers": ["a:1", "b"]}',
            ["workers", "'b' is not an address", "host:port"],
        ),
        ('{"format": 1, "workers": [":1"]}', ["':1' is not an address"]),
        ('{"format": 1, "workers": ["a:0"]}', ["'a:0' is not an address"]),
        ('{"format": 1, "workers": ["a:65536"]}', ["'a:65536' is not an address"]),
        ('{"format": 1, "workers": ["a:\u0661"]}', ["is not an address"]),
        ('{"format": 1, "model": {}}', ["model.uri: is missing", "model.period: is missing"]),
    ],
)
def test_a_fault_is_told_by_file_field_value_and_remedy(
    tmp_path: Path, content: str, words: list[str]
) -> None:
    path = tmp_path / "live.json"
    path.write_text(content, "utf-8")
    with pytest.raises(LiveError) as caught:
        read_live(path)
    for word in (str(path), *words):
        assert word in str(caught.value)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"sha256": "AB" * 32}, "sha256 = 'ABAB"),
        ({"sha256": "ab"}, "sha256 = 'ab'"),
        ({"created": "2024-01-01T00:00:00"}, "created = '2024-01-01T00:00:00'"),
        ({"period": "soon"}, "period = 'soon'"),
        ({"metrics": {"loss": None}}, "metrics.loss = None"),
        ({"uri": ""}, "uri = ''"),
        ({"extra": 1}, "extra = 1"),
    ],
)
def test_a_fault_of_a_record_is_told_by_source_field_and_value(
    change: dict[str, Any], field: str
) -> None:
    with pytest.raises(LiveError) as caught:
        ModelRecord.decode(json.dumps({**RECORD, **change}), "Consul key a/b")
    assert "Consul key a/b" in str(caught.value)
    assert field in str(caught.value)


@pytest.mark.parametrize("made", ["nothing", "folder"])
def test_a_file_that_cannot_be_read_is_told_with_its_setting(tmp_path: Path, made: str) -> None:
    path = tmp_path / "live.json"
    if made == "folder":
        path.mkdir()
    with pytest.raises(LiveError) as caught:
        read_live(path)
    assert f"[live] file = '{path}'" in str(caught.value)
    assert caught.value.exit_code == 2


def test_the_path_is_relative_to_service_toml(tmp_path: Path) -> None:
    (tmp_path / "service.toml").write_text(
        '[service]\nname = "s"\npackage = "s"\nowner = "o"\n[live]\nfile = "run/live.json"\n'
    )
    found = load_settings(tmp_path, {})
    assert found.live_file == tmp_path / "run" / "live.json"
    assert load_settings(tmp_path, {"MLSERVICE_LIVE__FILE": ""}).live_file is None
    named = load_settings(tmp_path, {"MLSERVICE_LIVE__FILE": "/local/live.json"})
    assert named.live_file == Path("/local/live.json")


@given(
    st.builds(
        ModelRecord,
        uri=st.text(min_size=1),
        sha256=st.text("0123456789abcdef", min_size=64, max_size=64),
        version=st.text(min_size=1),
        metrics=st.dictionaries(st.text(), st.floats(allow_nan=False, allow_infinity=False)),
        created=st.datetimes(timezones=st.just(UTC)),
        period=st.datetimes().map(datetime.isoformat),
    )
)
def test_a_record_survives_its_text_and_the_text_its_record(record: ModelRecord) -> None:
    text = record.encode()
    assert "\n" not in text
    assert ModelRecord.decode(text, "here") == record
    assert ModelRecord.decode(text.encode(), "here").encode() == text


# Following -------------------------------------------------------------------------------

GOOD = (
    b'{"format": 1}',
    b'{"format": 1, "workers": []}',
    b'{"format": 1, "workers": ["a:1"]}',
    b'{"format": 1, "workers": ["a:2"]}',
    b'{ "format": 1, "workers": ["a:2"] }',
)
BAD = (b"", b"{", b'{"format": 1', b'{"format": 2}', b'{"format": 1, "x": 1}', b"\xff")


class Following(RuleBasedStateMachine):
    """Whatever happens to the file, the follower holds the last good one and tells of changes."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.path = Path(self.folder.name) / "live.json"
        self.follower = LiveFollower(self.path, LiveSettings())
        self.told: list[Live] = []
        self.follower.subscribe(self.told.append)
        self.expected: list[Live] = []
        self.refused = refusals()
        self.bad: bytes | None = b"nothing seen yet"

    def teardown(self) -> None:
        self.folder.cleanup()

    def look(self, content: bytes | None) -> None:
        self.follower.look()
        if content in GOOD:
            live = Live.model_validate_json(content or b"")
            if [live] != self.expected[-1:]:
                self.expected.append(live)
        elif content != self.bad:
            self.refused += 1
        self.bad = content

    @rule(content=st.sampled_from(GOOD + BAD))
    def is_replaced(self, content: bytes) -> None:
        write(self.path, content)
        self.look(content)

    @rule(content=st.sampled_from(GOOD + BAD))
    def is_written_in_place_at_the_same_time_of_the_clock(self, content: bytes) -> None:
        self.path.write_bytes(content)
        os.utime(self.path, ns=(10**18, 10**18))
        self.look(content)

    @rule()
    def is_looked_at_again(self) -> None:
        self.look(self.path.read_bytes() if self.path.exists() else None)

    @rule()
    def is_deleted(self) -> None:
        self.path.unlink(missing_ok=True)
        self.look(None)

    @invariant()
    def the_last_good_one_is_held_and_each_change_was_told_once(self) -> None:
        assert self.told == self.expected
        assert self.follower.value == (self.expected[-1] if self.expected else None)
        assert refusals() == self.refused


def refusals() -> float:
    return REGISTRY.get_sample_value("mlservice_live_refusals_total") or 0


TestFollowing = Following.TestCase
TestFollowing.settings = settings(max_examples=examples(60), stateful_step_count=20, deadline=None)


def follow(path: Path, steps: Any, **how: Any) -> list[Live]:
    """What a follower that runs tells of while the async ``steps`` go on."""

    async def run() -> list[Live]:
        told: list[Live] = []
        follower = LiveFollower(path, LiveSettings(**how))
        follower.subscribe(told.append)
        task = asyncio.create_task(follower.run())
        async with asyncio.timeout(20):
            await steps(follower, told)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return told

    return asyncio.run(run())


async def until(told: list[Live], count: int) -> None:
    while len(told) < count:
        await asyncio.sleep(0.01)


def test_a_follower_that_watches_sees_changes_by_itself(tmp_path: Path) -> None:
    path = tmp_path / "live.json"

    async def steps(_: LiveFollower, told: list[Live]) -> None:
        for count, content in enumerate(GOOD[:4], 1):
            write(path, content)
            await until(told, count)

    assert len(follow(path, steps, poll_ms=20)) == 4


def test_a_follower_that_does_not_watch_looks_only_when_it_is_asked(tmp_path: Path) -> None:
    path = tmp_path / "live.json"
    path.write_bytes(GOOD[0])

    async def steps(follower: LiveFollower, told: list[Live]) -> None:
        await until(told, 1)
        write(path, GOOD[2])
        await asyncio.sleep(0.2)
        assert len(told) == 1
        await asyncio.to_thread(follower.look_soon)
        await until(told, 2)

    assert len(follow(path, steps, poll_ms=20, watch=False)) == 2


def fail(_: Live) -> None:
    raise ZeroDivisionError


def test_a_reader_that_fails_takes_nothing_from_the_others(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "live.json"
    follower = LiveFollower(path, LiveSettings())
    told: list[Live] = []
    follower.subscribe(fail)
    follower.subscribe(told.append)
    for content in GOOD[:3]:
        write(path, content)
        follower.look()
    assert len(told) == 3
    assert "failed to apply a change" in caplog.text


def test_asking_a_follower_whose_loop_is_gone_or_not_there_yet_does_no_harm(
    tmp_path: Path,
) -> None:
    path = tmp_path / "live.json"
    path.write_bytes(GOOD[0])
    kept: list[LiveFollower] = []

    async def steps(follower: LiveFollower, told: list[Live]) -> None:
        kept.append(follower)
        await until(told, 1)

    LiveFollower(path, LiveSettings()).look_soon()
    follow(path, steps)
    kept[0].look_soon()
