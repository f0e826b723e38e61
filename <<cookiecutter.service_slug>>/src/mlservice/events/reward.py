"""The reward event: what an answer turned out to be worth."""

from __future__ import annotations

from typing import Any, NamedTuple

from mlservice.events.fields import EventFields

MAX_REWARD = 1e9


class RewardEvent(NamedTuple):
    """A reward of the request ``request_id``, from -``MAX_REWARD`` to ``MAX_REWARD``.

    ``time`` is in seconds since 1970. ``row`` is the row of the request that earned it, counted
    from 0; None is the request as a whole.
    """

    time: float
    request_id: str
    reward: float
    row: int | None = None


def to_json(event: RewardEvent) -> dict[str, Any]:
    """The fields of the JSON, all but the time."""
    return {"request_id": event.request_id, "row": event.row, "reward": event.reward}


def from_json(fields: EventFields) -> RewardEvent:
    """Read the JSON; raises ``EventError``."""
    return RewardEvent(
        time=fields.moment("time"),
        request_id=fields.text("request_id"),
        reward=fields.number("reward", -MAX_REWARD, MAX_REWARD),
        row=fields.optional_count("row"),
    )
