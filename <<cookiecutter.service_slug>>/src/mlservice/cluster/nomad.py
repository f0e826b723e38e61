"""One Nomad cluster: its jobs, their plans, children and allocations, as frozen values."""

from __future__ import annotations

import base64
from collections.abc import Mapping

from mlservice.cluster.answers import (
    Agent,
    Allocation,
    Deployment,
    Dispatched,
    Evaluation,
    JobListing,
    JobPlan,
    JobSpec,
    Node,
    RegisteredJob,
    Token,
)
from mlservice.cluster.connection import TIMEOUT_SECONDS, NomadConnection
from mlservice.cluster.decoding import (
    decode_agent,
    decode_allocations,
    decode_deployment,
    decode_dispatched,
    decode_evaluations,
    decode_job,
    decode_listed,
    decode_nodes,
    decode_oversubscription,
    decode_plan,
    decode_spec,
    decode_token,
)
from mlservice.cluster.fields import decode_each
from mlservice.errors import ClusterError
from mlservice.settings import ClusterSettings

_JITTER = 1 + 1 / 16  # Nomad may hold a blocking query that much longer than asked
_ALIVE = 'Status != "dead"'


def open_nomad(settings: ClusterSettings, environ: Mapping[str, str], section: str) -> Nomad:
    """Return the Nomad that ``[section]`` of the settings names, else NOMAD_ADDR of ``environ``.

    No request is sent yet. Raises ``ClusterError`` if neither names one.
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


class Nomad(NomadConnection):
    """One Nomad cluster; may be used from several threads.

    Every method raises ``ClusterAway`` if Nomad cannot be reached or has no leader, and
    ``ClusterRefused`` with Nomad's own words if it refuses.
    """

    @property
    def place(self) -> tuple[str, str, str]:
        """Address, region and namespace: two clusters with the same three have the same jobs."""
        return self.address, self.region, self.namespace

    def parse(self, hcl: str, variables: str = "") -> JobSpec:
        """Return the job in ``hcl`` as Nomad's parser reads it; ``variables`` is a var file's text.

        The words of ``ClusterRefused`` are the parser's diagnostics.
        """
        body = {"JobHCL": hcl, "Variables": variables, "Canonicalize": True}
        return decode_spec(self.post("jobs", "parse", body=body))

    def plan(self, spec: JobSpec) -> JobPlan:
        """Return what registering ``spec`` would change."""
        body = {"Job": spec.document, "Diff": True}
        return decode_plan(self.post("job", spec.name, "plan", body=body))

    def register(self, spec: JobSpec, index: int) -> None:
        """Register ``spec`` if the job's index is still ``index`` (0: it does not exist yet).

        Raises ``ClusterConflict`` if the index is another one. Before Nomad 2.0.1 two writers with
        the same index can both succeed, so read the job again.
        """
        body = {"Job": spec.document, "EnforceIndex": True, "JobModifyIndex": index}
        self.post("jobs", body=body)

    def job(self, name: str) -> RegisteredJob | None:
        """Return the job, or None if there is none."""
        found = self.get_or_none("job", name)
        return None if found is None else decode_job(found)

    def dispatch(
        self, parent: str, payload: bytes, meta: Mapping[str, str], token: str
    ) -> Dispatched:
        """Make a child of the parameterized job ``parent``, once for each ``token``.

        Before Nomad 1.11.2 two requests at the same moment can make two children. From then on
        the second request is told of a child that does not exist, so check that it does. Raises
        ``JobNotRegistered`` if there is no such parent.
        """
        encoded = base64.b64encode(payload).decode()
        body = {"Meta": dict(meta), **({"Payload": encoded} if payload else {})}
        # In the query: python-nomad sends it in the body, where Nomad ignores it.
        parameters = {"idempotency_token": token} if token else {}
        return decode_dispatched(
            self.post("job", parent, "dispatch", body=body, parameters=parameters)
        )

    def jobs(
        self, prefix: str, *, alive: bool = False, index: int = 0, wait: float = 0,
        meta: bool = False,
    ) -> JobListing:  # fmt: skip
        """List the jobs whose names begin with ``prefix``; only the ``alive`` ones if asked.

        With an ``index``, wait up to ``wait`` seconds for anything newer. Their meta is filled in
        only if ``meta`` is true.
        """
        parameters = {
            "prefix": prefix,
            "filter": _ALIVE if alive else None,
            "meta": "true" if meta else None,
        }
        if index:
            parameters |= {"index": str(max(1, index)), "wait": f"{int(wait * 1000)}ms"}
        answer = self.request(
            "get", "jobs", parameters=parameters, timeout=TIMEOUT_SECONDS + wait * _JITTER
        )
        found = decode_each("the jobs", self.decoded(answer), decode_listed)
        return JobListing(tuple(found), int(answer.headers.get("X-Nomad-Index") or 0))

    def allocations(self, job: str) -> list[Allocation]:
        """Return the job's allocations, the oldest first."""
        return decode_allocations(self.get("job", job, "allocations"))

    def evaluations(self, job: str) -> list[Evaluation]:
        """Return the job's evaluations, the oldest first."""
        return decode_evaluations(self.get("job", job, "evaluations"))

    def deployment(self, job: str) -> Deployment | None:
        """Return the job's latest deployment, or None."""
        found = self.get_or_none("job", job, "deployment")
        return None if found is None else decode_deployment(found)

    def log(self, allocation: str, task: str, kind: str, size: int) -> str:
        """Return the last ``size`` bytes of a task's log; ``kind`` is "stdout" or "stderr"."""
        parameters = {
            "task": task, "type": kind, "origin": "end", "offset": str(size), "plain": "true",
        }  # fmt: skip
        answer = self.request("get", "client.stream_logs", allocation, parameters=parameters)
        return answer.content.decode(errors="replace")

    def stop(self, job: str, *, purge: bool = False) -> None:
        """Stop a job, if there is one. Its children run on."""
        self.request("delete", "job", job, parameters={"purge": "true" if purge else None})

    def check_leader(self) -> None:
        """Raise ``ClusterAway`` if the cluster has no leader."""
        self.request("get", "status.leader")

    def check_namespace(self) -> None:
        """Raise ``ClusterRefused`` if the namespace does not exist or may not be read."""
        self.request("get", "namespace", self.namespace)

    def agent(self) -> Agent:
        """Return the agent that answers: its version, and what its templates may do."""
        return decode_agent(self.get("agent", "self"))

    def token(self) -> Token | None:
        """Return the token of these requests, or None if the cluster has no ACLs."""
        try:
            return decode_token(self.get("acl", "token", "self"))
        except ClusterError as error:
            if "ACL support disabled" in str(error):
                return None
            raise

    def memory_oversubscription(self) -> bool:
        """Whether tasks may use more memory than they reserve (``memory_max``)."""
        return decode_oversubscription(self.get("operator", "scheduler", "configuration"))

    def nodes(self) -> list[Node]:
        """Return the nodes of the cluster."""
        return decode_nodes(self.get("nodes"))
