"""The metrics of gateway and worker, and the port on which they are read.

They stand together, so that their names are found in one place. The port is one of its own:
what a service says of itself is not for its callers.
"""

from __future__ import annotations

import prometheus_client
from prometheus_client import Counter, Gauge, Info, Summary

from mlservice.errors import AddressInUse

LIVE_RELOADS = Counter("mlservice_live_reloads", "Times that a new live file was taken")
LIVE_REFUSALS = Counter("mlservice_live_refusals", "Times that a live file could not be used")
LIVE_GOOD = Gauge(
    "mlservice_live_good_timestamp_seconds", "When the live file was last seen and could be used"
)
SWAPS = Counter("mlservice_model_swaps", "Models that were taken, the first one too")
SWAP_REFUSALS = Counter("mlservice_model_swap_refusals", "Models that were refused")
SWAP_RETRIES = Counter(
    "mlservice_model_swap_retries", "Times that a model could not be fetched and was tried again"
)
SWAP_SECONDS = Summary("mlservice_model_swap_seconds", "Time from seeing a model to serving it")
MODEL = Info("mlservice_model", "The model that is served")
WORKERS = Gauge("mlservice_workers", "Workers that can be used")
WORKERS_KNOWN = Gauge("mlservice_workers_known", "Workers that are known, healthy or not")
BATCH_RETRIES = Counter("mlservice_batch_retries", "Batches that were sent to a second worker")


def serve_metrics(side: str, host: str, port: int) -> None:
    """Answer Prometheus on ``port`` in a thread of its own; 0: do not.

    ``side`` is "gateway" or "worker". Raises ``AddressInUse``.
    """
    if port == 0:
        return
    try:
        prometheus_client.start_http_server(port, host)
    except OSError as error:
        raise AddressInUse(
            f"{side}: cannot listen on {host}:{port}: {error.strerror}: set another port in "
            f"service.toml ([{side}] metrics_port) or by MLSERVICE_{side.upper()}__METRICS_PORT"
        ) from error
