"""Looks whether a cluster is what the service needs, and says for each lack what to do."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

from mlservice.cluster import ConsulStore, Nomad
from mlservice.errors import ClusterError, ClusterRefused

_OLDEST = (1, 6, 2)  # crons in periodic, variables in the parser
_NO_RACE = (1, 11, 2)
_DENIED_BY_DEFAULT = ("plugin",)
_NOBODY = "mlservice-doctor"
_FORBIDDEN = 403


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at; ``fine`` is None where it cannot be told from here."""

    subject: str
    fine: bool | None
    words: str


def examine_nomad(nomad: Nomad, name: str, driver: str) -> Iterator[Finding]:
    """Look at the cluster called ``name`` for jobs that run under ``driver``."""
    try:
        nomad.call("get", "status.leader")
    except ClusterError as error:
        yield Finding(f"{name}: reachable", False, str(error))
        return
    yield Finding(f"{name}: reachable", True, nomad.address)
    agent = cache(nomad.agent)
    # A team's token need not see the cluster itself, only what is the team's own.
    for subject, denied, look in (
        ("version", None, lambda: _version(agent())),
        ("rights", False, lambda: _rights(nomad)),
        ("namespace", False, lambda: _namespace(nomad)),
        ("oversubscription", None, lambda: _oversubscription(nomad)),
        ("consul_retry", None, lambda: _consul_retry(agent())),
        ("template functions", None, lambda: _functions(agent())),
        ("driver", None, lambda: _driver(nomad, driver)),
    ):
        fine, words = _tried(look, denied)
        yield Finding(f"{name}: {subject}", fine, words)


def examine_consul(consul: ConsulStore, key: str) -> Iterator[Finding]:
    """Look whether Consul answers, has a leader and lets the key be read."""

    def read() -> tuple[bool, str]:
        entry = consul.get(key)
        if entry.value is None:
            return False, f"{key} is missing: run `mlservice deploy register`"
        return True, f"{key} is there"

    fine, words = _tried(lambda: (bool(leader := consul.leader()), leader or "has none just now"))
    yield Finding("consul: leader", fine, words)
    if fine:
        yield Finding("consul: keys", *_tried(read))


def _tried(
    look: Callable[[], tuple[bool | None, str]], denied: bool | None = False
) -> tuple[bool | None, str]:
    """What ``look`` finds; ``denied`` where the token may not look."""
    try:
        return look()
    except ClusterRefused as error:
        return (denied if error.status == _FORBIDDEN else False), str(error)
    except ClusterError as error:
        return False, str(error)


def _version(agent: dict[str, Any]) -> tuple[bool, str]:
    text = _config(agent, "Version", "Version") or agent["member"]["Tags"]["build"]
    numbers = tuple(int(part) for part in text.partition("-")[0].split(".")[:3])
    if numbers < _OLDEST:
        return False, f"{text}: upgrade to 1.6.2 or newer, older parsers take no variables"
    if numbers < _NO_RACE:
        return True, f"{text} (before 1.11.2 a dispatch can run twice; the artifact decides)"
    return True, text


def _rights(nomad: Nomad) -> tuple[bool | None, str]:
    try:
        token = nomad.call("get", "acl", "token", "self").json()
    except ClusterError as error:
        if "ACL support disabled" in str(error):
            return True, "ACLs are off: everybody may do everything"
        raise
    if token.get("Type") == "management":
        return True, "a management token: for people, not for CI or pipelines"
    # Each is tried on a job that is not there, so nothing is left behind.
    tries: dict[str, Callable[[], object]] = {
        "list-jobs": lambda: nomad.jobs(_NOBODY),
        "read-job": lambda: nomad.job(_NOBODY),
        "submit-job": lambda: nomad.plan({"ID": _NOBODY, "Name": _NOBODY, "Type": "batch"}),
        "dispatch-job": lambda: nomad.dispatch(_NOBODY, b"", {}, ""),
    }
    lacking = [right for right, attempt in tries.items() if not _may(attempt)]
    names = ", ".join(token.get("Policies") or []) or "none"
    if lacking:
        return False, (
            f"policies {names}: {', '.join(lacking)} is denied in the namespace "
            f"'{nomad.namespace}': add it to a policy of the token in NOMAD_TOKEN"
        )
    return True, f"policies {names}: {', '.join(tries)}; read-logs shows itself by a job's log"


def _may(attempt: Callable[[], object]) -> bool:
    try:
        attempt()
    except ClusterRefused as error:
        return error.status != _FORBIDDEN
    return True


def _namespace(nomad: Nomad) -> tuple[bool, str]:
    nomad.call("get", "namespace", nomad.namespace)
    return True, nomad.namespace


def _oversubscription(nomad: Nomad) -> tuple[bool, str]:
    found = nomad.call("get", "operator", "scheduler", "configuration").json()
    if found["SchedulerConfig"].get("MemoryOversubscriptionEnabled"):
        return True, "on"
    return False, (
        "off, so memory_max is ignored: `nomad operator scheduler set-config "
        "-memory-oversubscription=true`"
    )


def _consul_retry(agent: dict[str, Any]) -> tuple[bool | None, str]:
    retry = _config(agent, "Client", "TemplateConfig", "ConsulRetry")
    if not isinstance(retry, dict):
        return None, (
            "cannot be told from here: on every client set `client { template { consul_retry { "
            "attempts = 0 } } }`, or an outage of Consul kills running services after 12 tries"
        )
    if retry.get("Attempts") == 0:
        return True, "for ever"
    return False, (
        f"{retry.get('Attempts')} attempts, and then running services are killed: set attempts = 0"
    )


def _functions(agent: dict[str, Any]) -> tuple[bool | None, str]:
    denied = _config(agent, "Client", "TemplateConfig", "FunctionDenylist")
    if denied is None:
        return None, "cannot be told from here; the templates use key, service, env and secret only"
    used = {"keyOrDefault", "service", "env", "secret", "toJSON"} & set(denied)
    if used:
        return False, f"{', '.join(sorted(used))} are denied: take them off function_denylist"
    return True, "those that the templates use are allowed"


def _driver(nomad: Nomad, driver: str) -> tuple[bool, str]:
    healthy = 0
    for stub in nomad.call("get", "nodes").json() or []:
        found = (stub.get("Drivers") or {}).get(driver) or {}
        healthy += bool(found.get("Healthy")) and stub.get("Status") == "ready"
    if healthy:
        return True, f"{driver} is healthy on {healthy} nodes"
    remedy = "enable it in the clients' plugin block" if driver == "raw_exec" else "start it there"
    return False, f"no ready node has the driver {driver}: {remedy}, or set the variable `driver`"


def _config(agent: dict[str, Any], *path: str) -> Any:
    found: Any = agent.get("config") or {}
    for name in path:
        found = found.get(name) if isinstance(found, dict) else None
    return found
