"""Requests without a pause, each with its answer: what a swap or a rollout costs callers."""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from types import TracebackType
from urllib.parse import urlsplit


@dataclass(frozen=True)
class Answer:
    """One request: when it was sent, how long it took (both in seconds), and what came."""

    sent: float
    seconds: float
    version: str
    failure: str


@dataclass
class Load:
    """A context in which ``connections`` callers ask ``rate`` times a second together."""

    url: str
    bodies: list[bytes]
    connections: int = 4
    rate: float = 200.0
    answers: list[Answer] = field(default_factory=list)

    def __enter__(self) -> Load:
        """Begin."""
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._ask_on, args=(number,), daemon=True)
            for number in range(self.connections)
        ]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End with the last answer."""
        self._stop.set()
        for thread in self._threads:
            thread.join()

    @property
    def newest(self) -> str:
        """The model of the latest answer; waits for the first."""
        while True:
            for answer in reversed(self.answers[-100:]):
                if answer.version:
                    return answer.version
            time.sleep(0.05)

    @property
    def versions(self) -> Counter[str]:
        """How many answers came from each model, in the order of their first."""
        return Counter(answer.version for answer in self.answers if answer.version)

    @property
    def failures(self) -> Counter[str]:
        """What went wrong, and how often."""
        return Counter(answer.failure for answer in self.answers if answer.failure)

    def p99(self, begin: float, end: float) -> float:
        """Seconds that 99 % of the requests sent between two moments took at most."""
        taken = sorted(a.seconds for a in self.answers if begin <= a.sent < end)
        return taken[int(len(taken) * 0.99)] if taken else 0.0

    def _ask_on(self, number: int) -> None:
        host = urlsplit(self.url).netloc
        pause = self.connections / self.rate
        due = time.monotonic() + pause * number / self.connections
        connection = http.client.HTTPConnection(host, timeout=10)
        count = number
        while not self._stop.is_set():
            time.sleep(max(0.0, due - time.monotonic()))
            due = max(due + pause, time.monotonic() - pause)
            body = self.bodies[count % len(self.bodies)]
            count += self.connections
            answer = _ask(connection, body)
            if answer.failure:
                connection.close()
            self.answers.append(answer)
        connection.close()


def _ask(connection: http.client.HTTPConnection, body: bytes) -> Answer:
    sent = time.monotonic()
    try:
        headers = {"Content-Type": "application/json"}
        connection.request("POST", "/v1/predict", body, headers)
        response = connection.getresponse()
        text = response.read()
    except (OSError, http.client.HTTPException) as error:
        return Answer(sent, time.monotonic() - sent, "", f"{type(error).__name__}: {error}")
    seconds = time.monotonic() - sent
    if response.status != http.client.OK:
        return Answer(sent, seconds, "", f"{response.status} {json.loads(text).get('detail')}")
    return Answer(sent, seconds, json.loads(text)["model_version"], "")
