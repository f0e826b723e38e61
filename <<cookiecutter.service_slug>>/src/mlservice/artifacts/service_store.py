"""Opens the artifact store that the settings name."""

from __future__ import annotations

from collections.abc import Mapping

from mlservice.artifacts.store import open_store
from mlservice.artifacts.store_protocol import Store
from mlservice.settings import Settings


def open_service_store(settings: Settings, environ: Mapping[str, str]) -> Store:
    """Return the store of ``[artifacts]``; raises ``StoreError`` or ``SettingsError``.

    ``environ`` names the user of HDFS.
    """
    section = settings.artifacts
    return open_store(
        settings.artifact_root,
        environ=environ,
        s3_endpoint=section.s3_endpoint,
        s3_region=section.s3_region,
    )
