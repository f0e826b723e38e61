"""Publishes, finds and fetches artifacts.

A writer uploads its files under a unique name and then creates the manifest that points at them.
Only one writer's create succeeds. The work of the other one is dropped and never merged. A writer
that dies at any moment leaves files that no manifest names, so no reader sees them.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from mlservice.artifacts.manifest import MANIFEST_NAME, FileEntry, Manifest
from mlservice.artifacts.store_protocol import Store
from mlservice.errors import ArtifactCorrupt, ArtifactError, ArtifactExists, ArtifactNotFound

_BLOCK = 1024 * 1024
_READERS = 16
_MIN_BYTES_FOR_THREAD = 4 * _BLOCK


@dataclass(frozen=True)
class Artifact:
    """A complete artifact: its store, its path there, and its manifest."""

    store: Store
    path: str
    manifest: Manifest

    @property
    def uri(self) -> str:
        """The artifact's address."""
        return f"{self.store.root}/{self.path}"

    @property
    def version(self) -> str:
        """A short name: the time when it was made, and a hash of its path."""
        digest = hashlib.sha256(self.path.encode()).hexdigest()[:8]
        return f"{self.manifest.created:%Y%m%dT%H%M%S}-{digest}"

    @contextmanager
    def files(self) -> Iterator[Path]:
        """Fetch the artifact's files into a temporary folder, and check them by the manifest.

        Raises ``ArtifactCorrupt`` for a file with another size or checksum, and
        ``ArtifactNotFound`` for a missing one.
        """
        with tempfile.TemporaryDirectory(prefix="artifact-") as folder:
            for name, entry in self.manifest.files.items():
                target = Path(folder) / name
                target.parent.mkdir(parents=True, exist_ok=True)
                self._fetch(entry, target)
            yield Path(folder)

    def _fetch(self, entry: FileEntry, target: Path) -> None:
        key = f"{self.path}/{entry.key}"
        if local := self.store.local_path(key):
            if not local.exists():
                raise ArtifactNotFound(f"{local}: the manifest names this file, but it is missing")
            target.symlink_to(local)
        else:
            self.store.download(key, target)
        size, digest = _measure(target)
        if (size, digest) != (entry.size, entry.sha256):
            raise ArtifactCorrupt(
                f"{self.store.root}/{key}: has {size} bytes and SHA-256 {digest[:12]}…, but its "
                f"manifest says {entry.size} and {entry.sha256[:12]}…: it was cut or altered: "
                "delete the artifact's folder and make it again"
            )


def publish(
    store: Store, path: str, folder: Path, describe: Callable[[dict[str, FileEntry]], Manifest]
) -> Artifact:
    """Publish the files in ``folder`` as the artifact at ``path``.

    ``describe`` makes the manifest from the files' entries. Raises ``ArtifactExists`` if another
    writer was first, and ``ArtifactError`` for an empty folder. Both leave no files behind.
    """
    names = sorted(str(f.relative_to(folder)) for f in folder.rglob("*") if f.is_file())
    if not names:
        raise ArtifactError(f"{path}: the job wrote no file: let it write into its output folder")
    attempt = f"files-{uuid.uuid4().hex[:12]}"
    keys = [f"{path}/{attempt}/{name}" for name in names]
    entries: dict[str, FileEntry] = {}
    try:
        for name in names:
            entries[name] = _upload(store, path, f"{attempt}/{name}", folder / name)
    except ArtifactError:
        store.delete(keys)
        raise
    manifest = describe(entries)
    _create(store, f"{path}/{MANIFEST_NAME}", manifest.encode(), keys)
    return Artifact(store, path, manifest)


def _create(store: Store, key: str, manifest: bytes, files: list[str]) -> None:
    """Create the manifest, or remove the files that it names.

    If the answer to a create is lost, the create looks like a failure, and its repetition looks
    like another writer's. So an error counts only if the manifest that exists is not ours.
    """
    try:
        store.create(key, manifest)
    except ArtifactError:
        if _read_or_none(store, key) == manifest:
            return
        store.delete(files)
        raise


def _read_or_none(store: Store, key: str) -> bytes | None:
    """Return the manifest that exists; raises ``StoreError`` if that cannot be known."""
    try:
        return store.read(key)
    except ArtifactNotFound:
        return None


def open_artifact(store: Store, path: str) -> Artifact:
    """Return the complete artifact at ``path``; raises ``ArtifactNotFound`` if there is none."""
    text = store.read(f"{path}/{MANIFEST_NAME}")
    return Artifact(store, path, Manifest.decode(text, f"{store.root}/{path}"))


def list_artifacts(store: Store, prefix: str) -> list[Artifact]:
    """Return all complete artifacts below ``prefix``, the oldest first.

    One listing finds them; their manifests are then read in parallel.
    """
    suffix = f"/{MANIFEST_NAME}"
    paths = [key.removesuffix(suffix) for key in store.keys(prefix) if key.endswith(suffix)]
    with ThreadPoolExecutor(_READERS) as readers:
        found = list(readers.map(lambda path: open_artifact(store, path), paths))
    return sorted(found, key=lambda artifact: artifact.manifest.created)


def relative_path(store: Store, uri: str) -> str:
    """Return the path of the artifact at ``uri``, below the store's root.

    Raises ``ArtifactNotFound`` for a URI of another store.
    """
    root = f"{store.root}/"
    if not uri.startswith(root):
        raise ArtifactNotFound(
            f"'{uri}' is not in the artifact store {store.root}: give a URI that "
            "`mlservice artifacts list` shows, or set [artifacts] root"
        )
    return uri.removeprefix(root).strip("/").removesuffix(f"/{MANIFEST_NAME}")


def _upload(store: Store, path: str, key: str, source: Path) -> FileEntry:
    if source.stat().st_size < _MIN_BYTES_FOR_THREAD:
        size, digest = _measure(source)
        store.upload(f"{path}/{key}", source)
    else:
        with ThreadPoolExecutor(1) as side:  # hashing takes longer than writing to a disk
            measured = side.submit(_measure, source)
            store.upload(f"{path}/{key}", source)
            size, digest = measured.result()
    return FileEntry(key=key, size=size, sha256=digest)


def _measure(file: Path) -> tuple[int, str]:
    digest = hashlib.sha256()
    with file.open("rb") as stream:
        while block := stream.read(_BLOCK):
            digest.update(block)
        return os.fstat(stream.fileno()).st_size, digest.hexdigest()


__all__ = ["Artifact", "ArtifactExists", "list_artifacts", "open_artifact", "publish"]
