"""Renders a task's templates with the real consul-template, one process for each task.

consul-template is the engine inside Nomad, so a template that renders here renders there. Nomad
uses it as a library; here its program runs with the configuration that Nomad would give it, and its
files and its log are watched.
"""

from __future__ import annotations

import json
import os
import random
import re
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from mlservice.jobspec.durations import format_duration

Json = dict[str, Any]
_LOOK_SECONDS = 0.1
_SAY_MISSING_SECONDS = 1.0
_MAX_MISSING = 3
_MISSING = re.compile(r"missing dependency: (.+?)\s*$", re.MULTILINE)
_ERROR = re.compile(r"\[ERR\] (?:\(cli\) |\(runner\) )?(.+)")
_ENV_LINE = re.compile(r"^(?:export\s+)?([A-Za-z_][A-Za-z0-9_]*)=(.*)$")


class TemplateError(Exception):
    """Templates that cannot be rendered. The task is killed."""


class Templates:
    """The templates of one task, from its first start to its end."""

    def __init__(
        self,
        program: str,
        consul: str | None,
        templates: list[Json],
        folder: Path,
        environment: Mapping[str, str],
    ) -> None:
        """Start consul-template; ``folder`` is the task's."""
        self._templates = templates
        self._folder = folder
        self._files = [_destination(folder, template, environment) for template in templates]
        own = folder.parent / "templates" / folder.name
        own.mkdir(parents=True, exist_ok=True)
        self._log = own / "consul-template.log"
        configuration = own / "consul-template.json"
        configuration.write_text(
            json.dumps(_configuration(consul, templates, self._files, folder)), "utf-8"
        )
        with self._log.open("ab") as out:
            self._popen = subprocess.Popen(
                [program, "-config", str(configuration)], cwd=folder, env=dict(environment),
                stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True,
            )  # fmt: skip
        self._seen: list[tuple[int, int] | None] = [None] * len(templates)
        self._ended = threading.Event()

    def wait_for_first(self, missing: Callable[[str], None], killed: threading.Event) -> bool:
        """Block until all are rendered; return False if the task was killed meanwhile.

        ``missing`` is called with what is missing. Raises ``TemplateError`` if consul-template
        gives up.
        """
        said, at = "", time.monotonic()
        while not killed.wait(_LOOK_SECONDS):
            if all(file.exists() for file in self._files):
                self._seen = [_stamp(file) for file in self._files]
                return True
            self._check_alive()
            words = self._missing_words()
            if words and words != said and time.monotonic() - at > _SAY_MISSING_SECONDS:
                said = words
                missing(words)
        return False

    def follow(
        self,
        restart: Callable[[], None],
        send: Callable[[str], None],
        failed: Callable[[str], None],
    ) -> None:
        """Watch for new contents in a thread, and act on them after the splay."""
        arguments = (restart, send, failed)
        threading.Thread(target=self._follow, args=arguments, daemon=True, name="templates").start()

    def environment(self) -> dict[str, str]:
        """Return the variables of the templates with ``env``.

        Raises ``TemplateError`` for an invalid line.
        """
        found: dict[str, str] = {}
        for template, file in zip(self._templates, self._files, strict=True):
            if template["Envvars"]:
                found |= _parsed(file.read_text("utf-8"))
        return found

    def end(self) -> None:
        """Stop consul-template."""
        self._ended.set()
        if self._popen.poll() is None:
            os.killpg(self._popen.pid, signal.SIGKILL)
        self._popen.wait()

    def _follow(
        self,
        restart: Callable[[], None],
        send: Callable[[str], None],
        failed: Callable[[str], None],
    ) -> None:
        while not self._ended.wait(_LOOK_SECONDS):
            try:
                self._check_alive()
            except TemplateError as error:
                if not self._ended.is_set():
                    failed(f"{error}")
                return
            changed = self._changed()
            if changed:
                self._act(changed, restart, send)

    def _changed(self) -> list[Json]:
        stamps = [_stamp(file) for file in self._files]
        pairs = zip(self._templates, stamps, self._seen, strict=True)
        changed = [template for template, now, before in pairs if now != before and now]
        self._seen = stamps
        return [template for template in changed if template["ChangeMode"] != "noop"]

    def _act(
        self, changed: list[Json], restart: Callable[[], None], send: Callable[[str], None]
    ) -> None:
        """Act once for all that changed. A restart makes signals unnecessary."""
        splay = max(template["Splay"] for template in changed) / 1e9
        if self._ended.wait(random.uniform(0, splay)):  # noqa: S311  # no secret
            return
        if any(template["ChangeMode"] == "restart" for template in changed):
            restart()
            return
        for name in dict.fromkeys(t["ChangeSignal"] for t in changed if t["ChangeSignal"]):
            send(name)

    def _check_alive(self) -> None:
        if self._popen.poll() is not None and not self._ended.is_set():
            found = _ERROR.findall(self._log.read_text("utf-8", errors="replace"))
            raise TemplateError(found[-1] if found else "consul-template ended")

    def _missing_words(self) -> str:
        text = self._log.read_text("utf-8", errors="replace")
        newest = text.rpartition("missing data for")[2]
        found = sorted(set(_MISSING.findall(newest)))
        if not found:
            return ""
        more = len(found) - _MAX_MISSING
        tail = f", and {more} more" if more > 0 else ""
        return f"Missing: {', '.join(found[:_MAX_MISSING])}{tail}"


