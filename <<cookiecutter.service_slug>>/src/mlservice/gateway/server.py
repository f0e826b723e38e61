"""Runs the gateway under uvicorn, and stops it without losing a request.

On SIGTERM the gateway first reports that it is not ready, and closes each connection with its next
response. It still answers requests meanwhile. Only then does the listening socket close. So callers
with keep-alive connections reconnect elsewhere instead of being cut off.
"""

from __future__ import annotations

import asyncio
import gc
import signal
import socket
import ssl
from functools import partial
from types import FrameType
from typing import Any, cast

import uvicorn

from mlservice.address import listen
from mlservice.errors import SettingsError
from mlservice.gateway.app import Gateway
from mlservice.gateway.parent import ParentLink
from mlservice.gateway.uvicorn_protocol import GatewayProtocol
from mlservice.observe import metrics
from mlservice.observe.logs import log_as_json
from mlservice.settings import Settings
from mlservice.shutdown import SHUTDOWN

_GC_THRESHOLDS = (50_000, 50, 50)


def serve_gateway(settings: Settings, parent: ParentLink | None = None) -> None:
    """Serve until SIGTERM or SIGINT; raises ``AddressInUse`` and what ``Gateway`` raises.

    With a ``parent`` other processes share the port.
    """
    log_as_json(settings.service.name)
    gateway = Gateway(settings)
    signal.signal(signal.SIGHUP, lambda *_: gateway.service.reload_soon())
    metrics.serve_metrics("gateway", settings.gateway.host, settings.gateway.metrics_port)
    shared = parent is not None
    with listen("gateway", settings.gateway.host, settings.gateway.port, shared=shared) as listener:
        config = uvicorn.Config(
            gateway.app,
            loop="uvloop",
            http=cast("type[asyncio.Protocol]", partial(GatewayProtocol, gateway.routes)),
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            timeout_graceful_shutdown=SHUTDOWN.gateway,
            **_tls(settings),
        )
        # Without this, a full collection would pause the slowest requests.
        gc.collect()
        gc.freeze()
        gc.set_threshold(*_GC_THRESHOLDS)
        _Server(config, gateway, settings.gateway.drain_ms / 1000, parent).run([listener])
    # Python removes its handlers before it exits, and a late SIGHUP would kill it then.
    signal.signal(signal.SIGHUP, signal.SIG_IGN)


def _tls(settings: Settings) -> dict[str, Any]:
    """Return uvicorn's options for TLS, none if it is not set; raises ``SettingsError``."""
    access = settings.access
    if not access.tls_cert:
        return {}
    files = {"tls_cert": access.tls_cert, "tls_key": access.tls_key}
    if access.tls_client_ca:
        files["tls_client_ca"] = access.tls_client_ca
    paths = {name: settings.folder / file for name, file in files.items()}
    for name, path in paths.items():
        if not path.is_file():
            raise SettingsError(
                f"[access] {name} = '{path}': there is no such file: name a PEM file"
            )
    found = {"ssl_certfile": paths["tls_cert"], "ssl_keyfile": paths["tls_key"]}
    if access.tls_client_ca:
        ca = {"ssl_ca_certs": str(paths["tls_client_ca"]), "ssl_cert_reqs": ssl.CERT_REQUIRED}
        return {**found, **ca}
    return found


class _Server(uvicorn.Server):
    def __init__(
        self, config: uvicorn.Config, gateway: Gateway, drain: float, parent: ParentLink | None
    ) -> None:
        super().__init__(config)
        self._parent = parent
        self._gateway = gateway
        self._drain = drain

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, and tell a parent of it; uvicorn calls this."""
        await super().startup(sockets)
        if self._parent and self.started:
            self._parent.report_started()

    def handle_exit(self, sig: int, _: FrameType | None) -> None:
        """Drain, then stop; a second signal stops at once. uvicorn calls this."""
        if self._gateway.draining:
            self.force_exit = self.should_exit = True
            return
        self._gateway.drain()
        wait = 0 if sig == signal.SIGINT else self._drain
        asyncio.get_running_loop().call_later(wait, setattr, self, "should_exit", True)
