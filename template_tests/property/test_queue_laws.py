"""Laws of the queue's pure parts: offsets, order, names; and what is refused before it starts."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from mlservice.errors import BrokenContract, Fault
from mlservice.queue.ledger import Ledger
from mlservice.queue.message import Message, dead_letter_record
from template_tests.support.laws import examples
from template_tests.support.toy_service import Toy

PARTITIONS = 2
MOST = 6
MEMBERS = st.integers(0, 1)
NUMBERS = st.integers(0, PARTITIONS - 1)
CHOICE = st.integers(0, 999)
KEYS = st.sampled_from([None, b"a", b"b"])


def message(partition: int, offset: int, key: bytes | None, topic: str = "t") -> Message:
    return Message(topic, partition, offset, key, b"{}", (), 0)


class Group(RuleBasedStateMachine):
    """Two members of a group read, answer, commit, hand partitions over, and die."""

    def __init__(self) -> None:
        super().__init__()
        self.log: list[list[Message]] = [[] for _ in range(PARTITIONS)]
        self.committed = [0] * PARTITIONS
        self.owner: list[int | None] = [None] * PARTITIONS
        self.position = [0] * PARTITIONS
        self.ledgers = [Ledger(MOST), Ledger(MOST)]
        self.working: list[list[Message]] = [[], []]
        self.answers: list[Message] = []
        self.latest = [-1] * PARTITIONS

    @rule(partition=NUMBERS, key=KEYS, gap=st.integers(0, 2))
    def write(self, partition: int, key: bytes | None, gap: int) -> None:
        """Offsets rise, with gaps where Kafka has compacted."""
        log = self.log[partition]
        offset = log[-1].offset + 1 + gap if log else gap
        log.append(message(partition, offset, key))

    @rule(partition=NUMBERS)
    def read(self, partition: int) -> None:
        member = self.owner[partition]
        if member is None:
            return
        ledger = self.ledgers[member]
        coming = [m for m in self.log[partition] if m.offset >= self.position[partition]]
        if coming and ledger.room and partition not in ledger.stalled():
            self.position[partition] = coming[0].offset + 1
            if ledger.add(coming[0]):
                self.working[member].append(coming[0])

    @rule(member=MEMBERS, choice=CHOICE)
    def answer(self, member: int, choice: int) -> None:
        """Any of those that may be worked on, in any order."""
        if working := self.working[member]:
            done = working.pop(choice % len(working))
            self._answered(done)
            self.ledgers[member].set_waiting(done, waits=False)
            following = self.ledgers[member].complete(done)
            if following:
                working.append(following)

    @rule(member=MEMBERS, choice=CHOICE, waits=st.booleans())
    def wait(self, member: int, choice: int, waits: bool) -> None:
        if working := self.working[member]:
            chosen = working[choice % len(working)]
            assert self.ledgers[member].set_waiting(chosen, waits=waits)
            assert (chosen.partition in self.ledgers[member].stalled()) or not waits

    @rule(member=MEMBERS)
    def commit(self, member: int) -> None:
        self._commit(self.ledgers[member].committable())
        assert not self.ledgers[member].committable()

    @rule(partition=NUMBERS, to=MEMBERS, finished=st.integers(0, 2 * MOST), choice=CHOICE)
    def hand_over(self, partition: int, to: int, finished: int, choice: int) -> None:
        """A rebalance: some of what is worked on is finished, the rest is given up."""
        member = self.owner[partition]
        if member is not None:
            ledger = self.ledgers[member]
            ledger.begin_revoke([partition])
            ours = [m for m in self.working[member] if m.partition == partition]
            self.working[member] = [m for m in self.working[member] if m.partition != partition]
            while ours and finished:
                finished -= 1
                done = ours.pop(choice % len(ours))
                self._answered(done)
                following = ledger.complete(done)
                if following:
                    ours.append(following)
            self._commit(ledger.release([partition]))
            if not ours:
                assert self.latest[partition] < self.committed[partition], "no doubles will come"
        self._assign(partition, to)

    @rule(member=MEMBERS)
    def die(self, member: int) -> None:
        """Nothing more is committed; the other one takes over."""
        self.ledgers[member] = Ledger(MOST)
        self.working[member] = []
        for partition in range(PARTITIONS):
            if self.owner[partition] == member:
                self._assign(partition, 1 - member)

    @invariant()
    def what_is_committed_is_answered(self) -> None:
        answered = {m.place for m in self.answers}
        for partition, log in enumerate(self.log):
            done = {m.place for m in log if m.offset < self.committed[partition]}
            assert done <= answered

    @invariant()
    def order_within_a_key_holds(self) -> None:
        seen: dict[tuple[int, int], Message] = {}
        for answer in self.answers:
            seen.setdefault(answer.place, answer)
        last: dict[tuple[int, bytes], int] = {}
        for (partition, offset), answer in seen.items():
            if answer.key is not None:
                assert last.get((partition, answer.key), -1) < offset
                last[partition, answer.key] = offset

    @invariant()
    def what_is_in_flight_is_bounded(self) -> None:
        for ledger in self.ledgers:
            assert ledger.in_flight + ledger.room == MOST

    def teardown(self) -> None:
        """When all goes well for long enough, every message is answered and committed."""
        for partition in range(PARTITIONS):
            self.hand_over(partition, 0, 0, 0)
        for _ in range(3 * sum(map(len, self.log))):
            for partition in range(PARTITIONS):
                self.read(partition)
            self.answer(0, 0)
        self._commit(self.ledgers[0].committable())
        assert {m.place for m in self.answers} == {m.place for log in self.log for m in log}
        for log, committed in zip(self.log, self.committed, strict=True):
            assert not log or committed == log[-1].offset + 1

    def _answered(self, done: Message) -> None:
        self.answers.append(done)
        self.latest[done.partition] = max(self.latest[done.partition], done.offset)

    def _commit(self, due: dict[int, int]) -> None:
        for partition, offset in due.items():
            assert offset >= self.committed[partition], "offsets never go back"
            self.committed[partition] = offset

    def _assign(self, partition: int, to: int) -> None:
        self.owner[partition] = to
        self.ledgers[to].assign([partition])
        self.position[partition] = self.committed[partition]
        self.latest[partition] = -1


TestGroup = Group.TestCase
TestGroup.settings = settings(max_examples=examples(150), stateful_step_count=60, deadline=None)


def test_a_reason_that_is_no_utf_8_is_no_end_of_the_queue() -> None:
    error = BrokenContract([Fault("a", "\ud800", "is \ud800")])
    letter = dead_letter_record(message(0, 0, None), error, "dead")
    assert (
        dict(letter.headers)["x-dead-letter-reason"]
        == rb"the request breaks its contract: a: is \ud800"
    )


def test_messages_without_a_key_do_not_wait_for_each_other() -> None:
    ledger = Ledger(MOST)
    ledger.assign([0])
    assert [ledger.add(message(0, n, key)) for n, key in enumerate([None, None, b"", b""])] == [
        True, True, True, False,
    ]  # fmt: skip


def test_what_lies_below_something_begun_is_finished_before_a_partition_is_left() -> None:
    ledger = Ledger(MOST)
    ledger.assign([0])
    first, second, third, fourth, fifth = (
        message(0, n, key) for n, key in enumerate([b"a", b"b", b"b", b"a", b"b"])
    )
    begun = [ledger.add(one) for one in (first, second, third, fourth, fifth)]
    assert begun == [True, True, False, False, False]
    assert ledger.complete(first) == fourth
    ledger.begin_revoke([0])
    assert ledger.complete(fourth) is None
    assert ledger.complete(second) == third
    assert ledger.complete(third) is None, "the fifth is left to others"
    assert ledger.release([0]) == {0: 4}


@given(
    st.from_regex(r"[a-zA-Z0-9._-]{1,249}", fullmatch=True),
    st.integers(0, 2**31 - 1),
    st.integers(0, 2**63 - 1),
)
def test_a_message_without_an_id_is_named_by_its_place_as_rewards_take_it(
    topic: str, partition: int, offset: int
) -> None:
    name = message(partition, offset, None, topic).request_id
    assert re.fullmatch(r"[\w.:-]{1,64}", name)
    assert name == message(partition, offset, b"k", topic).request_id
    assert name != message(partition, offset + 1, None, topic).request_id


REFUSED = {
    "no brokers": ({}, "[queue] brokers is empty"),
    "an option of ours": (
        {"MLSERVICE_QUEUE__OPTIONS__ENABLE_AUTO_COMMIT": "false"},
        "enable.auto.commit: the platform sets this itself",
    ),
    "an unknown option": (
        {"MLSERVICE_QUEUE__BROKERS": "b:1", "MLSERVICE_QUEUE__OPTIONS__NO_SUCH": "1"},
        'No such configuration property: "no.such"',
    ),
    "nothing in flight": ({"MLSERVICE_QUEUE__MOST_IN_FLIGHT": "0"}, "queue.most_in_flight"),
}


@pytest.mark.parametrize(("environ", "words"), REFUSED.values(), ids=REFUSED)
def test_a_queue_that_cannot_start_says_why(toy: Toy, environ: dict[str, str], words: str) -> None:
    secret = {"MLSERVICE_QUEUE__OPTIONS__SASL_PASSWORD": "hidden"} if len(environ) == 1 else {}
    result = toy.run("serve", "queue", **environ, **secret)
    assert result.returncode == 2, result.stderr
    assert words in result.stderr
    assert "hidden" not in result.stderr
    assert "Traceback" not in result.stderr


def test_only_the_queue_imports_the_client_of_kafka(toy: Toy) -> None:
    code = "import sys, mlservice.cli.main, mlservice.gateway.server, mlservice.local\n"
    code += "sys.exit('confluent_kafka' in sys.modules)"
    assert (
        subprocess.run([sys.executable, "-c", code], env=toy.environ, check=False).returncode == 0
    )
