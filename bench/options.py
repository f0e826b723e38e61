"""The options of a run: flags, or else environment variables (make bench ROUNDS=9)."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

SECTIONS = (
    "stages", "throughput", "tail", "latency", "workers", "peers", "rendering", "pipeline",
    "reload",
)  # fmt: skip


@dataclass(frozen=True)
class Options:
    """What to measure, and for how long."""

    rounds: int
    tail_rounds: int
    seconds: int
    connections: int
    peers: bool
    only: tuple[str, ...]


def read_options(argv: Sequence[str], environ: Mapping[str, str]) -> Options:
    """Return the options of ``argv``, with defaults from ``environ``."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    number = parser.add_argument
    number("--rounds", type=int, default=environ.get("ROUNDS", "5"), help="turns of each contender")
    number("--tail-rounds", type=int, default=environ.get("TAIL_ROUNDS", "7"), help="... for p99")
    number("--seconds", type=int, default=environ.get("SECONDS", "3"), help="length of one turn")
    number("--connections", type=int, default=environ.get("CONNECTIONS", "64"))
    parser.add_argument(
        "--peers",
        action="store_true",
        default=environ.get("PEERS", "0") not in ("", "0"),
        help="also measure BentoML, LitServe, MLServer and mosec, installed on demand",
    )
    parser.add_argument(
        "--only",
        type=_sections,
        default=environ.get("ONLY") or ",".join(SECTIONS),
        metavar="SECTION,...",
        help=f"some of {', '.join(SECTIONS)}",
    )
    found = parser.parse_args(argv)
    if min(found.rounds, found.tail_rounds, found.seconds, found.connections) < 1:
        parser.error("give 1 or more for rounds, tail rounds, seconds and connections")
    return Options(**vars(found))


def _sections(text: str) -> tuple[str, ...]:
    names = tuple(text.split(","))
    if unknown := set(names) - set(SECTIONS):
        raise argparse.ArgumentTypeError(
            f"unknown: {', '.join(sorted(unknown))}: give some of {', '.join(SECTIONS)}"
        )
    return names
