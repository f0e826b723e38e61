"""Thompson sampling as a whole: choices, events, rewards that come late, sums, new choices."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.routing import Route

from mlservice.bandit import Arm, Statistics, Tally, decode_statistics
from mlservice.bandit.epsilon_greedy import probabilities as greedy_probabilities
from mlservice.bandit.server import make_app
from mlservice.bandit.thompson import probabilities
from mlservice.errors import StatisticsError
from mlservice.events import Event, ExposureEvent, PredictionEvent, RewardEvent, encode_event
from mlservice.policies import EpsilonGreedyPolicy, Policy, ThompsonPolicy, WeightsPolicy
from mlservice.prediction.routing import Router
from mlservice.settings import load_settings
from template_tests.support.laws import examples
from template_tests.support.toy_service import MakeToy

NOW = datetime(2026, 1, 1, 1, tzinfo=UTC).timestamp()
START = datetime(2026, 1, 1, tzinfo=UTC)
Reward = Callable[[str, float, np.random.Generator], float]


def thompson(reward: str = "bernoulli", **more: Any) -> ThompsonPolicy:
    given = {"policy": "thompson", "weights": {"a": 1, "b": 1, "c": 1}, "statistics": "http://x"}
    return ThompsonPolicy.model_validate({**given, "reward": reward, **more})


@dataclass
class Simulation:
    """Requests one a second, rewards ``delay`` seconds later, statistics each ``poll`` seconds."""

    policy: Policy
    reward: Reward
    delay: float = 0
    poll: int = 20
    half_life: float = 0
    seed: int = 7
    chosen: list[str] = field(default_factory=list)
    probabilities: list[float] = field(default_factory=list)

    def run(self, requests: int) -> Simulation:
        """Let so many requests come."""
        generator = np.random.default_rng(self.seed)
        second = [0.0]
        router = Router(lambda: START.timestamp() + second[0])
        router.apply(self.policy)
        router.count_workers({"a": 1, "b": 1, "c": 1})
        tally = Tally(window=3600, half_life=self.half_life)
        due: list[tuple[float, RewardEvent]] = []
        for n in range(requests):
            second[0] = float(n)
            while due and due[0][0] <= n:
                tally.add(due.pop(0)[1])
            if n % self.poll == 0:
                moment = START + timedelta(seconds=n)
                arms = tally.arms(moment.timestamp())
                router.learn(Statistics(format=1, created=moment, versions=arms))
            choice = router.choose(f"{self.seed}-{n}")
            self.chosen.append(choice.version)
            self.probabilities.append(choice.probability)
            tally.add(prediction(str(n), choice.version, n))
            worth = self.reward(choice.version, n, generator)
            due.append((n + self.delay, rewarded(str(n), worth, n + self.delay)))
        return self

    def regret(self, means: Mapping[str, float]) -> float:
        """What the best version would have earned more, on the average."""
        return sum(max(means.values()) - means[version] for version in self.chosen)


def prediction(
    request: str, version: str, second: float, fallbacks: tuple[str, ...] = ()
) -> PredictionEvent:
    """The event; ``version`` is the one that was assigned and answered."""
    return PredictionEvent(
        time=START.timestamp() + second,
        request_id=request,
        user=None,
        policy="thompson",
        assigned=version,
        probability=0.5,
        version=version,
        model_version="m",
        prediction={},
        fallbacks=fallbacks,
        stages={},
    )


def rewarded(request: str, reward: float, second: float) -> RewardEvent:
    return RewardEvent(START.timestamp() + second, request, reward)


def json_lines(events: Sequence[Event]) -> bytes:
    return b"".join(encode_event(event) for event in events)


def clicks(**rates: float) -> Reward:
    return lambda version, _, generator: float(generator.random() < rates[version])


def minutes(**means: float) -> Reward:
    return lambda version, _, generator: float(generator.normal(means[version], 5))


RATES = {"a": 0.10, "b": 0.20, "c": 0.12}
MEANS = {"a": 40.0, "b": 45.0, "c": 41.0}


@pytest.mark.parametrize(
    ("kind", "reward", "means"),
    [("bernoulli", clicks(**RATES), RATES), ("gaussian", minutes(**MEANS), MEANS)],
)
@pytest.mark.parametrize("delay", [0, 200])
def test_it_earns_nearly_what_the_best_version_would_also_with_late_rewards(
    kind: str, reward: Reward, means: dict[str, float], delay: float
) -> None:
    bandit = Simulation(thompson(kind), reward, delay).run(3000)
    uniform = WeightsPolicy(policy="weights", weights={"a": 1, "b": 1, "c": 1})
    even = Simulation(uniform, reward, delay).run(3000)
    assert bandit.regret(means) < 0.4 * even.regret(means)
    assert Counter(bandit.chosen[-1000:])["b"] > 850
    assert bandit.regret(means) < 0.1 * 3000 * max(means.values())


def test_the_regret_grows_ever_slower() -> None:
    run = Simulation(thompson(floor=0), clicks(**RATES)).run(6000)
    thirds = [run.chosen[n : n + 2000] for n in (0, 2000, 4000)]
    wrong = [sum(version != "b" for version in third) for third in thirds]
    assert wrong[0] > wrong[1] > wrong[2]


def test_with_a_half_life_it_follows_when_another_version_becomes_the_best() -> None:
    def turning(version: str, second: float, generator: np.random.Generator) -> float:
        rates = RATES if second < 2000 else {**RATES, "b": 0.05, "c": 0.35}
        return float(generator.random() < rates[version])

    fading = Simulation(thompson(), turning, half_life=300).run(4000)
    constant = Simulation(thompson(), turning).run(4000)
    assert Counter(fading.chosen[1500:2000]).most_common(1)[0][0] == "b"
    assert Counter(fading.chosen[-500:])["c"] > 400
    assert Counter(fading.chosen[2000:])["c"] > Counter(constant.chosen[2000:])["c"]


def test_each_version_keeps_its_floor() -> None:
    run = Simulation(thompson(floor=0.05), clicks(a=0.0, b=0.9, c=0.0)).run(4000)
    counts = Counter(run.chosen[1000:])
    assert 0.03 < counts["a"] / 3000 < 0.07
    assert 0.03 < counts["c"] / 3000 < 0.07


def test_the_probability_of_each_choice_makes_the_average_unbiased() -> None:
    # Inverse propensity: what each version would have earned, from the bandit's own choices.
    run = Simulation(thompson(floor=0.05), clicks(**RATES)).run(6000)
    for version in RATES:
        weight = sum(
            1 / p for v, p in zip(run.chosen, run.probabilities, strict=True) if v == version
        )
        assert abs(weight / 6000 - 1) < 0.15, version


def test_rewards_that_are_all_0_are_no_trouble() -> None:
    arms = {"a": Arm(), "b": Arm(count=1e6)}
    shares = probabilities(["a", "b"], arms, reward="gaussian", floor=0.0)
    assert sum(shares.values()) == pytest.approx(1)


def test_a_version_without_rewards_is_tried() -> None:
    arms = {"a": Arm(count=1000.0, sum=100.0, squares=100.0)}
    for reward in ("bernoulli", "gaussian"):
        shares = probabilities(["a", "new"], arms, reward=reward, floor=0.0)
        assert shares["new"] > 0.4
    assert probabilities(["a", "b"], {}, reward="gaussian", floor=0.0)["a"] == pytest.approx(
        0.5, abs=0.02
    )


counts = st.floats(0, 1e6)


@given(
    st.dictionaries(st.sampled_from("abcd"), st.tuples(counts, counts), min_size=2),
    st.sampled_from(["bernoulli", "gaussian"]),
    st.floats(0, 0.2),
)
@settings(deadline=None, max_examples=examples(50))
def test_probabilities_add_up_to_1_and_keep_the_floor(
    sums: dict[str, tuple[float, float]], reward: str, floor: float
) -> None:
    arms = {
        name: Arm(count=count + wins, sum=wins, squares=wins)
        for name, (count, wins) in sums.items()
    }
    shares = probabilities(list(arms), arms, reward=reward, floor=floor)
    assert sum(shares.values()) == pytest.approx(1)
    assert all(share >= floor - 1e-12 for share in shares.values())
    assert shares == probabilities(list(arms), arms, reward=reward, floor=floor)


@given(st.floats(0.001, 1000), st.floats(-1e6, 1e6))
@settings(deadline=None, max_examples=examples(30))
def test_the_unit_of_gaussian_rewards_does_not_matter(scale: float, shift: float) -> None:
    generator = np.random.default_rng(3)
    rewards = {"a": generator.normal(0, 1, 200), "b": generator.normal(0.3, 1, 200)}
    plain = probabilities(["a", "b"], sums(rewards), reward="gaussian", floor=0.0)
    moved = {name: values * scale + shift for name, values in rewards.items()}
    if abs(shift) < 1e4 * scale:  # beyond that the sums of squares have lost the difference
        other = probabilities(["a", "b"], sums(moved), reward="gaussian", floor=0.0)
        assert other["b"] == pytest.approx(plain["b"], abs=0.03)


def greedy(epsilon: float = 0.1, **more: Any) -> EpsilonGreedyPolicy:
    given = {"weights": {"a": 1, "b": 1, "c": 1}, "statistics": "http://x", "epsilon": epsilon}
    return EpsilonGreedyPolicy.model_validate({"policy": "epsilon_greedy", **given, **more})


def arm(count: float, mean: float) -> Arm:
    return Arm(count=count, sum=count * mean, squares=count * mean**2)


@given(
    st.dictionaries(
        st.sampled_from("abcd"), st.tuples(st.integers(0, 100), st.integers(-3, 3)), min_size=1
    ),
    st.floats(0.001, 1),
)
def test_epsilon_is_spread_evenly_and_the_rest_is_shared_by_the_best(
    drawn: dict[str, tuple[int, int]], epsilon: float
) -> None:
    versions = "abcd"
    arms = {name: arm(count, mean) for name, (count, mean) in drawn.items()}
    shares = greedy_probabilities(versions, arms, epsilon=epsilon)
    means = {name: mean for name, (count, mean) in drawn.items() if count}
    best = {name for name in means if means[name] == max(means.values())} or set(versions)
    assert list(shares) == list(versions)
    assert sum(shares.values()) == pytest.approx(1)
    for version, share in shares.items():
        greedy_part = (1 - epsilon) / len(best) if version in best else 0
        assert share == pytest.approx(epsilon / len(versions) + greedy_part)


def test_without_any_rewards_epsilon_greedy_chooses_evenly_and_a_new_version_is_explored() -> None:
    assert greedy_probabilities(["a", "b"], {}, epsilon=0.2) == {"a": 0.5, "b": 0.5}
    shares = greedy_probabilities(["a", "new"], {"a": arm(10, -5)}, epsilon=0.2)
    assert shares == pytest.approx({"a": 0.9, "new": 0.1})


def test_versions_that_tie_share_what_does_not_explore() -> None:
    arms = {"a": arm(10, 0.5), "b": arm(1000, 0.5), "c": arm(5, 0.4)}
    shares = greedy_probabilities(["a", "b", "c"], arms, epsilon=0.3)
    assert shares == pytest.approx({"a": 0.45, "b": 0.45, "c": 0.1})


@pytest.mark.parametrize("delay", [0, 200])
def test_epsilon_greedy_earns_more_than_even_shares_and_keeps_exploring(delay: float) -> None:
    run = Simulation(greedy(0.15), clicks(**RATES), delay).run(4000)
    uniform = WeightsPolicy(policy="weights", weights={"a": 1, "b": 1, "c": 1})
    even = Simulation(uniform, clicks(**RATES), delay).run(4000)
    assert run.regret(RATES) < 0.6 * even.regret(RATES)
    counts = Counter(run.chosen[2000:])
    assert counts["b"] / 2000 == pytest.approx(0.9, abs=0.03)
    for version in "ac":
        assert counts[version] / 2000 == pytest.approx(0.05, abs=0.02)


def test_the_probability_of_each_epsilon_greedy_choice_is_exact() -> None:
    run = Simulation(greedy(0.3), clicks(**RATES)).run(6000)
    for version in RATES:
        chosen = [1 / p for v, p in zip(run.chosen, run.probabilities, strict=True) if v == version]
        assert abs(sum(chosen) / 6000 - 1) < 0.15, version


def sums(rewards: Mapping[str, Any]) -> dict[str, Arm]:
    return {
        name: Arm(count=float(len(v)), sum=float(v.sum()), squares=float((v**2).sum()))
        for name, v in rewards.items()
    }


ABSURD: list[tuple[Any, str]] = [
    ({"count": -1, "sum": 0, "squares": 0}, "versions.a.count = -1"),
    ({"count": 10, "sum": 11, "squares": 20}, "versions.a.sum = 11"),
    ({"count": 10, "sum": -1, "squares": 1}, "versions.a.sum = -1"),
    ({"count": 1e300, "sum": 1, "squares": 1}, "versions.a.count = 1e+300"),
    ({"count": 10, "sum": 50, "squares": 1}, "no rewards have such sums"),
    ({"count": 10, "sum": 5, "squares": -5}, "versions.a.squares = -5"),
    ({"count": "10", "sum": 5, "squares": 5}, "versions.a.count = '10'"),
    ({"count": 10, "sum": 5, "squares": 5, "mean": 2}, "versions.a.mean"),
    ([], "versions.a = []"),
]


@pytest.mark.parametrize(("arm", "words"), ABSURD)
def test_absurd_statistics_are_refused_by_field_and_value(arm: Any, words: str) -> None:
    text = {"format": 1, "created": START.isoformat(), "versions": {"a": arm}}
    with pytest.raises(StatisticsError) as caught:
        decode_statistics(json.dumps(text).encode(), "http://stats", "bernoulli", NOW)
    assert "http://stats" in str(caught.value)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{",
        b"[]",
        b'{"format": 1, "created": "2026-01-01T00:00:00Z", "versions": {"a": {"count": NaN}}}',
        b'{"format": 2, "created": "2026-01-01T00:00:00Z", "versions": {}}',
        b'{"format": 1, "created": "yesterday", "versions": {}}',
        b'{"format": 1, "versions": {}}',
        b'{"format": 1, "created": "2026-01-01T02:00:00Z", "versions": {}}',
    ],
)
def test_what_is_no_statistics_is_refused(text: bytes) -> None:
    with pytest.raises(StatisticsError, match="http://stats cannot be used"):
        decode_statistics(text, "http://stats", "bernoulli", NOW)


def test_the_first_reward_of_a_request_counts_however_they_come() -> None:
    tally = Tally(window=100)
    tally.add(rewarded("early", 1, 0))
    tally.add(prediction("early", "a", 1))
    tally.add(prediction("one", "a", 2))
    tally.add(prediction("one", "b", 3))
    tally.add(rewarded("one", 1, 4))
    tally.add(rewarded("one", 0, 5))
    tally.add(prediction("late", "a", 6))
    tally.add(rewarded("late", 1, 200))
    tally.add(prediction("sick", "a", 7, fallbacks=("weather",)))
    tally.add(prediction("astray", "a", 8)._replace(version="b"))
    tally.add(rewarded("sick", 1, 9))
    tally.add(ExposureEvent(START.timestamp(), "x", None, "flag", "on"))
    tally.add(prediction("rows", "a", 10))
    tally.add(rewarded("rows", 1, 11)._replace(row=2))
    arms = tally.arms((START + timedelta(seconds=250)).timestamp())
    assert arms == {"a": Arm(count=2.0, sum=2.0, squares=2.0)}
    assert (tally.doubles, tally.late) == (1, 1)


def test_a_missing_reward_can_count_as_0_once_its_window_is_over() -> None:
    tally = Tally(window=100, missing="zero")
    for n in range(4):
        tally.add(prediction(str(n), "a", n))
    tally.add(rewarded("0", 1, 10))
    assert tally.arms((START + timedelta(seconds=50)).timestamp())["a"].count == 1
    assert tally.arms((START + timedelta(seconds=150)).timestamp())["a"] == Arm(
        count=4.0, sum=1.0, squares=1.0
    )
    tally.add(rewarded("1", 1, 160))
    assert tally.late == 1


def test_old_rewards_count_half_after_each_half_life() -> None:
    tally = Tally(window=1000, half_life=100)
    tally.add(prediction("old", "a", 0))
    tally.add(rewarded("old", 1, 1))
    tally.add(prediction("new", "a", 100))
    tally.add(rewarded("new", 1, 101))
    arm = tally.arms((START + timedelta(seconds=200)).timestamp())["a"]
    assert arm.count == pytest.approx(0.25 + 0.5)


def test_two_gateways_that_ask_at_the_same_moment_lose_no_event(make_toy: MakeToy) -> None:
    toy = make_toy()
    settings = load_settings(toy.folder, {})
    folder = settings.events_folder
    assert folder is not None
    folder.mkdir(parents=True)
    now = datetime.now(UTC).timestamp() - START.timestamp()
    asked = [prediction(str(n), "a", now) for n in range(5_000)]
    worth = [rewarded(str(n), 1, now) for n in range(5_000)]
    (folder / "events-1.jsonl").write_bytes(json_lines(asked))
    (route,) = make_app(settings).routes
    assert isinstance(route, Route)
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(route.endpoint, range(8)))
        with (folder / "events-1.jsonl").open("ab") as file:
            file.write(json_lines(worth))
        answers = list(threads.map(route.endpoint, range(8)))
    counts = [json.loads(answer.body)["versions"]["a"]["count"] for answer in answers]
    assert counts == pytest.approx([5_000] * 8)
    assert answers[-1].headers["x-doubles"] == "0"


@given(
    st.lists(st.tuples(st.sampled_from("abcdef"), st.booleans(), st.floats(0, 50)), max_size=40),
    st.randoms(use_true_random=False),
)
def test_the_order_of_events_within_the_window_does_not_matter_for_single_rewards(
    drawn: list[tuple[str, bool, float]], random: Any
) -> None:
    seen = {name: (won, second) for name, won, second in drawn}
    events: list[Event] = [prediction(name, "a", second) for name, (_, second) in seen.items()]
    events += [rewarded(name, float(won), second + 5) for name, (won, second) in seen.items()]
    tallies = []
    for _ in range(2):
        tally = Tally(window=1000, half_life=30)
        for event in events:
            tally.add(event)
        tallies.append(tally.arms((START + timedelta(seconds=100)).timestamp()))
        random.shuffle(events)
    first, second = (each.get("a", Arm()) for each in tallies)
    assert first.count == pytest.approx(second.count)
    assert first.sum == pytest.approx(second.sum)
