"""Checks whether a cluster has what the service needs, and names a remedy for each lack."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache

from mlservice.cluster import Agent, ConsulStore, Nomad, empty_spec
from mlservice.errors import ClusterError, ClusterRefused

_OLDEST = (1, 6, 2)  # crons in periodic, variables in the parser
_NO_RACE = (1, 11, 2)
_NOBODY = "mlservice-doctor"
_FORBIDDEN = 403
_TEMPLATE_FUNCTIONS = {"keyOrDefault", "service", "env", "secret", "toJSON"}
Verdict = tuple[bool | None, str]


@dataclass(frozen=True)
class Finding:
    """The result of one check; ``fine`` is None if it cannot be known from here."""

    subject: str
    fine: bool | None
    words: str


def examine_nomad(nomad: Nomad, name: str, driver: str) -> Iterator[Finding]:
    """Check the cluster called ``name`` for jobs that run under ``driver``."""
    try:
        nomad.check_leader()
    except ClusterError as error:
        yield Finding(f"{name}: reachable", False, str(error))
        return
    yield Finding(f"{name}: reachable", True, nomad.address)
    agent = cache(nomad.agent)
    # A team's token needs rights in the team's namespace only, so the cluster itself may be hidden.
    for subject, if_denied, check in (
        ("version", None, lambda: _version(agent())),
        ("rights", False, lambda: _rights(nomad)),
        ("namespace", False, lambda: _namespace(nomad)),
        ("oversubscription", None, lambda: _oversubscription(nomad)),
        ("consul_retry", None, lambda: _consul_retry(agent())),
        ("template functions", None, lambda: _functions(agent())),
        ("driver", None, lambda: _driver(nomad, driver)),
    ):
        fine, words = _run(check, if_denied)
        yield Finding(f"{name}: {subject}", fine, words)


def examine_consul(consul: ConsulStore, key: str) -> Iterator[Finding]:
    """Check whether Consul answers, has a leader, and lets the key be read."""

    def find_leader() -> Verdict:
        leader = consul.leader()
        return bool(leader), leader or "there is none at the moment"

    def read_key() -> Verdict:
        if consul.get(key).value is None:
            return False, f"{key} is missing: run `mlservice deploy register`"
        return True, f"{key} exists"

    fine, words = _run(find_leader)
    yield Finding("consul: leader", fine, words)
    if fine:
        yield Finding("consul: keys", *_run(read_key))


def _run(check: Callable[[], Verdict], if_denied: bool | None = False) -> Verdict:
    """Run a check; it counts as ``if_denied`` if the token has no right to it."""
    try:
        return check()
    except ClusterRefused as error:
        return (if_denied if error.status == _FORBIDDEN else False), str(error)
    except ClusterError as error:
        return False, str(error)


def _version(agent: Agent) -> Verdict:
    text = agent.version
    numbers = tuple(int(part) for part in text.partition("-")[0].split(".")[:3])
    if numbers < _OLDEST:
        return False, f"{text}: upgrade to 1.6.2 or newer, older parsers take no variables"
    if numbers < _NO_RACE:
        return True, f"{text} (before 1.11.2 a dispatch can run twice; the artifact decides)"
    return True, text


def _rights(nomad: Nomad) -> Verdict:
    token = nomad.token()
    if token is None:
        return True, "ACLs are off: every token has every right"
    if token.management:
        return True, "a management token: for people, not for CI or pipelines"
    # Each request names a job that does not exist, so it changes nothing.
    requests: dict[str, Callable[[], object]] = {
        "list-jobs": lambda: nomad.jobs(_NOBODY),
        "read-job": lambda: nomad.job(_NOBODY),
        "submit-job": lambda: nomad.plan(empty_spec(_NOBODY)),
        "dispatch-job": lambda: nomad.dispatch(_NOBODY, b"", {}, ""),
    }
    lacking = [right for right, request in requests.items() if not _is_allowed(request)]
    names = ", ".join(token.policies) or "none"
    if lacking:
        return False, (
            f"policies {names}: {', '.join(lacking)} is denied in the namespace "
            f"'{nomad.namespace}': add it to a policy of the token in NOMAD_TOKEN"
        )
    allowed = ", ".join(requests)
    return True, f"policies {names}: {allowed}; read-logs is only known when a log is read"


def _is_allowed(request: Callable[[], object]) -> bool:
    try:
        request()
    except ClusterRefused as error:
        return error.status != _FORBIDDEN
    return True


def _namespace(nomad: Nomad) -> Verdict:
    nomad.check_namespace()
    return True, nomad.namespace


def _oversubscription(nomad: Nomad) -> Verdict:
    if nomad.memory_oversubscription():
        return True, "on"
    return False, (
        "off, so memory_max is ignored: `nomad operator scheduler set-config "
        "-memory-oversubscription=true`"
    )


def _consul_retry(agent: Agent) -> Verdict:
    if agent.consul_attempts is None:
        return None, (
            "cannot be known from here: on every client set `client { template { consul_retry { "
            "attempts = 0 } } }`, or an outage of Consul kills running services after 12 tries"
        )
    if agent.consul_attempts == 0:
        return True, "unlimited (attempts = 0)"
    return False, (
        f"{agent.consul_attempts} attempts, and then running services are killed: set attempts = 0"
    )


def _functions(agent: Agent) -> Verdict:
    if agent.denied_functions is None:
        return None, "cannot be known from here; the templates use key, service, env and secret"
    if used := _TEMPLATE_FUNCTIONS & agent.denied_functions:
        names = ", ".join(sorted(used))
        return False, f"{names} are denied: remove them from function_denylist"
    return True, "all functions that the templates use are allowed"


def _driver(nomad: Nomad, driver: str) -> Verdict:
    healthy = sum(node.ready and driver in node.drivers for node in nomad.nodes())
    if healthy:
        return True, f"{driver} is healthy on {healthy} nodes"
    remedy = "enable it in the clients' plugin block" if driver == "raw_exec" else "start it there"
    return False, f"no ready node has the driver {driver}: {remedy}, or set the variable `driver`"
