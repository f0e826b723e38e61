"""Artifacts on HDFS through WebHDFS, the HTTP API of every namenode: no JVM, no Hadoop settings.

fsspec's webhdfs cannot be used: it waits forever, always overwrites, and drops the answer to a
rename, which decides between two writers here. urllib3 is used without requests on top of it,
since a listing of many artifacts is many small calls and then takes half the time.
"""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import quote, unquote, urlencode, urlsplit

import urllib3
from urllib3.exceptions import HTTPError, MaxRetryError

from mlservice.artifacts.hdfs_errors import no_answer, refusal, taken
from mlservice.artifacts.store_errors import translated
from mlservice.artifacts.store_protocol import StoreOptions
from mlservice.errors import ArtifactError, ArtifactNotFound, NoAnswer, StoreError

_SCHEMES = {"webhdfs": ("http", 9870), "swebhdfs": ("https", 9871)}
_CHUNK = 1024 * 1024
_LISTERS = 16
_ENDING = "._COPYING_"  # Hadoop's own for a file that is being written
_DRAFT = re.compile(rf"\.[0-9a-f]{{12}}{re.escape(_ENDING)}$")
_NAMENODE = urllib3.Timeout(connect=5, read=60)
# A blocked send counts as connecting, and a datanode may well pause for some seconds.
_DATANODE = urllib3.Timeout(connect=60, read=300)
_RETRIES = urllib3.Retry(3, redirect=False, status=0, backoff_factor=0.2, allowed_methods={"GET"})
_OK = 200
_REDIRECT = 307


def open_store(root: str, options: StoreOptions) -> WebHdfsStore:
    """Open the store at ``root`` (``webhdfs://namenode:9870/prefix``, or ``swebhdfs://`` for TLS).

    The user is HADOOP_USER_NAME of the environment, else USER. A delegation token in
    HDFS_DELEGATION_TOKEN stands for the user; clusters with Kerberos need it. No request is sent
    yet. Raises ``StoreError`` for a root without a host, and if no user is named.
    """
    environ = options.environ
    parts = urlsplit(root)
    scheme, usual_port = _SCHEMES[parts.scheme]
    try:
        server = f"{scheme}://{parts.hostname}:{parts.port or usual_port}"
    except ValueError as error:
        raise StoreError(f"[artifacts] root = '{root}': {error}") from error
    if not parts.hostname:
        raise StoreError(f"[artifacts] root = '{root}': give {parts.scheme}://host:port/prefix")
    user = environ.get("HADOOP_USER_NAME") or environ.get("USER", "")
    if token := environ.get("HDFS_DELEGATION_TOKEN"):
        return WebHdfsStore(root, server, {"delegation": token}, options.user)
    if not user:
        raise StoreError(f"{root}: who writes there? Set HADOOP_USER_NAME to a user of the cluster")
    return WebHdfsStore(root, server, {"user.name": user}, options.user)


