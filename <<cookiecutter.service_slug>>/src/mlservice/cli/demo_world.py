"""All processes of the demo: two versions of workers, the gateway, and whom it asks."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

from mlservice.artifacts import Artifact
from mlservice.bandit.server import PATH
from mlservice.local import LocalService, Other, find_ports
from mlservice.owner import load_upstreams
from mlservice.settings import Settings

STABLE, CHALLENGER = "stable", "challenger"


class DemoWorld:
    """A context in which the service runs with its neighbours.

    ``versions`` names the version of each model's own version, ``processes`` what runs where.
    """

    def __init__(
        self,
        settings: Settings,
        environ: Mapping[str, str],
        model: Artifact,
        challenger: Artifact | None,
    ) -> None:
        """Prepare a live file and the events' folder below the service's state."""
        self._folder = settings.state / "demo"
        self._live = self._folder / "live.json"
        self._port, *ports = find_ports(3)
        self._rival, self._stand_ins = (f"127.0.0.1:{port}" for port in ports)
        self._upstreams = [each.name for each in load_upstreams(settings.service.package)]
        self.versions = {model.version: STABLE}
        others = {}
        if challenger:
            self.versions[challenger.version] = CHALLENGER
            arguments = ("serve", "worker", "--model", challenger.uri)
            others["worker 2"] = Other(arguments, {"MLSERVICE_WORKER__PORT": ports[0]}, self._rival)
        if self._upstreams:
            arguments = ("serve", "stand-ins", "--port", ports[1])
            others["stand-ins"] = Other(arguments, place=self._stand_ins)
        others["statistics"] = Other(("serve", "statistics"), place=f"127.0.0.1:{self._port}")
        events = self._folder / "events"
        shutil.rmtree(events, ignore_errors=True)
        events.mkdir(parents=True)
        places = {
            **environ,
            "MLSERVICE_EVENTS__FOLDER": str(events),
            "MLSERVICE_REWARDS__PORT": self._port,
            "MLSERVICE_LIVE__POLL_MS": "100",
        }
        logs = settings.state / "logs"
        self.service = LocalService(settings.folder, places, model.uri, logs, others, self._live)
        self._challenged = challenger is not None

    def __enter__(self) -> DemoWorld:
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
    def processes(self) -> list[tuple[str, str]]:
        """What runs, and where."""
        found = [
            ("gateway", self.service.url),
            (f"worker, {STABLE}", self.service.worker_address),
            ("statistics of rewards", f"http://127.0.0.1:{self._port}{PATH}"),
        ]
        if self._challenged:
            found.insert(2, (f"worker, {CHALLENGER}", self._rival))
        if self._upstreams:
            names = ", ".join(self._upstreams)
            found.append((f"stand-in for {names}", f"http://{self._stand_ins}"))
        return found

    @property
    def picture(self) -> Path:
        """Where the plot of the bandit goes."""
        return self._folder / "bandit.png"

    def route(self, policy: Mapping[str, Any] | None) -> None:
        """Write the gateway's live file; without a policy everything goes to the stable version."""
        workers = [{"address": self.service.worker_address, "version": STABLE}]
        if self._challenged:
            workers.append({"address": self._rival, "version": CHALLENGER})
        urls = {name: [f"http://{self._stand_ins}/{name}"] for name in self._upstreams}
        live = {
            "format": 1,
            "workers": workers,
            "routing": policy or {"policy": "weights", "weights": {STABLE: 1}},
            "upstreams": urls,
        }
        fresh = self._live.with_suffix(".new")
        fresh.write_text(json.dumps(live, indent=2), "utf-8")
        fresh.replace(self._live)

    def bandit(self, reward: Literal["bernoulli", "gaussian"]) -> dict[str, Any]:
        """The policy that learns from rewards of that kind."""
        return {
            "policy": "thompson",
            "reward": reward,
            "weights": {STABLE: 1, CHALLENGER: 1},
            "statistics": f"http://127.0.0.1:{self._port}{PATH}",
            "floor": 0.02,
            "poll_seconds": 0.1,
            "stale_seconds": 60,
        }
