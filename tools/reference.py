"""Makes the pages of a service that follow from code: settings, commands, metrics and the like.

A page that is written by hand beside the code is wrong after a month. `make lint` compares them.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tools.pages.commands import commands_page
from tools.pages.events import events_page
from tools.pages.exit_codes import exit_codes_page
from tools.pages.metrics import metrics_page
from tools.pages.problems import problems_page
from tools.pages.settings import settings_page

ROOT = Path(__file__).resolve().parent.parent
SERVICE = ROOT / "<<cookiecutter.service_slug>>"
PLATFORM = SERVICE / "src" / "mlservice"


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
        docs / "problem-codes.md": problems_page(),
        docs / "exit-codes.md": exit_codes_page(),
        ROOT / "docs" / "glossary.md": (docs / "glossary.md").read_text("utf-8"),
    }


def _differs(file: Path, text: str) -> bool:
    return not file.exists() or file.read_text("utf-8") != text


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
