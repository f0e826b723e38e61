"""What an experiment randomises."""

from __future__ import annotations

from typing import Final, Literal

Unit = Literal["user", "request"]
"""The user keeps their variant in all requests, or each request gets one by itself."""

UNITS: Final[dict[str, Unit]] = {"user": "user", "request": "request"}


def unit_of(user: str | None) -> Unit:
    """What is randomised if the user is randomised as soon as the request names one."""
    return "user" if user else "request"
