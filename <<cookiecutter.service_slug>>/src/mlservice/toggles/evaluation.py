"""Evaluates the flags of the live file through OpenFeature, in this process.

flagd's evaluator does the work, so flagd and its other clients give the same user the same
variant: the bucket follows from the flag's name and the user (murmur3), in every process. An
evaluation takes as long as the rest of a request, so its result is cached for the flag and for
the user and attributes that its rule depends on.
"""

from __future__ import annotations

import time
from collections.abc import Hashable, Mapping
from typing import Any

from openfeature import api
from openfeature.evaluation_context import EvaluationContext

from mlservice.events import EventLog, ExposureEvent, unit_of
from mlservice.live import FlagSet
from mlservice.toggles.current import T
from mlservice.toggles.flag_dependencies import Dependencies, dependencies_of, salts_of
from mlservice.toggles.provider import LiveProvider

_DOMAIN = "mlservice"
_NO_DEPENDENCIES = Dependencies(user=False, attributes=())

Result = tuple[Any, str | None]
"""A flag's value and its variant; None if the value is the default of the code."""

_MAX_CACHED = 50_000


class Toggles:
    """The flags in force; belongs to one event loop."""

    def __init__(self, events: EventLog) -> None:
        """Begin without any flag; exposures go to ``events``."""
        self._provider = LiveProvider()
        api.set_provider_and_wait(self._provider, _DOMAIN)
        self.client = api.get_client(_DOMAIN)
        self.events = events
        self.cache: dict[Hashable, Result] = {}
        self._dependencies: Mapping[str, Dependencies | None] = {}
        self._salts: Mapping[str, str] = {}

    def apply(self, flags: FlagSet | None) -> None:
        """Use these flags from now on."""
        flags = flags or FlagSet()
        self._provider.apply(flags)
        self._dependencies = dependencies_of(flags)
        self._salts = salts_of(flags)
        self.cache = {}

    def salt(self, name: str) -> str | None:
        """What the flag's randomisation depends on besides the user; None if it does not."""
        return self._salts.get(name)

    def store(self, key: Hashable, found: Result) -> None:
        """Cache the result of an evaluation."""
        if len(self.cache) >= _MAX_CACHED:
            self.cache.clear()
        self.cache[key] = found

    def key(
        self, name: str, default: object, user: str, attributes: Mapping[str, Any]
    ) -> Hashable | None:
        """The cache key of an evaluation; None if its result may change at any time."""
        depends = self._dependencies.get(name, _NO_DEPENDENCIES)
        if depends is None:
            return None
        key = (name, type(default), default, user if depends.user else None)
        if not depends.attributes:
            return key
        seen = [attributes.get(attribute) for attribute in depends.attributes]
        if any(isinstance(value, dict | list) for value in seen):
            return None
        kinds = [type(value) for value in seen]  # because 1 and True are the same key
        return *key, *seen, *kinds

    def close(self) -> None:
        """Remove OpenFeature's provider."""
        api.clear_providers()


class ToggleContext:
    """The toggles of one request: of its user, or of its id if it names none."""

    def __init__(
        self, toggles: Toggles, user: str | None, request_id: str, attributes: Mapping[str, Any]
    ) -> None:
        """Evaluate nothing yet; ``attributes`` are the fields of the request."""
        self._toggles = toggles
        self._user = user
        self._request_id = request_id
        self._attributes = attributes
        self._context: EvaluationContext | None = None
        self.variants: dict[str, str] = {}

    def value(self, name: str, default: T) -> T:
        """See ``toggle``; the first use of a variant writes an exposure event."""
        user = self._user or self._request_id
        key = self._toggles.key(name, default, user, self._attributes)
        found = None if key is None else self._toggles.cache.get(key)
        if found is None:
            found = self._evaluate(name, default, user)
            if key is not None:
                self._toggles.store(key, found)
        value, variant = found
        if variant is not None and name not in self.variants:
            self._expose(name, variant)
        return value  # type: ignore[no-any-return]  # of the default's type

    def _evaluate(self, name: str, default: T, user: str) -> Result:
        if self._context is None:
            self._context = EvaluationContext(user, self._attributes)
        client = self._toggles.client
        evaluate = {
            bool: client.get_boolean_details,
            int: client.get_integer_details,
            float: client.get_float_details,
            str: client.get_string_details,
        }[type(default)]
        details = evaluate(name, default, self._context)  # type: ignore[operator]  # by its type
        return details.value, details.variant

    def _expose(self, name: str, variant: str) -> None:
        self.variants[name] = variant
        self._toggles.events.put(
            ExposureEvent(
                time.time(),
                self._request_id,
                self._user,
                name,
                variant,
                self._toggles.salt(name),
                unit_of(self._user),
            )
        )
