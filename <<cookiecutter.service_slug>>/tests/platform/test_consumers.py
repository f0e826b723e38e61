"""What consumers need of this service, by the pacts they handed in: docs/contracts.md.

They lie in contracts/consumers, or at the broker that PACT_BROKER_BASE_URL names, or in both.
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
        # Nothing was verified, and a pass would say that something was. It is no failure either:
        # a broker is the organisation's, and a new service has no consumers yet.
        pytest.skip(f"the broker holds no pact whose provider is '{settings.service.name}'")
