"""Jobspecs as Nomad's parse endpoint reads them; an own evaluator, since no library has one."""

from mlservice.testing.nomad.hcl.diagnostics import HclError
from mlservice.testing.nomad.hcl.jobspec import parse_job

__all__ = ["HclError", "parse_job"]
