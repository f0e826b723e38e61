"""Every error that the platform raises on purpose, and its exit code.

A user's mistake (``MlserviceError``) is shown as its message only. Anything else is a bug and keeps
its traceback. The whole tree::

    MlserviceError            exit code 1
    ├── SettingsError                   2   service.toml or the environment
    ├── OwnerError                      2   the owner's package lacks a name or has a wrong one
    ├── ContractError                   2   a JSON Schema in contracts/ cannot be used
    ├── HclError                        2   a job file that Nomad refuses
    ├── ReleaseError                    2   the last release's contracts cannot be read
    ├── LiveError                       2   the live file or a published model's record
    ├── StatisticsError                 2   the rewards that a bandit reads
    ├── EventError                      2   a line of an event file that cannot be read
    ├── AddressInUse                    2   a port that another process uses
    ├── ArtifactError                   3
    │   ├── ArtifactNotFound            3
    │   ├── ArtifactExists              3   another writer was first
    │   ├── ArtifactCorrupt             3   a size or checksum differs from the manifest
    │   └── StoreError                  3   the store cannot be reached, read or written
    │       └── NoAnswer                3   it is unknown whether the store did it
    ├── JobError                        4   a job's arguments are wrong, or it failed
    ├── PipelineError                   4   a pipeline that did not complete
    ├── ModelRefused                    5   a model that fails its quality checks
    ├── UpgradeError                    6   a template upgrade that is refused
    ├── ClusterError                    7   a request to Nomad or Consul
    │   ├── ClusterAway                 7   cannot be reached, or has no leader now
    │   └── ClusterRefused              7   answered with an error status
    │       ├── ClusterConflict         7   another process registered the job meanwhile
    │       └── JobNotRegistered        7   the parameterized job to dispatch is missing
    ├── QueueError                      8   a fatal error of Kafka's client
    └── RequestError                    1   one request that gets no prediction
        ├── NotJson                     1
        ├── RepeatedKey                 1
        ├── InvalidHeader               1
        ├── RequestTooLarge             1
        ├── BrokenContract              1   the request breaks its schema
        │   └── InvalidRequest          1   it breaks a rule of the owner's code
        ├── InvalidReward               1
        ├── DeadlineExceeded            1   its deadline has passed
        ├── Unavailable                 1   no worker can predict now; it may be tried again
        │   ├── Overloaded              1   too many requests wait
        │   ├── VersionGone             1   no worker of the chosen version is left
        │   └── WorkerLost              1   the worker did not predict this batch
        │       └── WorkerBroke         1   the connection broke, perhaps because of this batch
        ├── PredictionFailed            1   the model gave no usable score for it
        ├── InvalidResponse             1   the response breaks its schema
        ├── ResponseTooLarge            1   the response is larger than a message may be
        ├── InternalError               1   a bug, here or in the owner's code
        └── HttpError                   1   only HTTP has these
            ├── Unauthorized            1
            ├── TooManyRequests         1
            ├── PathNotFound            1
            └── MethodNotAllowed        1

A ``RequestError`` knows no status. Each transport maps the classes in one table of its own:
``gateway.problems`` to HTTP, ``queue.outcomes`` to dead letters.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar


class MlserviceError(Exception):
    """A mistake of the user that has no code of its own; base of all errors here."""

    exit_code: ClassVar[int] = 1


class SettingsError(MlserviceError):
    """A setting in service.toml or in the environment that cannot be used."""

    exit_code = 2


class OwnerError(MlserviceError):
    """The owner's package lacks a name that the platform needs, or the name has the wrong form."""

    exit_code = 2


class ContractError(MlserviceError):
    """A schema in contracts/ that is missing or not a valid JSON Schema."""

    exit_code = 2


class HclError(MlserviceError):
    """A text that HCL or Nomad's rules refuse. The message is Nomad's own."""

    exit_code = 2

    def __init__(self, *diagnostics: str) -> None:
        """Keep the diagnostics; the message has one line for each."""
        super().__init__("\n".join(diagnostics))
        self.diagnostics = diagnostics


class ReleaseError(MlserviceError):
    """The last release, or the current version, that cannot be read."""

    exit_code = 2


class LiveError(MlserviceError):
    """A live file, or the record of a model, that cannot be used."""

    exit_code = 2


class StatisticsError(MlserviceError):
    """Statistics of the versions' rewards that cannot be used, or that are missing."""

    exit_code = 2


class EventError(MlserviceError):
    """An event that cannot be read from JSON, or not be written as JSON."""

    exit_code = 2


class AddressInUse(MlserviceError):
    """Another process listens on the address."""

    exit_code = 2


class ArtifactError(MlserviceError):
    """Another error of an artifact; base of those below."""

    exit_code = 3


class ArtifactNotFound(ArtifactError):
    """There is no complete artifact at the URI."""


class ArtifactExists(ArtifactError):
    """Another writer published the artifact first; artifacts are never replaced."""


class ArtifactCorrupt(ArtifactError):
    """A file of the artifact differs from its manifest."""


class StoreError(ArtifactError):
    """The artifact store cannot be reached, read or written."""


