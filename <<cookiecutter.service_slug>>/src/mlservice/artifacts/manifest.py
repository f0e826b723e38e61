"""The manifest of an artifact: what it holds, what it was made from, by which code.

It is written last and by a conditional create, so an artifact is complete if its manifest exists.
Files are listed with size and SHA-256, so that a cut or altered one is detected.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, ValidationError

from mlservice.errors import ArtifactCorrupt

MANIFEST_NAME = "manifest.json"


class FileEntry(BaseModel):
    """One file: its key below the artifact, its size in bytes and its SHA-256 in hex."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    key: str
    size: int = Field(ge=0)
    sha256: str = Field(pattern="^[0-9a-f]{64}$")


class Manifest(BaseModel):
    """The content of manifest.json; ``files`` maps names to entries, ``inputs`` names to URIs."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: int = 1
    task: str
    job: str
    parameters: dict[str, Any]
    inputs: dict[str, list[str]]
    metrics: dict[str, FiniteFloat]
    files: dict[str, FileEntry]
    code: str
    git_commit: str | None
    created: datetime
    seconds: float = Field(ge=0, description="Time that the job took")
    environment: dict[str, str]

    def encode(self) -> bytes:
        """Return the manifest as JSON text."""
        return self.model_dump_json(indent=2).encode()

    @classmethod
    def decode(cls, text: bytes, uri: str) -> Manifest:
        """Read JSON text; raises ``ArtifactCorrupt`` with ``uri`` if it is no manifest."""
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            message = f"{uri}/{MANIFEST_NAME}: not a manifest: {error.errors()[0]['msg']}"
            raise ArtifactCorrupt(message) from error
