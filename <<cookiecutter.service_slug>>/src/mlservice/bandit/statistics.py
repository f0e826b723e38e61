"""The JSON by which a gateway learns what each version's answers were worth.

Three sums tell all that Bernoulli and Gaussian rewards need, and they can come from anything that
counts: the embedded service over the event files, or a query over a warehouse. Decay and the
window in which a reward is waited for are the counter's business. Sums that cannot be are
refused whole: a bandit that believes them would send everybody to one version.
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

_MOST = 1e15
_SLACK = 1e-6
_CLOCKS_APART = 60.0
_Sum = Annotated[FiniteFloat, Field(ge=-_MOST, le=_MOST)]


class Arm(BaseModel):
    """A version's rewards: their number, their sum, and the sum of their squares.

    Where old rewards count less, all three are weighted.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    count: Annotated[FiniteFloat, Field(ge=0, le=_MOST)] = 0.0
    sum: _Sum = 0.0
    squares: Annotated[FiniteFloat, Field(ge=0, le=_MOST)] = 0.0

    @model_validator(mode="after")
    def _possible(self) -> Arm:
        # Cauchy and Schwarz: no rewards have such sums.
        if self.sum**2 > self.count * self.squares * (1 + _SLACK) + _SLACK:
            raise ValueError("no rewards have such sums: sum² is above count · squares")
        return self


class Statistics(BaseModel):
    """What is known at the moment ``created`` of each version, by its name.

    A version that is not named has no rewards yet.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1]
    created: AwareDatetime
    versions: dict[str, Arm]


def decode_statistics(text: bytes, source: str, reward: str, now: float) -> Statistics:
    """Read statistics of ``reward`` ("bernoulli" or "gaussian"); raises ``StatisticsError``.

    ``now`` is the time in seconds since 1970: what comes from the future would never be stale.
    """
    try:
        found = Statistics.model_validate_json(text)
    except ValidationError as error:
        raise StatisticsError(explain(error, source)) from error
    if found.created.timestamp() > now + _CLOCKS_APART:
        raise StatisticsError(
            f"{source} cannot be used:\n  created = {found.created}: lies in the future: set the "
            "clocks right"
        )
    if reward == "bernoulli":
        for name, arm in found.versions.items():
            if not -_SLACK <= arm.sum <= arm.count + _SLACK:
                raise StatisticsError(
                    f"{source} cannot be used:\n  versions.{name}.sum = {arm.sum}: a count of "
                    f"{arm.count} rewards that are 0 or 1 has none such: set reward = gaussian in "
                    "the routing, or count them right"
                )
    return found
