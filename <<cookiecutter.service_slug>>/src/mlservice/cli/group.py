"""How commands are declared: groups with plain help, and what each command is called with.

Help is plain text, so it reads the same on a terminal, in a pipe and in docs/commands.md. typer's
own help with frames takes three times as long to start.
"""

from __future__ import annotations

import re
import sys
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from typer.core import TyperCommand, TyperGroup

if TYPE_CHECKING:
    from mlservice.settings import Settings

HELP_WIDTH = 96
_HEADING = re.compile(r"^(Usage:|[A-Z][a-z]+:$)", re.MULTILINE)
_FIRST_COLUMN = re.compile(r"^  ((?:-[a-z], )?--?[\w-]+|[a-z][a-z-]*(?=  ))", re.MULTILINE)


@dataclass(frozen=True)
class Invocation:
    """What a command is called with beside its arguments."""

    environ: Mapping[str, str]


def environ_of(context: typer.Context) -> Mapping[str, str]:
    """Return the environment that the command was started in."""
    invocation: Invocation = context.find_root().obj
    return invocation.environ


def settings_of(context: typer.Context) -> Settings:
    """Return the settings of the service that the current folder belongs to."""
    from mlservice.settings import load_settings

    return load_settings(Path.cwd(), environ_of(context))


def wants_colour(environ: Mapping[str, str]) -> bool:
    """Whether standard output may be coloured: on a terminal, unless ``NO_COLOR`` is set."""
    return sys.stdout.isatty() and not environ.get("NO_COLOR") and environ.get("TERM") != "dumb"


class CommandGroup(typer.Typer):
    """A group of commands; called without one, it lists them."""

    def __init__(self, about: str, *, add_completion: bool = False) -> None:
        """Describe the group; only the root offers to install shell completion."""
        super().__init__(
            help=about,
            cls=_Group,
            no_args_is_help=True,
            add_completion=add_completion,
            rich_markup_mode=None,
            pretty_exceptions_enable=False,
            context_settings={
                "help_option_names": ["--help", "-h"],
                "max_content_width": HELP_WIDTH,
            },
        )

    def command(
        self, name: str | None = None, *, example: str = "", **options: Any
    ) -> Callable[..., Any]:
        """Declare a command of the group, with an example of a command line; see typer."""
        # \b keeps the lines as they are.
        epilog = f"\b\nExample:\n  {example}" if example else None
        return super().command(name, cls=_Command, epilog=epilog, **options)


def without_conversion(flag: Any) -> Any:
    """Give a flag of typer's the default False: to convert None, typer imports pydantic."""
    if flag is not None and flag.default is None:
        flag.default = False
    return flag


class _Command(TyperCommand):
    def get_help_option(self, ctx: Any) -> Any:
        return without_conversion(super().get_help_option(ctx))

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        # typer writes a required argument as {NAME}.
        return [piece.strip("{}") for piece in super().collect_usage_pieces(ctx)]

    def get_help(self, ctx: Any) -> str:
        return _coloured(super().get_help(ctx), ctx)

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except (BrokenPipeError, EOFError) as error:
            # typer takes these for a reader or a keyboard that is gone, and hides the traceback.
            if _reader_is_gone():
                raise
            traceback.print_exc()
            raise typer.Exit(1) from error


class _Group(TyperGroup):
    def get_help_option(self, ctx: Any) -> Any:
        return without_conversion(super().get_help_option(ctx))

    def get_help(self, ctx: Any) -> str:
        return _coloured(super().get_help(ctx), ctx)


def _coloured(text: str, context: typer.Context) -> str:
    invocation = context.find_root().obj
    if not isinstance(invocation, Invocation) or not wants_colour(invocation.environ):
        return text
    text = _HEADING.sub(lambda found: typer.style(found[0], bold=True), text)
    return _FIRST_COLUMN.sub(lambda found: "  " + typer.style(found[1], fg="cyan"), text)


def _reader_is_gone() -> bool:
    """Whether the reader of standard output has gone, as after `| head`."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        return True
    return False
