"""Runs a service with all features switched on, as a contender of the bench.

Requests are checked against their contract, routed by weights, evaluated for a toggle, enriched by
an upstream whose answers are cached, counted in metrics and written as events. BENCH_WORKERS is the
number of workers.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

from mlservice.local import Command, LocalService, find_ports
from mlservice.models.selection import LATEST, find_model
from mlservice.settings import load_settings


def main() -> None:
    """Serve the latest model of the service in this folder until it is stopped."""
    settings = load_settings(Path.cwd(), os.environ)
    model = find_model(settings, os.environ, LATEST).uri
    port, *more = find_ports(int(os.environ.get("BENCH_WORKERS", "1")))
    fakes = ("serve", "stand-ins", "--port", port)
    extra = {"stand-ins": Command(fakes, address=f"127.0.0.1:{port}")}
    for each in more:
        environ = {"MLSERVICE_WORKER__PORT": each}
        worker = ("serve", "worker", "--model", model)
        extra[f"worker {each}"] = Command(worker, environ, f"127.0.0.1:{each}")
    live = Path.cwd() / f"live-{settings.gateway.port}.json"
    workers = [settings.gateway.worker, *(f"127.0.0.1:{each}" for each in more)]
    live.write_text(json.dumps(_live(workers, port)), "utf-8")
    with LocalService(settings.folder, os.environ, model, None, extra, live) as service:
        service.supervise()


def _live(workers: list[str], port: str) -> dict[str, object]:
    cautious = {
        "state": "ENABLED",
        "variants": {"on": True, "off": False},
        "defaultVariant": "off",
        "targeting": {"fractional": [["on", 0], ["off", 1000]]},
    }
    return {
        "format": 1,
        "workers": workers,
        "routing": {"policy": "weights", "weights": {"stable": 1}},
        "toggles": {"flags": {"cautious": cautious}},
        "upstreams": {"weather": [f"http://127.0.0.1:{port}/weather"]},
    }


if __name__ == "__main__":
    main()
