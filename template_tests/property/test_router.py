"""The gateway's choice of a version: who gets which, and with which probability."""

from __future__ import annotations

import json
import re
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from prometheus_client import REGISTRY

from mlservice.bandit import Arm, Statistics
from mlservice.errors import LiveError, Unavailable
from mlservice.live import read_live
from mlservice.policies import (
    CanaryPolicy,
    EpsilonGreedyPolicy,
    Policy,
    ThompsonPolicy,
    WeightsPolicy,
)
from mlservice.prediction.routing import Router
from mlservice.prediction.traffic_split import unit
from template_tests.support.laws import examples
from template_tests.support.toy_service import SERVICE

USERS = [f"user-{n}" for n in range(4000)]


def weights(salt: str = "", **shares: float) -> WeightsPolicy:
    return WeightsPolicy(policy="weights", weights=shares, salt=salt)


def router(policy: Policy | None, *ready: str) -> Router:
    made = Router()
    made.apply(policy)
    made.count_workers(dict.fromkeys(ready or ("a", "b"), 1))
    return made


def versions(of: Router, users: list[str] = USERS) -> dict[str, str]:
    return {user: of.choose(user).version for user in users}


def test_a_user_keeps_their_version_in_every_gateway_and_after_a_restart() -> None:
    policy = weights(a=70, b=30)
    assert versions(router(policy)) == versions(router(policy))
    assert router(policy).choose("somebody").version == "a"  # on every machine, for ever


@given(st.integers(0, 1000))
@settings(max_examples=examples(20))
def test_shares_are_kept_in_steps_of_a_tenth_of_a_percent(permille: int) -> None:
    if not 0 < permille < 1000:
        return
    found = versions(router(weights(a=1000 - permille, b=permille)))
    share = Counter(found.values())["b"] / len(USERS)
    expected = permille / 1000
    assert abs(share - expected) < 4 * np.sqrt(expected * (1 - expected) / len(USERS)) + 1e-3


def test_a_share_that_grows_moves_only_the_users_that_it_must() -> None:
    before, after = (versions(router(weights(a=1 - b, b=b))) for b in (0.2, 0.3))
    moved = [user for user in USERS if before[user] != after[user]]
    assert 0.07 < len(moved) / len(USERS) < 0.13
    assert {after[user] for user in moved} == {"b"}


def test_experiments_of_another_salt_deal_the_users_independently() -> None:
    first, second = (versions(router(weights(salt, a=1, b=1))) for salt in ("one", "two"))
    table = Counter((first[user], second[user]) for user in USERS)
    assert all(0.22 < count / len(USERS) < 0.28 for count in table.values()), table


def test_a_version_of_weight_0_gets_nothing_even_where_nobody_else_can_answer() -> None:
    made = router(weights(a=1, b=0))
    assert set(versions(made).values()) == {"a"}
    made.count_workers({"b": 3})
    with pytest.raises(Unavailable, match="no worker can answer for version a"):
        made.choose("u")


def test_the_users_of_a_version_that_is_away_go_to_the_others_and_come_back() -> None:
    made = router(weights(a=1, b=1, c=2), "a", "b", "c")
    before = versions(made)
    made.count_workers({"a": 1, "c": 1})
    choices = {user: made.choose(user) for user in USERS}
    assert {choice.version for choice in choices.values()} == {"a", "c"}
    assert all(choices[user].assigned == before[user] for user in USERS)
    assert all(choice.probability == 0.25 for choice in choices.values() if choice.assigned == "b")
    stayed = [user for user in USERS if before[user] != "b"]
    assert all(choices[user].version == before[user] for user in stayed)
    made.count_workers({"a": 1, "b": 1, "c": 1})
    assert versions(made) == before


def test_without_a_policy_each_version_has_the_share_of_its_workers() -> None:
    made = Router()
    made.count_workers({"stable": 3, "canary": 1})
    assert made.shares == {"stable": 0.75, "canary": 0.25}
    assert made.choose("u").policy == "none"
    made.count_workers({"stable": 3})
    assert made.shares == {"stable": 1}


