"""What operators may change while gateways run: toggles, routing and clients, each a key in Consul.

Nomad renders the keys into the gateways' live files. Every change is check-and-set. Its author,
time and reason are written in the same transaction, so the history misses no change.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from pydantic import TypeAdapter, ValidationError

from mlservice.cluster import ConsulStore
from mlservice.errors import ClusterError, LiveError
from mlservice.live import Client, Flag, FlagSet
from mlservice.live.clients import ClientName
from mlservice.policies import Routing
from mlservice.validation import explain

UNSET = "null"
SETTING_NAMES = ("clients", "routing", "toggles")
_MAX_CONFLICTS = 20
_CLIENTS: TypeAdapter[dict[str, Client] | None] = TypeAdapter(dict[ClientName, Client] | None)
_POLICY: TypeAdapter[Routing] = TypeAdapter(Routing)


@dataclass(frozen=True)
class AuditEntry:
    """One change: its author, time (UTC) and reason, the name of what changed, and the new text."""

    by: str
    at: datetime
    why: str
    what: str
    text: str


class OperatorSetting:
    """A key with JSON, which is "null" if nothing is set, and the history of its changes."""

    def __init__(self, consul: ConsulStore, service: str, name: str) -> None:
        """Keep the key; ``name`` is one of ``SETTING_NAMES``."""
        self.key = f"mlservice/{service}/{name}"
        self._history = f"{self.key}-history/"
        self._consul = consul

    def read(self) -> str:
        """Return the text that is set."""
        return self._consul.get(self.key).value or UNSET

    def change(self, update: Callable[[str], tuple[str, str]], by: str, why: str) -> bool:
        """Apply ``update(text)``, which returns the new text and the part of it for the history.

        False if nothing changed. Raises what ``update`` does, and ``ClusterError``.
        """
        for _ in range(_MAX_CONFLICTS):
            entry = self._consul.get(self.key)
            text, part = update(entry.value or UNSET)
            if text == (entry.value or UNSET):
                return False
            now = datetime.now(UTC)
            note = {"by": by, "at": now.isoformat(), "why": why, "text": part}
            name = f"{self._history}{now:%Y%m%dT%H%M%S.%fZ}"
            if self._consul.put_with(self.key, text, entry.index, name, json.dumps(note)):
                return True
        raise ClusterError(
            f"Consul key {self.key}: gave up after {_MAX_CONFLICTS} conflicting writes: stop the "
            "other process that writes it, and repeat"
        )

    def history(self) -> list[AuditEntry]:
        """Return all changes, the newest first."""
        entries = self._consul.list(self._history)
        notes = [json.loads(entry.value) for entry in entries if entry.value]
        changes = [
            AuditEntry(
                note["by"],
                datetime.fromisoformat(note["at"]),
                note["why"],
                json.loads(note["text"]).get("name", ""),
                json.dumps(json.loads(note["text"]).get("value")),
            )
            for note in notes
        ]
        return sorted(changes, key=lambda change: change.at, reverse=True)


def read_flags(setting: OperatorSetting) -> FlagSet:
    """Return the toggles; raises ``LiveError`` if the key has something else."""
    return _decode_flags(setting.read(), setting.key)


def set_flag(
    setting: OperatorSetting, name: str, update: Callable[[Flag | None], Flag], by: str, why: str
) -> bool:
    """Replace the toggle ``name`` by ``update(toggle)``; False if nothing changed."""

    def change(text: str) -> tuple[str, str]:
        flags = json.loads(_decode_flags(text, setting.key).encode())
        flag = update(Flag.model_validate(before) if (before := _flag(flags, name)) else None)
        value = flag.model_dump(by_alias=True, exclude_defaults=True)
        flags["flags"] = {**flags.get("flags", {}), name: value}
        new = _decode_flags(json.dumps(flags), f"toggle {name}")
        return new.encode(), _part(name, value)

    return setting.change(change, by, why)


def read_clients(setting: OperatorSetting) -> dict[str, Client] | None:
    """Return the clients that may send requests; None for all. Raises ``LiveError``."""
    return _decode_clients(setting.read(), setting.key)


def set_client(
    setting: OperatorSetting, name: str, client: Client | None, by: str, why: str
) -> bool:
    """Allow the client ``name``, or with None remove it; False if nothing changed."""

    def change(text: str) -> tuple[str, str]:
        clients = dict(_decode_clients(text, setting.key) or {})
        clients.pop(name, None)
        if client is not None:
            clients[name] = client
        value = {each: c.model_dump(exclude_defaults=True) for each, c in clients.items()}
        if not clients and text == UNSET:
            return text, ""
        new = json.dumps(value)
        _decode_clients(new, f"client {name}")
        return new, _part(name, value.get(name))

    return setting.change(change, by, why)


def decode_flag(value: Any, source: str) -> Flag:
    """Read a flag from JSON; raises ``LiveError`` with ``source``."""
    try:
        return Flag.model_validate(value)
    except ValidationError as error:
        raise LiveError(explain(error, source)) from error


def read_policy(setting: OperatorSetting) -> Routing | None:
    """Return the routing policy, or None; raises ``LiveError`` if the key has something else."""
    text = setting.read()
    return None if text == UNSET else decode_policy(json.loads(text), setting.key)


def set_policy(setting: OperatorSetting, policy: Routing | None, by: str, why: str) -> bool:
    """Set the routing policy, or none; False if nothing changed."""
    value = None if policy is None else policy.model_dump(exclude_defaults=True)
    return setting.change(lambda _: (json.dumps(value), _part("", value)), by, why)


def decode_policy(value: Any, source: str) -> Routing:
    """Read a policy from JSON; raises ``LiveError`` with ``source``."""
    try:
        return _POLICY.validate_python(value)
    except ValidationError as error:
        raise LiveError(explain(error, source, variants_at=())) from error


def _decode_clients(text: str, source: str) -> dict[str, Client] | None:
    try:
        return _CLIENTS.validate_json(text)
    except ValidationError as error:
        raise LiveError(explain(error, source)) from error


def _flag(flags: Any, name: str) -> Any:
    return flags.get("flags", {}).get(name)


def _decode_flags(text: str, source: str) -> FlagSet:
    try:
        return FlagSet() if text == UNSET else FlagSet.model_validate_json(text)
    except ValidationError as error:
        raise LiveError(explain(error, source)) from error


def _part(name: str, value: Any) -> str:
    return json.dumps({"name": name, "value": value})
