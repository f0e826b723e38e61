"""Jobs: plain typed functions that turn artifacts into one, each in a process of its own."""

from mlservice.jobs.call import JobCall
from mlservice.jobs.executor import Executor, LocalExecutor
from mlservice.jobs.job import Job, find_job, job
from mlservice.jobs.loading import load_job, load_jobs
from mlservice.jobs.run import Place, run_job

__all__ = [
    "Executor",
    "Job",
    "JobCall",
    "LocalExecutor",
    "Place",
    "find_job",
    "job",
    "load_job",
    "load_jobs",
    "run_job",
]
