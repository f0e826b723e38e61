"""Logging: one JSON object a line with ECS names for services, plain lines for commands."""

from __future__ import annotations

import logging
import sys

import ecs_logging


def log_as_json(service: str) -> None:
    """Log to standard error as ECS JSON, from level INFO; each line names ``service``."""
    _install(ecs_logging.StdlibFormatter(extra={"service": {"name": service}}))


def log_as_text() -> None:
    """Log to standard error as plain lines, from level INFO."""
    _install(logging.Formatter("%(message)s"))
    # It reports that it looks for fonts.
    logging.getLogger("matplotlib").setLevel(logging.WARNING)
    # It reports its settings while it is imported.
    logging.getLogger("luigi-interface").setLevel(logging.WARNING)


def _install(formatter: logging.Formatter) -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter)
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
