"""The number x, and which trouble the model shall make."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mlservice import InvalidRequest

FEATURES = ("x", "trouble")
TROUBLES = ("none", "raise", "hang", "nan", "inf", "drop", "exit")


def features(request: Mapping[str, Any]) -> tuple[float, ...]:
    """The features of a request; a note that says "refuse" is refused."""
    if request.get("note") == "refuse":
        raise InvalidRequest("note", "refuse", "is not wanted")
    if request.get("note") == "bug":
        raise KeyError("a bug of the owner's")
    return (request["x"], TROUBLES.index(request.get("trouble", "none")))
