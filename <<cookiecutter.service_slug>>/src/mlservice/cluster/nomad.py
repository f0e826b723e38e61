"""Nomad's HTTP API by python-nomad, with what that library leaves out done here.

python-nomad 2.1.0 does not verify TLS unless it is told to, reads neither NOMAD_CACERT nor
NOMAD_SKIP_VERIFY, loses the index that a blocking query needs, cannot give variables to the
parser, puts the idempotency token of a dispatch where Nomad ignores it, and sends no namespace
to half of the endpoints. So its endpoints are used for their requests alone.
"""

from __future__ import annotations

import base64
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

import nomad
import requests
from nomad.api.exceptions import BaseNomadException, TimeoutNomadException

from mlservice.errors import ClusterAway, ClusterError, ClusterRefused
from mlservice.settings import ClusterSettings

_TIMEOUT_SECONDS = 10.0
_JITTER = 1 + 1 / 16  # Nomad may hold a blocking query that much longer than asked
_NO_LEADER = "No cluster leader"
_PASSING_STATUSES = (429, 502, 503, 504)
# What a server says when it is restarted or no leader any more; the next one may do it.
_PASSING_WORDS = (
    _NO_LEADER, "leadership lost", "leadership transfer", "not the leader", "failed to get conn",
    "connection refused", "connection reset", "i/o timeout", "rpc error: EOF",
)  # fmt: skip
Json = dict[str, Any]


@dataclass(frozen=True)
class Dispatched:
    """A dispatched child; ``replayed``: the token had been used."""

    child: str
    replayed: bool


def open_nomad(settings: ClusterSettings, environ: Mapping[str, str], section: str) -> Nomad:
    """The Nomad that ``[section]`` of the settings names, else the environment (NOMAD_ADDR ...).

    Raises ``ClusterError`` where neither names one; nothing is asked of it yet.
    """
    address = settings.address or environ.get("NOMAD_ADDR", "")
    if not address.startswith(("http://", "https://")):
        raise ClusterError(
            f"[{section}] address = '{address}': give the URL of Nomad's API, such as "
            "http://127.0.0.1:4646, there or in NOMAD_ADDR"
        )
    skip = environ.get("NOMAD_SKIP_VERIFY", "").lower() in ("1", "true")
    certificate = environ.get("NOMAD_CLIENT_CERT", ""), environ.get("NOMAD_CLIENT_KEY", "")
    return Nomad(
        address.rstrip("/"),
        token=settings.token or environ.get("NOMAD_TOKEN", ""),
        region=settings.region or environ.get("NOMAD_REGION", ""),
        namespace=settings.namespace or environ.get("NOMAD_NAMESPACE", "") or "default",
        verify=False if skip else environ.get("NOMAD_CACERT") or True,
        certificate=certificate if all(certificate) else (),
    )


