"""The difference between two versions of a job, in the form of Nomad's plan.

`mlservice deploy register` decides by it whether a job has changed, so a difference that Nomad
would not see must not be here either.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

Json = dict[str, Any]
_NOT_SPEC = (
    "ID", "Status", "StatusDescription", "Stable", "Version", "CreateIndex", "ModifyIndex",
    "JobModifyIndex", "SubmitTime", "VersionTag", "ParentID", "Payload", "Dispatched",
    "DispatchIdempotencyToken", "NomadTokenID", "TaskGroups",
)  # fmt: skip
_FLAT = (
    "Meta", "Env", "Config", "CanaryMeta", "Header", "GetterOptions", "GetterHeaders",
    "TaggedAddresses", "Policy",
)  # fmt: skip


def job_diff(old: Json | None, new: Json) -> Json:
    """Return the API's JobDiff; ``old`` is None for a new job."""
    before = _without(old, _NOT_SPEC) if old else {}
    after = _without(new, _NOT_SPEC)
    groups = list(_groups(old, new))
    fields, objects = _parts(before, after)
    edited = fields or objects or any(group["Type"] != "None" for group in groups)
    kind = "Added" if old is None else ("Edited" if edited else "None")
    return {
        "Type": kind, "ID": new["ID"], "Fields": fields or None, "Objects": objects or None,
        "TaskGroups": groups or None,
    }  # fmt: skip


def _groups(old: Json | None, new: Json) -> Iterator[Json]:
    for name, before, after in _pairs((old or {}).get("TaskGroups"), new["TaskGroups"]):
        fields, objects = _parts(
            _without(before, ("Name", "Tasks")), _without(after, ("Name", "Tasks"))
        )
        tasks = list(_tasks(before, after))
        edited = fields or objects or any(task["Type"] != "None" for task in tasks)
        yield {
            "Type": _kind(before, after, bool(edited)), "Name": name, "Fields": fields or None,
            "Objects": objects or None, "Tasks": tasks or None, "Updates": None,
        }  # fmt: skip


def _tasks(before: Json | None, after: Json | None) -> Iterator[Json]:
    for name, one, two in _pairs((before or {}).get("Tasks"), (after or {}).get("Tasks")):
        fields, objects = _parts(_without(one, ("Name",)), _without(two, ("Name",)))
        yield {
            "Type": _kind(one, two, bool(fields or objects)), "Name": name,
            "Fields": fields or None, "Objects": objects or None, "Annotations": None,
        }  # fmt: skip


def _pairs(
    before: list[Json] | None, after: list[Json] | None
) -> Iterator[tuple[str, Json | None, Json | None]]:
    """Return the two sides of each name."""
    one = {each["Name"]: each for each in before or []}
    two = {each["Name"]: each for each in after or []}
    for name in sorted({*one, *two}):
        yield name, one.get(name), two.get(name)


def _parts(before: Json, after: Json) -> tuple[list[Json], list[Json]]:
    """Return the plain fields and the objects that differ between two blocks."""
    fields: list[Json] = []
    objects: list[Json] = []
    for name in sorted({*before, *after}):
        old, new = before.get(name), after.get(name)
        if old == new:
            continue
        if name in _FLAT:
            fields += _map_fields(name, old or {}, new or {})
        elif isinstance(old or new, dict):
            objects.append(_object(name, old, new))
        elif _holds_objects(old or new):
            objects += _listed(name, old or [], new or [])
        else:
            fields += _field(name, old, new)
    return fields, objects


def _object(name: str, old: Json | None, new: Json | None) -> Json:
    fields, objects = _parts(old or {}, new or {})
    return {
        "Type": _kind(old, new, True), "Name": name, "Fields": fields or None,
        "Objects": objects or None,
    }  # fmt: skip


def _listed(name: str, old: list[Json], new: list[Json]) -> list[Json]:
    """Compare two lists of objects: by name, or by position if they have no names."""
    gone = [each for each in old if each not in new]
    come = [each for each in new if each not in old]
    found = []
    for i in range(max(len(gone), len(come))):
        one = gone[i] if i < len(gone) else None
        two = come[i] if i < len(come) else None
        found.append(_object(name.removesuffix("s"), one, two))
    return found


def _map_fields(name: str, old: Json, new: Json) -> list[Json]:
    found = []
    for key in sorted({*old, *new}):
        found += _field(f"{name}[{key}]", old.get(key), new.get(key))
    return found


def _field(name: str, old: Any, new: Any) -> list[Json]:
    before, after = _text(old), _text(new)
    if before == after:
        return []
    kind = "Added" if not before else ("Deleted" if not after else "Edited")
    return [{"Type": kind, "Name": name, "Old": before, "New": after, "Annotations": None}]


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return value if isinstance(value, str) else json.dumps(value)


def _kind(old: Any, new: Any, edited: bool) -> str:
    if old is None:
        return "Added"
    if new is None:
        return "Deleted"
    return "Edited" if edited else "None"


def _holds_objects(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and isinstance(value[0], dict)


def _without(block: Json | None, names: tuple[str, ...]) -> Json:
    return {key: value for key, value in (block or {}).items() if key not in names}
