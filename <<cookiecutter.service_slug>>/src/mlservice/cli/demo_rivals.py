"""Two models compete in the demo: first evenly, then dealt by a bandit that learns from rewards."""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, cycle, islice
from pathlib import Path

from mlservice.cli.common import table
from mlservice.cli.demo_callers import ask_all, reward_all
from mlservice.cli.demo_world import CHALLENGER, STABLE, DemoWorld
from mlservice.owner import Rivals, Sample

_EVEN = 800
_ROUNDS, _EACH = 16, 150
_TAKEN_SECONDS = 0.4
"""Until the gateway has read its live file, or rewards were written, counted and asked for."""


@dataclass(frozen=True)
class _Answered:
    """An answer: the version that gave it, and what it turned out to be worth."""

    request_id: str
    version: str
    reward: float


def compete(world: DemoWorld, rivals: Rivals, samples: Sequence[Sample]) -> Iterator[str]:
    """Let them; gives lines that tell how it went, and draws ``world.picture``."""
    cases = cycle(random.Random(0).sample(samples, len(samples)))  # noqa: S311  # no secret
    world.route({"policy": "weights", "weights": {STABLE: 1, CHALLENGER: 1}, "salt": "demo"})
    time.sleep(_TAKEN_SECONDS)
    even = asyncio.run(_round(world, rivals, list(islice(cases, _EVEN)), "even"))
    yield from table(("version", "requests", "mean reward", "95 %"), _results(even)).splitlines()
    world.route(world.bandit("bernoulli" if {a.reward for a in even} <= {0, 1} else "gaussian"))
    time.sleep(_TAKEN_SECONDS)
    chosen: list[_Answered] = []
    late: list[_Answered] = []
    for number in range(_ROUNDS):
        # What an answer was worth is known a round later.
        asyncio.run(reward_all(world.service.url, [(a.request_id, a.reward) for a in late]))
        time.sleep(_TAKEN_SECONDS)
        name = f"bandit{number}"
        late = asyncio.run(_round(world, rivals, list(islice(cases, _EACH)), name))
        chosen += late
    means = {version: _mean(even + chosen, version) for version in (STABLE, CHALLENGER)}
    shares = [_share(chosen[n : n + _EACH]) for n in range(0, len(chosen), _EACH)]
    yield f"bandit: {STABLE} had {shares[0]:.0%} of the first {_EACH} requests, {shares[-1]:.0%} of"
    yield f"the last; its regret is {_regret(chosen, means)[-1]:.0f}, dealing evenly's would be"
    yield f"{_uniform(means) * len(chosen):.0f} (in rewards, of {len(chosen)})"
    _draw(shares, _regret(chosen, means), _uniform(means), world.picture)
    yield f"its picture: {world.picture}"


async def _round(
    world: DemoWorld, rivals: Rivals, samples: Sequence[Sample], name: str
) -> list[_Answered]:
    answers = await ask_all(world.service.url, samples, name)
    return [
        _Answered(
            answer["request_id"],
            world.versions[answer["model_version"]],
            rivals.reward(answer["prediction"], sample.outcome),
        )
        for sample, answer in zip(samples, answers, strict=True)
    ]


def _results(answers: Sequence[_Answered]) -> list[tuple[str, str, str, str]]:
    rows = []
    for version in (STABLE, CHALLENGER):
        rewards = [a.reward for a in answers if a.version == version]
        mean = _mean(answers, version)
        spread = sum((reward - mean) ** 2 for reward in rewards) / max(1, len(rewards) - 1)
        margin = 1.96 * math.sqrt(spread / max(1, len(rewards)))
        rows.append((version, str(len(rewards)), f"{mean:.3f}", f"± {margin:.3f}"))
    return rows


def _mean(answers: Sequence[_Answered], version: str) -> float:
    rewards = [a.reward for a in answers if a.version == version]
    return sum(rewards) / max(1, len(rewards))


def _share(answers: Sequence[_Answered]) -> float:
    return sum(a.version == STABLE for a in answers) / len(answers)


def _regret(answers: Sequence[_Answered], means: dict[str, float]) -> list[float]:
    """After each request, how much the better version would have earned more on the average."""
    best = max(means.values())
    return list(accumulate(best - means[a.version] for a in answers))


def _uniform(means: dict[str, float]) -> float:
    """The regret of a request that is dealt evenly."""
    return max(means.values()) - sum(means.values()) / len(means)


def _draw(shares: Sequence[float], regret: Sequence[float], uniform: float, into: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 6), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True)
    middles = [(n + 0.5) * _EACH for n in range(len(shares))]
    above.plot(middles, shares, marker="o", label=STABLE)
    above.plot(middles, [1 - share for share in shares], marker="o", label=CHALLENGER)
    above.set(ylabel=f"share of {_EACH} requests", ylim=(0, 1), title="What the bandit learns")
    below.plot(range(1, len(regret) + 1), regret, label="bandit")
    below.plot([0, len(regret)], [0, uniform * len(regret)], "--", label="dealt evenly")
    below.set(xlabel="requests", ylabel="regret in rewards")
    for part in (above, below):
        part.legend()
        part.grid(alpha=0.3)
    figure.savefig(into)
