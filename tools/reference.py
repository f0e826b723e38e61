"""Makes the pages of a service that follow from code: settings, commands, metrics and the like.

A page that is written by hand beside the code is wrong after a month. `make lint` compares them.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

from mlservice.cli.group import HELP_WIDTH
from mlservice.cli.main import PROGRAM, make_command
from tools.pages.events import events_page
from tools.pages.exit_codes import exit_codes_page
from tools.pages.metrics import metrics_page
from tools.pages.settings import settings_page

ROOT = Path(__file__).resolve().parent.parent
SERVICE = ROOT / "<<cookiecutter.service_slug>>"
PLATFORM = SERVICE / "src" / "mlservice"
COMMANDS = """# Commands

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


def main(argv: list[str]) -> int:
    """Write the pages, or with ``--check`` compare them; returns the exit code."""
    parser = argparse.ArgumentParser(description="make the reference pages")
    parser.add_argument("--check", action="store_true", help="only compare, exit 1 on a difference")
    check: bool = parser.parse_args(argv).check
    stale = [file for file, text in pages().items() if _differs(file, text)]
    for file in stale:
        if check:
            print(f"{file.relative_to(ROOT)} does not follow from the code: run `make reference`")
        else:
            file.write_text(pages()[file], "utf-8")
    return int(check and bool(stale))


def pages() -> dict[Path, str]:
    """The text of each page; the template has the glossary of the service, word for word."""
    docs = SERVICE / "docs"
    return {
        docs / "settings.md": settings_page(),
        docs / "commands.md": commands_page(),
        docs / "events.md": events_page(SERVICE / "src" / "mlservice" / "events" / "schemas"),
        docs / "metrics.md": metrics_page(PLATFORM),
        docs / "exit-codes.md": exit_codes_page(),
        ROOT / "docs" / "glossary.md": (docs / "glossary.md").read_text("utf-8"),
    }


def _differs(file: Path, text: str) -> bool:
    return not file.exists() or file.read_text("utf-8") != text


def commands_page() -> str:
    """The page on commands: the help text of each."""
    pages = [
        f"## {context.command_path}\n\n```text\n{context.get_help()}\n```\n"
        for context in _leaves(make_command(), PROGRAM, None)
    ]
    return "\n".join([COMMANDS, *pages])


def _leaves(command: Any, name: str, above: typer.Context | None) -> Iterator[typer.Context]:
    """All commands below ``command`` that have none below them, as their help needs them."""
    settings = {**command.context_settings, "terminal_width": HELP_WIDTH}
    context = typer.Context(command, info_name=name, parent=above, **settings)
    below = getattr(command, "commands", {})
    for child, each in below.items():
        yield from _leaves(each, child, context)
    if not below:
        yield context


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
