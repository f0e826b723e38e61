"""The sections on serving: our two processes and the baseline, measured in turn."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median

from bench.load import Turn, check, measure, read_answer, write_bodies
from bench.options import Options
from bench.report import Figure, cpu_share, print_turns
from bench.servers import Contender, Server, free_port
from bench.workplace import ROOT, Workplace, environment, service_environment

OURS, UNBATCHED, FOUR = "ours", "ours, max_batch_rows=1", "ours, 4 workers"
ONE, TWO = "baseline, 1 process", "baseline, 2 processes"
WHOLE, BARE = "bodies.txt", "bare.txt"
_WARM_UP_SECONDS = 2
_SHARE_OF_MAXIMUM = 0.7
_SHARE_FOR_WORKERS = 0.4  # leaves room for five processes and wrk on two cores
Turns = dict[str, list[Turn]]


def ours(place: Workplace, name: str = OURS, **settings: str) -> Contender:
    """Our gateway and worker with all features switched on: see ``bench.switched_on``."""
    gateway, worker = free_port(), free_port()
    places = {
        "MLSERVICE_GATEWAY__PORT": str(gateway),
        "MLSERVICE_GATEWAY__WORKER": f"127.0.0.1:{worker}",
        "MLSERVICE_WORKER__PORT": str(worker),
        **settings,
    }
    return Contender(
        name=name,
        start=(sys.executable, "-m", "bench.switched_on"),
        port=gateway,
        folder=place.service,
        environ=service_environment(place.service, places),
        log=place.folder / f"{gateway}.log",
        shares=("serve gateway", "serve worker"),
        bodies=BARE,
    )


def baseline(place: Workplace, name: str, processes: int) -> Contender:
    """The baseline, with ``processes`` workers of uvicorn."""
    port = free_port()
    options = f"--port {port} --workers {processes} --loop uvloop --http httptools"
    return Contender(
        name=name,
        start=(
            *(sys.executable, "-m", "uvicorn", "bench.baseline_app:app"),
            *options.split(),
            *("--no-access-log", "--log-level", "warning"),
        ),
        port=port,
        folder=ROOT,
        environ=environment({"BENCH_MODEL": str(place.model), "PYTHONPATH": str(ROOT)}),
        log=place.folder / f"{port}.log",
    )


@contextmanager
def running(place: Workplace, contenders: Sequence[Contender]) -> Iterator[dict[str, Server]]:
    """Start the contenders, check their answers, warm them up, and yield them by name."""
    kinds = {WHOLE: place.bodies, BARE: place.bare}
    for name, bodies in kinds.items():
        write_bodies(place.folder / name, bodies)
    with ExitStack() as stack:
        servers = {c.name: stack.enter_context(Server(c)) for c in contenders}
        for contender in contenders:
            check(contender, kinds[contender.bodies], place.expected, read_answer)
        for server in servers.values():
            measure(server, place.folder, connections=64, seconds=_WARM_UP_SECONDS)
        yield servers


def take_turns(names: Sequence[str], rounds: int, turn: Callable[[str], Turn]) -> Turns:
    """Run one turn of each name in each round; each round begins with another name."""
    found: Turns = {name: [] for name in names}
    for number in range(rounds):
        first = number % len(names)
        for name in (*names[first:], *names[:first]):
            found[name].append(turn(name))
    return found


def ratios(
    turns: Turns, above: str, below: str, value: Callable[[Turn], float]
) -> tuple[float, ...]:
    """Return the ratio of ``value`` for two contenders, round by round."""
    pairs = zip(turns[above], turns[below], strict=True)
    return tuple(value(a) / value(b) for a, b in pairs)


def measure_serving(place: Workplace, options: Options) -> list[Figure]:
    """Measure the selected sections of throughput, tail and latency."""
    contenders = [ours(place), baseline(place, ONE, 1), baseline(place, TWO, 2)]
    if "latency" in options.only:
        contenders.append(ours(place, UNBATCHED, MLSERVICE_GATEWAY__MAX_BATCH_ROWS="1"))
    figures: list[Figure] = []
    with running(place, contenders) as servers:
        bodies = place.folder
        if "throughput" in options.only or "tail" in options.only:
            turns = _throughput(servers, bodies, options)
            figures += _throughput_figures(turns)
        if "tail" in options.only:
            figures += _tail(servers, bodies, options, median(turn.rate for turn in turns[OURS]))
        if "latency" in options.only:
            figures += _latency(servers, bodies, options)
    return figures


def measure_workers(place: Workplace, options: Options) -> list[Figure]:
    """Measure a request's cost with four workers against its cost with one."""
    many, seconds = options.connections, options.seconds
    contenders = [ours(place), ours(place, FOUR, BENCH_WORKERS="4")]
    with running(place, contenders) as servers:
        fastest = measure(servers[OURS], place.folder, connections=many, seconds=seconds).rate
        rate = _SHARE_FOR_WORKERS * fastest

        def turn(name: str) -> Turn:
            server = servers[name]
            return measure(server, place.folder, connections=many, seconds=seconds, rate=rate)

        turns = take_turns((OURS, FOUR), options.rounds, turn)
    print_turns(f"WORKERS: paced to {rate:,.0f} req/s", turns)
    cost = ratios(turns, OURS, FOUR, lambda turn: turn.per_cpu_second)
    return [Figure("CPU a request, 4 workers / 1", cost, 1.1, False)]


