"""Compares the service's contracts with its last release: which changes break its clients."""

from mlservice.api.compatibility import ContractChange, Side, as_readers_see, compare
from mlservice.api.release import Comparison, compare_with_release, is_major

__all__ = [
    "Comparison",
    "ContractChange",
    "Side",
    "as_readers_see",
    "compare",
    "compare_with_release",
    "is_major",
]
