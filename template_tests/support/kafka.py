"""A real Kafka for the tests, one node in KRaft mode, and a plain client to look at it with."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from confluent_kafka import (
    Consumer,
    KafkaException,
    Producer,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]

from template_tests.support.servers import free_ports, require

_READY_SECONDS = 60.0
_QUIET = {"log_level": 0}


@dataclass(frozen=True)
class Found:
    """A record that was read."""

    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: Mapping[str, bytes]


@dataclass
class Kafka:
    """A node that keeps its ports and its data when it is stopped and started again."""

    folder: Path
    _process: subprocess.Popen[bytes] | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        """Choose its ports and format its storage."""
        broker, controller = free_ports(2)
        self.brokers = f"127.0.0.1:{broker}"
        properties = {
            "process.roles": "broker,controller",
            "node.id": "1",
            "controller.quorum.bootstrap.servers": f"127.0.0.1:{controller}",
            "listeners": f"PLAINTEXT://{self.brokers},CONTROLLER://127.0.0.1:{controller}",
            "advertised.listeners": f"PLAINTEXT://{self.brokers}",
            "controller.listener.names": "CONTROLLER",
            "log.dirs": str(self.folder / "data"),
            "offsets.topic.replication.factor": "1",
            "offsets.topic.num.partitions": "1",
            "group.initial.rebalance.delay.ms": "0",
            "group.min.session.timeout.ms": "1000",
            "group.consumer.min.heartbeat.interval.ms": "500",
            "group.consumer.heartbeat.interval.ms": "500",
            "auto.create.topics.enable": "false",
        }
        self.folder.mkdir(parents=True, exist_ok=True)
        self._file = self.folder / "server.properties"
        lines = [f"{name}={value}\n" for name, value in properties.items()]
        self._file.write_text("".join(lines), "utf-8")
        self._run("format").wait(60)

    def start(self) -> None:
        """Start it and wait until it answers."""
        self._process = self._run("run")
        end = time.monotonic() + _READY_SECONDS
        while time.monotonic() < end:
            assert self._process.poll() is None, self._log.read_text("utf-8")[-3000:]
            with suppress(KafkaException):
                if self.producer().list_topics(timeout=0.5).brokers:
                    return
        raise AssertionError(self._log.read_text("utf-8")[-3000:])

    def stop(self) -> None:
        """Stop it; its data stay."""
        if self._process:
            self._process.send_signal(signal.SIGTERM)
            self._process.wait(30)
            self._process = None

    def create(self, *topics: str, partitions: int) -> None:
        """Make topics."""
        admin = AdminClient({**_QUIET, "bootstrap.servers": self.brokers})
        made = admin.create_topics([NewTopic(name, partitions, 1) for name in topics])
        for future in made.values():
            future.result(20)

    def producer(self) -> Producer:
        """A client that writes; it keeps what it cannot write just now."""
        config = {**_QUIET, "bootstrap.servers": self.brokers, "linger.ms": 0}
        return Producer({**config, "enable.idempotence": True})

    def read(self, topic: str) -> list[Found]:
        """All that lies in a topic by now, in the order of each partition."""
        config = {**_QUIET, "bootstrap.servers": self.brokers, "group.id": "nobody"}
        reader = Consumer({**config, "enable.auto.commit": False, "fetch.wait.max.ms": 10})
        try:
            numbers = reader.list_topics(topic, timeout=10).topics[topic].partitions
            ends = {}
            for number in numbers:
                ends[number] = reader.get_watermark_offsets(TopicPartition(topic, number), 10)[1]
            reader.assign([TopicPartition(topic, n, 0) for n, end in ends.items() if end])
            return _all(reader, sum(ends.values()))
        finally:
            reader.close()

    def committed(self, group: str, topic: str, partitions: int) -> list[int]:
        """How far the group has come in each partition."""
        places = [TopicPartition(topic, number) for number in range(partitions)]
        # No admin client: those abort the process over a broker that was started again.
        reader = Consumer({**_QUIET, "bootstrap.servers": self.brokers, "group.id": group})
        try:
            return [max(0, place.offset) for place in reader.committed(places, 10)]
        finally:
            reader.close()

    @property
    def _log(self) -> Path:
        return self.folder / "kafka.log"

    def _run(self, command: str) -> subprocess.Popen[bytes]:
        with self._log.open("ab") as log:
            return subprocess.Popen(
                [require("kafka-node"), command, str(self._file)],
                stdout=log,
                stderr=log,
                env={key: os.environ[key] for key in ("PATH", "HOME") if key in os.environ},
            )


def _all(reader: Consumer, count: int) -> list[Found]:
    found: list[Found] = []
    end = time.monotonic() + 20
    while len(found) < count:
        assert time.monotonic() < end, f"{len(found)} of {count} records"
        message = reader.poll(0.2)
        if message is None or message.error():
            continue
        headers: Any = message.headers() or ()
        found.append(
            Found(
                message.partition() or 0,
                message.offset() or 0,
                message.key(),
                message.value(),
                {name: value or b"" for name, value in headers},
            )
        )
    return found


@contextmanager
def kafka_node(folder: Path) -> Iterator[Kafka]:
    """A running Kafka."""
    node = Kafka(folder)
    node.start()
    try:
        yield node
    finally:
        node.stop()
