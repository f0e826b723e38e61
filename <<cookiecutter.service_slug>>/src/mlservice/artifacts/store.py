"""The folder, bucket or HDFS that artifacts lie in; files and S3 by obstore, in one code path.

obstore was taken over fsspec for its conditional create, which decides between two writers
on both kinds of store, and which s3fs alone or a plain ``open`` do not give on both.
"""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Protocol
from urllib.parse import unquote, urlsplit

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError
from obstore.store import LocalStore, S3Store

from mlservice.errors import ArtifactExists, ArtifactNotFound, StoreError

if TYPE_CHECKING:
    from obstore.store import S3Config

_CHUNK = 8 * 1024 * 1024


class Store(Protocol):
    """What artifacts need of a place to lie in. Keys are relative to ``root``."""

    @property
    def root(self) -> str:
        """URL of the store, without a slash at its end."""

    def create(self, key: str, content: bytes) -> None:
        """Write a small object that must not be there yet; raises ``ArtifactExists``."""

    def upload(self, key: str, source: Path) -> None:
        """Write the file ``source`` under ``key``."""

    def read(self, key: str) -> bytes:
        """The content of a small object; raises ``ArtifactNotFound``."""

    def download(self, key: str, target: Path) -> None:
        """Write the object to the file ``target``; raises ``ArtifactNotFound``."""

    def exists(self, key: str) -> bool:
        """Whether the object is there."""

    def keys(self, prefix: str) -> Iterator[str]:
        """All keys below the folder ``prefix``."""

    def delete(self, keys: list[str]) -> None:
        """Remove objects; those that are gone already do not matter."""

    def local_path(self, key: str) -> Path | None:
        """Where the object lies on this machine's disk, or None."""


def open_store(root: str, *, s3_endpoint: str = "", s3_region: str = "us-east-1") -> Store:
    """Open the store at ``root`` (``file:///``, ``s3://bucket/``, ``webhdfs://namenode:9870/``).

    S3 credentials come from the environment (AWS_ACCESS_KEY_ID and the like), and so does the
    user of HDFS (HADOOP_USER_NAME). Raises ``StoreError`` for another scheme or a folder that
    cannot be made.
    """
    parts = urlsplit(root)
    if parts.scheme == "file":
        folder = Path(unquote(parts.path))
        with translated(root):
            folder.mkdir(parents=True, exist_ok=True)
            return ObjectStore(root, LocalStore(folder), folder)
    if parts.scheme == "s3" and parts.netloc:
        with translated(root):
            return ObjectStore(root, _s3_store(root, s3_endpoint, s3_region), None)
    if parts.scheme in ("webhdfs", "swebhdfs"):
        from mlservice.artifacts.webhdfs import open_webhdfs  # a tenth of a second, rarely needed

        return open_webhdfs(root, os.environ)
    raise StoreError(
        f"[artifacts] root = '{root}': give a folder, s3://bucket/prefix or "
        "webhdfs://host:port/prefix, nothing else is known"
    )


class ObjectStore:
    """A ``Store`` on obstore; its errors are translated into ours, with the remedy."""

    def __init__(self, root: str, store: LocalStore | S3Store, folder: Path | None) -> None:
        """Wrap ``store``; ``folder`` is its place on this machine's disk, if it has one."""
        self._root = root
        self._store = store
        self._folder = folder

    @property
    def root(self) -> str:
        """See ``Store``."""
        return self._root

    def create(self, key: str, content: bytes) -> None:
        """See ``Store``."""
        with translated(f"{self._root}/{key}"), _a_place():
            obstore.put(self._store, key, content, mode="create")

    def upload(self, key: str, source: Path) -> None:
        """See ``Store``."""
        with translated(f"{self._root}/{key}"), _a_place():
            if self._folder:
                _copy(source, self._folder / key)
            else:
                obstore.put(self._store, key, source, chunk_size=_CHUNK)

    def read(self, key: str) -> bytes:
        """See ``Store``."""
        with translated(f"{self._root}/{key}"):
            return bytes(obstore.get(self._store, key).bytes())

    def download(self, key: str, target: Path) -> None:
        """See ``Store``."""
        with translated(f"{self._root}/{key}"), target.open("wb") as file:
            for chunk in obstore.get(self._store, key).stream(min_chunk_size=_CHUNK):
                file.write(chunk)

    def exists(self, key: str) -> bool:
        """See ``Store``."""
        with translated(f"{self._root}/{key}"):
            try:
                obstore.head(self._store, key)
            except FileNotFoundError:
                return False
            return True

    def keys(self, prefix: str) -> Iterator[str]:
        """See ``Store``."""
        with translated(f"{self._root}/{prefix}"):
            for batch in obstore.list(self._store, prefix or None):
                yield from (item["path"] for item in batch)

    def delete(self, keys: list[str]) -> None:
        """See ``Store``."""
        for key in keys:
            with translated(f"{self._root}/{key}"):
                try:
                    obstore.delete(self._store, key)
                except FileNotFoundError:
                    continue

    def local_path(self, key: str) -> Path | None:
        """See ``Store``."""
        return self._folder / key if self._folder else None


def _copy(source: Path, target: Path) -> None:
    """Copy a file whole or not at all; the kernel does it in half of obstore's time."""
    target.parent.mkdir(parents=True, exist_ok=True)
    draft = target.with_name(f"{target.name}.{uuid.uuid4().hex[:8]}")
    try:
        shutil.copyfile(source, draft)
        draft.replace(target)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise


def _s3_store(root: str, endpoint: str, region: str) -> S3Store:
    plain = endpoint.startswith("http://")
    place: S3Config = {"endpoint": endpoint} if endpoint else {}
    return S3Store.from_url(
        root,
        region=region,
        config=place,
        client_options={"allow_http": plain, "connect_timeout": "5s", "timeout": "300s"},
        retry_config={"max_retries": 3},
    )


@contextmanager
def translated(uri: str) -> Iterator[None]:
    """Turn what obstore and the operating system raise into our errors, named by ``uri``."""
    try:
        yield
    except AlreadyExistsError as error:
        raise ArtifactExists(f"{uri}: is there already, and artifacts are not replaced") from error
    except FileNotFoundError as error:
        raise ArtifactNotFound(f"{uri}: there is no such object") from error
    except (OSError, BaseError) as error:
        raise StoreError(f"{uri}: {_reason(error)}: {_remedy(error)}") from error


@contextmanager
def _a_place() -> Iterator[None]:
    """A write that finds nothing to write to is the store's fault, not a missing object."""
    try:
        yield
    except FileNotFoundError as error:
        raise OSError("the bucket or folder does not exist") from error


def _reason(error: Exception) -> str:
    return str(error).splitlines()[0].strip() if str(error) else type(error).__name__


def _remedy(error: Exception) -> str:
    text = str(error)
    if "No space left" in text:
        return "the disk is full: free some space and run again, what is complete stays"
    if "Permission denied" in text or "Read-only" in text:
        user = os.environ.get("USER", "this user")
        return f"give {user} the right to write there, or change [artifacts] root in service.toml"
    return (
        "check [artifacts] root in service.toml, the credentials in the environment and whether "
        "the store can be reached"
    )
