"""Faults of a cluster that a test can ask for.

A client is only as good as its behaviour on a bad day: no leader, a lost answer, a lost node, an
index that goes backwards. A real cluster has such days rarely, and never when a test runs.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass

from nomad_double.acl import Acl
from nomad_double.server import Server


@dataclass
class _Planned:
    pattern: str
    left: int
    status: int = 0
    text: str = ""


class Faults:
    """The faults of one double. They may be set at any time, from any thread."""

    def __init__(
        self, server: Server, acl: Acl, close: Callable[[], None], open_again: Callable[[], None]
    ) -> None:
        """Begin without a fault; ``close`` and ``open_again`` are about the double's port."""
        self._server = server
        self._state = server.state
        self._acl = acl
        self._close = close
        self._open = open_again
        self._lock = threading.Lock()
        self._drops: list[_Planned] = []
        self._answers: list[_Planned] = []
        self.no_leader = False
        """Every request but the agent's own is answered 500 ``No cluster leader``."""

    def away(self) -> None:
        """Close the port and all connections. New ones are refused until ``back()``."""
        self._close()

    def back(self) -> None:
        """Open the same port again."""
        self._open()

    def drop_responses(self, route_pattern: str, count: int) -> None:
        """Act on the next ``count`` requests of a route, but close without an answer.

        A route reads as in ``NomadDouble.requests``: ``POST /v1/job/:id/dispatch``.
        """
        with self._lock:
            self._drops.append(_Planned(route_pattern, count))

    def answer(self, route_pattern: str, status: int, text: str, count: int) -> None:
        """Answer the next ``count`` requests of a route like this, without acting on them."""
        with self._lock:
            self._answers.append(_Planned(route_pattern, count, status, text))

    def reset_index(self) -> None:
        """Let the index go backwards, as after the restore of a snapshot."""
        self._state.reset_index()

    @property
    def spurious_wakeups(self) -> bool:
        """Whether blocking queries sometimes return without a change."""
        return self._state.spurious > 0

    @spurious_wakeups.setter
    def spurious_wakeups(self, wanted: bool) -> None:
        self._state.spurious = 0.3 if wanted else 0.0

    def expire_token(self, token: str) -> None:
        """Refuse the token from now on."""
        self._acl.expire(token)

    def lose_node(self) -> None:
        """Let the node die with all its tasks; another one takes its place.

        Its allocations become ``lost`` and are replaced.
        """
        self._server.lose_node()

    @property
    def hide_oom(self) -> bool:
        """Whether a kill for memory shows only as exit code 137, as with cgroup v2."""
        return self._server.client.settings.hide_oom

    @hide_oom.setter
    def hide_oom(self, wanted: bool) -> None:
        self._server.client.settings.hide_oom = wanted

    def block_placement(self, reason: str = "memory") -> None:
        """Place nothing more, as if the dimension ``reason`` were exhausted; "" ends it."""
        self._server.block_placement(reason)

    @property
    def idempotency_race(self) -> bool:
        """Whether two dispatches at once with one token make two children.

        Nomad did that before 1.11.2.
        """
        return self._server.racy_tokens

    @idempotency_race.setter
    def idempotency_race(self, wanted: bool) -> None:
        self._server.racy_tokens = wanted

    def stop(self, job_id: str, namespace: str = "default") -> None:
        """Stop a job as an operator would."""
        self._server.deregister((namespace, job_id), purge=False)

    def planned_answer(self, route: str) -> tuple[int, str] | None:
        """Return the status and text for a request of the route, if an answer is planned."""
        found = self._next(self._answers, route)
        return (found.status, found.text) if found else None

    def drops(self, route: str) -> bool:
        """Whether the answer of this request is dropped."""
        return self._next(self._drops, route) is not None

    def _next(self, planned: list[_Planned], route: str) -> _Planned | None:
        if not planned:
            return None
        with self._lock:
            for each in planned:
                if each.pattern == route and each.left > 0:
                    each.left -= 1
                    return each
        return None