def _configuration(
    consul: str | None, templates: list[Json], files: list[Path], folder: Path
) -> Json:
    retry = {"enabled": True, "attempts": 12, "backoff": "250ms", "max_backoff": "1m"}
    found: Json = {
        "log_level": "debug",
        "kill_signal": "SIGTERM",
        "vault": {"retry": retry, "renew_token": False},
        "template": [
            _template(template, file, folder)
            for template, file in zip(templates, files, strict=True)
        ],
    }
    if consul:
        found["consul"] = {"address": consul, "retry": retry}
    return found


def _template(template: Json, file: Path, folder: Path) -> Json:
    wait = template["Wait"] or {"Min": 5_000_000_000, "Max": 240_000_000_000}
    found: Json = {
        "destination": str(file),
        "create_dest_dirs": True,
        "left_delimiter": template["LeftDelim"],
        "right_delimiter": template["RightDelim"],
        "perms": template["Perms"],
        "error_on_missing_key": template["ErrMissingKey"],
        "function_denylist": ["executeTemplate", "plugin", "writeToFile"],
        "sandbox_path": str(folder),
        "wait": {"min": format_duration(wait["Min"]), "max": format_duration(wait["Max"])},
    }
    if template["EmbeddedTmpl"]:
        return {**found, "contents": template["EmbeddedTmpl"]}
    return {**found, "source": str(folder / template["SourcePath"])}


def _destination(folder: Path, template: Json, environment: Mapping[str, str]) -> Path:
    text: str = template["DestPath"]
    for name, value in environment.items():
        text = text.replace("${" + name + "}", value)
    return folder / text


def _stamp(file: Path) -> tuple[int, int] | None:
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ino


def _parsed(text: str) -> dict[str, str]:
    """Return KEY=value lines: quoted values with their escapes, others as they are."""
    found: dict[str, str] = {}
    for line in text.splitlines():
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        matched = _ENV_LINE.match(line)
        if matched is None:
            raise TemplateError(
                f'Template failed to read environment variables: cannot parse the line "{line}"'
            )
        found[matched[1]] = _unquoted(matched[2].strip())
    return found


def _unquoted(value: str) -> str:
    if value[:1] == value[-1:] == '"' and len(value) > 1:
        try:
            return str(json.loads(value))
        except ValueError as error:
            raise TemplateError(f"Template failed to read environment variables: {error}") from None
    if value[:1] == value[-1:] == "'" and len(value) > 1:
        return value[1:-1]
    return value.partition(" #")[0].rstrip()
