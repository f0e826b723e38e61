"""Consul's key-value store through py-consul: every write is check-and-set.

Keys have only characters that every version of Consul accepts (``[A-Za-z0-9_./-]``). py-consul
returns None for an empty value, checks its arguments by asserts, and raises the connection errors
of requests. None of that leaves this module.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import consul
import requests
from consul.exceptions import ACLPermissionDenied, ClientError, ConsulException

from mlservice.errors import ClusterAway, ClusterError, ClusterRefused
from mlservice.settings import ConsulSettings

_KEY = re.compile(r"^[A-Za-z0-9_.-]+(/[A-Za-z0-9_.-]+)*$")
_DEFAULT_PORT = 8500
_TIMEOUT_SECONDS = 10.0


@dataclass(frozen=True)
class KeyEntry:
    """A key's value, and the index that the next check-and-set needs; 0 for a missing key."""

    key: str
    value: str | None
    index: int


def open_consul(settings: ConsulSettings, environ: Mapping[str, str]) -> ConsulStore:
    """Return the Consul of the settings, else of CONSUL_HTTP_ADDR in ``environ``.

    Raises ``ClusterError`` if neither names one.
    """
    text = settings.address or environ.get("CONSUL_HTTP_ADDR", "")
    secure = environ.get("CONSUL_HTTP_SSL", "").lower() in ("1", "true")
    parts = urlsplit(text if "://" in text else f"{'https' if secure else 'http'}://{text}")
    if not parts.hostname or parts.scheme not in ("http", "https"):
        raise ClusterError(
            f"[consul] address = '{text}': give host:port, such as 127.0.0.1:8500, there or in "
            "CONSUL_HTTP_ADDR"
        )
    skip = environ.get("CONSUL_HTTP_SSL_VERIFY", "").lower() in ("0", "false")
    return ConsulStore(
        parts.hostname,
        parts.port or _DEFAULT_PORT,
        scheme=parts.scheme,
        token=settings.token or environ.get("CONSUL_HTTP_TOKEN", ""),
        verify=False if skip else environ.get("CONSUL_CACERT") or True,
    )


class ConsulStore:
    """The key-value store of one Consul."""

    def __init__(
        self,
        host: str,
        port: int,
        *,
        scheme: str = "http",
        token: str = "",
        verify: bool | str = True,
    ) -> None:
        """Keep the address and the credentials; ``verify`` may be the file of a CA certificate."""
        self.address = f"{host}:{port}"
        self._transactions = f"{scheme}://{host}:{port}/v1/txn"
        self._headers = {"X-Consul-Token": token} if token else {}
        self._verify = verify
        self._client = consul.Consul(
            host=host,
            port=port,
            scheme=scheme,
            token=token or None,
            verify=verify,
            connections_timeout=_TIMEOUT_SECONDS,
        )
        self._client.token = token or None  # py-consul prefers the environment's

    def get(self, key: str) -> KeyEntry:
        """Return the key as it is now; a missing one has the value None and the index 0."""
        _check(key)
        _, item = self._send(key, lambda: self._client.kv.get(key))
        return _entry(key, item)

    def list(self, prefix: str) -> list[KeyEntry]:
        """Return all keys below ``prefix``, which ends in a slash."""
        _check(prefix.rstrip("/"))
        _, items = self._send(prefix, lambda: self._client.kv.get(prefix, recurse=True))
        return [_entry(item["Key"], item) for item in items or []]

    def put(self, key: str, value: str, index: int) -> bool:
        """Write if the key's index is still ``index`` (0: if it does not exist).

        False if another writer was first.
        """
        _check(key)
        return bool(self._send(key, lambda: self._client.kv.put(key, value, cas=index)))

    def put_with(self, key: str, value: str, index: int, note: str, text: str) -> bool:
        """Write as ``put`` does, and in the same transaction ``text`` to the new key ``note``.

        False if another writer was first; then neither is written.
        """
        _check(key)
        _check(note)
        return bool(self._send(key, lambda: self._transact(key, value, index, note, text)))

    def _transact(self, key: str, value: str, index: int, note: str, text: str) -> bool:
        operations = [
            {"KV": {"Verb": "cas", "Key": name, "Value": _coded(content), "Index": at}}
            for name, content, at in ((key, value, index), (note, text, 0))
        ]
        # py-consul sends its own transactions without the token.
        response = requests.put(
            self._transactions,
            json=operations,
            headers=self._headers,
            verify=self._verify,
            timeout=_TIMEOUT_SECONDS,
        )
        if response.status_code == requests.codes.conflict:
            return False
        if response.status_code == requests.codes.forbidden:
            raise ACLPermissionDenied(response.text)
        if response.status_code != requests.codes.ok:
            raise ConsulException(f"{response.status_code} {response.text}")
        return True

    def delete(self, key: str) -> None:
        """Remove the key, if it exists."""
        _check(key)
        self._send(key, lambda: self._client.kv.delete(key))

    def leader(self) -> str:
        """Return the address of the leader; empty if there is none."""
        return str(self._send("status/leader", self._client.status.leader) or "")

    def _send(self, what: str, request: Callable[[], Any]) -> Any:
        try:
            return request()
        except requests.RequestException as error:
            raise ClusterAway(
                f"Consul at {self.address} does not answer ({type(error).__name__}): is it up, "
                "and is the address ([consul] or CONSUL_HTTP_ADDR) right?"
            ) from error
        except ACLPermissionDenied as error:
            raise ClusterRefused(
                f"Consul at {self.address} denies {what}: {error}: give CONSUL_HTTP_TOKEN a token "
                "whose policy allows reading and writing it",
                requests.codes.forbidden,
                str(error),
            ) from error
        except (ConsulException, ClientError) as error:
            if "No cluster leader" in str(error):
                raise ClusterAway(
                    f"Consul at {self.address} has no leader at the moment"
                ) from error
            raise ClusterRefused(
                f"Consul at {self.address} refuses {what}: {error}", 0, str(error)
            ) from error


def _entry(key: str, item: Mapping[str, Any] | None) -> KeyEntry:
    if item is None:
        return KeyEntry(key, None, 0)
    value = item["Value"]  # None if it is empty
    return KeyEntry(key, value.decode(errors="replace") if value else "", item["ModifyIndex"])


def _coded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def _check(key: str) -> None:
    if not _KEY.match(key) or ".." in key:
        raise ClusterError(
            f"Consul key '{key}': use letters, digits, '_', '.', '-' and single slashes between "
            "them: some version of Consul refuses other names"
        )
