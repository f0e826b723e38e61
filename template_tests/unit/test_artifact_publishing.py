"""Publishing through a store that does not say the truth about what it did."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from mlservice.artifacts import Artifact, FileEntry, Manifest, Store, list_artifacts, publish
from mlservice.artifacts.store import SCHEMES, open_store
from mlservice.errors import ArtifactError, ArtifactExists, StoreError


class Forgetful:
    """A store that acts, and whose answer to a create is lost on the way."""

    def __init__(self, store: Store, answer: Exception) -> None:
        self._store = store
        self._answer = answer

    def __getattr__(self, name: str) -> object:
        """All else is the store's."""
        return getattr(self._store, name)

    def create(self, key: str, content: bytes) -> None:
        """Create, and say something else."""
        self._store.create(key, content)
        raise self._answer


def described(files: dict[str, FileEntry]) -> Manifest:
    return Manifest(
        task="T", job="j", parameters={}, inputs={}, metrics={}, files=files, code="c",
        git_commit=None, created=datetime.now(UTC), seconds=0, environment={},
    )  # fmt: skip


def source(folder: Path) -> Path:
    (folder / "source").mkdir()
    (folder / "source" / "model.txt").write_text("a model", "utf-8")
    return folder / "source"


@pytest.mark.parametrize("answer", [StoreError("timed out"), ArtifactExists("it is there")])
def test_a_create_whose_answer_is_lost_keeps_the_files_of_its_artifact(
    tmp_path: Path, answer: ArtifactError
) -> None:
    store = open_store((tmp_path / "store").as_uri())
    made: Artifact = publish(Forgetful(store, answer), "a", source(tmp_path), described)  # type: ignore[arg-type]  # the rest is the store's
    (found,) = list_artifacts(store, "")
    assert found.manifest == made.manifest
    with found.files() as folder:
        assert (folder / "model.txt").read_text("utf-8") == "a model"


def test_a_second_writer_leaves_the_first_ones_files_and_none_of_its_own(tmp_path: Path) -> None:
    store = open_store((tmp_path / "store").as_uri())
    folder = source(tmp_path)
    first = publish(store, "a", folder, described)
    with pytest.raises(ArtifactExists):
        publish(store, "a", folder, described)
    assert {key for key in store.keys("a") if key.startswith("a/files-")} == {
        f"a/{entry.key}" for entry in first.manifest.files.values()
    }


def test_a_store_is_added_by_one_module_and_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "memory_store.py").write_text(
        "from types import SimpleNamespace\n"
        "def open_store(root, options):\n"
        "    return SimpleNamespace(root=f'{root}/{options.s3_region}')\n",
        "utf-8",
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(SCHEMES, "memory", "memory_store")
    assert open_store("memory://here", s3_region="north").root == "memory://here/north"


def test_a_root_of_no_known_kind_is_named() -> None:
    with pytest.raises(StoreError, match=r"root = 'ftp://x/': give a folder, s3://bucket"):
        open_store("ftp://x/")
    with pytest.raises(StoreError, match=r"root = 's3:///x': give s3://bucket/prefix"):
        open_store("s3:///x")
