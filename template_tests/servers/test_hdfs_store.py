"""The artifact store on a real HDFS, a mini cluster with WebHDFS."""

from __future__ import annotations

import http.client
import json
import random
import shutil
import signal
import subprocess
import sys
import threading
import traceback
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar
from urllib.parse import parse_qs, quote, urlsplit

import pytest
import urllib3
from hypothesis import given, settings
from hypothesis import strategies as st

from mlservice.artifacts import FileEntry, Manifest, list_artifacts, open_artifact, publish
from mlservice.artifacts.store_protocol import StoreOptions
from mlservice.artifacts.webhdfs import WebHdfsStore, open_store
from mlservice.errors import ArtifactError, ArtifactExists, ArtifactNotFound, StoreError
from mlservice.local import LocalService, free_ports
from template_tests.support.calls import post
from template_tests.support.laws import examples
from template_tests.support.toy_service import PERIOD, SERVICE, MakeToy, Toy, clean_environ

pytestmark = pytest.mark.servers

MEGABYTE = 1024 * 1024


class MiniHdfs:
    """A running mini cluster; ``url`` is its root."""

    def __init__(self, *arguments: str) -> None:
        command = shutil.which("hdfs-mini")
        assert command, "hdfs-mini is missing: run these tests by `make test-servers`"
        self.process = subprocess.Popen(
            [command, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self.url = self.told()
        assert self.url.startswith("webhdfs://"), "the mini cluster did not start"

    def told(self) -> str:
        assert self.process.stdout
        return self.process.stdout.readline().strip()

    def tell(self, line: str) -> None:
        """Give a command and wait until it is done."""
        assert self.process.stdin
        self.process.stdin.write(f"{line}\n")
        self.process.stdin.flush()
        assert self.told() == line

    def ask(self, method: str, path: str, operation: str, **parameters: str) -> bytes:
        """What only an administrator does, past the store."""
        query = "".join(f"&{name}={value}" for name, value in parameters.items())
        address = self.url.replace("webhdfs:", "http:")
        root = MiniHdfs.owner()
        url = f"{address}/webhdfs/v1{quote(path)}?op={operation}&user.name={root}{query}"
        response = urllib3.request(method, url)
        assert response.status == 200, response.data
        return response.data

    @staticmethod
    def owner() -> str:
        """The user that the cluster runs as, who may do everything."""
        return Path.home().owner()

    def close(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        with self.process:
            return self.process.wait(timeout=30)


@pytest.fixture(scope="module")
def hdfs() -> Iterator[MiniHdfs]:
    cluster = MiniHdfs()
    yield cluster
    assert cluster.close() == 0, "it ends cleanly"


@pytest.fixture
def root(hdfs: MiniHdfs) -> str:
    """A folder of its own that everybody may write in."""
    return folder_of(hdfs)


def folder_of(hdfs: MiniHdfs) -> str:
    name = f"/test-{uuid.uuid4().hex[:8]}"
    hdfs.ask("PUT", name, "MKDIRS", permission="777")
    return f"{hdfs.url}{name}"


def store_at(root: str, user: str = "somebody") -> WebHdfsStore:
    return open_store(root, StoreOptions({"HADOOP_USER_NAME": user}))


def everything(hdfs: MiniHdfs, root: str) -> list[str]:
    """All files below ``root`` by another way than the store's, drafts too."""

    def below(path: str) -> Iterator[str]:
        listed = json.loads(hdfs.ask("GET", path, "LISTSTATUS"))["FileStatuses"]["FileStatus"]
        for status in listed:
            name = f"{path}/{status['pathSuffix']}"
            yield from [name] if status["type"] == "FILE" else below(name)

    return list(below(urlsplit(root).path))


def manifest(entries: dict[str, FileEntry]) -> Manifest:
    return Manifest(
        task="t",
        job="j",
        parameters={},
        inputs={},
        metrics={},
        files=entries,
        code="1",
        git_commit=None,
        created=datetime(2024, 1, 1, tzinfo=UTC),
        seconds=0,
        environment={},
    )


# Keys and content ------------------------------------------------------------------------

ANY = st.text(st.characters(exclude_characters="/", exclude_categories=["Cs", "Cc"]), max_size=12)
PART = ANY | st.text(":%3A25 +?#&;=", max_size=12)
KEY = st.lists(PART.filter(lambda part: part.strip(".")), min_size=1, max_size=3).map("/".join)


def test_any_key_and_content_come_back_as_they_went(root: str) -> None:
    @given(KEY, st.binary(max_size=50))
    @settings(deadline=None, max_examples=examples(60))
    def law(key: str, content: bytes) -> None:
        store = store_at(f"{root}/{uuid.uuid4()}")
        store.create(key, content)
        assert store.exists(key)
        assert store.read(key) == content
        assert list(store.keys("")) == [key]
        store.delete([key])
        assert not store.exists(key)

    law()


@pytest.mark.parametrize("size", [0, 1, MEGABYTE, MEGABYTE + 1, 3 * MEGABYTE])
def test_a_file_of_any_size_comes_back(root: str, tmp_path: Path, size: int) -> None:
    (tmp_path / "out").write_bytes(content := random.randbytes(size))
    store = store_at(root)
    store.upload("a/b", tmp_path / "out")
    store.download("a/b", tmp_path / "in")
    assert (tmp_path / "in").read_bytes() == content


def test_what_is_not_there_is_not_found_and_can_be_deleted(root: str, tmp_path: Path) -> None:
    store = store_at(root)
    store.create("a/b", b"")
    for key in ("a/c", "c", "a"):
        assert not store.exists(key)
        with pytest.raises(ArtifactNotFound, match=f"/{key}: there is no such object"):
            store.read(key)
        with pytest.raises(ArtifactNotFound, match="no such object"):
            store.download(key, tmp_path / "x")
    store.delete(["a/c", "c"])
    assert store.local_path("a/b") is None


def test_a_listing_finds_only_what_lies_below_the_prefix(root: str) -> None:
    store = store_at(root)
    for key in ("toy/a", "toy/deep/er/b", "toys/c", "d", "toy/e:%3A"):
        store.create(key, b"1")
    store.create("toy/draft.0123456789ab._COPYING_", b"what a dead writer left")
    assert sorted(store.keys("toy")) == ["toy/a", "toy/deep/er/b", "toy/e:%3A"]
    assert len(list(store.keys(""))) == 5
    assert list(store.keys("nothing")) == []
    assert list_artifacts(store, "nothing") == []


def test_a_folder_of_more_files_than_one_page_of_hdfs_is_listed_whole(root: str) -> None:
    store = store_at(root)
    wanted = [f"many/{number}" for number in range(1100)]
    with ThreadPoolExecutor(16) as writers:
        list(writers.map(lambda key: store.create(key, b""), wanted))
    assert sorted(store.keys("many")) == sorted(wanted)


def test_a_large_file_is_never_held_in_memory(root: str, tmp_path: Path) -> None:
    script = """
import os, pathlib, resource, sys
from mlservice.artifacts import open_store
store = open_store(sys.argv[1], environ=os.environ)
store.create("warm", b"")
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
store.upload("large", pathlib.Path(sys.argv[2]))
store.download("large", pathlib.Path(sys.argv[3]))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    with (tmp_path / "out").open("wb") as file:
        file.truncate(100 * MEGABYTE)
    child = python(script, root, tmp_path / "out", tmp_path / "in")
    output = child.communicate(timeout=100)[0]
    assert child.returncode == 0, output
    assert (tmp_path / "in").stat().st_size == 100 * MEGABYTE
    assert int(output) * 1024 < 20 * MEGABYTE


# Two writers, and writers that die -------------------------------------------------------


def test_a_second_writer_is_refused_and_leaves_nothing(hdfs: MiniHdfs, root: str) -> None:
    store = store_at(root)
    store.create("a/manifest.json", b"first")
    with pytest.raises(ArtifactExists, match=r"/a/manifest\.json: exists already"):
        store.create("a/manifest.json", b"second")
    assert store.read("a/manifest.json") == b"first"
    assert len(everything(hdfs, root)) == 1


def test_of_many_writers_at_once_exactly_one_succeeds(hdfs: MiniHdfs, root: str) -> None:
    stores = [store_at(root) for _ in range(4)]
    for number in range(60):
        start = threading.Barrier(len(stores))
        winners = write_at_once(stores, f"{number}/manifest.json", start)
        assert len(winners) == 1
        assert stores[0].read(f"{number}/manifest.json") == winners[0]
    assert len(everything(hdfs, root)) == 60


def write_at_once(stores: list[WebHdfsStore], key: str, start: threading.Barrier) -> list[bytes]:
    def write(number: int) -> bytes | None:
        content = str(number).encode() * 1000
        start.wait()
        try:
            stores[number].create(key, content)
        except ArtifactExists:
            return None
        return content

    with ThreadPoolExecutor(len(stores)) as writers:
        return [won for won in writers.map(write, range(len(stores))) if won]


PUBLISHER = """
import os, pathlib, signal, sys
import urllib3
from mlservice.artifacts import publish, open_store
from template_tests.servers.test_hdfs_store import manifest
root, folder, moment = sys.argv[1], pathlib.Path(sys.argv[2]), int(sys.argv[3])
store, moments, request = open_store(root, environ=os.environ), 0, urllib3.PoolManager.request
def die_in_time():
    global moments
    moments += 1
    if moments == moment:
        os.kill(os.getpid(), signal.SIGKILL)
def dying(*arguments, **more):
    die_in_time()
    response = request(*arguments, **more)
    die_in_time()
    return response
urllib3.PoolManager.request = dying
publish(store, "a", folder, manifest)
"""


def test_a_writer_killed_around_any_request_leaves_a_whole_artifact_or_none(
    root: str, tmp_path: Path
) -> None:
    (tmp_path / "model").write_bytes(b"x" * 100_000)
    seen = []
    for moment in range(1, 40):
        place = f"{root}/{moment}"
        child = python(PUBLISHER, place, tmp_path, moment)
        output = child.communicate(timeout=60)[0]
        seen.append(is_whole(store_at(place)))
        if child.returncode == 0:
            break
        assert child.returncode == -signal.SIGKILL, output
        publish_again(store_at(place), tmp_path, there=seen[-1])
    assert seen == sorted(seen), "once it is there it stays"
    assert seen.count(False) == 9, "before and after each of: 2 for the file, 3 for the manifest"
    assert seen.count(True) == 2


def is_whole(store: WebHdfsStore) -> bool:
    """Whether the artifact is there, and then with all that its manifest says."""
    try:
        artifact = open_artifact(store, "a")
    except ArtifactNotFound:
        assert list_artifacts(store, "") == []
        return False
    with artifact.files() as folder:
        assert (folder / "model").stat().st_size == 100_000
    return True


def publish_again(store: WebHdfsStore, folder: Path, *, there: bool) -> None:
    if there:
        with pytest.raises(ArtifactExists):
            publish(store, "a", folder, manifest)
    else:
        publish(store, "a", folder, manifest)
    assert is_whole(store)


CREATOR = """
import os, sys
from mlservice.artifacts import open_store
store, content = open_store(sys.argv[1], environ=os.environ), b"x" * 16 * 1024 * 1024
store.exists("warm")
print("now", flush=True)
store.create("key", content)
print("done", flush=True)
"""


def test_a_writer_killed_at_any_time_leaves_a_whole_object_or_none(root: str) -> None:
    lengths = set()
    for number in range(25):
        store = store_at(f"{root}/{number}")
        child = python(CREATOR, store.root)
        assert child.stdout
        assert child.stdout.readline() == "now\n"
        with suppress(subprocess.TimeoutExpired):
            child.wait(timeout=number * 0.012)
        child.kill()
        child.communicate()
        lengths.add(len(store.read("key")) if store.exists("key") else -1)
    assert lengths <= {-1, 16 * MEGABYTE}
    assert -1 in lengths, "some were killed in time"


def python(script: str, *arguments: object) -> subprocess.Popen[str]:
    paths = f"{SERVICE / 'src'}:{SERVICE.parent}"
    environ = {**clean_environ(), "PYTHONPATH": paths, "HADOOP_USER_NAME": "somebody"}
    return subprocess.Popen(
        [sys.executable, "-c", script, *map(str, arguments)],
        env=environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


# What can go wrong -----------------------------------------------------------------------


@pytest.mark.parametrize(("before", "refused"), [(0, "manifest.json"), (10, "files-.*/model")])
def test_a_full_store_is_named_and_keeps_no_part_of_an_artifact(
    hdfs: MiniHdfs, root: str, tmp_path: Path, before: int, refused: str
) -> None:
    """HDFS counts a whole block for a file until it is closed, so the quota is block and rest."""
    quota = str((128 + 9) * MEGABYTE)
    hdfs.ask("PUT", urlsplit(root).path, "SETQUOTA", namespacequota="100", storagespacequota=quota)
    store = store_at(root)
    store.create("other", b"x" * before * MEGABYTE)
    (tmp_path / "model").write_bytes(b"x" * 10 * MEGABYTE)
    with pytest.raises(StoreError, match=f"/a/{refused}: .*store is full: free some space.*quota"):
        publish(store, "a", tmp_path, manifest)
    assert list_artifacts(store, "") == []
    assert len(everything(hdfs, root)) == 1


def test_a_store_with_too_many_files_refuses_the_manifest_and_the_rest_is_dropped(
    hdfs: MiniHdfs, root: str, tmp_path: Path
) -> None:
    path = urlsplit(root).path
    hdfs.ask("PUT", path, "SETQUOTA", namespacequota="4", storagespacequota=str(2**62))
    (tmp_path / "model").write_bytes(b"x")
    with pytest.raises(StoreError, match=r"a/manifest\.json.*is full"):
        publish(store_at(root), "a", tmp_path, manifest)
    assert everything(hdfs, root) == []


def test_a_user_without_the_right_is_told_so(hdfs: MiniHdfs, root: str) -> None:
    hdfs.ask("PUT", urlsplit(root).path, "SETPERMISSION", permission="700")
    store = store_at(root, "stranger")
    attempts: list[Callable[[], object]] = [
        lambda: store.create("a", b""),
        lambda: store.read("a"),
        lambda: store.exists("a"),
        lambda: list(store.keys("")),
        lambda: store.delete(["a"]),
    ]
    for attempt in attempts:
        with pytest.raises(StoreError, match=r"user=stranger.*give the user \(HADOOP_USER_NAME\)"):
            attempt()


def test_safe_mode_refuses_writes_with_a_remedy_and_reads_go_on(
    hdfs: MiniHdfs, root: str, tmp_path: Path
) -> None:
    (tmp_path / "model").write_bytes(b"x")
    store = store_at(root)
    store.create("there", b"1")
    hdfs.tell("safemode on")
    try:
        with pytest.raises(StoreError, match="HDFS refuses writes at the moment: wait until"):
            publish(store, "a", tmp_path, manifest)
        assert store.read("there") == b"1"
    finally:
        hdfs.tell("safemode off")
    publish(store, "a", tmp_path, manifest)


def test_a_standby_namenode_is_named_as_one() -> None:
    cluster = MiniHdfs("standby")
    try:
        with pytest.raises(StoreError, match="is a standby: name the active one"):
            store_at(f"{cluster.url}/x").create("a", b"")
        with pytest.raises(StoreError, match="is a standby"):
            store_at(f"{cluster.url}/x").exists("a")
    finally:
        assert cluster.close() == 0


def test_a_namenode_that_is_away_is_named_without_the_token(tmp_path: Path) -> None:
    (tmp_path / "model").write_bytes(b"x")
    store = open_store("webhdfs://127.0.0.1:9/x", StoreOptions({"HDFS_DELEGATION_TOKEN": "secret"}))
    with pytest.raises(StoreError, match=r"does not answer at 127\.0\.0\.1:9.*\[artifacts\] root"):
        publish(store, "a", tmp_path, manifest)
    with pytest.raises(StoreError) as away:
        store.exists("a")
    assert "secret" not in "".join(traceback.format_exception(away.value))


@pytest.mark.parametrize(
    ("root", "environ", "message"),
    [
        ("webhdfs:///x", {"USER": "u"}, "give webhdfs://host:port/prefix"),
        ("swebhdfs://:1/x", {"USER": "u"}, "give swebhdfs://host:port/prefix"),
        ("webhdfs://host:port/x", {"USER": "u"}, r"\[artifacts\] root = 'webhdfs://host:port/x'"),
        ("webhdfs://host:1/x", {}, "Set HADOOP_USER_NAME to a user of the cluster"),
    ],
)
def test_a_root_or_user_that_cannot_be_used_is_refused_at_once(
    root: str, environ: dict[str, str], message: str
) -> None:
    with pytest.raises(StoreError, match=message):
        open_store(root, StoreOptions(environ))


def test_a_user_that_hdfs_does_not_take_is_named(root: str) -> None:
    with pytest.raises(StoreError, match="HDFS refuses the name in HADOOP_USER_NAME"):
        store_at(root, "a b").create("a", b"")


# Answers that get lost -------------------------------------------------------------------


class Door(BaseHTTPRequestHandler):
    """Stands before the namenode and passes everything on, but for what a test takes away."""

    protocol_version = "HTTP/1.1"
    namenode = ""
    loses: ClassVar[set[str]] = set()  # "rename" or "answer", that of a rename
    knows_options = True
    refuses = 0
    seen: ClassVar[list[dict[str, list[str]]]] = []

    def handle_one(self) -> None:
        query = parse_qs(urlsplit(self.path).query)
        self.seen.append(query)
        self.close_connection = True
        renames = query["op"] == ["RENAME"]
        if self.refuses:
            self.answer(self.refuses, None, b"")
        elif not (renames and "rename" in self.loses):
            passed_on = self.pass_on()
            if not (renames and "answer" in self.loses):
                self.answer(*passed_on)

    do_GET = do_PUT = do_DELETE = handle_one  # noqa: N815  # the base class's names

    def pass_on(self) -> tuple[int, str | None, bytes]:
        path = self.path if self.knows_options else self.path.replace("&renameoptions=NONE", "")
        connection = http.client.HTTPConnection(self.namenode)
        connection.request(self.command, path)
        response = connection.getresponse()
        content = response.read()
        connection.close()
        return response.status, response.headers["Location"], content

    def answer(self, status: int, place: str | None, content: bytes) -> None:
        self.send_response(status)
        if place:
            self.send_header("Location", place)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def door(root: str, **behaviour: object) -> Iterator[tuple[str, type[Door]]]:
    parts = urlsplit(root)
    handler = type("This", (Door,), {"namenode": parts.netloc, "seen": [], **behaviour})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"webhdfs://127.0.0.1:{server.server_port}{parts.path}", handler
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_a_rename_whose_answer_is_lost_counts_as_done(hdfs: MiniHdfs, root: str) -> None:
    with door(root, loses={"answer"}) as (behind, _):
        store_at(behind).create("a/manifest.json", b"mine")
    assert store_at(root).read("a/manifest.json") == b"mine"
    assert len(everything(hdfs, root)) == 1


def test_a_rename_that_was_never_done_is_an_error_and_leaves_nothing(
    hdfs: MiniHdfs, root: str
) -> None:
    nothing_done = pytest.raises(StoreError, match="does not answer")
    with door(root, loses={"rename"}) as (behind, _), nothing_done:
        store_at(behind).create("a/manifest.json", b"mine")
    assert everything(hdfs, root) == []


def test_a_second_writer_whose_refusal_is_lost_does_not_take_the_first_for_its_own(
    hdfs: MiniHdfs, root: str
) -> None:
    store_at(root).create("a/manifest.json", b"first")
    with door(root, loses={"answer"}) as (behind, _), pytest.raises(ArtifactError):
        store_at(behind).create("a/manifest.json", b"second")
    assert store_at(root).read("a/manifest.json") == b"first"
    assert len(everything(hdfs, root)) == 1


def test_a_gateway_that_answers_a_rename_with_false_refuses_a_second_writer_too(
    hdfs: MiniHdfs, root: str
) -> None:
    with door(root, knows_options=False) as (behind, _):
        store_at(behind).create("a/manifest.json", b"first")
        with pytest.raises(ArtifactExists, match="never replaced"):
            store_at(behind).create("a/manifest.json", b"second")
    assert store_at(root).read("a/manifest.json") == b"first"
    assert len(everything(hdfs, root)) == 1


def test_a_delegation_token_is_sent_instead_of_a_user_and_a_stale_one_is_named(root: str) -> None:
    environ = {"HADOOP_USER_NAME": "somebody", "HDFS_DELEGATION_TOKEN": "secret"}
    with door(root, refuses=401) as (behind, handler):
        with pytest.raises(StoreError, match="put a fresh delegation token") as refused:
            open_store(behind, StoreOptions(environ)).exists("a")
        assert "secret" not in str(refused.value)
    assert handler.seen == [{"op": ["GETFILESTATUS"], "delegation": ["secret"]}]


def test_a_model_is_made_once_found_again_and_served(root: str, make_toy: MakeToy) -> None:
    toy = make_toy()
    places = {"MLSERVICE_ARTIFACTS__ROOT": root, "HADOOP_USER_NAME": "somebody"}
    toy = Toy(toy.folder, {**toy.environ, **places})
    model = toy.train()
    assert model.startswith(root)
    assert "nothing to do" in toy.run("pipeline", "run", "--period", PERIOD).stdout
    with LocalService(toy.folder, free_ports(toy.environ), model, toy.folder / "logs") as service:
        assert post(service.url, {"x": 0.5})[1]["prediction"] == {"score": 0.5}
