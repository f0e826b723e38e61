"""Nomad's HCL functions, as far as jobspecs use them.

Nomad and Terraform share a language and differ in its functions. A function that only Terraform has
(``timestamp``, ``templatefile``, ``tostring``) is unknown here, as it is in Nomad. A function that
Nomad has and this module has not is refused by its name.
"""

from __future__ import annotations

import base64
import hashlib
import itertools
import json
import math
import re
import uuid
from collections.abc import Callable
from typing import Any
from urllib.parse import quote_plus

from mlservice.jobspec.operators import plain_number
from mlservice.jobspec.types import (
    Unsuitable,
    to_bool,
    to_number,
    to_string,
)

_FILES = (
    "abspath", "basename", "dirname", "file", "filebase64", "fileexists", "fileset", "pathexpand",
)  # fmt: skip
_NOT_HERE = (
    "bcrypt", "cidrhost", "cidrnetmask", "cidrsubnet", "cidrsubnets", "convert", "csvdecode",
    "formatdate", "formatlist", "rsadecrypt", "timeadd", "uuidv5", "yamldecode", "yamlencode",
)  # fmt: skip
_GO_HTML = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026"}


class Refused(Exception):
    """A call that Nomad refuses: the diagnostic's summary, and its detail as the text."""

    def __init__(self, summary: str, detail: str) -> None:
        """Keep the summary and the detail."""
        super().__init__(detail)
        self.summary = summary


def call_function(name: str, arguments: list[Any]) -> Any:
    """Return the function's value; raise ``Refused`` or ``Unsuitable``."""
    if name in _FILES:
        raise _failed(name, "filesystem function disabled")
    if name in _NOT_HERE:
        raise _failed(name, "Nomad has this function, its double has not")
    if name not in _FUNCTIONS:
        raise Refused("Call to unknown function", f'There is no function named "{name}".')
    try:
        return plain_number(_FUNCTIONS[name](*arguments))
    except TypeError as error:
        raise Refused(
            "Wrong arguments in function call", f'Function "{name}" does not take these: {error}.'
        ) from None
    except (ValueError, IndexError, KeyError) as error:
        raise _failed(name, f"{error}") from None


def _failed(name: str, why: str) -> Refused:
    return Refused("Error in function call", f'Call to function "{name}" failed: {why}.')


def _format(template: Any, *arguments: Any) -> str:
    """Format by Go's verbs %s %d %f %v %q %t %x and %%, with Go's flags; refuse others."""
    left = list(arguments)

    def one(found: re.Match[str]) -> str:
        if found[0] == "%%":
            return "%"
        if not left:
            raise ValueError("not enough arguments")
        return _verb(found[1], found[2], left.pop(0))

    text = re.sub(r"%([-+ #0-9.]*)([a-zA-Z%])", one, to_string(template))
    if left:
        raise ValueError("too many arguments")
    return text


def _verb(flags: str, verb: str, value: Any) -> str:
    if verb in "sv":
        plain = value if isinstance(value, str) else _shown(value)
        return f"%{flags}s" % plain
    if verb == "d":
        return f"%{flags}d" % int(to_number(value))
    if verb in "feEgGxXo":
        number = to_number(value)
        return f"%{flags}{verb}" % (int(number) if verb in "xXo" else number)
    if verb == "q":
        return json.dumps(to_string(value))
    if verb == "t":
        return "true" if to_bool(value) else "false"
    raise ValueError(f"unsupported verb %{verb}")


def _shown(value: Any) -> str:
    return to_string(value) if not isinstance(value, list | dict) else json_text(value)


def json_text(value: Any) -> str:
    """Return JSON as Go writes it: no spaces, keys sorted, ``<>&`` escaped."""
    text = json.dumps(_plain(value), separators=(",", ":"), sort_keys=True, ensure_ascii=False)
    return re.sub(r"[<>&]", lambda found: _GO_HTML[found[0]], text)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return plain_number(value)


def _replace(text: Any, old: Any, new: Any) -> str:
    """Replace a plain text, or a regular expression if ``old`` is between slashes."""
    old = to_string(old)
    if len(old) > 1 and old.startswith("/") and old.endswith("/"):
        return _regex_replace(text, old[1:-1], new)
    return to_string(text).replace(old, to_string(new))


def _regex_replace(text: Any, pattern: Any, new: Any) -> str:
    replacement = re.sub(r"\$\{?(\w+)\}?", r"\\g<\1>", to_string(new))
    return re.sub(to_string(pattern), replacement, to_string(text))


def _length(value: Any) -> int:
    if not isinstance(value, list | dict):
        raise Unsuitable("collection must be a list, a map or a tuple")
    return len(value)


def _coalesce(*values: Any) -> Any:
    found = next((value for value in values if value is not None), None)
    if found is None:
        raise ValueError("no non-null arguments")
    if any(isinstance(value, str) for value in values) and not isinstance(found, list | dict):
        return to_string(found)
    return found


def _coalescelist(*values: list[Any]) -> list[Any]:
    return next((value for value in values if value), [])


def _merge(*maps: Any) -> dict[str, Any]:
    merged: dict[str, Any] = {}
    for each in maps:
        if each is None:
            continue
        if not isinstance(each, dict):
            raise Unsuitable("arguments must be maps or objects")
        merged |= each
    return merged


