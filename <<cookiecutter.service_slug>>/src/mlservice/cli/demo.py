"""``mlservice demo``: prints what the demo shows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer

from mlservice.cli.group import environ_of, settings_of
from mlservice.cli.output import plain_table
from mlservice.cli.progress import show_progress


def demo(
    context: typer.Context,
    keep: Annotated[bool, typer.Option("--keep", help="Leave it running until Ctrl-C.")] = False,
) -> None:
    """Train, serve and predict real cases on this machine.

    With a second model, an A/B test and a bandit follow.
    """
    from mlservice.demo.run import run_demo
    from mlservice.observe.logs import log_as_text

    log_as_text()
    with show_progress() as progress:
        run_demo(settings_of(context), environ_of(context), _Printed(), progress, keep=keep)


class _Printed:
    """Prints the demo's report."""

    def step(self, number: int, title: str) -> None:
        print(f"\n{number}. {title}", flush=True)

    def line(self, text: str) -> None:
        print(f"  {text}", flush=True)

    def table(self, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        for line in plain_table(header, rows).splitlines():
            print(f"  {line}", flush=True)

    def command(self, text: str) -> None:
        print(text, flush=True)
