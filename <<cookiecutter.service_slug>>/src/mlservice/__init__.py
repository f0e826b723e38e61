"""The platform, which trains, stores and serves a model. The owner's package defines the model.

Owners import only the names that this module lists. A name is loaded on its first use, so a gateway
starts without Luigi.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

# The names are listed three times, because no single list serves all readers. Type checkers need
# imports, a lazy load needs the modules as data, and mypy accepts only a literal `__all__`. A test
# compares the lists.
if TYPE_CHECKING:
    from mlservice.demo.samples import Sample
    from mlservice.errors import InvalidRequest
    from mlservice.jobs.job import job
    from mlservice.owner import Upstream
    from mlservice.pipeline import (
        DayParameter,
        HourParameter,
        PeriodParameter,
        Task,
        ThreeHourParameter,
        WeekParameter,
        weeks_before,
    )
    from mlservice.quality import QualityChecks, accept_model
    from mlservice.toggles import toggle

__version__ = "0.2.0"

_MODULES = {
    "DayParameter": "mlservice.pipeline",
    "HourParameter": "mlservice.pipeline",
    "InvalidRequest": "mlservice.errors",
    "PeriodParameter": "mlservice.pipeline",
    "QualityChecks": "mlservice.quality",
    "Sample": "mlservice.demo.samples",
    "Task": "mlservice.pipeline",
    "ThreeHourParameter": "mlservice.pipeline",
    "Upstream": "mlservice.owner",
    "WeekParameter": "mlservice.pipeline",
    "accept_model": "mlservice.quality",
    "job": "mlservice.jobs.job",
    "toggle": "mlservice.toggles",
    "weeks_before": "mlservice.pipeline",
}

__all__ = [
    "DayParameter",
    "HourParameter",
    "InvalidRequest",
    "PeriodParameter",
    "QualityChecks",
    "Sample",
    "Task",
    "ThreeHourParameter",
    "Upstream",
    "WeekParameter",
    "accept_model",
    "job",
    "toggle",
    "weeks_before",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'mlservice' has no attribute '{name}'")
    return getattr(importlib.import_module(_MODULES[name]), name)
