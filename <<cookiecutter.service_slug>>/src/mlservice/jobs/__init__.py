"""Jobs: plain typed functions that turn artifacts into one, each in a process of its own."""

from mlservice.jobs.executor import Executor, LocalExecutor
from mlservice.jobs.job import Job, find_job, job
from mlservice.jobs.run import JobCall, run_job

__all__ = ["Executor", "Job", "JobCall", "LocalExecutor", "find_job", "job", "run_job"]
