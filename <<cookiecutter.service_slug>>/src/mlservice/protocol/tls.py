"""TLS between gateway and worker, each proving itself to the other (mTLS), where it is set."""

from __future__ import annotations

from pathlib import Path

import grpc

from mlservice.errors import SettingsError
from mlservice.settings import InternalTlsSettings


def server_credentials(tls: InternalTlsSettings, folder: Path) -> grpc.ServerCredentials | None:
    """A worker's credentials, which ask a gateway for its own; None where TLS is not set.

    Raises ``SettingsError`` for a file that cannot be read.
    """
    if not tls.cert:
        return None
    key, cert, ca = _read(tls, folder)
    return grpc.ssl_server_credentials([(key, cert)], ca, require_client_auth=True)


def channel_credentials(tls: InternalTlsSettings, folder: Path) -> grpc.ChannelCredentials | None:
    """A gateway's credentials; None where TLS is not set.  Raises ``SettingsError``."""
    if not tls.cert:
        return None
    key, cert, ca = _read(tls, folder)
    return grpc.ssl_channel_credentials(ca, key, cert)


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
