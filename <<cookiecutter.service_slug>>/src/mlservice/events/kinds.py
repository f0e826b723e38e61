"""The kinds of events, and the JSON line of each; a new kind is one module and one line here.

The folder ``schemas`` has a schema of the same name and version, for programs that read the files
without this package. A kind gets a new version only if old readers would misread its events; a
field with a default needs none, because readers ignore unknown fields.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeAlias

import orjson

from mlservice.errors import EventError
from mlservice.events import exposure, prediction, reward
from mlservice.events.exposure import ExposureEvent
from mlservice.events.fields import EventFields
from mlservice.events.prediction import PredictionEvent
from mlservice.events.reward import RewardEvent

Event: TypeAlias = PredictionEvent | ExposureEvent | RewardEvent
_OPTIONS = orjson.OPT_APPEND_NEWLINE | orjson.OPT_UTC_Z


@dataclass(frozen=True)
class EventKind:
    """A kind of events: its name and version in the JSON, and how the JSON is made and read."""

    name: str
    version: int
    type: type[Any]
    to_json: Callable[[Any], dict[str, Any]]
    from_json: Callable[[EventFields], Event]


KINDS = (
    EventKind("prediction", 1, PredictionEvent, prediction.to_json, prediction.from_json),
    EventKind("exposure", 1, ExposureEvent, exposure.to_json, exposure.from_json),
    EventKind("reward", 1, RewardEvent, reward.to_json, reward.from_json),
)
_BY_TYPE = {kind.type: kind for kind in KINDS}
_BY_NAME = {kind.name: kind for kind in KINDS}


def encode_event(event: Event) -> bytes:
    """The event as a line of JSON; raises ``EventError`` if JSON cannot hold a value of it."""
    kind = _BY_TYPE[type(event)]
    try:
        head = {
            "event": kind.name,
            "schema_version": kind.version,
            "time": datetime.fromtimestamp(event.time, UTC),
        }
        return orjson.dumps(head | kind.to_json(event), option=_OPTIONS)
    except (TypeError, ValueError, OverflowError) as error:
        raise EventError(f"{error}: {event!r:.200}") from error


def decode_event(line: bytes) -> Event | None:
    """Read a line; None for a kind that is not known, which a newer version may have written.

    An event without a version is of version 1. Raises ``EventError`` that names field and value.
    """
    try:
        content = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        raise EventError(f"the line is no JSON: {error}") from None
    if not isinstance(content, dict):
        raise EventError("the line is no JSON object")
    kind = _BY_NAME.get(EventFields(content).text("event"))
    if kind is None:
        return None
    version = content.get("schema_version", 1)
    if version != kind.version:
        raise EventError(
            f"schema_version = {version!r}: only {kind.version} of {kind.name} is known here: "
            "read it with the version of the service that wrote it, or a later one"
        )
    return kind.from_json(EventFields(content))
