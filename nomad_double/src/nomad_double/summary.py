"""Counts of a job's allocations and children.

They outlive the allocations: a caller may read here how many children failed, after Nomad has
collected them as garbage.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

Json = dict[str, Any]
_COUNTS = ("Queued", "Complete", "Failed", "Running", "Starting", "Lost", "Unknown")
_OF_STATUS = {
    "pending": "Starting", "running": "Running", "complete": "Complete", "failed": "Failed",
    "lost": "Lost", "unknown": "Unknown",
}  # fmt: skip
_CUMULATIVE = ("Complete", "Failed", "Lost")
_CHILD = {"pending": "Pending", "running": "Running", "dead": "Dead"}


@dataclass
class Summary:
    """The counts of one job. It changes in place, under the state's lock."""

    namespace: str
    job_id: str
    parent: bool
    create_index: int
    modify_index: int
    groups: dict[str, Counter[str]] = field(default_factory=dict)
    children: Counter[str] = field(default_factory=Counter)

    def note_groups(self, names: list[str]) -> None:
        """Begin to count for new groups."""
        for name in names:
            self.groups.setdefault(name, Counter())

    def move(self, group: str, before: str | None, after: str) -> None:
        """Count an allocation's change of status; ``before`` None: it is new."""
        counts = self.groups.setdefault(group, Counter())
        counts[_OF_STATUS[after]] += 1
        if before is not None and _OF_STATUS[before] not in _CUMULATIVE:
            counts[_OF_STATUS[before]] -= 1

    def queue(self, group: str, count: int) -> bool:
        """Set how many allocations wait for resources; return whether that is a change."""
        counts = self.groups.setdefault(group, Counter())
        changed = counts["Queued"] != count
        counts["Queued"] = count
        return changed

    def move_child(self, before: str | None, after: str) -> None:
        """Count a child's change of status; ``before`` None: it is new."""
        if before:
            self.children[_CHILD[before]] -= 1
        self.children[_CHILD[after]] += 1

    def json(self) -> Json:
        """Return the API's JobSummary."""
        groups = {
            name: {count: counts[count] for count in _COUNTS}
            for name, counts in self.groups.items()
        }
        children = {name: self.children[name] for name in ("Pending", "Running", "Dead")}
        return {
            "JobID": self.job_id, "Namespace": self.namespace, "Summary": groups,
            "Children": children if self.parent else None, "CreateIndex": self.create_index,
            "ModifyIndex": self.modify_index,
        }  # fmt: skip