class NoAnswer(StoreError):
    """The store did not answer: it may have done what was asked, or not."""


class JobError(MlserviceError):
    """A job that cannot start with these arguments, or that failed."""

    exit_code = 4


class PipelineError(MlserviceError):
    """A pipeline that ended without its artifact."""

    exit_code = 4


class ModelRefused(MlserviceError):
    """A model that fails its quality checks."""

    exit_code = 5


class UpgradeError(MlserviceError):
    """A template upgrade that is refused; the repository is unchanged."""

    exit_code = 6


class ClusterError(MlserviceError):
    """Nomad or Consul cannot do something, or have an unexpected state."""

    exit_code = 7


class ClusterAway(ClusterError):
    """Nomad or Consul cannot be reached, or has no leader; try again."""


class ClusterRefused(ClusterError):
    """Nomad or Consul answered with an error; ``status`` is HTTP's, ``words`` are its text."""

    def __init__(self, message: str, status: int, words: str) -> None:
        """Keep the status and the words beside the message."""
        super().__init__(message)
        self.status = status
        self.words = words


class ClusterConflict(ClusterRefused):
    """The job changed after it was read: read it again and retry."""


class JobNotRegistered(ClusterRefused):
    """There is no such parameterized job to dispatch: register it first."""


class QueueError(MlserviceError):
    """A fatal error of Kafka's client: start a new process."""

    exit_code = 8


@dataclass(frozen=True)
class Fault:
    """One fault of a message: the field, its value, and the rule that it breaks."""

    field: str
    value: Any
    rule: str


class RequestError(MlserviceError):
    """One request that gets no prediction; ``code`` names the kind for programs."""

    code: ClassVar[str]

    def __init__(self, detail: str, faults: Sequence[Fault] = ()) -> None:
        """Keep the ``detail`` for people, and the faults."""
        super().__init__(detail)
        self.detail = detail
        self.faults = tuple(faults)


class NotJson(RequestError):
    """The body is not valid JSON."""

    code = "not_json"


class RepeatedKey(RequestError):
    """An object in the body has a key twice."""

    code = "repeated_key"


class InvalidHeader(RequestError):
    """A header has a value that cannot be used."""

    code = "invalid_header"


class RequestTooLarge(RequestError):
    """The body has more bytes than the settings allow."""

    code = "too_large"


class BrokenContract(RequestError):
    """The request breaks its contract."""

    code = "invalid_request"

    def __init__(self, faults: Sequence[Fault]) -> None:
        """Keep all its faults."""
        super().__init__("the request breaks its contract", faults)


class InvalidRequest(BrokenContract):
    """A request that keeps its schema but breaks a rule of the owner's code."""

    def __init__(self, field: str, value: Any, rule: str) -> None:
        """Name the ``field``, its ``value``, and the ``rule`` that the value breaks."""
        super().__init__([Fault(field, value, rule)])


class InvalidReward(RequestError):
    """The reward breaks its contract."""

    code = "invalid_reward"

    def __init__(self, faults: Sequence[Fault]) -> None:
        """Keep all its faults."""
        super().__init__("the reward breaks its contract", faults)


class DeadlineExceeded(RequestError):
    """The request's deadline has passed."""

    code = "deadline_exceeded"


class Unavailable(RequestError):
    """No worker can predict now; the caller may try again after ``retry_after`` seconds."""

    code = "unavailable"

    def __init__(self, detail: str, retry_after: int = 1) -> None:
        """Keep the reason as the detail."""
        super().__init__(detail)
        self.retry_after = retry_after


class Overloaded(Unavailable):
    """Too many requests are waiting."""

    code = "overloaded"


class VersionGone(Unavailable):
    """No worker of the chosen version can predict; nothing was sent to one."""


class WorkerLost(Unavailable):
    """The worker did not predict this batch; another one may."""


class WorkerBroke(WorkerLost):
    """The connection broke: the worker may have died, perhaps because of this batch."""


class PredictionFailed(RequestError):
    """The model gave no usable score for this request."""

    code = "prediction_failed"


class InvalidResponse(RequestError):
    """The response breaks its contract."""

    code = "invalid_response"


class ResponseTooLarge(RequestError):
    """The response is larger than a message may be."""

    code = "answer_too_large"


class InternalError(RequestError):
    """A bug of the platform or of the owner's code; the log has its traceback."""

    code = "internal"


class HttpError(RequestError):
    """Base of errors that only HTTP has."""


class Unauthorized(HttpError):
    """The request has no known token, and one is required."""

    code = "unauthorized"


class TooManyRequests(HttpError):
    """A client exceeds its rate; it may retry after ``retry_after`` seconds."""

    code = "too_many_requests"

    def __init__(self, detail: str, retry_after: int) -> None:
        """Keep the client and its rate as the detail."""
        super().__init__(detail)
        self.retry_after = retry_after


class PathNotFound(HttpError):
    """The gateway has no such path."""

    code = "not_found"


class MethodNotAllowed(HttpError):
    """The path has another method."""

    code = "method_not_allowed"
