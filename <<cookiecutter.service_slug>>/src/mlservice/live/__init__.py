"""The live file: what a running process may be told anew, without a restart."""

from mlservice.live.clients import Client, digest
from mlservice.live.file import STABLE, ListedWorker, Live, read_live
from mlservice.live.flags import Flag, FlagSet, operations
from mlservice.live.follower import LiveFollower
from mlservice.live.record import ModelRecord
from mlservice.live.routing import (
    CanaryPolicy,
    Policy,
    ThompsonPolicy,
    WeightsPolicy,
    weights_of,
)

__all__ = [
    "STABLE",
    "CanaryPolicy",
    "Client",
    "Flag",
    "FlagSet",
    "ListedWorker",
    "Live",
    "LiveFollower",
    "ModelRecord",
    "Policy",
    "ThompsonPolicy",
    "WeightsPolicy",
    "digest",
    "operations",
    "read_live",
    "weights_of",
]
