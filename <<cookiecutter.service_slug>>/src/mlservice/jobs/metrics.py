"""The metrics of a coordinator that dispatches jobs."""

from __future__ import annotations

from prometheus_client import Counter

DISPATCHED = Counter("mlservice_jobs_dispatched", "Jobs that were dispatched", ["job", "memory_mb"])
FAILED = Counter(
    "mlservice_jobs_failed", "Dispatched jobs that left no artifact", ["job", "reason"]
)
OUT_OF_MEMORY = Counter(
    "mlservice_jobs_out_of_memory", "Jobs that were killed for memory", ["job", "memory_mb"]
)
