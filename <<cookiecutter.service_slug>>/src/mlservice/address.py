"""Binds a listening socket, so that an address in use is an error that names the setting."""

from __future__ import annotations

import errno
import socket

from mlservice.errors import AddressInUse


def listen(
    side: str, host: str, port: int, where: str = "", *, shared: bool = False
) -> socket.socket:
    """Return a bound socket for ``side`` ("gateway" ...); raises ``AddressInUse``.

    ``where`` names where to set another port; the default is the section ``side``. If ``shared``,
    other processes of this user may bind the same port, and the kernel spreads connections over
    those that listen.
    """
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if shared:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
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