def _throughput(servers: Mapping[str, Server], bodies: Path, options: Options) -> Turns:
    many, seconds = options.connections, options.seconds

    def turn(name: str) -> Turn:
        return measure(servers[name], bodies, connections=many, seconds=seconds)

    turns = take_turns((OURS, ONE, TWO), options.rounds, turn)
    print_turns(f"THROUGHPUT: {many} connections, {seconds} s a turn", turns)
    for share in servers[OURS].contender.shares:
        print(f"  ours, {share}: {cpu_share(turns[OURS], share):.2f} cores", flush=True)
    return turns


def _throughput_figures(turns: Turns) -> list[Figure]:
    rate, cost = (lambda turn: turn.rate), (lambda turn: turn.per_cpu_second)
    per_cpu = ratios(turns, OURS, TWO, cost)
    return [
        Figure("req/s / baseline, 1 process", ratios(turns, OURS, ONE, rate), 2.0, True),
        Figure(
            "req/s / baseline, 2 processes",
            ratios(turns, OURS, TWO, rate),
            1.2,
            True,
            note=f"per CPU second {median(per_cpu):.2f} x",
        ),
    ]


def _tail(
    servers: Mapping[str, Server], bodies: Path, options: Options, maximum: float
) -> list[Figure]:
    rate, many = _SHARE_OF_MAXIMUM * maximum, options.connections

    def turn(name: str) -> Turn:
        return measure(servers[name], bodies, connections=many, seconds=options.seconds, rate=rate)

    turns = take_turns((OURS, TWO), options.tail_rounds, turn)
    print_turns(f"TAIL: paced to {rate:,.0f} req/s, 70 % of our maximum", turns)
    reached = [f"{median(t.rate for t in found) / rate:.0%}" for found in turns.values()]
    p99 = ratios(turns, OURS, TWO, lambda turn: turn.p99)
    note = f"of the wanted rate ours served {reached[0]}, the baseline {reached[1]}"
    return [Figure("p99 at 70 % / baseline, 2 processes", p99, 1.0, False, note=note)]


def _latency(servers: Mapping[str, Server], bodies: Path, options: Options) -> list[Figure]:
    def turn(name: str) -> Turn:
        return measure(servers[name], bodies, connections=1, seconds=max(1, options.seconds - 1))

    turns = take_turns((OURS, UNBATCHED, ONE), options.rounds, turn)
    print_turns("LATENCY: 1 connection", turns)
    pairs = zip(turns[OURS], turns[ONE], strict=True)
    added = tuple(ours.p50 - base.p50 for ours, base in pairs)
    batching = ratios(turns, OURS, UNBATCHED, lambda turn: turn.p50)
    return [
        Figure("added p50 at 1 connection", added, 0.5, False, "ms"),
        Figure("batching on / off at 1 connection, p50", batching, 1.05, False),
    ]
