"""The record of one request that has no outcome yet.

The stages fill this plain record, because a task and a future for each request cost more than the
stages. A callback gets the outcome.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from mlservice.errors import RequestError
from mlservice.prediction.context import RequestContext
from mlservice.prediction.traffic_split import Choice


class StageTimes(NamedTuple):
    """Seconds that a request spent in each stage; ``enrich`` is None without upstreams."""

    validate: float
    enrich: float | None
    queue: float
    worker: float
    respond: float

    def by_name(self) -> dict[str, float]:
        """The times of the stages that ran, by name."""
        return {name: time for name, time in self._asdict().items() if time is not None}


class Prediction(NamedTuple):
    """The response's JSON, the names of the fallbacks used, and the times of the stages."""

    body: bytes
    fallbacks: tuple[str, ...]
    stages: StageTimes


class Scores(NamedTuple):
    """The scores of a request's rows, their model, and when its batch was sent and answered."""

    values: Sequence[float]
    model_version: str
    sent: float
    answered: float


Outcome = Prediction | RequestError


class Pending:
    """One request that has no outcome yet; belongs to one event loop."""

    __slots__ = (
        "_on_done",
        "body",
        "choice",
        "context",
        "done",
        "enriched_at",
        "entered_at",
        "fallbacks",
        "message",
        "reassigned",
        "row_count",
        "rows",
        "scores",
        "toggles",
        "validated_at",
    )

    choice: Choice
    """The version that shall answer; set by the stage that chooses it."""
    scores: Scores
    """Set when the worker has replied."""

    def __init__(
        self, body: bytes, context: RequestContext, on_done: Callable[[Outcome], None]
    ) -> None:
        """Call ``on_done`` once with the outcome, unless the request is abandoned."""
        self.body = body
        self.context = context
        self._on_done = on_done
        self.done = False
        self.message: Mapping[str, Any] = {}
        self.fallbacks: tuple[str, ...] = ()
        self.toggles: Any = None
        self.rows = b""
        self.row_count = 0
        self.validated_at = self.entered_at = 0.0
        self.enriched_at: float | None = None
        self.reassigned = False
        """Whether another version was chosen because the first one lost its workers."""

    @property
    def deadline(self) -> float:
        """The deadline, in seconds of ``perf_counter``."""
        return self.context.deadline

    def finish(self, outcome: Outcome) -> None:
        """Set the outcome; a second one is ignored."""
        if not self.done:
            on_done = self._on_done
            self._release()
            on_done(outcome)

    def abandon(self) -> None:
        """Mark the request as left by its caller, so that the remaining stages skip it."""
        self._release()

    def _release(self) -> None:
        self.done = True
        self.body = self.rows = b""
        self.message = {}
        self.toggles = None
        self._on_done = _ignore  # the caller may refer to this record: leave no cycle


def _ignore(_: Outcome) -> None:
    pass
