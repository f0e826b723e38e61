"""Verifies the pacts of this service's consumers against the service as it runs.

pact's verifier sends the requests and compares the responses. This module adds what it lacks: the
states of this service, a message with the remedy, and an error for a pact that proves nothing. (The
verifier silently accepts a pact that is meant for another service.)
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pact import Verifier

from mlservice.errors import ContractError
from mlservice.local import LocalService
from mlservice.testing.states import STATES, States

_TIMEOUT_MS = 120_000
"""Long, because a change of state may start a process."""


class Provider:
    """The running service as a provider of consumers."""

    def __init__(self, name: str, service: LocalService, environ: Mapping[str, str]) -> None:
        """Verify ``service``, whose name in pacts is ``name``; ``environ`` may be that of CI."""
        self._name = name
        self._service = service
        self._environ = environ

    def verify(self, source: Path | str) -> int:
        """Verify a consumer's file, or all that the broker at a URL holds for this service.

        Returns the number of interactions, 0 if the broker has none. Raises ``ContractError`` if an
        interaction fails, or if a file has no interaction with this service.
        """
        url = self._service.url
        verifier = Verifier(self._name, urlsplit(url).hostname).add_transport(url=url)
        where = "the broker"  # its URL may hold a password
        if isinstance(source, Path):
            where = str(source)
            _check_file(source, self._name)
            verifier.add_source(source)
        else:
            self._add_broker(verifier, source)
        with States(self._service) as states:
            verifier.state_handler(states.url, teardown=True, body=True)
            verifier.set_request_timeout(_TIMEOUT_MS)
            return _run(verifier, states, where)

    def _add_broker(self, verifier: Verifier, url: str) -> None:
        branch = self._environ.get("CI_COMMIT_REF_NAME")
        source = verifier.broker_source(url, selector=True)
        source.consumer_version(main_branch=True).consumer_version(deployed_or_released=True)
        if (commit := self._environ.get("CI_COMMIT_SHA")) and branch:
            # A pact that never passed is a consumer's wish and must not break this build.
            source.include_pending().provider_branch(branch)
            verifier.set_publish_options(commit, self._environ.get("CI_JOB_URL"), branch)
        source.build().set_error_on_empty_pact(enabled=False)


def _run(verifier: Verifier, states: States, where: str) -> int:
    try:
        verifier.verify()
    except RuntimeError as error:
        failures = verifier.output(strip_ansi=True) or str(error)
    else:
        return len(verifier.results["interactionResults"])
    if states.unknown:
        raise ContractError(
            f"{where}: provider state {', '.join(map(repr, sorted(states.unknown)))}: this service "
            f"knows {' and '.join(map(repr, STATES))}: let the consumer name one of these, see "
            "docs/contracts.md"
        )
    raise ContractError(
        f"{where}: a consumer would not get what it needs:\n{failures}\nFix the service, ask the "
        "consumer's team for a pact without it, or delete the file of a consumer that no longer "
        "exists: see docs/contracts.md"
    )


def _check_file(path: Path, name: str) -> None:
    """Refuse a file that the verifier silently accepts; raises ``ContractError``."""
    try:
        pact: dict[str, Any] = json.loads(path.read_text("utf-8"))
        provider, interactions = pact["provider"]["name"], pact["interactions"]
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise ContractError(
            f"{path}: not a pact ({type(error).__name__}: {error}): only files that consumers' "
            "tests write belong there"
        ) from error
    if provider != name:
        raise ContractError(
            f"{path}: provider.name = {provider!r}: this service is {name!r}: let the consumer's "
            "test name it so"
        )
    if not interactions:
        raise ContractError(f"{path}: interactions = []: it proves nothing: delete it")
