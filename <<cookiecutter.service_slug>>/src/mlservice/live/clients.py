"""The callers that a gateway knows: the live file's ``clients``.

Only a digest of each token is stored, so neither Consul nor a live file holds a secret. Tokens are
long and random (``mlservice clients add`` makes them), so a plain SHA-256 cannot be reversed.
"""

from __future__ import annotations

import hashlib
import secrets
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from mlservice.errors import SettingsError

_TOKEN_BYTES = 32

ClientName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$")]


class Client(BaseModel):
    """A caller: the SHA-256 (hex) of its token, and its rate limit at one gateway process.

    ``per_second`` is the rate that it may sustain, None for no limit. ``burst`` is how many
    requests it may send at once after a pause, by default those of one second.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    token_sha256: str = Field(pattern="^[0-9a-f]{64}$")
    per_second: Annotated[float, Field(gt=0, le=1e6)] | None = None
    burst: Annotated[int, Field(ge=1, le=1_000_000)] | None = None

    @model_validator(mode="after")
    def _no_burst_without_a_rate(self) -> Client:
        if self.burst is not None and self.per_second is None:
            raise ValueError(
                f"burst = {self.burst} has no effect without per_second: give both, or neither"
            )
        return self


def digest(token: bytes) -> str:
    """The SHA-256 of a token, in hex."""
    return hashlib.sha256(token).hexdigest()


def new_client(per_second: float | None, burst: int | None) -> tuple[Client, str]:
    """A client with a new random token; the token itself is kept nowhere.

    Raises ``SettingsError`` for a rate that cannot be used.
    """
    token = secrets.token_urlsafe(_TOKEN_BYTES)
    try:
        client = Client(token_sha256=digest(token.encode()), per_second=per_second, burst=burst)
    except ValidationError as error:
        given = {"--per-second": per_second, "--burst": burst}
        shown = " ".join(f"{name} {value}" for name, value in given.items() if value is not None)
        raise SettingsError(
            f"{shown}: give numbers above 0, and --burst only together with --per-second"
        ) from error
    return client, token
