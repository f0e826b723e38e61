"""The live file: what a running process may be told without a restart."""

from mlservice.live.clients import Client, digest, new_client
from mlservice.live.file import STABLE, ListedWorker, Live, read_live
from mlservice.live.flags import Flag, FlagSet, operations
from mlservice.live.follower import LiveFollower
from mlservice.live.record import ModelRecord

__all__ = [
    "STABLE",
    "Client",
    "Flag",
    "FlagSet",
    "ListedWorker",
    "Live",
    "LiveFollower",
    "ModelRecord",
    "digest",
    "new_client",
    "operations",
    "read_live",
]
