"""Reads service.toml, the one file that says what this service is, into frozen values.

The environment overrides it for one process (``MLSERVICE_GATEWAY__PORT=8080`` stands for
``[gateway] port = 8080``), so that a container needs no other file. Unknown keys are refused:
a misspelt setting that has no effect is worse than none.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from mlservice.errors import SettingsError

FILE_NAME = "service.toml"
PREFIX = "MLSERVICE_"
Granularity = Literal["hour", "three-hours", "day", "week"]


class Section(BaseModel):
    """A table of service.toml."""

    model_config = ConfigDict(frozen=True, extra="forbid", str_strip_whitespace=True)


class ServiceSettings(Section):
    """``[service]``: the service's names."""

    name: str = Field(min_length=1, description="Name of the service, as its users know it")
    package: str = Field(min_length=1, description="Python package that holds the owner's code")
    owner: str = Field(min_length=1, description="E-mail of the team that owns the service")


class PipelineSettings(Section):
    """``[pipeline]``: when the model is trained, where, and with how many jobs at a time."""

    retrain_every: Granularity = Field("day", description="Length of a training period")
    workers: int = Field(2, ge=1, le=64, description="Jobs that run at the same time")
    executor: Literal["local", "nomad"] = Field(
        "local", description="Where jobs run: processes of this machine, or dispatched to Nomad"
    )
    tries: int = Field(2, ge=1, le=10, description="Times that a dispatched job is tried")
    placement_minutes: float = Field(
        30, gt=0, description="Time that a dispatched job may wait for a node with room for it"
    )
    metrics_file: str = Field(
        "", description="File that a run's metrics are written to, for node_exporter's textfiles"
    )


class ModelSettings(Section):
    """``[models]``: how a new model reaches the workers of a cluster."""

    reload: Literal["watch", "signal", "rolling"] = Field(
        "watch",
        description="By the live file (watch), by SIGHUP (signal), or by new instances (rolling)",
    )


class ClusterSettings(Section):
    """``[batch_cluster]`` and ``[service_cluster]``: the Nomad that jobs or services run on."""

    address: str = Field("", description="URL of Nomad's API (default: NOMAD_ADDR)")
    region: str = Field("", description="Nomad region (default: NOMAD_REGION)")
    namespace: str = Field("", description="Nomad namespace (default: NOMAD_NAMESPACE)")
    token: str = Field("", repr=False, description="ACL token (default: NOMAD_TOKEN)")


class ConsulSettings(Section):
    """``[consul]``: where models are published."""

    address: str = Field("", description="host:port or URL (default: CONSUL_HTTP_ADDR)")
    token: str = Field("", repr=False, description="ACL token (default: CONSUL_HTTP_TOKEN)")


class ArtifactSettings(Section):
    """``[artifacts]``: where data sets and models are kept."""

    root: str = Field(
        ".mlservice/artifacts",
        description="Folder (relative to service.toml), s3://bucket/prefix, or "
        "webhdfs://namenode:9870/prefix (swebhdfs:// for TLS; the user is HADOOP_USER_NAME)",
    )
    s3_endpoint: str = Field("", description="Address of an S3 server other than Amazon's")
    s3_region: str = Field("us-east-1", description="Region that requests are signed for")


class GatewaySettings(Section):
    """``[gateway]``: the HTTP side."""

    host: str = Field("127.0.0.1", description="Address to listen on")
    port: int = Field(8000, ge=1, le=65535, description="Port to listen on")
    worker: str = Field("127.0.0.1:8001", description="gRPC address of the worker (host:port)")
    deadline_ms: int = Field(1000, ge=1, le=600_000, description="Time a request may take")
    max_request_bytes: int = Field(1_000_000, ge=64, description="Size of the largest request")
    max_batch_rows: int = Field(256, ge=1, le=65536, description="Rows in one call of a worker")
    max_queue_rows: int = Field(4096, ge=1, description="Rows that may wait for the worker")
    drain_ms: int = Field(500, ge=0, description="Time that callers get to leave before a stop")
    metrics_port: int = Field(0, ge=0, le=65535, description="Port for Prometheus; 0: none")


class WorkerSettings(Section):
    """``[worker]``: the predicting side."""

    host: str = Field("127.0.0.1", description="Address to listen on")
    port: int = Field(8001, ge=1, le=65535, description="Port to listen on")
    stuck_after_ms: int = Field(
        1000, ge=1, description="Length of one predict call that makes the worker unhealthy"
    )
    give_up_after_ms: int = Field(
        10_000, ge=1, description="Length of one predict call that ends the worker's process"
    )
    metrics_port: int = Field(0, ge=0, le=65535, description="Port for Prometheus; 0: none")


