"""Clients of Nomad and Consul that answer with frozen values and raise the platform's errors."""

from mlservice.cluster.answers import (
    Agent,
    Allocation,
    Deployment,
    Difference,
    Dispatched,
    Evaluation,
    JobListing,
    JobPlan,
    JobSpec,
    ListedJob,
    Node,
    RegisteredJob,
    TaskGroup,
    TaskState,
    Termination,
    Token,
    Unplaced,
)
from mlservice.cluster.consul import ConsulStore, KeyEntry, open_consul
from mlservice.cluster.decoding import decode_spec, empty_spec
from mlservice.cluster.nomad import Nomad, open_nomad

__all__ = [
    "Agent",
    "Allocation",
    "ConsulStore",
    "Deployment",
    "Difference",
    "Dispatched",
    "Evaluation",
    "JobListing",
    "JobPlan",
    "JobSpec",
    "KeyEntry",
    "ListedJob",
    "Node",
    "Nomad",
    "RegisteredJob",
    "TaskGroup",
    "TaskState",
    "Termination",
    "Token",
    "Unplaced",
    "decode_spec",
    "empty_spec",
    "open_consul",
    "open_nomad",
]
