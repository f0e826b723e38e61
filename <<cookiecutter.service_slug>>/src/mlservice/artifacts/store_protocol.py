"""What artifacts need of a place to lie in, whichever store it is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True)
class StoreOptions:
    """What a store may need beside its root. ``environ`` has credentials and users.

    S3 credentials are not read from it: obstore reads AWS_ACCESS_KEY_ID and the like by itself.
    """

    environ: Mapping[str, str]
    s3_endpoint: str = ""
    s3_region: str = "us-east-1"

    @property
    def user(self) -> str:
        """The user of this process, for messages."""
        return self.environ.get("USER", "this user")


class Store(Protocol):
    """A place for artifacts. Keys are relative to ``root``."""

    @property
    def root(self) -> str:
        """The store's URL, without a slash at its end."""

    def create(self, key: str, content: bytes) -> None:
        """Write a small object that must not exist yet; raises ``ArtifactExists``."""

    def upload(self, key: str, source: Path) -> None:
        """Write the file ``source`` under ``key``."""

    def read(self, key: str) -> bytes:
        """Return the content of a small object; raises ``ArtifactNotFound``."""

    def download(self, key: str, target: Path) -> None:
        """Write the object to the file ``target``; raises ``ArtifactNotFound``."""

    def exists(self, key: str) -> bool:
        """Whether the object exists."""

    def keys(self, prefix: str) -> Iterator[str]:
        """Yield all keys below the folder ``prefix``."""

    def delete(self, keys: list[str]) -> None:
        """Remove objects; missing ones are ignored."""

    def local_path(self, key: str) -> Path | None:
        """Return the object's path on this machine's disk, or None if it is not there."""