class Nomad:
    """One Nomad cluster; may be used from several threads."""

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
        """Keep where it is and who asks; ``verify`` may be the file of a CA certificate."""
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

    @property
    def place(self) -> tuple[str, str, str]:
        """Address, region and namespace, which together say where its jobs are."""
        return self.address, self.region, self.namespace

    def parse(self, hcl: str, variables: str = "") -> Json:
        """The job in ``hcl`` as Nomad's own parser reads it; ``variables`` is a var file's text.

        Raises ``ClusterRefused`` with the parser's diagnostics.
        """
        body = {"JobHCL": hcl, "Variables": variables, "Canonicalize": True}
        found: Json = self.call("post", "jobs", "parse", body=body).json()
        return found

    def plan(self, job: Json) -> Json:
        """What registering ``job`` would do: Nomad's plan, with its diff."""
        body = {"Job": job, "Diff": True}
        return self._json(self.call("post", "job", job["ID"], "plan", body=body))

    def register(self, job: Json, index: int) -> Json:
        """Register ``job`` if its JobModifyIndex is still ``index`` (0: it is not there yet)."""
        body = {"Job": job, "EnforceIndex": True, "JobModifyIndex": index}
        return self._json(self.call("post", "jobs", body=body))

    def job(self, name: str) -> Json | None:
        """The job, or None where there is none."""
        return self._or_none("job", name)

    def dispatch(
        self, parent: str, payload: bytes, meta: Mapping[str, str], token: str
    ) -> Dispatched:
        """Make a child of the parameterized job ``parent``, once for each ``token``.

        Before Nomad 1.11.2 two requests at the same moment can make two children, and from then
        on the loser is told of a child that never was: so look whether it is there.
        """
        body: Json = {"Meta": dict(meta)}
        if payload:
            body["Payload"] = base64.b64encode(payload).decode()
        # In the query: in the body, where python-nomad puts it, Nomad ignores it.
        parameters = {"idempotency_token": token} if token else {}
        answer = self._json(
            self.call("post", "job", parent, "dispatch", body=body, parameters=parameters)
        )
        return Dispatched(answer["DispatchedJobID"], replayed=not answer.get("EvalID"))

    def jobs(
        self, prefix: str, *, where: str = "", index: int = 0, wait: float = 0, meta: bool = False
    ) -> tuple[list[Json], int]:
        """Stubs of the jobs whose IDs begin with ``prefix`` and that ``where`` (a filter) takes.

        With an ``index``, waits up to ``wait`` seconds for anything newer. Also gives the index
        of the answer, which may be lower than the last one after Nomad was restored.
        """
        parameters = {"prefix": prefix, "filter": where or None, "meta": "true" if meta else None}
        if index:
            parameters |= {"index": str(max(1, index)), "wait": f"{int(wait * 1000)}ms"}
        answer = self.call(
            "get", "jobs", parameters=parameters, timeout=_TIMEOUT_SECONDS + wait * _JITTER
        )
        found: list[Json] = answer.json() or []
        return found, int(answer.headers.get("X-Nomad-Index") or 0)

    def allocations(self, job: str) -> list[Json]:
        """Stubs of the job's allocations, the oldest first."""
        found: list[Json] = self.call("get", "job", job, "allocations").json() or []
        return sorted(found, key=lambda allocation: allocation["CreateIndex"])

    def evaluations(self, job: str) -> list[Json]:
        """The job's evaluations, the oldest first."""
        found: list[Json] = self.call("get", "job", job, "evaluations").json() or []
        return sorted(found, key=lambda evaluation: evaluation["CreateIndex"])

    def deployment(self, job: str) -> Json | None:
        """The job's latest deployment, or None."""
        return self._or_none("job", job, "deployment")

    def log(self, allocation: str, task: str, kind: str, size: int) -> str:
        """The last ``size`` bytes of a task's log (``kind`` is stdout or stderr)."""
        parameters = {
            "task": task, "type": kind, "origin": "end", "offset": str(size), "plain": "true",
        }  # fmt: skip
        answer = self.call("get", "client.stream_logs", allocation, parameters=parameters)
        return answer.content.decode(errors="replace")

    def stop(self, job: str, *, purge: bool = False) -> None:
        """Stop a job; nothing happens where there is none. Children are left alone."""
        self.call("delete", "job", job, parameters={"purge": "true" if purge else None})

    def agent(self) -> Json:
        """The agent that answers: its configuration, version and statistics."""
        return self._json(self.call("get", "agent", "self"))

    def call(
        self,
        method: str,
        endpoint: str,
        *path: str,
        body: Json | None = None,
        parameters: Mapping[str, str | None] | None = None,
        timeout: float = _TIMEOUT_SECONDS,
    ) -> requests.Response:
        """One request to ``/v1/ENDPOINT/PATH...``; raises ``ClusterAway``, ``ClusterRefused``.

        ``endpoint`` is python-nomad's name for it.
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

    def _client(self) -> Any:
        if not hasattr(self._local, "client"):
            self._local.client = nomad.Nomad(session=requests.Session(), **self._options)
        return self._local.client

    def _or_none(self, endpoint: str, *path: str) -> Json | None:
        try:
            found: Json | None = self.call("get", endpoint, *path).json()
        except ClusterRefused as error:
            if error.status == requests.codes.not_found:
                return None
            raise
        return found

    def _json(self, answer: requests.Response) -> Json:
        found: Json = answer.json()
        return found

    def _translated(self, error: BaseNomadException, method: str, what: str) -> ClusterError:
        answer = error.nomad_resp
        if not isinstance(answer, requests.Response):
            return self._away(answer)
        words = answer.text.strip()
        if _NO_LEADER in words:
            return ClusterAway(f"Nomad at {self.address} has no leader just now")
        status = answer.status_code
        # A token that has expired may be answered with a 500.
        if status == requests.codes.forbidden or "ACL token" in words:
            words += (
                ": give NOMAD_TOKEN a token whose policy allows this in the namespace "
                f"'{self.namespace}', and that has not expired"
            )
            return self._refused(what, status, words)
        # A write that breaks a rule is a 500 too; a read is not, so then it is Nomad's trouble.
        passing = status in _PASSING_STATUSES or any(part in words for part in _PASSING_WORDS)
        if passing or (method == "get" and status >= requests.codes.server_error):
            return ClusterAway(f"Nomad at {self.address} answers {status}: {words}")
        return self._refused(what, status, words)

    def _refused(self, what: str, status: int, words: str) -> ClusterRefused:
        said = f"Nomad at {self.address} refuses {what} ({status}): {words}"
        return ClusterRefused(said, status, words)

    def _away(self, reason: object) -> ClusterAway:
        return ClusterAway(
            f"Nomad at {self.address} does not answer ({_root(reason)}): is it up, and is the "
            "address ([batch_cluster], [service_cluster] or NOMAD_ADDR) right?"
        )


def _root(reason: object) -> str:
    """The innermost cause of a chain of connection errors, which is the one that says something."""
    while isinstance(reason, BaseException):
        inner = getattr(reason, "reason", None) or reason.__cause__
        inner = inner or next((a for a in reason.args if isinstance(a, BaseException)), None)
        if inner is None or inner is reason:
            break
        reason = inner
    return f"{reason}".rpartition(": ")[2][:200] or type(reason).__name__
