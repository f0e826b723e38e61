"""The HCL variables of a job, from the environment's var file and from the service's settings.

All jobs share one var file for each environment, and Nomad refuses a variable that a job does not
declare. So each job gets only the variables that it declares. Nomad's own parser reads the HCL;
this module finds only top-level names.
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
    """Return the assignments of a var file, each value as its HCL text.

    Raises ``SettingsError`` if the file is missing or assigns a name twice.
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
            raise SettingsError(f"{path}: {match[1]} is assigned twice: remove one")
        found[match[1]] = text[match.end() : end].strip()
    return found


def declared(hcl: str) -> dict[str, str]:
    """Return the variables that a job file declares, and the type of each (string, list ...)."""
    return dict(_DECLARED.findall(hcl))


def given(text: str, kind: str) -> str:
    """Return a value of the command line as HCL: literal for a string, else an expression."""
    return as_hcl(text) if kind == "string" else text


def as_hcl(value: object) -> str:
    """Return a value as an HCL expression; ``${`` and ``%{`` in a text are literal."""
    text = json.dumps(value, ensure_ascii=False)
    return text.replace("${", "$${").replace("%{", "%%{")


def var_text(hcl: str, values: Mapping[str, str]) -> str:
    """Return a var file's text with those of ``values`` (HCL expressions) that the job declares."""
    wanted = declared(hcl).keys() & values.keys()
    return "".join(f"{name} = {values[name]}\n" for name in sorted(wanted))
