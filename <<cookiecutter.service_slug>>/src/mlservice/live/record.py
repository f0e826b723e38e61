"""The record of a published model: where its artifact is, and the checksum that identifies it.

The same text is in Consul, in a job's meta and in the live file. It holds the checksum of the
artifact's manifest, which holds those of its files, so an altered model is never loaded.
"""

from __future__ import annotations

from datetime import datetime

from pydantic import (
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    FiniteFloat,
    ValidationError,
    field_validator,
)

from mlservice.errors import LiveError
from mlservice.validation import explain


class ModelRecord(BaseModel):
    """A model that workers serve.

    ``sha256`` is the checksum of the artifact's manifest.json, in hex. ``period`` is the start of
    the training period as ISO text. ``created`` is when the model was made.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    uri: str = Field(min_length=1)
    sha256: str = Field(pattern="^[0-9a-f]{64}$")
    version: str = Field(min_length=1)
    metrics: dict[str, FiniteFloat]
    created: AwareDatetime
    period: str

    @field_validator("period")
    @classmethod
    def _iso(cls, period: str) -> str:
        datetime.fromisoformat(period)
        return period

    def encode(self) -> str:
        """The record as JSON text, in one line."""
        return self.model_dump_json()

    @classmethod
    def decode(cls, text: str | bytes, source: str) -> ModelRecord:
        """Read JSON text; raises ``LiveError`` that names ``source`` if it is not a record."""
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            raise LiveError(explain(error, source)) from error
