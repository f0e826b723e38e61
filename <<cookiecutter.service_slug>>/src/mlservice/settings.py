"""Reads service.toml, the one file that defines this service, into frozen values.

The environment overrides it for one process (``MLSERVICE_GATEWAY__PORT=8080`` replaces
``[gateway] port = 8080``), so a container needs no other file. Unknown keys are refused, because a
misspelt setting would have no effect and no one would notice.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from mlservice.errors import SettingsError
from mlservice.shutdown import SHUTDOWN

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
    """``[pipeline]``: when and where the model is trained, and with how many jobs at a time."""

    retrain_every: Granularity = Field("day", description="Length of a training period")
    workers: int = Field(
        2, ge=1, le=64, description="Jobs that run at the same time on one machine"
    )
    executor: Literal["local", "nomad"] = Field(
        "local", description="Where jobs run: processes of this machine, or dispatched to Nomad"
    )
    dispatched: int = Field(
        64, ge=1, le=512, description="Dispatched jobs that run at the same time"
    )
    tries: int = Field(2, ge=1, le=10, description="Largest number of tries of a dispatched job")
    placement_minutes: float = Field(
        30, gt=0, description="Minutes that a dispatched job may wait for a node with enough room"
    )
    metrics_file: str = Field(
        "", description="File for a run's metrics, for node_exporter's textfile collector"
    )

    @property
    def at_once(self) -> int:
        """Jobs that run at the same time, wherever they run."""
        return self.dispatched if self.executor == "nomad" else self.workers


class ModelSettings(Section):
    """``[models]``: how a new model reaches the workers of a cluster."""

    reload: Literal["watch", "signal", "rolling"] = Field(
        "watch",
        description="How workers take a new model: when the live file changes (watch), after "
        "SIGHUP (signal), or as new instances (rolling)",
    )
    serves: str = Field(
        "stable",
        pattern="^[a-z0-9][a-z0-9-]{0,29}$",
        description="Version whose workers are registered and take the published models; for a "
        "second version set MLSERVICE_MODELS__SERVES",
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
    """``[artifacts]``: where data sets and models are stored."""

    root: str = Field(
        ".mlservice/artifacts",
        description="Folder (relative to service.toml), s3://bucket/prefix, or "
        "webhdfs://namenode:9870/prefix (swebhdfs:// for TLS; the user is HADOOP_USER_NAME)",
    )
    s3_endpoint: str = Field("", description="URL of an S3 server other than Amazon's")
    s3_region: str = Field("us-east-1", description="S3 region")


class GatewaySettings(Section):
    """``[gateway]``: the process that speaks HTTP."""

    host: str = Field("127.0.0.1", description="Address to listen on")
    port: int = Field(8000, ge=1, le=65535, description="Port to listen on")
    worker: str = Field("127.0.0.1:8001", description="gRPC address of the worker (host:port)")
    processes: int = Field(
        1,
        ge=1,
        le=64,
        description="Processes that serve the port together; a parent starts those again that "
        "die, and adds up their metrics",
    )
    deadline_ms: int = Field(
        1000, ge=1, le=600_000, description="Milliseconds that a request may take"
    )
    max_request_bytes: int = Field(1_000_000, ge=64, description="Largest size of a request")
    max_batch_rows: int = Field(
        256, ge=1, le=65536, description="Largest number of rows in a batch"
    )
    max_queue_rows: int = Field(4096, ge=1, description="Rows that may wait for a worker")
    drain_ms: int = Field(
        500,
        ge=0,
        description="Milliseconds for callers to leave before a stop; at most "
        f"{SHUTDOWN.longest_drain_ms}",
    )
    metrics_port: int = Field(0, ge=0, le=65535, description="Port for Prometheus; 0: none")

    @field_validator("drain_ms")
    @classmethod
    def _ends_in_time(cls, drain_ms: int) -> int:
        if drain_ms > (longest := SHUTDOWN.longest_drain_ms):
            raise ValueError(
                f"the gateway is killed {SHUTDOWN.kill:g} s after SIGTERM, and needs "
                f"{SHUTDOWN.after_drain:g} s of them after the drain: "
                f"give at most {longest}"
            )
        return drain_ms


class QueueSettings(Section):
    """``[queue]``: the predict path behind Kafka, with `mlservice serve queue`."""

    brokers: str = Field("", description="Kafka's brokers (host:port, separated by commas)")
    requests: str = Field("", description="Topic of the requests (default: SERVICE.requests)")
    answers: str = Field("", description="Topic of the answers (default: SERVICE.answers)")
    dead_letters: str = Field(
        "", description="Topic of the dead letters (default: SERVICE.dead-letters)"
    )
    group: str = Field("", description="Consumer group (default: the service's name)")
    most_in_flight: int = Field(
        256, ge=1, le=100_000, description="Largest number of unanswered messages of a process"
    )
    deadline_ms: int = Field(
        0,
        ge=0,
        description="Milliseconds from a message's timestamp to its answer 504, unless its header "
        "sets a timeout; 0: it may wait forever",
    )
    host: str = Field("127.0.0.1", description="Address to listen on")
    port: int = Field(8004, ge=1, le=65535, description="Port of /live and /ready")
    metrics_port: int = Field(0, ge=0, le=65535, description="Port for Prometheus; 0: none")
    options: dict[str, str | int | float | bool] = Field(
        {},
        repr=False,
        description="Options of librdkafka, such as security.protocol; `MLSERVICE_QUEUE__OPTIONS__"
        "SASL_PASSWORD` sets sasl.password",
    )

    @field_validator("options")
    @classmethod
    def _dotted(cls, options: Mapping[str, Any]) -> Mapping[str, Any]:
        found = {name.replace("_", "."): value for name, value in options.items()}
        if fixed := sorted(found.keys() & _FIXED_OPTIONS):
            raise ValueError(f"{', '.join(fixed)}: the platform sets this itself: remove it")
        return found


_FIXED_OPTIONS = {
    "bootstrap.servers",
    "enable.auto.commit",
    "enable.auto.offset.store",
    "enable.idempotence",
    "group.id",
}


class WorkerSettings(Section):
    """``[worker]``: the process that predicts."""

    host: str = Field("127.0.0.1", description="Address to listen on")
    port: int = Field(8001, ge=1, le=65535, description="Port to listen on")
    stuck_after_ms: int = Field(
        1000, ge=1, description="Milliseconds of one predict call after which it is unhealthy"
    )
    give_up_after_ms: int = Field(
        10_000, ge=1, description="Milliseconds of one predict call after which it exits"
    )
    metrics_port: int = Field(0, ge=0, le=65535, description="Port for Prometheus; 0: none")


class LiveSettings(Section):
    """``[live]``: the file with all that may change while a process runs."""

    file: str = Field("", description="Path (relative to service.toml); empty: none")
    watch: bool = Field(True, description="Poll the file for changes; false: only on SIGHUP")
    poll_ms: int = Field(500, ge=10, le=600_000, description="Milliseconds between two polls")
    stagger_ms: int = Field(
        0,
        ge=0,
        le=3_600_000,
        description="Longest random delay, in milliseconds, before a worker takes a new model",
    )


class AccessSettings(Section):
    """``[access]``: who may send requests to the gateway."""

    required: bool = Field(
        False, description="Refuse each request without the token of a client in the live file"
    )
    tls_cert: str = Field("", description="PEM file of the gateway's certificate; empty: no TLS")
    tls_key: str = Field("", description="PEM file of its key")
    tls_client_ca: str = Field(
        "",
        description="PEM file of the CA that signs callers' certificates (mTLS); empty: any caller",
    )

    @model_validator(mode="after")
    def _complete(self) -> AccessSettings:
        if bool(self.tls_cert) != bool(self.tls_key) or (self.tls_client_ca and not self.tls_cert):
            raise ValueError("TLS needs tls_cert and tls_key: set both, or none of the three")
        return self


class InternalTlsSettings(Section):
    """``[internal_tls]``: mTLS between gateway and worker; both read the same section."""

    cert: str = Field("", description="PEM file of this process's certificate; empty: no TLS")
    key: str = Field("", description="PEM file of its key")
    ca: str = Field("", description="PEM file of the CA that signed the peer's certificate")
    worker_name: str = Field(
        "mlservice-worker", description="Name in the workers' certificates (SAN)"
    )

    @model_validator(mode="after")
    def _complete(self) -> InternalTlsSettings:
        if len({bool(self.cert), bool(self.key), bool(self.ca)}) > 1:
            raise ValueError("give cert, key and ca, or none of them")
        return self


class EventSettings(Section):
    """``[events]``: predictions, exposures and rewards, as JSON lines."""

    folder: str = Field(
        ".mlservice/events", description="Folder (relative to service.toml); empty: no events"
    )
    megabytes: int = Field(
        1000, ge=32, description="Size in MB above which the oldest files are deleted"
    )


class RewardSettings(Section):
    """``[rewards]``: how `mlservice serve statistics` counts."""

    port: int = Field(8002, ge=1, le=65535, description="Port of the statistics, on 127.0.0.1")
    window_hours: float = Field(
        24, gt=0, le=8760, description="Hours after a prediction in which its reward counts"
    )
    missing: Literal["ignore", "zero"] = Field(
        "ignore", description="The worth of a prediction without a reward within the window"
    )
    half_life_hours: float = Field(
        0, ge=0, description="Age in hours at which a reward counts half; 0: all count the same"
    )


class Settings(Section):
    """All of service.toml; ``folder`` is the folder of the file."""

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
    queue: QueueSettings = QueueSettings()
    live: LiveSettings = LiveSettings()
    events: EventSettings = EventSettings()
    rewards: RewardSettings = RewardSettings()
    access: AccessSettings = AccessSettings()
    internal_tls: InternalTlsSettings = InternalTlsSettings()

    @field_validator("folder")
    @classmethod
    def _absolute(cls, folder: Path) -> Path:
        return folder.resolve()

    @property
    def state(self) -> Path:
        """Folder for the files that are kept between runs on a laptop: artifacts, logs."""
        return self.folder / ".mlservice"

    @property
    def contracts(self) -> Path:
        """Folder of the JSON Schemas."""
        return self.folder / "contracts"

    @property
    def live_file(self) -> Path | None:
        """``[live] file``, or None if it is empty."""
        return self.folder / self.live.file if self.live.file else None

    @property
    def worker_job(self) -> str:
        """The Nomad job of the workers that answer for ``[models] serves``."""
        more = "" if self.models.serves == "stable" else f"-{self.models.serves}"
        return f"{self.service.name}-worker{more}"

    @property
    def events_folder(self) -> Path | None:
        """``[events] folder``, or None if no events are written."""
        return self.folder / self.events.folder if self.events.folder else None

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
    override single settings. Raises ``SettingsError``, which lists all faults at once.
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
            raise SettingsError(
                f"{PREFIX}CONFIG={named}: there is no such file: name a service.toml"
            )
        return Path(named)
    for folder in (start.resolve(), *start.resolve().parents):
        if (folder / FILE_NAME).is_file():
            return folder / FILE_NAME
    raise SettingsError(
        f"no {FILE_NAME} in {start.resolve()} or above it: change to the service's folder, "
        f"or name the file in {PREFIX}CONFIG"
    )


def _override(values: dict[str, Any], environ: Mapping[str, str]) -> dict[str, str]:
    """Put the environment's settings into ``values``; return the variable that set each field."""
    sources = {}
    for name, value in environ.items():
        *sections, key = name.removeprefix(PREFIX).lower().split("__")
        if name.startswith(PREFIX) and sections:
            table = values
            for section in sections:
                if not isinstance(table.get(section), dict):
                    table[section] = {}
                table = table[section]
            table[key] = value
            sources[".".join([*sections, key])] = name
    return sources


def _fault(item: Any, sources: Mapping[str, str]) -> str:
    field = ".".join(str(part) for part in item["loc"])
    place = f" (from {sources[field]})" if field in sources else ""
    if item["type"] == "extra_forbidden":
        remedy = "there is no such setting: remove it, or see docs/settings.md for its name"
        return f"  {field} = {item['input']!r}{place}: {remedy}"
    if item["type"] == "missing":
        return f"  {field}: is missing: add it, see docs/settings.md"
    # A table is not shown: one may hold passwords.
    value = "" if isinstance(item["input"], dict) else f" = {item['input']!r}"
    return f"  {field}{value}{place}: {item['msg'][0].lower()}{item['msg'][1:]}"
