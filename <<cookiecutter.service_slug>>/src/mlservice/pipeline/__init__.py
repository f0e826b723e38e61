"""Pipelines: Luigi tasks whose outputs are artifacts and whose work is done by jobs."""

from mlservice.pipeline.parameters import (
    DayParameter,
    HourParameter,
    PeriodParameter,
    ThreeHourParameter,
    WeekParameter,
    current_period,
    parse_period,
    weeks_before,
)
from mlservice.pipeline.tasks import Task

__all__ = [
    "DayParameter",
    "HourParameter",
    "PeriodParameter",
    "Task",
    "ThreeHourParameter",
    "WeekParameter",
    "current_period",
    "parse_period",
    "weeks_before",
]
