"""The steps from raw data to a model, as tasks. A task whose artifact exists is not run again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta

import luigi

from mlservice import PeriodParameter, Task, WeekParameter, weeks_before

from .data import ingest
from .training import train


class Ingest(Task):
    """The examples of one week."""

    job = ingest
    week = WeekParameter()


class Train(Task):
    """The model of a period, from the weeks whose outcomes are known by then."""

    job = train
    period = PeriodParameter()
    weeks = luigi.IntParameter(default=10)
    trees = luigi.IntParameter(default=150)
    learning_rate = luigi.FloatParameter(default=0.05)

    def inputs(self) -> Mapping[str, Sequence[Task]]:
        """The weeks that ended a day or more before the period, so that every flight has landed."""
        weeks = weeks_before(self.period - timedelta(days=1), self.weeks)
        return {"examples": [Ingest(week=week) for week in weeks]}


Pipeline = Train
CHALLENGER = {"trees": "4"}
"""Parameters of a second model, which competes with the first one in the demo."""
