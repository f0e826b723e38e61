"""How the double runs tasks, and what it tells the callable that may stand for their processes."""

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
    """A task for the callable that stands for its process: what it is, and whether to end.

    The callable gives the exit code. A ``MemoryError`` of its stands for a kill for memory.
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
    """How tasks are run: where, with which limits, and as what."""

    folder: Path
    node: Node
    oversubscription: bool = True
    run: Callable[[TaskContext], int] | None = None
    consul: str | None = None
    consul_template: str | None = None
    consul_agent: ConsulAgent | None = None
    hide_oom: bool = False
    memory: MemoryWatch = field(default_factory=MemoryWatch)
