"""The page on commands, from their own help."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import typer

from mlservice.cli.group import HELP_WIDTH
from mlservice.cli.main import PROGRAM, make_command

INTRODUCTION = """# Commands

`make help` lists what people use every day. These commands call the command `mlservice`
(`.venv/bin/mlservice`), which ends with one of the [exit codes](exit-codes.md).

`mlservice` alone, or a group such as `mlservice pipeline`, lists its commands; `--help` explains
one, with an example. Commands that list or show something print JSON with `--json`. Tables and
progress bars are for terminals: in a pipe each row is one line, however long, and nothing is
coloured. `NO_COLOR=1` switches colour off on terminals too.

`.venv/bin/mlservice --install-completion` installs completion for your shell. Open a new shell
afterwards, with `.venv/bin` on its `PATH`.

Made from the commands' own help.
"""


def commands_page() -> str:
    """The page on commands: the help text of each."""
    pages = [
        f"## {context.command_path}\n\n```text\n{context.get_help()}\n```\n"
        for context in _leaves(make_command(), PROGRAM, None)
    ]
    return "\n".join([INTRODUCTION, *pages])


def _leaves(command: Any, name: str, above: typer.Context | None) -> Iterator[typer.Context]:
    """All commands below ``command`` that have none below them, as their help needs them."""
    settings = {**command.context_settings, "terminal_width": HELP_WIDTH}
    context = typer.Context(command, info_name=name, parent=above, **settings)
    below = getattr(command, "commands", {})
    for child, each in below.items():
        yield from _leaves(each, child, context)
    if not below:
        yield context
