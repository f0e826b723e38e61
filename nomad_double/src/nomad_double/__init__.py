"""A double of Nomad for tests and demos: its API, its scheduler, and tasks as local processes.

No package registry has a Nomad server, and mocks of its client would only repeat what we believe
of it. The double keeps Nomad's habits, the unpleasant ones above all: a failed batch job is dead
like a good one, errors of the domain are plain texts with status 500, a token of a dispatch is
forgotten with its child. What it does not know it refuses.
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
