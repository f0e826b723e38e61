"""Events of tasks as a client reports them, with Nomad's own messages.

They are the only place where a caller learns why a task ended.
"""

from __future__ import annotations

import json
import time
from typing import Any

Json = dict[str, Any]
_FLAT: Json = {
    "FailsTask": False, "RestartReason": "", "SetupError": "", "DriverError": "",
    "DriverMessage": "", "ExitCode": 0, "Signal": 0, "KillReason": "", "KillTimeout": 0,
    "KillError": "", "StartDelay": 0,
    "DownloadError": "", "ValidationError": "", "DiskLimit": 0, "DiskSize": 0, "FailedSibling": "",
    "VaultError": "", "TaskSignalReason": "", "TaskSignal": "", "GenericSource": "",
}  # fmt: skip


def event(kind: str, display: str, **details: str | int | bool) -> Json:
    """Return an event of the type ``kind``. All its details become strings."""
    texts = {name: _text(value) for name, value in details.items() if value is not None}
    flat = {_flat_name(name): value for name, value in details.items() if _flat_name(name) in _FLAT}
    return {
        "Type": kind, "Time": time.time_ns(), "Message": "", "DisplayMessage": display,
        "Details": texts, **_FLAT, **flat,
    }  # fmt: skip


def terminated(code: int, signal: int, message: str, *, out_of_memory: bool) -> Json:
    """Return the event for the end of a task's process."""
    parts = [f"Exit Code: {code}"]
    if signal:
        parts.append(f"Signal: {signal}")
    if message:
        parts.append(f"Exit Message: {json.dumps(message)}")
    more = {"exit_message": message} if message else {}
    return event(
        "Terminated", ", ".join(parts),
        exit_code=code, signal=signal, oom_killed=out_of_memory, **more,
    )  # fmt: skip


def _text(value: str | int | bool) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _flat_name(name: str) -> str:
    return "".join(word.title() for word in name.split("_"))
