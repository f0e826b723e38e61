"""Takes an address to listen on, or says which setting names one that is taken."""

from __future__ import annotations

import errno
import socket

from mlservice.errors import AddressInUse


def listen(side: str, host: str, port: int, where: str = "") -> socket.socket:
    """A bound socket for ``side`` ("gateway" ...); raises ``AddressInUse``.

    ``where`` says how another port is set, where that is not the section ``side``.
    """
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        reason = (
            "another process listens there: stop it, or set another port"
            if error.errno == errno.EADDRINUSE
            else f"{error.strerror}: set another host or port"
        )
        where = where or f"in service.toml ([{side}]) or by MLSERVICE_{side.upper()}__PORT"
        raise AddressInUse(f"{side}: cannot listen on {host}:{port}: {reason} {where}") from error
    return listener
