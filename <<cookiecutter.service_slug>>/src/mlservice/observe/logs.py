"""Logging: one JSON object a line with ECS names for services, plain lines for commands."""

from __future__ import annotations

import logging
import sys

import ecs_logging


def log_as_json(service: str) -> None:
    """Log everything from INFO on to standard error as ECS JSON, named by ``service``."""
    _install(ecs_logging.StdlibFormatter(extra={"service": {"name": service}}))


def log_as_text() -> None:
    """Log everything from INFO on to standard error as plain lines."""
    _install(logging.Formatter("%(message)s"))
    # Says that it looks for fonts.
    logging.getLogger("matplotlib").setLevel(logging.WARNING)
    # Says which settings it loaded, while it is imported.
    logging.getLogger("luigi-interface").setLevel(logging.WARNING)


def _install(formatter: logging.Formatter) -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter)
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
