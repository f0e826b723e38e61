"""Jobspecs as Nomad's parse endpoint reads them; an own evaluator, since no library has one."""

from mlservice.jobspec.diagnostics import HclError
from mlservice.jobspec.jobspec import parse_job

__all__ = ["HclError", "parse_job"]
