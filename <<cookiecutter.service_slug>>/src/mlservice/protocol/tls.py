"""Mutual TLS between gateway and worker, if it is set: each proves its identity to the other."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import grpc

from mlservice.errors import SettingsError
from mlservice.settings import InternalTlsSettings


class WorkerIdentity(NamedTuple):
    """Credentials for a channel, and the name that a worker's certificate must have."""

    credentials: grpc.ChannelCredentials
    name: str


def server_credentials(tls: InternalTlsSettings, folder: Path) -> grpc.ServerCredentials | None:
    """Return a worker's credentials, which require the gateway's; None if TLS is not set.

    Raises ``SettingsError`` if a file cannot be read.
    """
    if not tls.cert:
        return None
    key, cert, ca = _read(tls, folder)
    return grpc.ssl_server_credentials([(key, cert)], ca, require_client_auth=True)


def worker_identity(tls: InternalTlsSettings, folder: Path) -> WorkerIdentity | None:
    """Return the identity for channels to workers; None if TLS is not set.

    Raises ``SettingsError`` if a file cannot be read.
    """
    if not tls.cert:
        return None
    key, cert, ca = _read(tls, folder)
    return WorkerIdentity(grpc.ssl_channel_credentials(ca, key, cert), tls.worker_name)


def _read(tls: InternalTlsSettings, folder: Path) -> tuple[bytes, bytes, bytes]:
    found = []
    for name in ("key", "cert", "ca"):
        path = folder / getattr(tls, name)
        try:
            found.append(path.read_bytes())
        except OSError as error:
            raise SettingsError(
                f"[internal_tls] {name} = '{path}': {(error.strerror or str(error)).lower()}: name "
                "a PEM file"
            ) from error
    key, cert, ca = found
    return key, cert, ca
