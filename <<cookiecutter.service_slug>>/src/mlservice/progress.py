"""Says how far long work is. The work reports here; who started it decides what is shown."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Takes reports of long work; each method may be called from any thread."""

    def begin(self, title: str, total: int) -> None:
        """Work of ``total`` steps begins."""

    def advance(self, count: int = 1) -> None:
        """``count`` more steps are done."""

    def end(self) -> None:
        """The work that began last has ended, or was given up."""


class _Silent:
    def begin(self, title: str, total: int) -> None:
        pass

    def advance(self, count: int = 1) -> None:
        pass

    def end(self) -> None:
        pass


SILENT: Progress = _Silent()
