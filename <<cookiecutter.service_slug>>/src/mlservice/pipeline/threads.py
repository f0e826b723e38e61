"""Luigi workers that run tasks in threads instead of forks.

A task only waits for a job here, so a thread is enough. A fork would be slow, and it would hang: a
process that has used the object store (or gRPC) has threads that a fork does not copy, and the
child waits for them forever.
"""

from __future__ import annotations

import threading
from typing import Any

from luigi import scheduler, worker


class TaskThread(worker.TaskProcess):
    """Runs a task in a thread, with the interface of the process that Luigi expects."""

    exitcode = 0

    def start(self) -> None:
        """Run the task."""
        self._thread = threading.Thread(target=self.run, name=self.task.task_id, daemon=True)
        self._thread.start()

    def is_alive(self) -> bool:
        """Whether the task runs."""
        return self._thread.is_alive()

    def terminate(self) -> None:
        """Do nothing: a thread cannot be stopped, and the executor stops its job."""


class ThreadedWorker(worker.Worker):
    """A Luigi worker with threads."""

    def _create_task_process(self, task: Any) -> TaskThread:
        return TaskThread(
            task,
            self._id,
            self._task_result_queue,
            worker.TaskStatusReporter(self._scheduler, task.task_id, self._id, None),
            use_multiprocessing=True,
            check_unfulfilled_deps=True,
            check_complete_on_run=True,
        )


class Factory:
    """Makes what ``luigi.build`` needs: a local scheduler and a threaded worker."""

    def create_local_scheduler(self) -> scheduler.Scheduler:
        """See Luigi."""
        return scheduler.Scheduler(prune_on_get_work=True, record_task_history=False)

    def create_worker(
        self, scheduler: Any, worker_processes: int, assistant: bool = False
    ) -> ThreadedWorker:
        """See Luigi."""
        return ThreadedWorker(
            scheduler=scheduler, worker_processes=worker_processes, assistant=assistant
        )
