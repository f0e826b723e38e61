"""Cron specifications of periodic jobs, in UTC: five fields, or a word such as ``@daily``.

Nomad also reads six fields (the last is a year) and seven. The double refuses these, because every
other program reads six fields differently and a job would run at the wrong time elsewhere.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

_WORDS = {
    "@hourly": "0 * * * *", "@daily": "0 0 * * *", "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *", "@yearly": "0 0 1 1 *", "@annually": "0 0 1 1 *",
}  # fmt: skip
_DAYS = {"sun": 0, "mon": 1, "tue": 2, "wed": 3, "thu": 4, "fri": 5, "sat": 6}
_MONTHS = {
    "jan": 1, "feb": 2, "mar": 3, "apr": 4, "may": 5, "jun": 6, "jul": 7, "aug": 8, "sep": 9,
    "oct": 10, "nov": 11, "dec": 12,
}  # fmt: skip
_BOUNDS = ((0, 59), (0, 23), (1, 31), (1, 12), (0, 7))
_MAX_AHEAD = timedelta(days=366 * 5)


class CronError(ValueError):
    """A specification that cannot be read."""


@dataclass(frozen=True)
class Cron:
    """The moments of a specification: minutes, hours, days, months and weekdays."""

    minutes: frozenset[int]
    hours: frozenset[int]
    days: frozenset[int]
    months: frozenset[int]
    weekdays: frozenset[int]
    any_day: bool
    any_weekday: bool

    def next(self, after: datetime) -> datetime | None:
        """Return the first moment after ``after``, or None if there is none within five years."""
        at = after.astimezone(UTC).replace(second=0, microsecond=0) + timedelta(minutes=1)
        end = at + _MAX_AHEAD
        while at < end:
            if at.month not in self.months or not self._on_day(at):
                at = at.replace(hour=0, minute=0) + timedelta(days=1)
            elif at.hour not in self.hours:
                at = at.replace(minute=0) + timedelta(hours=1)
            elif at.minute not in self.minutes:
                at += timedelta(minutes=1)
            else:
                return at
        return None

    def _on_day(self, at: datetime) -> bool:
        day, weekday = at.day in self.days, at.isoweekday() % 7 in self.weekdays
        if self.any_day or self.any_weekday:
            return day and weekday
        return day or weekday


def parse_cron(spec: str) -> Cron:
    """Return the moments of the specification; raise ``CronError``."""
    fields = _WORDS.get(spec.strip(), spec).split()
    if len(fields) != len(_BOUNDS):
        raise CronError("missing field(s)" if len(fields) < 5 else "use five fields")
    names: tuple[dict[str, int], ...] = ({}, {}, {}, _MONTHS, _DAYS)
    minutes, hours, days, months, weekdays = (
        _field(text, low, high, words)
        for text, (low, high), words in zip(fields, _BOUNDS, names, strict=True)
    )
    return Cron(
        minutes, hours, days, months, frozenset(day % 7 for day in weekdays),
        fields[2].startswith(("*", "?")), fields[4].startswith(("*", "?")),
    )  # fmt: skip


def _field(text: str, low: int, high: int, names: dict[str, int]) -> frozenset[int]:
    found: set[int] = set()
    for part in text.lower().split(","):
        matched = re.fullmatch(r"(\*|\?|([a-z0-9]+)(-([a-z0-9]+))?)(/(\d+))?", part)
        if not matched:
            raise CronError(f"syntax error in field: '{text}'")
        first, last, step = matched[2], matched[4], matched[6]
        start = low if first is None else _number(first, names, text)
        end = high if first is None or (step and not last) else start
        end = _number(last, names, text) if last else end
        if not low <= start <= end <= high or step == "0":
            raise CronError(f"syntax error in field: '{text}'")
        found.update(range(start, end + 1, int(step or 1)))
    return frozenset(found)


def _number(word: str, names: dict[str, int], text: str) -> int:
    if word in names:
        return names[word]
    if not word.isdigit():
        raise CronError(f"syntax error in field: '{text}'")
    return int(word)
