"""Links a gateway process to its parent by an inherited socket.

The process reports that it serves, and sends its metrics when the parent asks. If the parent ends,
even by SIGKILL, the socket closes and the process stops as on SIGTERM. So no process is left behind
on the port.
"""

from __future__ import annotations

import os
import signal
import socket
import struct
import threading

from prometheus_client import REGISTRY

from mlservice.observe.snapshots import encode_snapshot

PARENT_FD = "GATEWAY_PARENT_FD"
"""Environment variable with the number of the inherited socket."""
STARTED = b"S"
SEND_METRICS = b"M"
LENGTH = struct.Struct("!I")


class ParentLink:
    """The socket to the parent."""

    def __init__(self, fd: int) -> None:
        """Use the inherited file descriptor ``fd``."""
        self._socket = socket.socket(fileno=fd)
        self._socket.set_inheritable(False)

    def report_started(self) -> None:
        """Report that the process serves, and start a thread that answers the parent."""
        self._socket.sendall(STARTED)
        threading.Thread(target=self._answer_parent, name="parent", daemon=True).start()

    def _answer_parent(self) -> None:
        try:
            while self._socket.recv(1) == SEND_METRICS:
                content = encode_snapshot(REGISTRY)
                self._socket.sendall(LENGTH.pack(len(content)) + content)
        except OSError:
            pass  # the parent has ended
        os.kill(os.getpid(), signal.SIGTERM)
