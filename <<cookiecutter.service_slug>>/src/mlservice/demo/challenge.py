"""Compares the stable model with a challenger: first in an A/B test, then by a bandit.

The bandit sends more and more requests to the version whose predictions earn more. A reward
reaches it one round later, as in real life.
"""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, cycle, islice

from mlservice.demo.plot import draw_bandit
from mlservice.demo.processes import CHALLENGER, STABLE, DemoProcesses
from mlservice.demo.report import Report
from mlservice.demo.requests import predict_all, send_rewards
from mlservice.demo.samples import Challenge, Sample
from mlservice.progress import Progress

_AB_REQUESTS = 800
_ROUNDS, _ROUND_REQUESTS = 16, 150
_SETTLE_SECONDS = 0.4
"""Time until the gateway has read its live file, or rewards are written, counted and fetched."""


@dataclass(frozen=True)
class Rewarded:
    """A prediction: the version that made it, and its reward."""

    request_id: str
    version: str
    reward: float


def compete(
    processes: DemoProcesses,
    challenge: Challenge,
    samples: Sequence[Sample],
    report: Report,
    progress: Progress,
) -> None:
    """Run the A/B test and the bandit, report both, and draw ``processes.picture``."""
    cases = cycle(random.Random(0).sample(samples, len(samples)))  # noqa: S311  # no secret
    client = _Client(processes, challenge, progress)
    progress.begin("requests", _AB_REQUESTS + _ROUNDS * _ROUND_REQUESTS)
    even = {STABLE: 1, CHALLENGER: 1}
    processes.route({"policy": "weights", "weights": even, "salt": "demo"})
    time.sleep(_SETTLE_SECONDS)
    tested = client.predict(list(islice(cases, _AB_REQUESTS)), "even")
    processes.route(processes.bandit(_kind_of(tested)))
    time.sleep(_SETTLE_SECONDS)
    chosen: list[Rewarded] = []
    last: list[Rewarded] = []
    for number in range(_ROUNDS):
        client.reward(last)
        last = client.predict(list(islice(cases, _ROUND_REQUESTS)), f"bandit{number}")
        chosen += last
    progress.end()
    report.table(("version", "requests", "mean reward", "95 %"), _ab_rows(tested))
    _report_bandit(processes, tested, chosen, report)


@dataclass(frozen=True)
class _Client:
    """Asks for predictions, and knows what each is worth."""

    processes: DemoProcesses
    challenge: Challenge
    progress: Progress

    def predict(self, samples: Sequence[Sample], name: str) -> list[Rewarded]:
        url = self.processes.service.url
        answers = asyncio.run(predict_all(url, samples, name, self.progress))
        return [
            Rewarded(
                answer["request_id"],
                self.processes.versions[answer["model_version"]],
                self.challenge.reward(answer["prediction"], sample.outcome),
            )
            for sample, answer in zip(samples, answers, strict=True)
        ]

    def reward(self, predictions: Sequence[Rewarded]) -> None:
        rewards = [(each.request_id, each.reward) for each in predictions]
        asyncio.run(send_rewards(self.processes.service.url, rewards))
        time.sleep(_SETTLE_SECONDS)


def _kind_of(predictions: Sequence[Rewarded]) -> str:
    """Return the kind of rewards that a bandit must expect."""
    return "bernoulli" if {each.reward for each in predictions} <= {0, 1} else "gaussian"


def _ab_rows(predictions: Sequence[Rewarded]) -> list[tuple[str, str, str, str]]:
    rows = []
    for version in (STABLE, CHALLENGER):
        rewards = [each.reward for each in predictions if each.version == version]
        mean = _mean(predictions, version)
        variance = sum((reward - mean) ** 2 for reward in rewards) / max(1, len(rewards) - 1)
        margin = 1.96 * math.sqrt(variance / max(1, len(rewards)))
        rows.append((version, str(len(rewards)), f"{mean:.3f}", f"± {margin:.3f}"))
    return rows


def _report_bandit(
    processes: DemoProcesses,
    tested: Sequence[Rewarded],
    chosen: Sequence[Rewarded],
    report: Report,
) -> None:
    means = {version: _mean([*tested, *chosen], version) for version in (STABLE, CHALLENGER)}
    rounds = [chosen[n : n + _ROUND_REQUESTS] for n in range(0, len(chosen), _ROUND_REQUESTS)]
    shares = [_share(each) for each in rounds]
    regret, even = _regret(chosen, means), _even_regret(means)
    report.line(
        f"bandit: {STABLE} had {shares[0]:.0%} of the first {_ROUND_REQUESTS} requests, "
        f"{shares[-1]:.0%} of the last;"
    )
    report.line(
        f"its regret is {regret[-1]:.0f} rewards in {len(chosen)} requests, an even split's "
        f"would be {even * len(chosen):.0f}"
    )
    draw_bandit(shares, _ROUND_REQUESTS, regret, even, processes.picture)
    report.line(f"its picture: {processes.picture}")


def _mean(predictions: Sequence[Rewarded], version: str) -> float:
    rewards = [each.reward for each in predictions if each.version == version]
    return sum(rewards) / max(1, len(rewards))


def _share(predictions: Sequence[Rewarded]) -> float:
    """Return the stable version's share."""
    return sum(each.version == STABLE for each in predictions) / len(predictions)


def _regret(predictions: Sequence[Rewarded], means: dict[str, float]) -> list[float]:
    """After each request, the rewards that the better version would have earned on top."""
    best = max(means.values())
    return list(accumulate(best - means[each.version] for each in predictions))


def _even_regret(means: dict[str, float]) -> float:
    """Return the regret of one request under an even split."""
    return max(means.values()) - sum(means.values()) / len(means)
