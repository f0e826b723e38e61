"""Runs the gateway under uvicorn, and stops it without losing a request.

On SIGTERM the gateway first says that it is not ready and closes each connection with its
next answer, while it goes on answering; only then does the listening socket close. Callers on
kept-alive connections so leave by themselves instead of being cut off.
"""

from __future__ import annotations

import asyncio
import errno
import gc
import signal
import socket
from types import FrameType

import uvicorn

from mlservice.errors import AddressInUse
from mlservice.gateway.app import Gateway
from mlservice.observe.logs import log_as_json
from mlservice.settings import Settings

_GRACE_SECONDS = 10
_GC_THRESHOLDS = (50_000, 50, 50)


def serve_gateway(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT; raises ``AddressInUse`` and what ``Gateway`` raises."""
    log_as_json(settings.service.name)
    gateway = Gateway(settings)
    with listen(settings.gateway.host, settings.gateway.port) as listener:
        config = uvicorn.Config(
            gateway,
            loop="uvloop",
            http="httptools",
            log_config=None,
            access_log=False,
            timeout_graceful_shutdown=_GRACE_SECONDS,
        )
        # Without this a full collection shows as a pause in the slowest requests.
        gc.collect()
        gc.freeze()
        gc.set_threshold(*_GC_THRESHOLDS)
        _Server(config, gateway, settings.gateway.drain_ms / 1000).run([listener])


def listen(host: str, port: int) -> socket.socket:
    """A listening socket; raises ``AddressInUse`` with the setting to change."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        reason = (
            "another process listens there: stop it or set another port, in service.toml "
            "([gateway] port) or by MLSERVICE_GATEWAY__PORT"
            if error.errno == errno.EADDRINUSE
            else f"{error.strerror}: set [gateway] host and port in service.toml"
        )
        raise AddressInUse(f"gateway: cannot listen on {host}:{port}: {reason}") from error
    return listener


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, gateway: Gateway, drain: float) -> None:
        super().__init__(config)
        self._gateway = gateway
        self._drain = drain

    def handle_exit(self, sig: int, _: FrameType | None) -> None:
        """Drain and then stop; a second signal stops at once. uvicorn calls this."""
        if self._gateway.predict.draining:
            self.force_exit = self.should_exit = True
            return
        self._gateway.predict.draining = True
        wait = 0 if sig == signal.SIGINT else self._drain
        asyncio.get_running_loop().call_later(wait, setattr, self, "should_exit", True)
