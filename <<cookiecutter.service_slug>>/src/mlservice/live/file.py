"""Reads the live file, from which a running process learns what has changed.

Nomad renders it from Consul and renames it into place, so services need no connection to Consul;
on a laptop it is just a file. Unknown keys are refused, as in service.toml: a misspelt key
without an effect would go unnoticed.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
)

from mlservice.errors import LiveError
from mlservice.live.clients import Client, ClientName
from mlservice.live.flags import FlagSet
from mlservice.live.record import ModelRecord
from mlservice.policies import Routing, Version
from mlservice.validation import explain

STABLE = "stable"
_HIGHEST_PORT = 65535


class ListedWorker(BaseModel):
    """A worker that a gateway may use, and the version for which it answers."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    address: str
    version: Version = STABLE

    @field_validator("address")
    @classmethod
    def _host_and_port(cls, address: str) -> str:
        host, _, port = address.rpartition(":")
        digits = port.isascii() and port.isdigit()
        if not host.strip() or not digits or not 1 <= int(port) <= _HIGHEST_PORT:
            raise ValueError(
                f"'{address}' is not an address: give host:port, such as 10.0.0.7:8001"
            )
        return address


def _from_address(value: Any) -> Any:
    """A worker that is given by its address alone has the version ``stable``."""
    return {"address": value} if isinstance(value, str) else value


_Worker = Annotated[ListedWorker, BeforeValidator(_from_address)]
_Url = Annotated[str, Field(pattern="^https?://[^/]")]


class Live(BaseModel):
    """The content of the live file.

    ``model`` is the model that workers serve, None before the first one. ``workers`` are those
    that a gateway may use (host:port alone means a stable one), None if the file has no such
    section. ``routing`` is the policy for the share of each version. ``toggles`` are the feature
    flags. ``upstreams`` are the services that requests are enriched from, by name: the base URLs
    of their instances, used in turn. ``clients`` are the callers that are admitted, None for all.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1]
    model: ModelRecord | None = None
    workers: tuple[_Worker, ...] | None = None
    routing: Routing | None = None
    toggles: FlagSet | None = None
    upstreams: dict[str, tuple[_Url, ...]] = {}
    clients: dict[ClientName, Client] | None = None


def read_live(path: Path) -> Live:
    """Read the live file; raises ``LiveError`` that names file, field, value and remedy."""
    return decode_live(read_bytes(path), path)


def read_bytes(path: Path) -> bytes:
    """The file as it is now; raises ``LiveError`` if it cannot be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise LiveError(
            f"[live] file = '{path}': {(error.strerror or str(error)).lower()}: let Nomad's "
            "template write it there, or write it by hand"
        ) from error


def decode_live(content: bytes, path: Path) -> Live:
    """Read the content of the live file at ``path``; raises ``LiveError``."""
    try:
        return Live.model_validate_json(content)
    except ValidationError as error:
        raise LiveError(explain(error, str(path), variants_at=("routing",))) from error
