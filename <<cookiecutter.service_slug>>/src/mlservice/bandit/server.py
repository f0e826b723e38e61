"""A small statistics service over the event files of this machine, for a bandit on a laptop.

On a cluster the gateways fetch the same JSON from a service that sees the events of all of them.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from mlservice.address import listen
from mlservice.bandit.statistics import Statistics
from mlservice.bandit.tally import Tally
from mlservice.errors import EventError, StatisticsError
from mlservice.events import Event, decode_event
from mlservice.observe.logs import log_as_json
from mlservice.settings import Settings

PATH = "/v1/statistics"
_HOUR = 3600
log = logging.getLogger("mlservice.statistics")


def serve_statistics(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT; raises ``StatisticsError`` if no events are kept."""
    log_as_json(settings.service.name)
    app = make_app(settings)
    with listen("rewards", "127.0.0.1", settings.rewards.port) as listener:
        uvicorn.Server(uvicorn.Config(app, log_config=None, access_log=False)).run([listener])


def make_app(settings: Settings) -> Starlette:
    """The service as an ASGI application; raises ``StatisticsError``."""
    if settings.events_folder is None:
        raise StatisticsError("[events] folder = '': there are no events to count: set a folder")
    rewards = settings.rewards
    tally = Tally(rewards.window_hours * _HOUR, rewards.half_life_hours * _HOUR, rewards.missing)
    files = EventFiles(settings.events_folder)

    lock = threading.Lock()  # requests at the same moment are answered in threads

    def statistics(_: Request) -> JSONResponse:
        with lock:
            for event in files.new():
                tally.add(event)
            now = time.time()
            arms = tally.arms(now)
            unused = {
                "doubles": tally.doubles,
                "late": tally.late,
                "strange": tally.strange + files.faulty,
            }
        found = Statistics(format=1, created=datetime.fromtimestamp(now, UTC), versions=arms)
        headers = {f"X-{name}": str(count) for name, count in unused.items()}
        return JSONResponse(found.model_dump(mode="json"), headers=headers)

    return Starlette(routes=[Route(PATH, statistics)])


class EventFiles:
    """Reads what was added to the event files of a folder since the last time."""

    def __init__(self, folder: Path) -> None:
        """Begin with the files that are there."""
        self._folder = folder
        self._read: dict[Path, int] = {}
        self.faulty = 0
        """Lines that are no events."""

    def new(self) -> Iterator[Event]:
        """The events of new whole lines, the files in the order of their names."""
        for path in sorted(self._folder.glob("events-*.jsonl")):
            try:
                with path.open("rb") as file:
                    file.seek(self._read.get(path, 0))
                    content = file.read()
            except FileNotFoundError:
                continue  # removed for its age a moment ago
            whole = content.rfind(b"\n") + 1
            self._read[path] = self._read.get(path, 0) + whole
            for line in content[:whole].splitlines():
                try:
                    event = decode_event(line)
                except EventError as error:
                    self.faulty += 1
                    log.error("%s: a line is not an event: %s: %.80r", path, error, line)
                else:
                    if event is not None:
                        yield event
