"""What the service did, as values: written as JSON lines, and read back by whoever counts them."""

from mlservice.events.exposure import ExposureEvent
from mlservice.events.kinds import KINDS, Event, EventKind, decode_event, encode_event
from mlservice.events.log import EventLog
from mlservice.events.prediction import PredictionEvent
from mlservice.events.reward import MAX_REWARD, RewardEvent
from mlservice.events.unit import Unit, unit_of

__all__ = [
    "KINDS",
    "MAX_REWARD",
    "Event",
    "EventKind",
    "EventLog",
    "ExposureEvent",
    "PredictionEvent",
    "RewardEvent",
    "Unit",
    "decode_event",
    "encode_event",
    "unit_of",
]
