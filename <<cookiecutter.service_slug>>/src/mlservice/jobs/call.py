"""One call of a job, as it travels to the process that runs it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from mlservice.errors import JobError


@dataclass(frozen=True)
class JobCall:
    """The job's name and module, its inputs' URIs, its task's parameters, its artifact's path.

    ``code`` is the version of the code that the call is made for. ``module`` is empty in calls of
    older coordinators.
    """

    job: str
    task: str
    output: str
    code: str
    inputs: Mapping[str, list[str]] = field(default_factory=dict)
    parameters: Mapping[str, Any] = field(default_factory=dict)
    module: str = ""

    def encode(self) -> str:
        """Return the call as JSON, as it stands on a job's command line."""
        return json.dumps(vars(self), sort_keys=True, default=str)

    @classmethod
    def decode(cls, text: str) -> JobCall:
        """Read a call from JSON; raises ``JobError`` if it is none."""
        try:
            return cls(**json.loads(text))
        except (TypeError, ValueError) as error:
            raise JobError(f"'{text[:80]}' is not a job's call: {error}") from error