class LiveSettings(Section):
    """``[live]``: the file from which running processes learn of models and workers."""

    file: str = Field("", description="Path (relative to service.toml); empty: there is none")
    watch: bool = Field(True, description="Look for changes by itself; false: only on SIGHUP")
    poll_ms: int = Field(500, ge=10, le=600_000, description="Time between two looks at the file")
    stagger_ms: int = Field(
        0,
        ge=0,
        le=3_600_000,
        description="Longest time, by chance, that a worker waits before it takes a new model",
    )


class Settings(Section):
    """All of service.toml; ``folder`` is where it lies."""

    folder: Path = Field(exclude=True)
    service: ServiceSettings
    pipeline: PipelineSettings = PipelineSettings()
    artifacts: ArtifactSettings = ArtifactSettings()
    models: ModelSettings = ModelSettings()
    batch_cluster: ClusterSettings = ClusterSettings()
    service_cluster: ClusterSettings = ClusterSettings()
    consul: ConsulSettings = ConsulSettings()
    gateway: GatewaySettings = GatewaySettings()
    worker: WorkerSettings = WorkerSettings()
    live: LiveSettings = LiveSettings()

    @field_validator("folder")
    @classmethod
    def _absolute(cls, folder: Path) -> Path:
        return folder.resolve()

    @property
    def state(self) -> Path:
        """Folder of what a laptop keeps between runs: artifacts, logs."""
        return self.folder / ".mlservice"

    @property
    def contracts(self) -> Path:
        """Folder of the JSON Schemas."""
        return self.folder / "contracts"

    @property
    def live_file(self) -> Path | None:
        """``[live] file``, or None where there is none."""
        return self.folder / self.live.file if self.live.file else None

    @property
    def artifact_root(self) -> str:
        """``[artifacts] root`` as a URL (``file:``, ``s3:`` or ``webhdfs:``)."""
        root = self.artifacts.root
        if "://" in root:
            return root.rstrip("/")
        return (self.folder / root).resolve().as_uri()


def load_settings(start: Path, environ: Mapping[str, str]) -> Settings:
    """Read the service.toml in ``start`` or the nearest folder above it.

    ``MLSERVICE_CONFIG`` in ``environ`` names the file instead; other ``MLSERVICE_`` variables
    override single settings. Raises ``SettingsError`` that lists every fault at once.
    """
    path = _find(start, environ)
    try:
        values: dict[str, Any] = tomllib.loads(path.read_text("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path}: not valid TOML: {error}") from error
    sources = _override(values, environ)
    try:
        return Settings(folder=path.parent, **values)
    except ValidationError as error:
        lines = [_fault(item, sources) for item in error.errors()]
        raise SettingsError(f"{path} cannot be used:\n" + "\n".join(lines)) from error


def _find(start: Path, environ: Mapping[str, str]) -> Path:
    if named := environ.get(f"{PREFIX}CONFIG"):
        if not Path(named).is_file():
            raise SettingsError(f"{PREFIX}CONFIG={named}: there is no such file")
        return Path(named)
    for folder in (start.resolve(), *start.resolve().parents):
        if (folder / FILE_NAME).is_file():
            return folder / FILE_NAME
    raise SettingsError(
        f"no {FILE_NAME} in {start.resolve()} or above it: change to the service's folder, "
        f"or name the file in {PREFIX}CONFIG"
    )


def _override(values: dict[str, Any], environ: Mapping[str, str]) -> dict[str, str]:
    """Put the environment's settings into ``values``; returns which variable set which field."""
    sources = {}
    for name, value in environ.items():
        section, separator, key = name.removeprefix(PREFIX).lower().partition("__")
        if name.startswith(PREFIX) and separator:
            values.setdefault(section, {})[key] = value
            sources[f"{section}.{key}"] = name
    return sources


def _fault(item: Any, sources: Mapping[str, str]) -> str:
    field = ".".join(str(part) for part in item["loc"])
    place = f" (from {sources[field]})" if field in sources else ""
    if item["type"] == "extra_forbidden":
        remedy = "there is no such setting: remove it, or see docs/settings.md for its name"
        return f"  {field} = {item['input']!r}{place}: {remedy}"
    if item["type"] == "missing":
        return f"  {field}: is missing: add it, see docs/settings.md"
    return f"  {field} = {item['input']!r}{place}: {item['msg'][0].lower()}{item['msg'][1:]}"
