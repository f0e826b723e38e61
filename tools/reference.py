"""Makes the reference pages of a service, docs/settings.md and docs/commands.md, from the code."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from mlservice.cli.main import make_parser
from mlservice.settings import PREFIX, Section, Settings

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "<<cookiecutter.service_slug>>" / "docs"
SETTINGS = f"""# Settings

They stand in `service.toml`. For one process, an environment variable overrides any of them:
`{PREFIX}GATEWAY__PORT=8080` stands for `port = 8080` under `[gateway]`. `{PREFIX}CONFIG` names
another file. An unknown or unusable setting is refused by name when a command starts.

Made from `src/mlservice/settings.py`.
"""
COMMANDS = """# Commands

`make help` lists what people use every day. Below it lies the command `mlservice`
(`.venv/bin/mlservice`). It exits with 0 when all went well, and otherwise with the code of the
error: 1 other, 2 settings, contracts or your package, 3 artifacts, 4 jobs and pipelines, 5 a model
that was refused, 6 an upgrade that was not taken, 7 Nomad or Consul, 8 Kafka, 70 a worker whose
model hung.

Made from the commands' own help.
"""


def main(argv: list[str]) -> int:
    """Write the pages, or with ``--check`` compare them; returns the exit code."""
    parser = argparse.ArgumentParser(description="make the reference pages")
    parser.add_argument("--check", action="store_true", help="only compare, exit 1 on a difference")
    check: bool = parser.parse_args(argv).check
    os.environ["COLUMNS"] = "96"
    stale = False
    for name, text in (("settings.md", settings_page()), ("commands.md", commands_page())):
        file = DOCS / name
        if not check:
            file.write_text(text, "utf-8")
        elif not file.exists() or file.read_text("utf-8") != text:
            print(f"docs/{name} of the service does not follow from the code: run `make reference`")
            stale = True
    return int(stale)


def settings_page() -> str:
    """The page on settings: a table for each section."""
    pages = [SETTINGS]
    for name, field in Settings.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, Section):
            pages.append(f"## [{name}]\n\n{_table(field.annotation)}")
    return "\n".join(pages)


def commands_page() -> str:
    """The page on commands: the help text of each."""
    pages = [COMMANDS]
    for title, parser in _leaves("mlservice", make_parser()):
        pages.append(f"## {title}\n\n```text\n{parser.format_help().rstrip()}\n```\n")
    return "\n".join(pages)


def _table(section: type[Section]) -> str:
    rows = ["| setting | default | meaning |", "| --- | --- | --- |"]
    for name, field in section.model_fields.items():
        default = "(none: it must be given)" if field.is_required() else f"`{field.default!r}`"
        kind = field.annotation
        choices = " or ".join(f"`{c}`" for c in get_args(kind) if get_origin(kind) is Literal)
        meaning = f"{field.description}{f': {choices}' if choices else ''}"
        rows.append(f"| `{name}` | {default.replace(chr(39), chr(34))} | {meaning} |")
    return "\n".join(rows) + "\n"


def _leaves(title: str, parser: argparse.ArgumentParser) -> list[tuple[str, Any]]:
    groups = [a for a in parser._actions if isinstance(a, argparse._SubParsersAction)]
    if not groups:
        return [(title, parser)]
    found = []
    for name, child in groups[0].choices.items():
        found += _leaves(f"{title} {name}", child)
    return found


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
