"""The processes of the demo: two workers, the gateway, fake upstreams and the statistics."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from mlservice.artifacts import Artifact
from mlservice.bandit.server import PATH
from mlservice.local import LocalService, Other, find_ports
from mlservice.owner import load_upstreams
from mlservice.settings import Settings

STABLE, CHALLENGER = "stable", "challenger"


class DemoProcesses:
    """A context in which the service runs with all that it needs.

    ``versions`` maps the version of a model to the name under which it serves.
    """

    def __init__(
        self,
        settings: Settings,
        environ: Mapping[str, str],
        model: Artifact,
        challenger: Artifact | None,
    ) -> None:
        """Choose ports, and empty the folder of the demo's events."""
        self._folder = settings.state / "demo"
        self._live = self._folder / "live.json"
        self._statistics_port, *ports = find_ports(3)
        self._challenger, self._upstream_server = (f"127.0.0.1:{port}" for port in ports)
        self._upstreams = [each.name for each in load_upstreams(settings.service.package)]
        self.versions = {model.version: STABLE}
        others = {}
        if challenger:
            self.versions[challenger.version] = CHALLENGER
            arguments = ("serve", "worker", "--model", challenger.uri)
            others["worker 2"] = Other(
                arguments, {"MLSERVICE_WORKER__PORT": ports[0]}, self._challenger
            )
        if self._upstreams:
            arguments = ("serve", "stand-ins", "--port", ports[1])
            others["stand-ins"] = Other(arguments, place=self._upstream_server)
        others["statistics"] = Other(
            ("serve", "statistics"), place=f"127.0.0.1:{self._statistics_port}"
        )
        events = self._folder / "events"
        shutil.rmtree(events, ignore_errors=True)
        events.mkdir(parents=True)
        places = {
            **environ,
            "MLSERVICE_EVENTS__FOLDER": str(events),
            "MLSERVICE_REWARDS__PORT": self._statistics_port,
            "MLSERVICE_LIVE__POLL_MS": "100",
        }
        logs = settings.state / "logs"
        self.service = LocalService(settings.folder, places, model.uri, logs, others, self._live)
        self._has_challenger = challenger is not None

    def __enter__(self) -> DemoProcesses:
        """Start everything."""
        self.route(None)
        self.service.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop everything."""
        self.service.__exit__(kind, error, trace)

    @property
    def addresses(self) -> list[tuple[str, str]]:
        """The processes by name, each with its address."""
        found = [
            ("gateway", self.service.url),
            (f"worker, {STABLE}", self.service.worker_address),
            ("statistics of rewards", f"http://127.0.0.1:{self._statistics_port}{PATH}"),
        ]
        if self._has_challenger:
            found.insert(2, (f"worker, {CHALLENGER}", self._challenger))
        if self._upstreams:
            names = ", ".join(self._upstreams)
            found.append((f"fake upstream {names}", f"http://{self._upstream_server}"))
        return found

    @property
    def picture(self) -> Path:
        """Where the plot of the bandit is written."""
        return self._folder / "bandit.png"

    def route(self, policy: Mapping[str, Any] | None) -> None:
        """Write the gateway's live file; without a policy the stable version gets all requests."""
        workers = [{"address": self.service.worker_address, "version": STABLE}]
        if self._has_challenger:
            workers.append({"address": self._challenger, "version": CHALLENGER})
        urls = {name: [f"http://{self._upstream_server}/{name}"] for name in self._upstreams}
        live = {
            "format": 1,
            "workers": workers,
            "routing": policy or {"policy": "weights", "weights": {STABLE: 1}},
            "upstreams": urls,
        }
        fresh = self._live.with_suffix(".new")
        fresh.write_text(json.dumps(live, indent=2), "utf-8")
        fresh.replace(self._live)

    def bandit(self, reward: str) -> dict[str, Any]:
        """The policy of a bandit for ``bernoulli`` or ``gaussian`` rewards."""
        return {
            "policy": "thompson",
            "reward": reward,
            "weights": {STABLE: 1, CHALLENGER: 1},
            "statistics": f"http://127.0.0.1:{self._statistics_port}{PATH}",
            "floor": 0.02,
            "poll_seconds": 0.1,
            "stale_seconds": 60,
        }
