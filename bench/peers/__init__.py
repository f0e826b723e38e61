"""Measures other servers with the same model, each in an environment of its own.

Each one checks requests with the pydantic classes of the baseline, batches as its manual advises,
and is measured in turn with ours. Only one of them runs at a time, because some use the processor
while they wait.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import venv
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from bench.errors import BenchError
from bench.load import Turn, check, measure, read_answer, write_bodies
from bench.options import Options
from bench.report import Figure, print_turns
from bench.servers import Contender, Server, free_port
from bench.serving import OURS, Turns, ours, ratios, running, take_turns
from bench.workplace import ROOT, Workplace, environment, run

_CACHE = ROOT / ".cache" / "bench"
_WARM_UP_SECONDS = 3


@dataclass(frozen=True)
class Peer:
    """How to install, start and call another server."""

    name: str
    package: str
    start: Callable[[Path, int], list[str]]
    path: str
    ready: str
    wrap: Callable[[bytes], bytes]
    read: Callable[[Any], float]


PEERS = (
    Peer(
        "BentoML",
        "bentoml",
        lambda bin_, port: [
            *(str(bin_ / "bentoml"), "serve", "bench.peers.bentoml_app:Late"),
            *("--host", "127.0.0.1", "--port", str(port)),
        ],
        "/predict",
        "/readyz",
        lambda body: b'{"flights": [' + body + b"]}",
        lambda found: read_answer(found[0]),
    ),
    Peer(
        "LitServe",
        "litserve",
        lambda bin_, port: [str(bin_ / "python"), "-m", "bench.peers.litserve_app", str(port)],
        "/predict",
        "/health",
        lambda body: body,
        read_answer,
    ),
    Peer(
        "MLServer",
        "mlserver",
        lambda bin_, port: [str(bin_ / "python"), "-m", "bench.peers.mlserver_app", str(port)],
        "/v2/models/late/infer",
        "/v2/models/late/ready",
        lambda body: _as_tensor(body),
        lambda found: read_answer(json.loads(found["outputs"][0]["data"][0])),
    ),
    Peer(
        "mosec",
        "mosec",
        lambda bin_, port: [
            *(str(bin_ / "python"), "-m", "bench.peers.mosec_app"),
            *("--address", "127.0.0.1", "--port", str(port), "--log-level", "error"),
        ],
        "/inference",
        "/",
        lambda body: body,
        read_answer,
    ),
)


def _as_tensor(body: bytes) -> bytes:
    tensor = {"name": "flight", "shape": [1], "datatype": "BYTES", "data": [body.decode()]}
    return json.dumps({"inputs": [tensor]}).encode()


def measure_peers(place: Workplace, options: Options) -> list[Figure]:
    """Measure ours against the best of those that could be installed and started."""
    found: dict[str, Turns] = {}
    with running(place, [ours(place)]) as servers:
        for peer in PEERS:
            try:
                name, turns = _measure_peer(peer, servers[OURS], place, options)
            except BenchError as error:
                print(f"\n{peer.name}: not measured: {error}", flush=True)
            else:
                found[name] = turns
                print_turns(f"PEERS: ours and {name}, {options.connections} connections", turns)
    if not found:
        raise BenchError("peers: none of them could be measured, see above")
    values = [ratios(turns, OURS, name, lambda turn: turn.rate) for name, turns in found.items()]
    # The machine's speed changes, so the best peer is the one with the smallest ratio.
    least = sorted(zip(map(median, values), found, values, strict=True))[:1]
    return [
        Figure("req/s / best other server", value, 4.0, True, note=f"the best: {name}")
        for _, name, value in least
    ]


def _measure_peer(
    peer: Peer, mine: Server, place: Workplace, options: Options
) -> tuple[str, Turns]:
    python = _installed(peer)
    port = free_port()
    contender = Contender(
        name=f"{peer.name} {_version(python, peer.package)}",
        start=peer.start(python.parent, port),
        port=port,
        folder=ROOT,
        environ=environment(_environ(place)),
        log=place.folder / f"{peer.package}.log",
        path=peer.path,
        ready=peer.ready,
        bodies=f"{peer.package}.txt",
    )
    return contender.name, _take_turns(peer, contender, mine, place, options)


def _take_turns(
    peer: Peer, contender: Contender, mine: Server, place: Workplace, options: Options
) -> Turns:
    wrapped = [peer.wrap(body) for body in place.bodies]
    write_bodies(place.folder / contender.bodies, wrapped)
    many, seconds = options.connections, options.seconds
    with Server(contender) as server:
        check(contender, wrapped[:200], place.expected[:200], peer.read)
        measure(server, place.folder, connections=many, seconds=_WARM_UP_SECONDS)

        def turn(name: str) -> Turn:
            target = mine if name == OURS else server
            return measure(target, place.folder, connections=many, seconds=seconds)

        return take_turns((OURS, contender.name), options.rounds, turn)


def _environ(place: Workplace) -> dict[str, str]:
    state = {"BENTOML_HOME": str(place.folder / "bentoml"), "BENTOML_DO_NOT_TRACK": "True"}
    return {**state, "BENCH_MODEL": str(place.model), "PYTHONPATH": str(ROOT)}


def _installed(peer: Peer) -> Path:
    """Return the Python of the peer's environment; raises ``BenchError`` if it cannot be made."""
    folder = _CACHE / peer.package
    python, done = folder / "bin" / "python", folder / ".installed"
    if done.exists():
        return python
    print(f"installing {peer.name} into {folder.relative_to(ROOT)} ...", flush=True)
    shutil.rmtree(folder, ignore_errors=True)
    wanted = [peer.package, "lightgbm", "numpy", "pydantic"]
    beside = Path(sys.executable).with_name("uv")
    if uv := (str(beside) if beside.exists() else shutil.which("uv")):
        run([uv, "venv", "--python", sys.executable, str(folder)], ROOT, os.environ)
        run([uv, "pip", "install", "--python", str(python), *wanted], ROOT, os.environ)
    else:
        venv.create(folder, with_pip=True)
        run([str(python), "-m", "pip", "install", *wanted], ROOT, os.environ)
    done.touch()
    return python


def _version(python: Path, package: str) -> str:
    program = f"from importlib.metadata import version; print(version({package!r}))"
    return run([str(python), "-c", program], ROOT, environment({})).strip()
