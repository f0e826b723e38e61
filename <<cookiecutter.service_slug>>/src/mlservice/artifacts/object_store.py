"""Artifacts in a folder or an S3 bucket, both through obstore.

obstore was chosen over fsspec for its conditional create, which decides between two writers on
both kinds of store. s3fs alone, or a plain ``open``, cannot decide that on both.
"""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

import obstore
from obstore.store import LocalStore, S3Store

from mlservice.artifacts.store_errors import existing_place, translated
from mlservice.artifacts.store_protocol import StoreOptions
from mlservice.errors import StoreError

if TYPE_CHECKING:
    from obstore.store import S3Config

_CHUNK = 8 * 1024 * 1024


def open_store(root: str, options: StoreOptions) -> ObjectStore:
    """Open a folder (``file:///``), which is made if it is missing, or a bucket (``s3://``).

    obstore reads the S3 credentials from the environment by itself. Raises ``StoreError``.
    """
    parts = urlsplit(root)
    with translated(root, options.user):
        if parts.scheme == "s3":
            if not parts.netloc:
                raise StoreError(f"[artifacts] root = '{root}': give s3://bucket/prefix")
            return ObjectStore(root, _s3_store(root, options), None, options.user)
        folder = Path(unquote(parts.path))
        folder.mkdir(parents=True, exist_ok=True)
        return ObjectStore(root, LocalStore(folder), folder, options.user)


class ObjectStore:
    """A ``Store`` on obstore that raises our errors, with the remedy."""

    def __init__(
        self, root: str, store: LocalStore | S3Store, folder: Path | None, user: str
    ) -> None:
        """Wrap ``store``; ``folder`` is its path on this machine's disk, if it has one."""
        self._root = root
        self._store = store
        self._folder = folder
        self._user = user

    @property
    def root(self) -> str:
        """See ``Store``."""
        return self._root

    def create(self, key: str, content: bytes) -> None:
        """See ``Store``."""
        with self._translated(key), existing_place():
            obstore.put(self._store, key, content, mode="create")

    def upload(self, key: str, source: Path) -> None:
        """See ``Store``."""
        with self._translated(key), existing_place():
            if self._folder:
                _copy(source, self._folder / key)
            else:
                obstore.put(self._store, key, source, chunk_size=_CHUNK)

    def read(self, key: str) -> bytes:
        """See ``Store``."""
        with self._translated(key):
            return bytes(obstore.get(self._store, key).bytes())

    def download(self, key: str, target: Path) -> None:
        """See ``Store``."""
        with self._translated(key), target.open("wb") as file:
            for chunk in obstore.get(self._store, key).stream(min_chunk_size=_CHUNK):
                file.write(chunk)

    def exists(self, key: str) -> bool:
        """See ``Store``."""
        with self._translated(key):
            try:
                obstore.head(self._store, key)
            except FileNotFoundError:
                return False
            return True

    def keys(self, prefix: str) -> Iterator[str]:
        """See ``Store``."""
        with self._translated(prefix):
            for batch in obstore.list(self._store, prefix or None):
                yield from (item["path"] for item in batch)

    def delete(self, keys: list[str]) -> None:
        """See ``Store``."""
        for key in keys:
            with self._translated(key):
                try:
                    obstore.delete(self._store, key)
                except FileNotFoundError:
                    continue

    def local_path(self, key: str) -> Path | None:
        """See ``Store``."""
        return self._folder / key if self._folder else None

    def _translated(self, key: str) -> AbstractContextManager[None]:
        return translated(f"{self._root}/{key}", self._user)


def _copy(source: Path, target: Path) -> None:
    """Copy a file whole or not at all, in half the time that obstore needs."""
    target.parent.mkdir(parents=True, exist_ok=True)
    draft = target.with_name(f"{target.name}.{uuid.uuid4().hex[:8]}")
    try:
        shutil.copyfile(source, draft)
        draft.replace(target)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise


def _s3_store(root: str, options: StoreOptions) -> S3Store:
    endpoint = options.s3_endpoint
    plain = endpoint.startswith("http://")
    place: S3Config = {"endpoint": endpoint} if endpoint else {}
    return S3Store.from_url(
        root,
        region=options.s3_region,
        config=place,
        client_options={"allow_http": plain, "connect_timeout": "5s", "timeout": "300s"},
        retry_config={"max_retries": 3},
    )