def _lookup(found: dict[str, Any], key: Any, *default: Any) -> Any:
    if key in found:
        return found[key]
    if not default:
        raise ValueError(f'the given object has no attribute "{key}"')
    return default[0]


def _concat(*lists: Any) -> list[Any]:
    for each in lists:
        if not isinstance(each, list):
            raise Unsuitable("all arguments must be lists or tuples")
    return list(itertools.chain(*lists))


def _join(separator: Any, *lists: Any) -> str:
    return to_string(separator).join(to_string(item) for each in lists for item in each)


def _split(separator: Any, text: Any) -> list[str]:
    separator, text = to_string(separator), to_string(text)
    return text.split(separator) if separator else list(text)


def _flatten(items: Any) -> list[Any]:
    found: list[Any] = []
    for item in items:
        found += _flatten(item) if isinstance(item, list) else [item]
    return found


def _distinct(items: list[Any]) -> list[Any]:
    return [item for i, item in enumerate(items) if item not in items[:i]]


def _substr(value: Any, start: int, length: int) -> str:
    text = to_string(value)
    start = start + len(text) if start < 0 else start
    return text[start:] if length < 0 else text[start : start + length]


def _range(*bounds: Any) -> list[Any]:
    start, stop, step = (*bounds, None, None)[:3]
    if stop is None:
        start, stop = 0, start
    return list(range(start, stop, step if step is not None else (1 if start <= stop else -1)))


def _chunklist(items: list[Any], size: int) -> list[list[Any]]:
    return [items[i : i + size] for i in range(0, len(items), size or len(items))]


def _indent(spaces: int, text: Any) -> str:
    return to_string(text).replace("\n", "\n" + " " * spaces)


def _trimsuffix(text: Any, end: Any) -> str:
    return to_string(text).removesuffix(to_string(end))


def _digest(name: str) -> Callable[[Any], str]:
    return lambda text: hashlib.new(
        name, to_string(text).encode(), usedforsecurity=False
    ).hexdigest()


_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "abs": lambda n: abs(to_number(n)),
    "base64decode": lambda s: base64.b64decode(to_string(s), validate=True).decode(),
    "base64encode": lambda s: base64.b64encode(to_string(s).encode()).decode(),
    "ceil": lambda n: math.ceil(to_number(n)),
    "chomp": lambda s: to_string(s).rstrip("\r\n"),
    "chunklist": _chunklist,
    "coalesce": _coalesce,
    "coalescelist": _coalescelist,
    "compact": lambda items: [item for item in items if item not in (None, "")],
    "concat": _concat,
    "contains": lambda items, item: item in items,
    "distinct": _distinct,
    "element": lambda items, i: items[int(i) % len(items)],
    "flatten": _flatten,
    "floor": lambda n: math.floor(to_number(n)),
    "format": _format,
    "indent": _indent,
    "index": lambda items, i: items[i],
    "join": _join,
    "jsondecode": lambda s: json.loads(to_string(s)),
    "jsonencode": json_text,
    "keys": lambda m: sorted(m.keys()),
    "length": _length,
    "log": lambda n, base: math.log(to_number(n), to_number(base)),
    "lookup": _lookup,
    "lower": lambda s: to_string(s).lower(),
    "max": lambda *n: max(map(to_number, n)),
    "md5": _digest("md5"),
    "merge": _merge,
    "min": lambda *n: min(map(to_number, n)),
    "parseint": lambda s, base: int(to_string(s), base),
    "pow": lambda a, b: to_number(a) ** to_number(b),
    "range": _range,
    "regex_replace": _regex_replace,
    "replace": _replace,
    "reverse": lambda s: to_string(s)[::-1],
    "setintersection": lambda a, *b: [i for i in a if all(i in other for other in b)],
    "setproduct": lambda *sets: [list(each) for each in itertools.product(*sets)],
    "setunion": lambda *sets: _distinct(_concat(*sets)),
    "sha1": _digest("sha1"),
    "sha256": _digest("sha256"),
    "sha512": _digest("sha512"),
    "signum": lambda n: (n > 0) - (n < 0),
    "slice": lambda items, a, b: items[a:b],
    "sort": lambda items: sorted(map(to_string, items)),
    "split": _split,
    "strlen": lambda s: len(to_string(s)),
    "strrev": lambda s: to_string(s)[::-1],
    "substr": _substr,
    "title": lambda s: re.sub(r"\b\w", lambda m: m[0].upper(), to_string(s)),
    "trim": lambda s, cut: to_string(s).strip(to_string(cut)),
    "trimprefix": lambda s, start: to_string(s).removeprefix(to_string(start)),
    "trimspace": lambda s: to_string(s).strip(),
    "trimsuffix": _trimsuffix,
    "upper": lambda s: to_string(s).upper(),
    "urlencode": lambda s: quote_plus(to_string(s)),
    "uuidv4": lambda: str(uuid.uuid4()),
    "values": lambda m: [m[key] for key in sorted(m)],
    "zipmap": lambda names, items: dict(zip(names, items, strict=True)),
}
