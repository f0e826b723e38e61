"""How long each process may take to stop.

A stop is a chain: a process leaves Consul, callers hear of it, SIGTERM comes, the process answers
what it has accepted, and whoever started it kills it if it does not end. A step that takes longer
than the next one allows loses requests. So all steps stand here. The settings, the servers, the job
files in ``nomad/`` and ``mlservice serve local`` are held against them.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ShutdownBudget:
    """The time of each step, in seconds, in the order of the steps."""

    leave: float = 5.0
    """From leaving Consul to SIGTERM, at least (a job's ``shutdown_delay``).

    The callers' live files are rendered within 4 s, and read within another 0.5 s.
    """
    gateway: int = 10
    """For the gateway's open requests, after ``[gateway] drain_ms``."""
    worker_streams: float = 1.0
    """For the gateway or a queue consumer to close its streams to workers, after that."""
    worker: float = 5.0
    """For the batches that a worker has accepted."""
    queue: float = 5.0
    """For the messages that a queue consumer is working on."""
    queue_leave: float = 3.0
    """For a queue consumer to commit and to leave its group, after that."""
    local_jobs: float = 3.0
    """For the jobs that a pipeline runs on this machine."""
    exit: float = 1.0
    """For Python to end, after all of these."""
    kill: float = 30.0
    """From SIGTERM to SIGKILL (a job's ``kill_timeout``).

    A Nomad client allows no more than this, unless its ``max_kill_timeout`` is raised.
    """

    @property
    def after_drain(self) -> float:
        """The longest time that the gateway takes after ``[gateway] drain_ms``."""
        return self.gateway + self.worker_streams + self.exit

    @property
    def longest_drain_ms(self) -> int:
        """The longest ``[gateway] drain_ms`` with which the gateway ends before it is killed."""
        return int((self.kill - self.after_drain) * 1000)

    @property
    def longest_stops(self) -> dict[str, float]:
        """The longest time that each process takes from SIGTERM to its end."""
        return {
            "gateway": self.longest_drain_ms / 1000 + self.after_drain,
            "worker": self.worker + self.exit,
            "queue": self.queue + self.queue_leave + self.worker_streams + self.exit,
            "pipeline": self.local_jobs + self.exit,
        }


SHUTDOWN = ShutdownBudget()
