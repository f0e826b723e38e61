"""Requests to Nomad's HTTP API through python-nomad, with what that library leaves out.

python-nomad 2.1.0 verifies TLS only if it is told to and reads neither NOMAD_CACERT nor
NOMAD_SKIP_VERIFY. It loses the index that a blocking query needs, cannot send variables to the
parser, sends the idempotency token of a dispatch where Nomad ignores it, and leaves out the
namespace at half of its endpoints. So only its plain requests are used.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from operator import attrgetter
from typing import Any

import nomad
import requests
from nomad.api.exceptions import BaseNomadException, TimeoutNomadException

from mlservice.errors import (
    ClusterAway,
    ClusterConflict,
    ClusterError,
    ClusterRefused,
    JobNotRegistered,
)

TIMEOUT_SECONDS = 10.0
_NO_LEADER = "No cluster leader"
_TEMPORARY_STATUSES = (429, 502, 503, 504)
# A server answers with these while it restarts or loses its leadership; another one may act.
_TEMPORARY_WORDS = (
    _NO_LEADER, "leadership lost", "leadership transfer", "not the leader", "failed to get conn",
    "connection refused", "connection reset", "i/o timeout", "rpc error: EOF",
)  # fmt: skip
# Nomad answers each of these with the status 500, so the words decide.
_REFUSALS: dict[str, type[ClusterRefused]] = {
    "Enforcing job modify index": ClusterConflict,
    "parameterized job not found": JobNotRegistered,
}


class NomadConnection:
    """Sends requests to one Nomad cluster; may be used from several threads."""

    def __init__(
        self,
        address: str,
        *,
        token: str = "",
        region: str = "",
        namespace: str = "default",
        verify: bool | str = True,
        certificate: tuple[str, ...] = (),
    ) -> None:
        """Keep the address and the credentials; ``verify`` may be the file of a CA certificate."""
        self.address = address
        self.region = region
        self.namespace = namespace
        self._options = {
            "address": address,
            "token": token or None,
            "region": region or None,
            "verify": verify,
            "cert": certificate,
        }
        self._local = threading.local()  # a requests.Session belongs to one thread

    def request(
        self,
        method: str,
        endpoint: str,
        *path: str,
        body: Mapping[str, Any] | None = None,
        parameters: Mapping[str, str | None] | None = None,
        timeout: float = TIMEOUT_SECONDS,
    ) -> requests.Response:
        """Send one request to ``/v1/ENDPOINT/PATH...``; ``endpoint`` is python-nomad's name for it.

        Raises ``ClusterAway`` if the request may succeed later, else ``ClusterRefused``.
        """
        wanted = {"namespace": self.namespace, **(parameters or {})}
        requester = attrgetter(endpoint)(self._client())
        try:
            answer: requests.Response = requester.request(
                *path, method=method, json=body, params=wanted, timeout=timeout
            )
        except TimeoutNomadException as error:
            raise self._away(error) from error
        except BaseNomadException as error:
            raise self._translated(error, method, "/".join((endpoint, *path))) from error
        return answer

    def get(self, endpoint: str, *path: str) -> object:
        """Return the JSON that Nomad answers; raises as ``request`` does."""
        return self.decoded(self.request("get", endpoint, *path))

    def get_or_none(self, endpoint: str, *path: str) -> object | None:
        """Return the JSON that Nomad answers, or None if it answers 404."""
        try:
            return self.get(endpoint, *path)
        except ClusterRefused as error:
            if error.status == requests.codes.not_found:
                return None
            raise

    def post(
        self,
        endpoint: str,
        *path: str,
        body: Mapping[str, Any],
        parameters: Mapping[str, str | None] | None = None,
    ) -> object:
        """Send ``body`` and return the JSON that Nomad answers; raises as ``request`` does."""
        return self.decoded(self.request("post", endpoint, *path, body=body, parameters=parameters))

    def decoded(self, answer: requests.Response) -> object:
        """Return the JSON of an answer; raises ``ClusterError`` if it is none."""
        try:
            found: object = answer.json()
        except ValueError as error:
            raise ClusterError(
                f"Nomad at {self.address} answers something else than JSON: is the address "
                "([batch_cluster], [service_cluster] or NOMAD_ADDR) that of Nomad's API?"
            ) from error
        return found

    def _client(self) -> Any:
        if not hasattr(self._local, "client"):
            self._local.client = nomad.Nomad(session=requests.Session(), **self._options)
        return self._local.client

    def _translated(self, error: BaseNomadException, method: str, what: str) -> ClusterError:
        answer = error.nomad_resp
        if not isinstance(answer, requests.Response):
            return self._away(answer)
        words = answer.text.strip()
        if _NO_LEADER in words:
            return ClusterAway(f"Nomad at {self.address} has no leader at the moment")
        status = answer.status_code
        # An expired token may be answered with 500.
        if status == requests.codes.forbidden or "ACL token" in words:
            words += (
                ": give NOMAD_TOKEN a token whose policy allows this in the namespace "
                f"'{self.namespace}', and that has not expired"
            )
            return self._refused(what, status, words)
        # A write that breaks a rule is answered with 500; a read breaks no rule.
        temporary = status in _TEMPORARY_STATUSES or any(part in words for part in _TEMPORARY_WORDS)
        if temporary or (method == "get" and status >= requests.codes.server_error):
            return ClusterAway(f"Nomad at {self.address} answers {status}: {words}")
        return self._refused(what, status, words)

    def _refused(self, what: str, status: int, words: str) -> ClusterRefused:
        kind = next((kind for part, kind in _REFUSALS.items() if part in words), ClusterRefused)
        message = f"Nomad at {self.address} refuses {what} ({status}): {words}"
        return kind(message, status, words)

    def _away(self, reason: object) -> ClusterAway:
        return ClusterAway(
            f"Nomad at {self.address} does not answer ({_root_cause(reason)}): is it up, and is "
            "the address ([batch_cluster], [service_cluster] or NOMAD_ADDR) right?"
        )


def _root_cause(reason: object) -> str:
    """The innermost cause of a chain of connection errors; the outer ones only repeat it."""
    while isinstance(reason, BaseException):
        inner = getattr(reason, "reason", None) or reason.__cause__
        inner = inner or next((a for a in reason.args if isinstance(a, BaseException)), None)
        if inner is None or inner is reason:
            break
        reason = inner
    return f"{reason}".rpartition(": ")[2][:200] or type(reason).__name__
