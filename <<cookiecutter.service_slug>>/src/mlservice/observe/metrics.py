"""All metrics of the platform, and the port on which they are read.

They are declared here and nowhere else, so there is one place to find a name and its meaning.
Declaring a metric registers it with prometheus_client, once per process, when this module is
imported (docs/platform-decisions.md, 0019). The port is a separate one, because what a service
reports about itself is not for its callers.
"""

from __future__ import annotations

from collections import Counter as Counts
from collections.abc import Mapping
from functools import partial

import prometheus_client
from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Info, Summary

from mlservice.errors import AddressInUse
from mlservice.observe.request_metrics import RequestCounter, RequestHistogram

# The live file
LIVE_RELOADS = Counter("mlservice_live_reloads", "Times that a new live file was applied")
LIVE_REFUSALS = Counter("mlservice_live_refusals", "Times that a live file could not be used")
LIVE_GOOD = Gauge(
    "mlservice_live_good_timestamp_seconds", "When the live file was last read and could be used"
)

# The worker's model
SWAPS = Counter("mlservice_model_swaps", "Models that were loaded and served, the first included")
SWAP_REFUSALS = Counter("mlservice_model_swap_refusals", "Models that were refused")
SWAP_RETRIES = Counter(
    "mlservice_model_swap_retries", "Times that a model could not be fetched and was tried again"
)
SWAP_SECONDS = Summary("mlservice_model_swap_seconds", "Time from seeing a model to serving it")
MODEL = Info("mlservice_model", "The model that is served")

# The gateway's workers
WORKERS = Gauge("mlservice_workers", "Workers that can predict")
WORKERS_KNOWN = Gauge("mlservice_workers_known", "Workers that are listed, healthy or not")
EJECTIONS = Counter("mlservice_worker_ejections", "Times that a failing worker was ejected")
BATCH_RETRIES = Counter("mlservice_batch_retries", "Batches that were sent to a second worker")
RETRIES_REFUSED = Counter(
    "mlservice_retries_refused", "Retries that the retry budget did not allow", ["of"]
)

# Requests
SHED = Counter("mlservice_requests_shed", "Requests refused because too many waited")
ANSWERS = RequestCounter(
    "mlservice_requests",
    "Requests by their HTTP status; 499 (nginx's) if the caller left before the response",
    "status",
)
STAGE_SECONDS = RequestHistogram(
    "mlservice_stage_seconds",
    "Time of a request in each stage",
    "stage",
    bounds=(0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5),
)
CLIENT_REQUESTS = RequestCounter(
    "mlservice_client_requests",
    "Requests by client, and whether they were admitted, limited or refused",
    "client",
    "outcome",
)

GATEWAY_PROCESSES = Gauge(
    "mlservice_gateway_processes", "Gateway processes that serve, if there are several"
)
GATEWAY_RESTARTS = Counter(
    "mlservice_gateway_process_restarts", "Times that a gateway process ended and was started again"
)

# Versions, policies and toggles
VERSION_REQUESTS = RequestCounter(
    "mlservice_version_requests", "Requests by the version that answered", "version"
)
VERSION_FALLBACKS = Counter(
    "mlservice_version_fallbacks",
    "Requests by their assigned version, if another version answered",
    ["version"],
)
SHARE_ASKED = Gauge(
    "mlservice_version_share_asked", "Share of the requests that the policy asks for", ["version"]
)
SHARE_OBSERVED = Gauge(
    "mlservice_version_share_observed",
    "Share of the requests since the shares last changed",
    ["version"],
)
STATISTICS_REFUSALS = Counter(
    "mlservice_statistics_refusals",
    "Times that a policy's statistics could not be fetched or used",
)
STATISTICS_GOOD = Gauge(
    "mlservice_statistics_good_timestamp_seconds", "When the statistics in use were made"
)
TOGGLE_FAULTS = Counter("mlservice_toggle_faults", "Toggles that could not be evaluated", ["flag"])

# Upstreams
BREAKER = Gauge(
    "mlservice_upstream_breaker",
    "State of an upstream's breaker: 0 closed, 1 half open, 2 open",
    ["upstream"],
)
BREAKER_OPENS = Counter(
    "mlservice_upstream_breaker_opens", "Times that the breaker opened", ["upstream"]
)
UPSTREAM_ANSWERS = RequestCounter(
    "mlservice_upstream_answers",
    "Answers of an upstream by their source: call, cache, shared (another request's call), or "
    "the reason for the fallback",
    "upstream",
    "source",
)

# Events and rewards
EVENTS = Counter("mlservice_events", "Events written")
EVENTS_LOST = Counter("mlservice_events_lost", "Events that could not be kept")
REWARDS = Counter("mlservice_rewards", "Rewards received")

# The queue
QUEUE_MESSAGES = Counter(
    "mlservice_queue_messages",
    "Messages by outcome: answered, refused and failed (also dead-lettered), expired",
    ["outcome"],
)
QUEUE_IN_FLIGHT = Gauge("mlservice_queue_in_flight", "Messages read and not answered yet")
QUEUE_WAITS = Counter("mlservice_queue_waits", "Times that a message waited for a worker")
QUEUE_LAG = Gauge("mlservice_queue_lag", "Messages of a partition not answered yet", ["partition"])

# Jobs that a coordinator dispatches
JOBS_DISPATCHED = Counter(
    "mlservice_jobs_dispatched", "Jobs that were dispatched", ["job", "memory_mb"]
)
JOBS_FAILED = Counter(
    "mlservice_jobs_failed", "Dispatched jobs that left no artifact", ["job", "reason"]
)
JOBS_OUT_OF_MEMORY = Counter(
    "mlservice_jobs_out_of_memory", "Jobs that were killed for memory", ["job", "memory_mb"]
)


def show_shares(asked: Mapping[str, float], seen: Counts[str]) -> None:
    """Show the shares that are ``asked`` for beside those of the requests counted in ``seen``."""
    SHARE_ASKED.clear()
    SHARE_OBSERVED.clear()
    for version, share in asked.items():
        SHARE_ASKED.labels(version).set(share)
        SHARE_OBSERVED.labels(version).set_function(partial(_share, seen, version))


def _share(seen: Counts[str], version: str) -> float:
    return seen[version] / max(1, seen.total())


def serve_metrics(side: str, host: str, port: int, registry: CollectorRegistry = REGISTRY) -> None:
    """Serve ``registry`` in Prometheus's format on ``port`` in a thread; 0: do not.

    ``side`` is "gateway", "queue" or "worker". Raises ``AddressInUse``.
    """
    if port == 0:
        return
    try:
        prometheus_client.start_http_server(port, host, registry)
    except OSError as error:
        raise AddressInUse(
            f"{side}: cannot listen on {host}:{port}: {error.strerror}: set another port in "
            f"service.toml ([{side}] metrics_port) or by MLSERVICE_{side.upper()}__METRICS_PORT"
        ) from error
