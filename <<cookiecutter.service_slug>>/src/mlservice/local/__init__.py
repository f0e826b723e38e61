"""Runs the service as processes of this machine, as Nomad does on a cluster."""

from mlservice.local.ports import find_ports, free_ports
from mlservice.local.process import Command
from mlservice.local.service import LocalService

__all__ = ["Command", "LocalService", "find_ports", "free_ports"]