def test_a_canary_has_its_share_of_the_users() -> None:
    made = router(CanaryPolicy(policy="canary", share=0.05), "stable", "canary")
    assert 0.035 < Counter(versions(made).values())["canary"] / len(USERS) < 0.065
    made.apply(CanaryPolicy(policy="canary", share=0))
    assert set(versions(made).values()) == {"stable"}


def test_the_observed_share_stands_beside_the_asked_one() -> None:
    made = router(weights(a=3, b=1))
    seen = Counter(versions(made).values())
    for version, asked in (("a", 0.75), ("b", 0.25)):
        labels = {"version": version}
        assert REGISTRY.get_sample_value("mlservice_version_share_asked", labels) == asked
        observed = REGISTRY.get_sample_value("mlservice_version_share_observed", labels)
        assert observed == seen[version] / len(USERS)


POLICIES: list[tuple[dict[str, Any], list[str]]] = [
    ({"policy": "weights", "weights": {"a": 1}, "share": 0.5}, ["share", "no such field"]),
    ({"policy": "weights", "weights": {"a": 0, "b": 0}}, ["every weight is 0"]),
    ({"policy": "weights", "weights": {"a": -1}}, ["weights", "-1", "greater than or equal to 0"]),
    ({"policy": "weights", "weights": {"a b": 1}}, ["a b"]),
    ({"policy": "weights", "weights": {}}, ["weights"]),
    ({"policy": "canary", "share": 1.5}, ["share", "1.5"]),
    ({"policy": "canary", "share": 0.5, "canary": "stable"}, ["are both 'stable'"]),
    ({"policy": "canary", "share": 0.5, "weights": {"a": 1}}, ["weights", "no such field"]),
    ({"policy": "luck"}, ["policy", "luck"]),
    (
        {
            "policy": "epsilon_greedy",
            "weights": {"a": 1, "b": 1},
            "statistics": "http://x",
            "epsilon": 0,
        },
        ["epsilon", "0", "greater than 0"],
    ),
    (
        {
            "policy": "epsilon_greedy",
            "weights": {"a": 1, "b": 1},
            "statistics": "http://x",
            "floor": 0.1,
        },
        ["floor", "no such field"],
    ),
    (
        {"policy": "thompson", "weights": {"a": 1, "b": 1}, "statistics": "ftp://x"},
        ["statistics", "ftp://x"],
    ),
    (
        {"policy": "thompson", "weights": {"a": 1, "b": 0}, "statistics": "http://x"},
        ["weights", "b", "greater than 0"],
    ),
    (
        {"policy": "thompson", "weights": {"a": 1, "b": 1}, "statistics": "http://x", "floor": 0.5},
        ["floor = 0.5", "leaves nothing to choose"],
    ),
    (
        {
            "policy": "thompson",
            "weights": {"a": 1, "b": 1},
            "statistics": "http://x",
            "poll_seconds": 60,
            "stale_seconds": 30,
        },
        ["stale_seconds = 30", "above poll_seconds"],
    ),
]


@pytest.mark.parametrize(("routing", "words"), POLICIES)
def test_a_setting_that_cannot_be_or_has_no_effect_is_refused(
    tmp_path: Path, routing: dict[str, Any], words: list[str]
) -> None:
    path = tmp_path / "live.json"
    path.write_text(json.dumps({"format": 1, "routing": routing}), "utf-8")
    with pytest.raises(LiveError) as caught:
        read_live(path)
    assert all(word in str(caught.value) for word in ["routing", *words]), caught.value


def test_only_the_policies_themselves_know_which_policies_there_are() -> None:
    names = re.compile(r"\b(?:Weights|Canary|Thompson|EpsilonGreedy|Learning)Policy\b")
    platform = SERVICE / "src" / "mlservice"
    asking = {
        path.relative_to(platform).parts[0]
        for path in platform.rglob("*.py")
        if names.search(path.read_text("utf-8"))
    }
    assert asking == {"policies"}


@given(st.text(max_size=50), st.text(max_size=50))
def test_a_unit_is_from_0_to_1_and_the_same_for_the_same_key(salt: str, user: str) -> None:
    key = f"{salt}/{user}"
    assert 0 <= unit(key) < 1
    assert unit(key) == unit(key)


