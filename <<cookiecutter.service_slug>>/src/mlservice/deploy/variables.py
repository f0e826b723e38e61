"""The HCL variables of a job: what the environment's var file says, and what the service does.

Nomad refuses a variable that a job does not declare, and the jobs share one var file for each
environment; so each job is handed those that it declares. The HCL itself is left to Nomad's own
parser: here only top-level names are looked for.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path

from mlservice.errors import SettingsError

_DECLARED = re.compile(r'^variable\s+"(\w+)"\s*\{[^}]*?\btype\s*=\s*(\w+)', re.MULTILINE)
_ASSIGNED = re.compile(r"^([A-Za-z_]\w*)\s*=", re.MULTILINE)
_COMMENT = re.compile(r"^\s*(#|//).*$", re.MULTILINE)


def read_var_file(path: Path) -> dict[str, str]:
    """The assignments of a var file, each value as the HCL text that stands there.

    Raises ``SettingsError`` where the file is missing or a name stands twice.
    """
    if not path.is_file():
        there = ", ".join(sorted(file.name for file in path.parent.glob("*.vars.hcl")))
        raise SettingsError(f"{path}: there is no such var file (there are: {there or 'none'})")
    text = _COMMENT.sub("", path.read_text("utf-8"))
    starts = list(_ASSIGNED.finditer(text))
    ends = [match.start() for match in starts[1:]] + [len(text)]
    found: dict[str, str] = {}
    for match, end in zip(starts, ends, strict=True):
        if match[1] in found:
            raise SettingsError(f"{path}: {match[1]} stands there twice: remove one")
        found[match[1]] = text[match.end() : end].strip()
    return found


def declared(hcl: str) -> dict[str, str]:
    """The variables that a job file declares, and the kind of each (string, number, list ...)."""
    return dict(_DECLARED.findall(hcl))


def given(text: str, kind: str) -> str:
    """A value from the command line as HCL: literal for a string, an expression for the rest."""
    return as_hcl(text) if kind == "string" else text


def as_hcl(value: object) -> str:
    """A value as an HCL expression; text is taken literally, ``${`` and ``%{`` included."""
    text = json.dumps(value, ensure_ascii=False)
    return text.replace("${", "$${").replace("%{", "%%{")


def var_text(hcl: str, values: Mapping[str, str]) -> str:
    """A var file's text with those of ``values`` (HCL expressions) that the job declares."""
    wanted = declared(hcl).keys() & values.keys()
    return "".join(f"{name} = {values[name]}\n" for name in sorted(wanted))
