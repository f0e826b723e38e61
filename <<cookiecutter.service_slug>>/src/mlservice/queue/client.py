"""What the three Kafka clients (consumer, producer, lag monitor) have in common.

While Kafka is down, librdkafka logs the same message up to twenty times a second. The logger's
filter passes such a message once in 30 s.
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

_REPEAT_SECONDS = 30.0
_VARYING = re.compile(r"\(after .*?\)|#\w+-\d+")


class _RepeatFilter(logging.Filter):
    """Passes equal messages only once in ``_REPEAT_SECONDS``."""

    def __init__(self) -> None:
        super().__init__()
        self._next_at: dict[str, float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        now = time.monotonic()
        self._next_at = {text: at for text, at in self._next_at.items() if now < at}
        words = _VARYING.sub("", record.getMessage())
        return self._next_at.setdefault(words, now + _REPEAT_SECONDS) == now + _REPEAT_SECONDS


log = logging.getLogger("mlservice.kafka")
log.addFilter(_RepeatFilter())


def client_options(
    settings: QueueSettings, defaults: Mapping[str, Any], fixed: Mapping[str, Any]
) -> dict[str, Any]:
    """Merge a client's options: settings override ``defaults``, ``fixed`` overrides both."""
    brokers = {"bootstrap.servers": settings.brokers}
    return {**defaults, **settings.options, **fixed, **brokers, "logger": log}


def options_error(error: KafkaException) -> SettingsError:
    """The error for an option that librdkafka refuses."""
    return SettingsError(
        f"[queue] options: {error.args[0].str()}: see librdkafka's CONFIGURATION.md"
    )
