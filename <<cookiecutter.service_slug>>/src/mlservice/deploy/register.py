"""Registers jobs and keys: twice is as good as once, and nothing of somebody else's is lost.

Each job is planned first; what Nomad finds no difference in is left alone. The rest is registered
with check-and-set and planned again, since two writers can both be told yes before Nomad 2.0.1.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from mlservice.cluster import ConsulStore, Nomad
from mlservice.deploy.plan import Planned
from mlservice.errors import ClusterAway, ClusterError, ClusterRefused

_CONFLICT = "Enforcing job modify index"
_MOST_TRIES = 5
_PAUSE_SECONDS = 1.0
Action = Literal["created", "changed", "unchanged", "kept", "refused"]


@dataclass(frozen=True)
class Row:
    """What was done (or would be, in a dry run) with one job or key, and a word on it."""

    kind: str
    name: str
    action: Action
    detail: str = ""


def register_job(planned: Planned[Nomad], *, dry_run: bool) -> Row:
    """Register one job unless it is there like that; a refusal is a row, with Nomad's words."""
    try:
        return _register(planned, dry_run)
    except ClusterRefused as error:
        return Row("job", planned.name, "refused", error.words)
    except ClusterError as error:
        return Row("job", planned.name, "refused", str(error))


def register_key(
    consul: ConsulStore, key: str, value: str, *, dry_run: bool, overwrite: bool
) -> Row:
    """Create a key; one that is there is left as it is, unless ``overwrite``."""
    try:
        entry = consul.get(key)
        if entry.value == value:
            return Row("key", key, "unchanged")
        if entry.value is not None and not overwrite:
            return Row("key", key, "kept", f"holds {_short(entry.value)}")
        action: Action = "created" if entry.value is None else "changed"
        if not dry_run:
            written = consul.put(key, value, entry.index)
            if not written or consul.get(key).value != value:
                return Row("key", key, "refused", "somebody else writes it at the same moment")
        return Row("key", key, action, _short(value))
    except ClusterError as error:
        return Row("key", key, "refused", str(error))


def _register(planned: Planned[Nomad], dry_run: bool) -> Row:
    row = Row("job", planned.name, "unchanged")
    lost: ClusterAway | None = None
    for _ in range(_MOST_TRIES):
        try:
            plan = planned.nomad.plan(dict(planned.spec))
            diff = plan.get("Diff") or {}
            if diff.get("Type") == "None":
                return row if row.action != "unchanged" else _unchanged(planned, plan)
            row = _planned_row(planned, plan, dry_run)
            if dry_run:
                return row
            planned.nomad.register(dict(planned.spec), int(plan.get("JobModifyIndex") or 0))
        except ClusterAway as error:
            lost = error  # it may have acted: the next plan tells
            time.sleep(_PAUSE_SECONDS)
        except ClusterRefused as error:
            if _CONFLICT not in error.words:
                raise
    raise lost or ClusterError(
        f"it is not as it was registered, {_MOST_TRIES} times over: somebody else registers it "
        "too (see `nomad job history`): find out who, and repeat"
    )


def _unchanged(planned: Planned[Nomad], plan: Mapping[str, Any]) -> Row:
    """A job that is there like that; one whose deployment failed is refused all the same.

    Nomad places nothing anew for an unchanged job after a failed deployment.
    """
    last = planned.nomad.deployment(planned.name) if planned.spec["Type"] == "service" else None
    job = planned.nomad.job(planned.name) or {}
    if last and last["Status"] == "failed" and last["JobVersion"] == job.get("Version"):
        return Row(
            "job",
            planned.name,
            "refused",
            f"its deployment failed ({last['StatusDescription']}), and Nomad starts nothing anew "
            "for an unchanged job: register another image, or "
            f"`mlservice deploy stop {planned.name}` and register again",
        )
    return Row("job", planned.name, "unchanged", _warnings(plan))


def _planned_row(planned: Planned[Nomad], plan: Mapping[str, Any], dry_run: bool) -> Row:
    diff = plan["Diff"]
    action: Action = "created" if diff["Type"] == "Added" else "changed"
    words = _placement(plan) or _warnings(plan)
    shown = "\n".join(diff_lines(diff)) if dry_run else ""
    return Row("job", planned.name, action, shown or words)


def diff_lines(diff: Mapping[str, Any], path: str = "") -> list[str]:
    """A plan's diff as lines: ``+``, ``-`` or ``~``, where, and the values old and new."""
    signs = {"Added": "+", "Deleted": "-", "Edited": "~"}
    lines = []
    for field in diff.get("Fields") or []:
        sign = signs.get(field["Type"])
        if sign:
            change = " -> ".join(filter(None, (_short(field["Old"]), _short(field["New"]))))
            lines.append(f"{sign} {path}{field['Name']}: {change}")
    for name in ("Objects", "TaskGroups", "Tasks"):
        for child in diff.get(name) or []:
            lines += diff_lines(child, f"{path}{child['Name']}.")
    return lines


def failed(rows: Sequence[Row]) -> bool:
    """Whether anything was refused."""
    return any(row.action == "refused" for row in rows)


def _placement(plan: Mapping[str, Any]) -> str:
    groups = plan.get("FailedTGAllocs") or {}
    return f"no node has room for {', '.join(groups)} just now" if groups else ""


def _warnings(plan: Mapping[str, Any]) -> str:
    return " ".join(str(plan.get("Warnings") or "").split())


def _short(text: str) -> str:
    return text if len(text) <= 80 else f"{text[:79]}…"
