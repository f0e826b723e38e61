"""The breaker of an upstream as a state machine, and the budget for retries."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from mlservice.prediction.retry_budget import RetryBudget
from mlservice.prediction.upstreams.breaker import (
    COOL_SECONDS,
    MAX_COOL_SECONDS,
    MIN_CALLS,
    WINDOW,
    Breaker,
)
from template_tests.support.laws import examples


class BreakerLife(RuleBasedStateMachine):
    """Calls begin and end in any order while time goes on."""

    @initialize()
    def begin(self) -> None:
        self.now = 100.0
        self.breaker = Breaker("test", lambda: self.now)
        self.calls: dict[int, list[int]] = {}
        self.age = 0
        self.probes = 0
        self.opened: float | None = None
        self.outcomes: list[bool] = []

    @rule()
    def ask(self) -> None:
        before = self.breaker.state
        ticket = self.breaker.acquire()
        if before != self.breaker.state:
            self.age += 1
        if ticket:
            self.calls.setdefault(self.age, []).append(ticket)
            if self.breaker.state == "half-open":
                self.probes += 1
                assert self.opened is not None
                assert self.now - self.opened >= COOL_SECONDS or before == "half-open"
        else:
            assert self.breaker.state != "closed"

    def take(self, data: st.DataObject) -> tuple[int, int]:
        """A call that is not ended: the age of the breaker that it is from, and its ticket."""
        age = data.draw(st.sampled_from([age for age, calls in self.calls.items() if calls]))
        return age, self.calls[age].pop()

    @precondition(lambda self: any(getattr(self, "calls", {}).values()))
    @rule(good=st.booleans(), data=st.data())
    def end(self, good: bool, data: st.DataObject) -> None:
        before = self.breaker.state
        age, ticket = self.take(data)
        if good:
            self.breaker.record_success(ticket)
        else:
            self.breaker.record_failure(ticket)
        if age != self.age:
            assert self.breaker.state == before
            return
        if before == "half-open":
            self.probes = 0
            assert self.breaker.state == ("closed" if good else "open")
        if self.breaker.state == "open":
            self.opened = self.now
        if before == "closed":
            self.outcomes.append(good)
        if before != self.breaker.state:
            self.outcomes.clear()
            self.age += 1

    @precondition(lambda self: any(getattr(self, "calls", {}).values()))
    @rule(data=st.data())
    def give_up(self, data: st.DataObject) -> None:
        age, ticket = self.take(data)
        self.breaker.record_cancel(ticket)
        if age == self.age:
            self.probes = 0

    @rule(seconds=st.sampled_from([0.125, COOL_SECONDS, MAX_COOL_SECONDS]))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @invariant()
    def at_most_one_call_tries_whether_it_is_back(self) -> None:
        assert getattr(self, "probes", 0) <= 1

    @invariant()
    def it_opens_where_half_of_the_last_calls_failed_and_not_before(self) -> None:
        if getattr(self, "outcomes", None) and self.breaker.state == "closed":
            last = self.outcomes[-WINDOW:]
            assert len(last) < MIN_CALLS or 2 * last.count(False) < len(last) or last[-1]

    @precondition(lambda self: getattr(self, "opened", None) is not None)
    @rule()
    def it_is_tried_again_after_the_longest_pause(self) -> None:
        if self.breaker.state == "open":
            self.now += MAX_COOL_SECONDS
            ticket = self.breaker.acquire()
            assert ticket
            self.age += 1
            self.calls[self.age] = [ticket]
            self.probes = 1


TestBreakerLife = BreakerLife.TestCase
TestBreakerLife.settings = settings(
    max_examples=examples(100), stateful_step_count=40, deadline=None
)


def test_an_upstream_that_fails_every_second_call_opens_it() -> None:
    breaker = Breaker("half", lambda: 0.0)
    for _ in range(MIN_CALLS):
        breaker.record_failure(breaker.acquire())
        if breaker.state == "open":
            break
        breaker.record_success(breaker.acquire())
    assert breaker.state == "open"


def test_each_trial_that_fails_is_followed_by_a_longer_pause() -> None:
    now = [0.0]
    breaker = Breaker("again", lambda: now[0])
    for _ in range(MIN_CALLS):
        breaker.record_failure(breaker.acquire())
    pauses = []
    for _ in range(6):
        start = now[0]
        while not (ticket := breaker.acquire()):
            now[0] += 0.5
        pauses.append(now[0] - start)
        breaker.record_failure(ticket)
    assert pauses == [2, 4, 8, 16, 30, 30]


@given(st.lists(st.sampled_from(["call", "retry", "second"]), max_size=300))
def test_retries_stay_a_tenth_of_the_calls_beside_two_a_second(steps: list[str]) -> None:
    now = [0.0]
    budget = RetryBudget("law", lambda: now[0])
    calls = retries = 0
    for step in steps:
        if step == "call":
            calls += 1
            budget.earn()
        elif step == "retry":
            retries += budget.spend()
        else:
            now[0] += 1
    assert retries <= 20 + 0.1 * calls + 2 * now[0] + 1e-6
