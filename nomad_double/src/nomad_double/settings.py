"""How the double runs tasks, and what a function learns that stands in for their processes.

A grid of ten thousand jobs cannot start ten thousand processes on a test machine. A function in
their place leaves all of Nomad's bookkeeping as it is.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from nomad_double.consul import ConsulAgent
from nomad_double.node import Node
from nomad_double.process import MemoryWatch


@dataclass(frozen=True)
class TaskContext:
    """A task, for the function that stands in for its process.

    The function returns the exit code. If it raises ``MemoryError``, that is a kill for memory.
    """

    alloc: str
    job: str
    parent: str
    group: str
    task: str
    environment: Mapping[str, str]
    meta: Mapping[str, str]
    payload: bytes
    folder: Path
    killed: threading.Event


@dataclass
class Settings:
    """How tasks run: where, within which limits, and as processes or as a function."""

    folder: Path
    node: Node
    oversubscription: bool = True
    run: Callable[[TaskContext], int] | None = None
    consul: str | None = None
    consul_template: str | None = None
    consul_agent: ConsulAgent | None = None
    hide_oom: bool = False
    memory: MemoryWatch = field(default_factory=MemoryWatch)
