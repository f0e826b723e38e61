"""Parses Nomad's jobspecs without a Nomad.

A mistake in a job file would otherwise appear only when the job is registered on a cluster, because
Nomad's own parser is a part of its server. `mlservice deploy check` finds it before the commit.

The result and the diagnostics are those of Nomad's parse endpoint. python-hcl2 gives the syntax
tree; expressions, variables, functions and blocks are evaluated here, because no library does that
as Nomad does.
"""

from mlservice.errors import HclError
from mlservice.jobspec.parse import parse_job

__all__ = ["HclError", "parse_job"]
