"""How many examples a law is tried with: those of each change, or many more by night."""

from __future__ import annotations

import os

from hypothesis import settings

PROFILE = os.environ.get("HYPOTHESIS_PROFILE", "ci")
_TIMES = {"ci": 1, "nightly": 25}


def load_profile() -> None:
    """Load the profile that HYPOTHESIS_PROFILE names: `ci` or `nightly`."""
    settings.register_profile("ci", deadline=None, derandomize=True, max_examples=200)
    settings.register_profile("nightly", deadline=None, max_examples=examples(200))
    settings.load_profile(PROFILE)


def examples(count: int) -> int:
    """``count`` for each change, 25 times as many in a nightly run."""
    return count * _TIMES[PROFILE]
