"""A double of Nomad for tests and demos: its API, its scheduler, and tasks as local processes.

No package index has a Nomad server, and a mock of its client would only repeat what we believe
about it. The double keeps Nomad's behaviour, above all where it is unpleasant: a failed batch job
is dead like a successful one, most errors are plain text with status 500, and the token of a
dispatch is lost with its child. It refuses what it does not know.
"""

try:
    import mlservice.jobspec  # noqa: F401  # see the message
except ModuleNotFoundError as error:
    raise ImportError(
        f"nomad_double reads jobs by mlservice.jobspec, and {error.name} is not installed: install "
        "nomad-double into the environment of a service that the ml-service template rendered"
    ) from error

from nomad_double.double import NomadDouble
from nomad_double.faults import Faults
from nomad_double.settings import TaskContext

__all__ = ["Faults", "NomadDouble", "TaskContext"]
