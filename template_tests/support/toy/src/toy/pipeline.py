"""Rows of hours, then a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta

import luigi

from mlservice import HourParameter, PeriodParameter, Task

from .data import rows
from .training import fit


class Rows(Task):
    """The rows of one hour."""

    job = rows
    hour = HourParameter()


class Fit(Task):
    """The model of a period."""

    job = fit
    period = PeriodParameter()
    hours = luigi.IntParameter(default=2)
    slope = luigi.FloatParameter(default=1.0)
    padding = luigi.IntParameter(default=0)

    def inputs(self) -> Mapping[str, Sequence[Task]]:
        """The hours before the period."""
        return {
            "hours": [Rows(hour=self.period - timedelta(hours=n)) for n in range(self.hours, 0, -1)]
        }


Pipeline = Fit
