from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Optional as _Optional

DESCRIPTOR: _descriptor.FileDescriptor

class PredictRequest(_message.Message):
    __slots__ = ("rows", "count", "timeouts_ms", "features")
    ROWS_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    TIMEOUTS_MS_FIELD_NUMBER: _ClassVar[int]
    FEATURES_FIELD_NUMBER: _ClassVar[int]
    rows: bytes
    count: int
    timeouts_ms: bytes
    features: str
    def __init__(self, rows: _Optional[bytes] = ..., count: _Optional[int] = ..., timeouts_ms: _Optional[bytes] = ..., features: _Optional[str] = ...) -> None: ...

class PredictReply(_message.Message):
    __slots__ = ("scores", "statuses", "model_version")
    SCORES_FIELD_NUMBER: _ClassVar[int]
    STATUSES_FIELD_NUMBER: _ClassVar[int]
    MODEL_VERSION_FIELD_NUMBER: _ClassVar[int]
    scores: bytes
    statuses: bytes
    model_version: str
    def __init__(self, scores: _Optional[bytes] = ..., statuses: _Optional[bytes] = ..., model_version: _Optional[str] = ...) -> None: ...
