"""A toy service that follows a live file: its models, its processes and a crowd of callers."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Any

import grpc
import numpy as np
from grpc_health.v1 import health_pb2, health_pb2_grpc

from mlservice.artifacts import Artifact, FileEntry, Manifest, open_store, publish
from mlservice.artifacts.manifest import MANIFEST_NAME
from mlservice.live import ModelRecord
from mlservice.local import free_ports
from mlservice.quality import Golden
from template_tests.support.toy_service import Toy

FEATURES = ("x", "trouble")
_START = datetime(2024, 1, 1, tzinfo=UTC)


def wait_for(condition: Callable[[], Any], seconds: float = 20) -> float:
    """How long it took until ``condition()`` held."""
    start = time.monotonic()
    while not condition():
        assert time.monotonic() - start < seconds, f"not within {seconds} s"
        time.sleep(0.02)
    return time.monotonic() - start


@dataclass
class LiveToy:
    """A toy in a folder, its live files, and what was started from it."""

    toy: Toy
    root: str
    s3_endpoint: str = ""
    models: int = 0
    files: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)

    def model(
        self,
        slope: float,
        *,
        golden: float | None = None,
        features: tuple[str, ...] = FEATURES,
        padding: int = 0,
    ) -> ModelRecord:
        """Publish a model that answers x times ``slope``; ``golden`` is the slope it claims."""
        self.models += 1
        x = np.linspace(0, 1, 50)
        rows = np.column_stack([x, np.zeros_like(x)])
        scores = x * (slope if golden is None else golden)
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            Golden(features, rows, x, scores, float(x.mean())).save(folder)
            model = json.dumps({"slope": slope, "padding": "p" * padding})
            (folder / "model.json").write_text(model, "utf-8")
            store = open_store(self.root, s3_endpoint=self.s3_endpoint)
            artifact = publish(store, f"toy/Fit/{self.models}", folder, self._say)
        return record_of(artifact, self.models)

    def _say(self, files: dict[str, FileEntry]) -> Manifest:
        return Manifest(
            task="Fit",
            job="fit",
            parameters={},
            inputs={},
            metrics={},
            files=files,
            code="1",
            git_commit=None,
            created=_START + timedelta(minutes=self.models),
            seconds=0,
            environment={},
        )

    def write(self, name: str = "live.json", **sections: Any) -> Path:
        """Put a live file into place, as Nomad does: whole, by a rename."""
        return self.put(json.dumps({"format": 1, **sections}).encode(), name)

    def put(self, content: bytes, name: str = "live.json") -> Path:
        """Put any bytes into the place of a live file."""
        path = self.toy.folder / name
        fresh = path.with_suffix(".new")
        fresh.write_bytes(content)
        fresh.replace(path)
        return path

    def publish(self, record: ModelRecord | None) -> Path:
        """Name the model in the live file of the workers."""
        return self.write(model=json.loads(record.encode()) if record else None)

    def environ(self, **more: str) -> dict[str, str]:
        """The environment of a process with free ports that looks at live.json."""
        places = free_ports(self.toy.environ)
        return {
            **places,
            "MLSERVICE_ARTIFACTS__ROOT": self.root,
            "MLSERVICE_ARTIFACTS__S3_ENDPOINT": self.s3_endpoint,
            "MLSERVICE_LIVE__FILE": "live.json",
            "MLSERVICE_LIVE__POLL_MS": "100",
            **more,
        }

    def start(self, side: str, **more: str) -> Process:
        """Start ``serve SIDE``; it ends with the world."""
        environ = self.environ(**more)
        log = self.toy.folder / f"{side}-{environ[f'MLSERVICE_{side.upper()}__PORT']}.log"
        process = subprocess.Popen(
            [sys.executable, "-m", "mlservice", "serve", side],
            cwd=self.toy.folder,
            env=environ,
            stdout=subprocess.DEVNULL,
            stderr=self.files.enter_context(log.open("ab")),
        )
        port = int(environ[f"MLSERVICE_{side.upper()}__PORT"])
        started = Process(process, f"127.0.0.1:{port}", log)
        self.files.callback(started.stop)
        return started


@dataclass(frozen=True)
class Process:
    """A gateway or worker that was started."""

    process: subprocess.Popen[Any]
    address: str
    log: Path

    def stop(self) -> int:
        """End it by SIGTERM; its exit code."""
        self.process.terminate()
        return self.process.wait(20)

    def says(self, words: str) -> bool:
        """Whether its log holds ``words``."""
        return bool(self.lines(words))

    def lines(self, words: str) -> list[str]:
        """The messages of its log that hold ``words``."""
        lines = self.log.read_text("utf-8").splitlines(keepends=True)
        messages = [json.loads(line)["message"] for line in lines if line.endswith("}\n")]
        return [message for message in messages if words in message]

    def health(self, service: str = "") -> str:
        """What the gRPC health of a worker says."""
        with grpc.insecure_channel(self.address) as channel:
            request = health_pb2.HealthCheckRequest(service=service)
            try:
                reply = health_pb2_grpc.HealthStub(channel).Check(request, timeout=2)
            except grpc.RpcError:
                return "no answer"
        return str(health_pb2.HealthCheckResponse.ServingStatus.Name(reply.status))

    def serves(self) -> bool:
        """Whether a worker can predict."""
        return self.health() == "SERVING"

    def ready(self) -> bool:
        """Whether a gateway is ready."""
        try:
            connection = http.client.HTTPConnection(self.address, timeout=5)
            connection.request("GET", "/ready")
            status = connection.getresponse().status
            connection.close()
        except OSError:
            return False
        return status == 200

    def ask(self, x: float = 0.5, timeout_ms: int = 1000) -> tuple[int, dict[str, Any]]:
        """Status and answer of one request to a gateway."""
        connection = http.client.HTTPConnection(self.address, timeout=30)
        try:
            headers = {"X-Request-Timeout-Ms": str(timeout_ms)}
            connection.request("POST", "/v1/predict", json.dumps({"x": x}), headers)
            response = connection.getresponse()
            return response.status, json.loads(response.read())
        finally:
            connection.close()

    def version(self) -> str:
        """The model that answers."""
        return str(self.ask()[1].get("model_version"))

    def memory(self) -> int:
        """Resident memory in KiB."""
        text = Path(f"/proc/{self.process.pid}/status").read_text("utf-8")
        return int(text.split("VmRSS:")[1].split()[0])

    def takes_hangups(self) -> bool:
        """Whether SIGHUP is ignored or handled by now."""
        text = Path(f"/proc/{self.process.pid}/status").read_text("utf-8")
        masks = [int(text.split(f"{name}:")[1].split()[0], 16) for name in ("SigIgn", "SigCgt")]
        return any(mask & 1 for mask in masks)


class Crowd:
    """Callers that ask a gateway again and again, each over a connection of its own."""

    def __init__(self, gateway: Process, callers: int = 8) -> None:
        """Ask ``gateway``; the counts begin with the context."""
        self.statuses: Counter[int] = Counter()
        self.versions: Counter[str] = Counter()
        self.order: list[list[str]] = [[] for _ in range(callers)]
        self.faults: list[str] = []
        self.slowest = 0.0
        self._gateway = gateway
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._call, args=(n,)) for n in range(callers)]

    def __enter__(self) -> Crowd:
        """Begin to ask, and wait for the first answers."""
        for thread in self._threads:
            thread.start()
        self.see(50)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Ask no more."""
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def see(self, answers: int) -> None:
        """Wait for so many more answers."""
        before = self.statuses.total()
        wait_for(lambda: self.statuses.total() >= before + answers or self.faults)

    def _call(self, number: int) -> None:
        connection = http.client.HTTPConnection(self._gateway.address, timeout=30)
        n = number
        while not self._stop.is_set():
            n += 1
            x = n % 997 / 997
            start = time.monotonic()
            try:
                connection.request("POST", "/v1/predict", json.dumps({"x": x}))
                response = connection.getresponse()
                answer = json.loads(response.read())
            except (OSError, http.client.HTTPException) as error:
                self.faults.append(repr(error))
                return
            self.slowest = max(self.slowest, time.monotonic() - start)
            self.statuses[response.status] += 1
            if response.status != 200:
                self.faults.append(json.dumps(answer))
                continue
            version = answer["model_version"]
            self.versions[version] += 1
            if self.order[number][-1:] != [version]:
                self.order[number].append(version)
            if not 0.5 * x <= answer["prediction"]["score"] <= x + 1e-9:
                self.faults.append(f"{x}: {answer}")
        connection.close()


def record_of(artifact: Artifact, number: int) -> ModelRecord:
    """The record under which a model is published."""
    manifest = artifact.store.read(f"{artifact.path}/{MANIFEST_NAME}")
    return ModelRecord(
        uri=artifact.uri,
        sha256=hashlib.sha256(manifest).hexdigest(),
        version=artifact.version,
        metrics=artifact.manifest.metrics,
        created=artifact.manifest.created,
        period=f"{_START + timedelta(hours=number):%Y-%m-%dT%H}",
    )


@contextlib.contextmanager
def opened(toy: Toy, root: str = "", s3_endpoint: str = "") -> Iterator[LiveToy]:
    """A world, all of whose processes end with it; its store is a folder unless ``root`` is."""
    world = LiveToy(toy, root or (toy.folder / "store").as_uri(), s3_endpoint)
    with world.files:
        yield world
