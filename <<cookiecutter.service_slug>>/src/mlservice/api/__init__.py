"""What the service promised by its last release, and what a change does to those who rely on it."""

from mlservice.api.compatibility import Change, Side, as_readers_see, compare
from mlservice.api.release import Comparison, compare_with_release, is_major

__all__ = [
    "Change",
    "Comparison",
    "Side",
    "as_readers_see",
    "compare",
    "compare_with_release",
    "is_major",
]
