"""Reads the live file, the one place from which a running process learns what has changed.

Nomad renders it from Consul and renames it into place, so services never talk to Consul; on a
laptop it is just a file. Unknown keys are refused, as in service.toml: one that is misspelt and
has no effect is worse than none.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError, field_validator

from mlservice.errors import LiveError
from mlservice.live.faults import explain
from mlservice.live.record import ModelRecord

_HIGHEST_PORT = 65535


class Live(BaseModel):
    """What the live file says.

    ``model`` is the one that workers shall serve, None before the first. ``workers`` are the
    addresses (host:port) that a gateway may use, None where the file has no such section.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1]
    model: ModelRecord | None = None
    workers: tuple[str, ...] | None = None

    @field_validator("workers")
    @classmethod
    def _addresses(cls, workers: tuple[str, ...] | None) -> tuple[str, ...] | None:
        for worker in workers or ():
            host, _, port = worker.rpartition(":")
            digits = port.isascii() and port.isdigit()
            if not host.strip() or not digits or not 1 <= int(port) <= _HIGHEST_PORT:
                raise ValueError(f"'{worker}' is no address: give host:port, such as 10.0.0.7:8001")
        return workers


def read_live(path: Path) -> Live:
    """Read the live file; raises ``LiveError`` that names file, field, value and remedy."""
    return decode_live(read_bytes(path), path)


def read_bytes(path: Path) -> bytes:
    """The file as it is now; raises ``LiveError`` where it cannot be read."""
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
        raise LiveError(explain(error, str(path))) from error
