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
from mlservice.local import Command, LocalService, find_ports
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
        self._upstreams = [each.name for each in load_upstreams(settings.service.package)]
        self._has_challenger = challenger is not None
        self._statistics, self._challenger, self._fakes = (
            f"127.0.0.1:{port}" for port in find_ports(3)
        )
        self.versions = {model.version: STABLE}
        if challenger:
            self.versions[challenger.version] = CHALLENGER
        events = self._folder / "events"
        shutil.rmtree(events, ignore_errors=True)
        events.mkdir(parents=True)
        places = {
            **environ,
            "MLSERVICE_EVENTS__FOLDER": str(events),
            "MLSERVICE_REWARDS__PORT": _port(self._statistics),
            "MLSERVICE_LIVE__POLL_MS": "100",
        }
        logs, extra = settings.state / "logs", self._extra_commands(challenger)
        self.service = LocalService(settings.folder, places, model.uri, logs, extra, self._live)

    def _extra_commands(self, challenger: Artifact | None) -> dict[str, Command]:
        """Return the processes beside the gateway and the stable worker."""
        found = {}
        if challenger:
            arguments = ("serve", "worker", "--model", challenger.uri)
            environ = {"MLSERVICE_WORKER__PORT": _port(self._challenger)}
            found["worker 2"] = Command(arguments, environ, self._challenger)
        if self._upstreams:
            arguments = ("serve", "stand-ins", "--port", _port(self._fakes))
            found["stand-ins"] = Command(arguments, address=self._fakes)
        found["statistics"] = Command(("serve", "statistics"), address=self._statistics)
        return found

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
            ("statistics of rewards", f"http://{self._statistics}{PATH}"),
        ]
        if self._has_challenger:
            found.insert(2, (f"worker, {CHALLENGER}", self._challenger))
        if self._upstreams:
            names = ", ".join(self._upstreams)
            found.append((f"fake upstream {names}", f"http://{self._fakes}"))
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
        urls = {name: [f"http://{self._fakes}/{name}"] for name in self._upstreams}
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
        """Return the policy of a bandit for ``bernoulli`` or ``gaussian`` rewards."""
        return {
            "policy": "thompson",
            "reward": reward,
            "weights": {STABLE: 1, CHALLENGER: 1},
            "statistics": f"http://{self._statistics}{PATH}",
            "floor": 0.02,
            "poll_seconds": 0.1,
            "stale_seconds": 60,
        }


def _port(address: str) -> str:
    return address.rpartition(":")[2]