def test_units_are_spread_evenly() -> None:
    counts = np.histogram([unit(user) for user in USERS], bins=20, range=(0, 1))[0]
    expected = len(USERS) / 20
    assert ((counts - expected) ** 2 / expected).sum() < 50  # chi-squared, 19 degrees: p < 1e-4


class RouterLife(RuleBasedStateMachine):
    """Policies, workers and statistics change in any order; each choice is one that may be."""

    NAMES = ("a", "b", "c")

    @initialize()
    def begin(self) -> None:
        self.now = 1_000_000.0
        self.router = Router(lambda: self.now)
        self.policy: Policy | None = None
        self.ready: set[str] = set()
        self.learned: float | None = None

    @rule(shares=st.dictionaries(st.sampled_from(NAMES), st.integers(0, 5), min_size=1))
    def use_weights(self, shares: dict[str, int]) -> None:
        if any(shares.values()):
            self._use(WeightsPolicy(policy="weights", weights=dict(shares)))

    @rule(floor=st.sampled_from([0, 0.05, 0.2]), sticky=st.booleans())
    def use_thompson(self, floor: float, sticky: bool) -> None:
        self._use(
            ThompsonPolicy(
                policy="thompson",
                weights={"a": 1, "b": 2, "c": 1},
                statistics="http://x",
                floor=floor,
                sticky=sticky,
                poll_seconds=10,
                stale_seconds=100,
            )
        )

    @rule(epsilon=st.sampled_from([0.01, 0.3, 1]), sticky=st.booleans())
    def use_epsilon_greedy(self, epsilon: float, sticky: bool) -> None:
        self._use(
            EpsilonGreedyPolicy(
                policy="epsilon_greedy",
                weights={"a": 1, "b": 2, "c": 1},
                statistics="http://x",
                epsilon=epsilon,
                sticky=sticky,
                poll_seconds=10,
                stale_seconds=100,
            )
        )

    @rule()
    def use_none(self) -> None:
        self._use(None)

    def _use(self, policy: Policy | None) -> None:
        if policy != self.policy:
            self.learned = None
        self.policy = policy
        self.router.apply(policy)

    @rule(ready=st.sets(st.sampled_from(NAMES)))
    def change_workers(self, ready: set[str]) -> None:
        self.ready = ready
        self.router.count_workers(dict.fromkeys(ready, 1))

    @rule(wins=st.dictionaries(st.sampled_from(NAMES), st.integers(0, 50)))
    def learn(self, wins: dict[str, int]) -> None:
        arms = {name: Arm(count=60.0, sum=float(n), squares=float(n)) for name, n in wins.items()}
        created = datetime.fromtimestamp(self.now, UTC)
        self.router.learn(Statistics(format=1, created=created, versions=arms))
        self.learned = self.now

    @rule(seconds=st.sampled_from([1, 50, 200]))
    def wait(self, seconds: int) -> None:
        self.now += seconds
        self.router.refresh()

    @invariant()
    def a_choice_is_one_that_may_be(self) -> None:
        if not hasattr(self, "router"):
            return
        shares = self.router.shares
        assert abs(sum(shares.values()) - 1) < 1e-9
        allowed = {version for version, share in shares.items() if share > 0}
        try:
            choice = self.router.choose("somebody")
        except Unavailable:
            assert not allowed & self.ready
            return
        assert choice.assigned in allowed
        assert choice.version in allowed & self.ready
        assert choice.probability == shares[choice.assigned]
        assert (choice.version == choice.assigned) == (choice.assigned in self.ready)

    @invariant()
    def statistics_are_used_as_long_as_they_are_fresh(self) -> None:
        if not hasattr(self, "router") or self.policy is None or self.policy.learns is None:
            return
        fresh = self.learned is not None and self.now - self.learned <= 100
        expected = self.policy.name if fresh else "weights"
        if self.ready:
            assert self.router.choose("somebody").policy == expected


TestRouterLife = RouterLife.TestCase
TestRouterLife.settings = settings(max_examples=examples(60), stateful_step_count=20, deadline=None)
