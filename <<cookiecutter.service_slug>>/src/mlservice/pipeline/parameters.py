"""Date parameters of pipelines: hour, three hours, day and week, all in naive UTC.

A value inside a period stands for the period's start, so that two runs within one period make the
same artifact. Weeks begin on Monday.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any

import luigi

from mlservice.errors import PipelineError
from mlservice.settings import Granularity

_MONDAY = date(1970, 1, 5)
_LENGTHS: dict[Granularity, timedelta] = {
    "hour": timedelta(hours=1),
    "three-hours": timedelta(hours=3),
    "day": timedelta(days=1),
    "week": timedelta(weeks=1),
}


class HourParameter(luigi.DateHourParameter):
    """An hour, written 2013-10-07T05."""


class ThreeHourParameter(luigi.DateHourParameter):
    """Three hours that begin at 00, 03, 06 ..., written 2013-10-07T03."""

    def __init__(self, **options: Any) -> None:
        """Take Luigi's options for a parameter."""
        super().__init__(interval=3, **options)


class DayParameter(luigi.DateParameter):
    """A day, written 2013-10-07."""


class WeekParameter(luigi.DateParameter):
    """A week, written as its Monday, 2013-10-07."""

    def __init__(self, **options: Any) -> None:
        """Take Luigi's options for a parameter."""
        super().__init__(interval=7, start=_MONDAY, **options)


class PeriodParameter(HourParameter):
    """The start of the period that a pipeline runs for; its length is ``retrain_every``."""


def parse_period(text: str, every: Granularity) -> datetime:
    """Return the start of the period of length ``every`` that contains ``text``.

    ``text`` is a date, or a date and an hour (2013-10-07, 2013-10-07T05). Raises
    ``PipelineError`` for anything else.
    """
    for form in ("%Y-%m-%d", "%Y-%m-%dT%H"):
        try:
            return floor(datetime.strptime(text, form), every)
        except ValueError:
            continue
    raise PipelineError(
        f"period '{text}': give a date such as 2013-10-07, or with an hour 2013-10-07T05 (UTC)"
    )


def current_period(now: datetime, every: Granularity) -> datetime:
    """Return the start of the period that contains ``now`` (aware), as naive UTC."""
    return floor(now.astimezone(UTC).replace(tzinfo=None), every)


def floor(moment: datetime, every: Granularity) -> datetime:
    """Return the start of the period of length ``every`` that contains ``moment``."""
    origin = datetime(_MONDAY.year, _MONDAY.month, _MONDAY.day)
    return moment - (moment - origin) % _LENGTHS[every]


def weeks_before(moment: datetime, count: int) -> list[date]:
    """Return the Mondays of the last ``count`` whole weeks before ``moment``, the oldest first."""
    monday = floor(moment, "week").date()
    return [monday - timedelta(weeks=back) for back in range(count, 0, -1)]
