"""Checks that consumers get what their pacts require: see docs/contracts.md.

The pacts are in contracts/consumers, at the broker of PACT_BROKER_BASE_URL, or in both.
"""

import os
from pathlib import Path

import pytest

from mlservice.local import LocalService
from mlservice.settings import Settings
from mlservice.testing.consumers import Provider

FILES = sorted((Path(__file__).parents[2] / "contracts" / "consumers").glob("*.json"))
BROKER = os.environ.get("PACT_BROKER_BASE_URL")
SOURCES = [*FILES, BROKER] if BROKER else FILES


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: getattr(source, "stem", "broker"))
def test_a_consumer_gets_what_its_pact_says(
    settings: Settings, environ: dict[str, str], service: LocalService, source: Path | str
) -> None:
    if not Provider(settings.service.name, service, environ).verify(source):
        # Nothing was verified, so this is not a pass. It is not a failure either: the broker is the
        # organisation's, and a new service has no consumers yet.
        pytest.skip(f"the broker has no pact whose provider is '{settings.service.name}'")
