"""Holds the stop times of a job against the shutdown budget.

Nomad accepts any times. A job whose times are too short is stopped in the middle of its answers,
and only its callers notice.
"""

from __future__ import annotations

from collections.abc import Iterator

from mlservice.cluster import JobSpec
from mlservice.errors import SettingsError
from mlservice.jobspec.durations import SECOND, format_duration
from mlservice.shutdown import SHUTDOWN


def check_shutdown_times(job: JobSpec) -> None:
    """Raise ``SettingsError`` if the job leaves a process, or its callers, too little time."""
    if faults := list(_faults(job)):
        raise SettingsError("\n".join(faults))


def _faults(job: JobSpec) -> Iterator[str]:
    for group in job.groups:
        delay = group.shutdown_delay
        if job.kind == "service" and delay < SHUTDOWN.leave * SECOND:
            yield (
                f"job {job.name}: shutdown_delay = {format_duration(delay)}: callers need "
                f"{SHUTDOWN.leave:g}s to hear that an instance leaves: give at least that, in the "
                "variable shutdown_delay of nomad/*.vars.hcl or in the job's file"
            )
        for timeout in group.kill_timeouts:
            if timeout < SHUTDOWN.kill * SECOND:
                yield (
                    f"job {job.name}: kill_timeout = {format_duration(timeout)}: a stop may take "
                    f"{SHUTDOWN.kill:g}s, after which Nomad kills the task: give at least that in "
                    "the job's file"
                )
