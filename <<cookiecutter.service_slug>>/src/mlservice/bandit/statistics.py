"""The JSON from which a gateway learns what each version's responses were worth.

Three sums are enough for Bernoulli and Gaussian rewards, so they can come from anything that
counts: the embedded service over the event files, or a query over a warehouse. Whoever counts
also decides on decay and on how long to wait for a reward. Impossible sums are refused as a
whole, because a policy that used them would send all users to one version.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import (
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    FiniteFloat,
    ValidationError,
    model_validator,
)

from mlservice.errors import StatisticsError
from mlservice.validation import explain

_MAX_SUM = 1e15
_SLACK = 1e-6
_MAX_CLOCK_SKEW = 60.0
_Sum = Annotated[FiniteFloat, Field(ge=-_MAX_SUM, le=_MAX_SUM)]


class Arm(BaseModel):
    """A version's rewards: their number, their sum, and the sum of their squares.

    If old rewards count less, all three are weighted.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    count: Annotated[FiniteFloat, Field(ge=0, le=_MAX_SUM)] = 0.0
    sum: _Sum = 0.0
    squares: Annotated[FiniteFloat, Field(ge=0, le=_MAX_SUM)] = 0.0

    @model_validator(mode="after")
    def _possible(self) -> Arm:
        # By the inequality of Cauchy and Schwarz no rewards have such sums.
        if self.sum**2 > self.count * self.squares * (1 + _SLACK) + _SLACK:
            raise ValueError("no rewards have such sums: sum² is above count · squares")
        return self


class Statistics(BaseModel):
    """The rewards of each version, by its name, as they were known at ``created``.

    A version that is missing has no rewards yet.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1]
    created: AwareDatetime
    versions: dict[str, Arm]


def decode_statistics(text: bytes, source: str, reward: str, now: float) -> Statistics:
    """Read statistics of ``reward`` ("bernoulli" or "gaussian"); raises ``StatisticsError``.

    ``now`` is in seconds since 1970. Statistics from the future are refused: they would never
    become stale.
    """
    try:
        found = Statistics.model_validate_json(text)
    except ValidationError as error:
        raise StatisticsError(explain(error, source)) from error
    if found.created.timestamp() > now + _MAX_CLOCK_SKEW:
        raise StatisticsError(
            f"{source} cannot be used:\n  created = {found.created}: is in the future: set the "
            "clocks right"
        )
    if reward == "bernoulli":
        for name, arm in found.versions.items():
            if not -_SLACK <= arm.sum <= arm.count + _SLACK:
                raise StatisticsError(
                    f"{source} cannot be used:\n  versions.{name}.sum = {arm.sum}: a count of "
                    f"{arm.count} rewards that are 0 or 1 cannot have this sum: set reward = "
                    "gaussian in the routing, or correct the sums"
                )
    return found
