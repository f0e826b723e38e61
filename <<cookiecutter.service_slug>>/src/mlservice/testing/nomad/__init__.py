"""A double of Nomad for tests and demos: its API, its scheduler, and tasks as local processes.

No package registry has a Nomad server, and mocks of its client would only repeat what we believe
of it. The double keeps Nomad's habits, the unpleasant ones above all: a failed batch job is dead
like a good one, errors of the domain are plain texts with status 500, a token of a dispatch is
forgotten with its child. What it does not know it refuses.
"""

from mlservice.testing.nomad.double import NomadDouble
from mlservice.testing.nomad.faults import Faults
from mlservice.testing.nomad.settings import TaskContext

__all__ = ["Faults", "NomadDouble", "TaskContext"]
