"""What the three clients of Kafka (one reads, one writes, one looks) have in common.

librdkafka says the same thing twenty times a second while Kafka is away; it is let through once in
a while.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Mapping
from typing import Any

from confluent_kafka import KafkaException

from mlservice.errors import SettingsError
from mlservice.settings import QueueSettings

_SELDOM_SECONDS = 30.0
_VARYING = re.compile(r"\(after .*?\)|#\w+-\d+")


class _Seldom(logging.Filter):
    """Lets the same words through once in a while."""

    def __init__(self) -> None:
        super().__init__()
        self._said: dict[str, float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        now = time.monotonic()
        self._said = {text: said for text, said in self._said.items() if now < said}
        words = _VARYING.sub("", record.getMessage())
        return self._said.setdefault(words, now + _SELDOM_SECONDS) == now + _SELDOM_SECONDS


log = logging.getLogger("mlservice.kafka")
log.addFilter(_Seldom())


def configured(
    settings: QueueSettings, defaults: Mapping[str, Any], fixed: Mapping[str, Any]
) -> dict[str, Any]:
    """A client's options: the ``defaults``, over them those of the settings, then the ``fixed``."""
    brokers = {"bootstrap.servers": settings.brokers}
    return {**defaults, **settings.options, **fixed, **brokers, "logger": log}


def refused(error: KafkaException) -> SettingsError:
    """What a client says that does not take its options."""
    return SettingsError(
        f"[queue] options: {error.args[0].str()}: see librdkafka's CONFIGURATION.md"
    )