class WebHdfsStore:
    """A ``Store`` on HDFS that raises our errors for the cluster's answers."""

    def __init__(
        self, root: str, server: str, identity: Mapping[str, str], user: str = "this user"
    ) -> None:
        """``server`` is the namenode's URL; ``identity`` goes into the query of each request.

        ``user`` is the user of this process, for messages.
        """
        self._user = user
        self._root = root
        self._folder = unquote(urlsplit(root).path).rstrip("/")
        self._server = server
        self._identity = identity
        self._pool = urllib3.PoolManager(maxsize=_LISTERS, blocksize=_CHUNK, retries=_RETRIES)

    @property
    def root(self) -> str:
        """See ``Store``."""
        return self._root

    def create(self, key: str, content: bytes) -> None:
        """See ``Store``.

        Readers would see half of a file that is being written. So a draft is written and then
        renamed: HDFS renames at once or not at all, and refuses a name that exists.
        """
        draft = f"{key}.{uuid.uuid4().hex[:12]}{_ENDING}"
        try:
            self._write(draft, content, len(content))
            self._rename(draft, key)
        except ArtifactError:
            with suppress(StoreError):
                self._remove(draft)
            raise

    def upload(self, key: str, source: Path) -> None:
        """See ``Store``."""
        with translated(f"{self._root}/{key}", self._user), source.open("rb") as file:
            self._write(key, file, source.stat().st_size)

    def read(self, key: str) -> bytes:
        """See ``Store``."""
        return b"".join(self._stream(key))

    def download(self, key: str, target: Path) -> None:
        """See ``Store``."""
        with translated(f"{self._root}/{key}", self._user), target.open("wb") as file:
            for chunk in self._stream(key):
                file.write(chunk)

    def exists(self, key: str) -> bool:
        """See ``Store``."""
        try:
            status = self._request("GET", key, "GETFILESTATUS")["FileStatus"]
        except ArtifactNotFound:
            return False
        return bool(status["type"] == "FILE")

    def keys(self, prefix: str) -> Iterator[str]:
        """See ``Store``; WebHDFS lists one folder per call, so a level is listed in parallel."""
        folders = [prefix.rstrip("/")]
        with ThreadPoolExecutor(_LISTERS) as listers:
            while folders:
                level = [found for listed in listers.map(self._list, folders) for found in listed]
                yield from (key for key, is_file in level if is_file and not _DRAFT.search(key))
                folders = [key for key, is_file in level if not is_file]

    def delete(self, keys: list[str]) -> None:
        """See ``Store``."""
        for key in keys:
            self._remove(key)

    def local_path(self, key: str) -> Path | None:  # noqa: ARG002  # the protocol's name
        """See ``Store``."""
        return None

    def _write(self, key: str, content: bytes | BinaryIO, size: int) -> None:
        """Write a file in WebHDFS's two steps: the namenode names a datanode, which takes it."""
        place = self._redirected("PUT", key, "CREATE", overwrite="true")
        headers = {"Content-Length": str(size), "Content-Type": "application/octet-stream"}
        with self._sent("PUT", key, place, _DATANODE, body=content, headers=headers):
            pass

    def _rename(self, draft: str, key: str) -> None:
        """Rename with the option NONE, so that HDFS gives the reason of a refusal.

        If no answer comes, the draft tells: if it can still be removed, it was not renamed. Other
        servers of this API do not know the option and answer false.
        """
        target = self._path(key)
        try:
            answer = self._request("PUT", draft, "RENAME", destination=target, renameoptions="NONE")
        except NoAnswer:
            if self._remove(draft):
                raise
            return
        if answer.get("boolean") is False:
            raise taken(f"{self._root}/{key}")

    def _remove(self, key: str) -> bool:
        """Remove a file; False if there was none."""
        return bool(self._request("DELETE", key, "DELETE")["boolean"])

    def _list(self, folder: str) -> list[tuple[str, bool]]:
        """The keys in ``folder``, each with whether it is a file, without empty folders."""
        try:
            answer = self._request("GET", folder, "LISTSTATUS")
        except ArtifactNotFound:
            return []
        above = f"{folder}/" if folder else ""
        return [
            (above + _unescaped(status["pathSuffix"]), status["type"] == "FILE")
            for status in answer["FileStatuses"]["FileStatus"]
            if status["pathSuffix"] and (status["type"] == "FILE" or status["childrenNum"])
        ]

    def _stream(self, key: str) -> Iterator[bytes]:
        place = self._redirected("GET", key, "OPEN")
        with self._sent("GET", key, place, _DATANODE) as response:
            yield from response.stream(_CHUNK)

    def _redirected(self, method: str, key: str, operation: str, **parameters: str) -> str:
        """The URL to which the namenode redirects for a file's content."""
        url = self._url(key, operation, parameters)
        with self._sent(method, key, url, _NAMENODE, expected=_REDIRECT) as response:
            return response.headers["Location"]

    def _request(self, method: str, key: str, operation: str, **parameters: str) -> dict[str, Any]:
        """Send a request to the namenode, and return its answer."""
        url = self._url(key, operation, parameters)
        with self._sent(method, key, url, _NAMENODE) as response:
            return dict(json.loads(response.read() or b"{}"))

    @contextmanager
    def _sent(
        self,
        method: str,
        key: str,
        url: str,
        timeout: urllib3.Timeout,
        *,
        expected: int = _OK,
        **content: Any,
    ) -> Iterator[urllib3.BaseHTTPResponse]:
        """Send a request and yield the response, which is closed at the end; raises our errors.

        They name a draft by its final name.
        """
        uri = f"{self._root}/{_DRAFT.sub('', key)}"
        try:
            response = self._pool.request(
                method, url, timeout=timeout, redirect=False, preload_content=False, **content
            )
            try:
                if response.status // 100 != expected // 100:
                    raise refusal(uri, method, response.status, response.read())
                yield response
                response.drain_conn()  # so that the connection can be used again
            finally:
                response.close()
        except HTTPError as error:
            cause = error.reason if isinstance(error, MaxRetryError) else error
            raise no_answer(uri, url, cause) from None  # its text holds the token

    def _path(self, key: str) -> str:
        return f"{self._folder}/{_escaped(key)}"

    def _url(self, key: str, operation: str, parameters: Mapping[str, str]) -> str:
        query = urlencode({"op": operation, **parameters, **self._identity})
        return f"{self._server}/webhdfs/v1{quote(self._path(key))}?{query}"


def _escaped(key: str) -> str:
    """``key`` without colons, which HDFS refuses in a name."""
    return key.replace("%", "%25").replace(":", "%3A")


def _unescaped(name: str) -> str:
    return name.replace("%3A", ":").replace("%25", "%")
