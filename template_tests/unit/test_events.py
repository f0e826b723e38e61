"""Events as files: whole lines, in order, bounded, and kept while they cannot be written."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import REGISTRY

from mlservice.events import EventLog, PredictionEvent
from mlservice.events import log as module
from template_tests.support.live_toy import wait_for
from template_tests.support.toy_service import SERVICE

MANY = 1_000_000_000


def told(folder: Path) -> list[dict[str, Any]]:
    files = sorted(folder.glob("events-*.jsonl"))
    texts = [file.read_text("utf-8") for file in files]  # a last line may be half written
    return [
        json.loads(line) for text in texts for line in text[: text.rfind("\n") + 1].splitlines()
    ]


def event(prediction: Any) -> PredictionEvent:
    """One that is told from others by its prediction."""
    return PredictionEvent(
        time=datetime(2024, 1, 2, 3, 4, 5, 67_000, tzinfo=UTC).timestamp(),
        request_id="r",
        user=None,
        policy="none",
        assigned="stable",
        probability=1.0,
        version="stable",
        model_version="m",
        prediction=prediction,
        fallbacks=(),
        stages={"worker": 0.001},
    )


def predictions(folder: Path) -> list[Any]:
    return [event["prediction"] for event in told(folder)]


def lost() -> float:
    return REGISTRY.get_sample_value("mlservice_events_lost_total") or 0.0


def test_events_are_written_in_order_within_a_moment_and_all_at_the_end(tmp_path: Path) -> None:
    log = EventLog(tmp_path, MANY)
    for n in range(1000):
        log.put(event([n, "ä\n"]))
    wait_for(lambda: len(told(tmp_path)) == 1000, 2)
    for n in range(1000, 20_000):
        log.put(event([n, "ä\n"]))
    log.close()
    assert predictions(tmp_path) == [[n, "ä\n"] for n in range(20_000)]


def test_a_time_is_written_in_utc(tmp_path: Path) -> None:
    log = EventLog(tmp_path, MANY)
    log.put(event(1))
    log.close()
    assert [event["time"] for event in told(tmp_path)] == ["2024-01-02T03:04:05.067000Z"]


def test_without_a_folder_nothing_is_kept() -> None:
    log = EventLog(None, MANY)
    log.put(event(1))
    log.close()
    assert not log.on


def test_a_folder_that_cannot_be_written_costs_nothing_until_it_can(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    place = tmp_path / "events"
    place.write_text("a file is in the way", "utf-8")
    log = EventLog(place, MANY)
    for n in range(50):
        log.put(event(n))
    wait_for(lambda: "events wait in memory" in caplog.text, 5)
    time.sleep(0.3)
    assert caplog.text.count("events wait in memory") == 1
    place.unlink()
    log.put(event(50))
    wait_for(lambda: place.is_dir() and len(told(place)) == 51, 5)
    log.close()
    assert predictions(place) == list(range(51))


_FILLS = """
import resource, signal, sys, time
from pathlib import Path
from mlservice.events import EventLog, RewardEvent
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
_, bound = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (1_001, bound))
log = EventLog(Path(sys.argv[1]), 10**9)
for n in range(200):
    log.put(RewardEvent(0.0, "r", n))
time.sleep(0.5)
resource.setrlimit(resource.RLIMIT_FSIZE, (bound, bound))
log.close()
"""


def test_a_file_that_takes_a_part_of_a_write_loses_nothing(tmp_path: Path) -> None:
    script = [sys.executable, "-c", _FILLS, str(tmp_path)]
    environ = {**os.environ, "PYTHONPATH": str(SERVICE / "src")}
    result = subprocess.run(
        script, env=environ, capture_output=True, text=True, timeout=60, check=False
    )
    assert "file too large: events wait in memory" in result.stderr
    assert [event["reward"] for event in told(tmp_path)] == list(range(200))


def test_an_event_that_json_cannot_hold_costs_no_other(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    before = lost()
    log = EventLog(tmp_path, MANY)
    for n in (1, 2**80, 2):
        log.put(event(n))
    wait_for(lambda: len(told(tmp_path)) == 2, 5)
    log.put(event(3))
    log.close()
    assert predictions(tmp_path) == [1, 2, 3]
    assert lost() == before + 1
    assert "an event is lost" in caplog.text


def test_what_cannot_be_kept_is_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MAX_WAITING", 10)
    place = tmp_path / "events"
    place.write_text("a file is in the way", "utf-8")
    before = lost()
    log = EventLog(place, MANY)
    end = time.monotonic() + 5
    while lost() == before and time.monotonic() < end:
        for n in range(100):
            log.put(event(n))
        time.sleep(0.05)
    log.close()
    assert lost() - before >= 10


def test_the_oldest_files_go_where_there_are_too_many(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_MAX_FILE_BYTES", 1000)
    log = EventLog(tmp_path, 3000)
    for n in range(40):
        log.put(event([n, "x" * 500]))
        if n % 5 == 0:
            time.sleep(0.15)
    log.close()
    assert len(list(tmp_path.glob("events-*.jsonl"))) <= 3
    assert predictions(tmp_path)[-1][0] == 39


def test_a_file_that_another_process_still_writes_is_not_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_MAX_FILE_BYTES", 1000)
    quiet = EventLog(tmp_path / "events", 3000)
    quiet.put(event("first"))
    wait_for(lambda: (tmp_path / "events").is_dir() and len(told(tmp_path / "events")) == 1, 5)
    busy = EventLog(tmp_path / "events", 3000)
    monkeypatch.setattr(busy, "_name", "events-busy")
    for n in range(40):
        busy.put(event([n, "x" * 500]))
        if n % 5 == 0:
            time.sleep(0.15)
    busy.close()
    quiet.put(event("second"))
    quiet.close()
    kept = predictions(tmp_path / "events")
    assert [prediction for prediction in kept if isinstance(prediction, str)] == [
        "first",
        "second",
    ]
    assert len(list((tmp_path / "events").glob("events-*.jsonl"))) <= 4
