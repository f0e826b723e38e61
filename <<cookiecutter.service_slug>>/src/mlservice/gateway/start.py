"""Starts the gateway: in this process, or as a parent of several.

The parent imports neither the application nor the owner's package, so it is small and has little
that can fail. That is why this module imports late.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping

from mlservice.gateway.parent import PARENT_FD, ParentLink
from mlservice.settings import Settings


def start_gateway(settings: Settings, environ: Mapping[str, str]) -> None:
    """Serve until SIGTERM or SIGINT.

    Raises ``AddressInUse`` and what the application raises at its start. The parent of several
    processes raises ``SystemExit`` with the exit code of a process that cannot start at all,
    after that process has written the reason.
    """
    if settings.gateway.processes > 1:
        from mlservice.gateway.processes import serve_processes

        if code := serve_processes(settings, environ):
            sys.exit(code)
        return
    from mlservice.gateway.server import serve_gateway

    fd = environ.get(PARENT_FD)
    serve_gateway(settings, ParentLink(int(fd)) if fd else None)
