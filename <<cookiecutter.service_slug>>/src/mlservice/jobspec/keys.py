"""The arguments and blocks that a jobspec may have, by version of Nomad.

They are data (``keys.json``), taken from the field tags of Nomad's API types, because they change
with each version and no one can maintain a hundred tables by hand.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from mlservice.jobspec.versions import at_least

# Nomad decodes these by hand, so they have no field tag.
_RULE_WORDS = (
    "version",
    "semver",
    "regexp",
    "set_contains",
    "set_contains_all",
    "set_contains_any",
)
_BY_HAND: dict[str, dict[str, tuple[str, str]]] = {
    "affinity": {
        "attribute": ("LTarget", "string"),
        "operator": ("Operand", "string"),
        "value": ("RTarget", "string"),
        "weight": ("Weight", "int8"),
        **{word: (word, "string") for word in _RULE_WORDS},
    },
    "constraint": {
        "attribute": ("LTarget", "string"),
        "operator": ("Operand", "string"),
        "value": ("RTarget", "string"),
        "distinct_hosts": ("distinct_hosts", "bool"),
        "distinct_property": ("distinct_property", "string"),
        **{word: (word, "string") for word in _RULE_WORDS},
    },
}


@dataclass(frozen=True)
class Table:
    """The arguments of a block (name: JSON key, type) and the blocks within it."""

    arguments: Mapping[str, tuple[str, str]]
    blocks: Mapping[str, BlockRule]


@dataclass(frozen=True)
class BlockRule:
    """How a block becomes JSON: its key, whether it repeats, its label's key, its content.

    ``free`` is the Go type of a block that accepts any key, such as ``map[string]string``.
    """

    json: str
    many: bool
    label: str | None
    free: str | None
    table: int | None


def job_table(version: str) -> Table:
    """Return the table of a job for this version of Nomad."""
    document = _document()
    known = document["versions"]
    return table(known["2.0.5" if at_least(version, "1.7.0") else "1.6.10"])


@cache
def table(number: int | None, kind: str = "") -> Table:
    """Return the table with this number, for a block of this ``kind``."""
    found = {} if number is None else _document()["tables"][str(number)]
    arguments = {name: (key, kind_) for name, (key, kind_) in found.get("arguments", {}).items()}
    arguments |= _BY_HAND.get(kind, {})
    blocks = {
        name: BlockRule(
            rule["json"], rule["many"], rule.get("label"), rule.get("free"), rule.get("table")
        )
        for name, rule in found.get("blocks", {}).items()
    }
    return Table(arguments, blocks)


@cache
def _document() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((files(__package__) / "keys.json").read_text("utf-8"))
    return found
