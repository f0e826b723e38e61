"""Options that several commands share, and how their values are read."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from mlservice.errors import SettingsError

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")]


def read_pair(option: str, text: str) -> tuple[str, str]:
    """Return the two parts of ``NAME=VALUE``; raises ``SettingsError``."""
    name, separator, value = text.partition("=")
    if not separator or not name:
        raise SettingsError(f"{option} '{text}': give it as NAME=VALUE, such as trees=300")
    return name, value


def read_pairs(option: str, texts: Sequence[str] | None) -> dict[str, str]:
    """Return all values of an option; if a name is repeated, the last one."""
    return dict(read_pair(option, text) for text in texts or ())


def read_single_pairs(option: str, texts: Sequence[str]) -> dict[str, str]:
    """Return all values of an option; raises ``SettingsError`` if a name is repeated."""
    found: dict[str, str] = {}
    for text in texts:
        name, value = read_pair(option, text)
        if name in found:
            raise SettingsError(
                f"{option} {text}: {name}={found[name]} is given as well: give all values of "
                f"'{name}' at once, such as {option} {name}={found[name]},{value}"
            )
        found[name] = value
    return found


def read_weight(option: str, name: str, text: str) -> float:
    """Read the weight of ``name``; raises ``SettingsError``."""
    try:
        weight = float(text)
    except ValueError:
        raise SettingsError(f"{option} {name}={text}: '{text}' is not a number") from None
    if not 0 <= weight < math.inf:
        raise SettingsError(f"{option} {name}={text}: give a number of at least 0")
    return weight


def read_json(option: str, file: Path) -> Any:
    """Read the JSON in a file that an option names; raises ``SettingsError``."""
    try:
        return json.loads(file.read_text("utf-8"))
    except OSError as error:
        raise SettingsError(f"{option} {file}: cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise SettingsError(f"{option} {file}: is not JSON: {error}") from error


def number(low: float = -math.inf, high: float = math.inf) -> Callable[[str], float]:
    """Return a function that reads a number from ``low`` to ``high`` for typer."""

    def read(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            raise typer.BadParameter(f"'{text}' is not a number") from None
        if not low <= value <= high:
            raise typer.BadParameter(f"'{text}' is not {_between(low, high)}")
        return value

    return read


def whole_number(low: int, high: float = math.inf) -> Callable[[str], int]:
    """Return a function that reads a whole number from ``low`` to ``high``."""

    def read(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            raise typer.BadParameter(f"'{text}' is not a whole number") from None
        if not low <= value <= high:
            raise typer.BadParameter(f"'{text}' is not {_between(low, high)}")
        return value

    return read


def _between(low: float, high: float) -> str:
    return f"at least {low:g}" if high == math.inf else f"from {low:g} to {high:g}"


def exactly_one(context: typer.Context, **given: object) -> None:
    """Refuse a command line that does not give exactly one of these options."""
    names = [f"--{name}" for name in given]
    if sum(value is not None for value in given.values()) != 1:
        raise typer.BadParameter(
            f"give exactly one of {', '.join(names[:-1])} and {names[-1]}",
            ctx=context,
            param_hint=names,
        )
