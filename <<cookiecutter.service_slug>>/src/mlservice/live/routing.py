"""Which share of the requests each version of the workers gets: the live file's ``routing``.

A version is a name that workers carry in the live file, such as "stable" and "canary"; a
retrained model keeps its version's name. Each policy has the settings that it obeys and no
others, so one without an effect is refused.
"""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Weight = Annotated[float, Field(ge=0, le=1_000_000, allow_inf_nan=False)]
Version = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$")]


class _Policy(BaseModel):
    """``salt`` names the experiment: another one deals the users anew."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    salt: str = Field("", max_length=200)


class WeightsPolicy(_Policy):
    """Each version its weight; a user stays with his version."""

    policy: Literal["weights"]
    weights: dict[Version, Weight] = Field(min_length=1)

    @field_validator("weights")
    @classmethod
    def _some(cls, weights: dict[str, float]) -> dict[str, float]:
        if not any(weights.values()):
            raise ValueError("every weight is 0: give one version more")
        return weights


class CanaryPolicy(_Policy):
    """``share`` of the users get the version ``canary``, all others ``stable``."""

    policy: Literal["canary"]
    share: Share
    canary: Version = "canary"
    stable: Version = "stable"

    @model_validator(mode="after")
    def _two(self) -> CanaryPolicy:
        if self.canary == self.stable:
            raise ValueError(f"canary and stable are both '{self.stable}': name two versions")
        return self


class ThompsonPolicy(_Policy):
    """Thompson sampling over the versions of ``weights``.

    ``statistics`` is a URL that is asked each ``poll_seconds``; where its answer is older than
    ``stale_seconds``, ``weights`` are in force. ``floor`` is the least probability of each
    version. With ``sticky`` a user stays with his version as far as the probabilities allow;
    else each request is dealt by itself.
    """

    policy: Literal["thompson"]
    weights: dict[Version, Annotated[Weight, Field(gt=0)]] = Field(min_length=2)
    statistics: str = Field(pattern="^https?://")
    reward: Literal["bernoulli", "gaussian"] = "bernoulli"
    floor: Share = 0.01
    sticky: bool = False
    poll_seconds: float = Field(10, ge=0.05, le=3600)
    stale_seconds: float = Field(300, gt=0, le=604_800)

    @model_validator(mode="after")
    def _sensible(self) -> ThompsonPolicy:
        if self.floor * len(self.weights) >= 1:
            raise ValueError(
                f"floor = {self.floor} for {len(self.weights)} versions leaves nothing to choose: "
                f"give less than {1 / len(self.weights):.3g}"
            )
        if self.stale_seconds <= self.poll_seconds:
            raise ValueError(
                f"stale_seconds = {self.stale_seconds} is not above poll_seconds = "
                f"{self.poll_seconds}: every answer would be stale before the next one"
            )
        return self


Policy: TypeAlias = WeightsPolicy | CanaryPolicy | ThompsonPolicy
Routing = Annotated[Policy, Field(discriminator="policy")]


def weights_of(routing: Policy) -> dict[str, float]:
    """The share of each version while no statistics are used; they add up to 1."""
    if isinstance(routing, CanaryPolicy):
        return {routing.stable: 1 - routing.share, routing.canary: routing.share}
    total = sum(routing.weights.values())
    return {version: weight / total for version, weight in routing.weights.items()}
