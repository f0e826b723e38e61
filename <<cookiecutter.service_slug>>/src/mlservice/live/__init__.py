"""The live file: what a running process may be told anew, without a restart."""

from mlservice.live.file import Live, read_live
from mlservice.live.follower import LiveFollower
from mlservice.live.record import ModelRecord

__all__ = ["Live", "LiveFollower", "ModelRecord", "read_live"]
