"""Translates the errors of WebHDFS into ours, with the remedy."""

from __future__ import annotations

import json
from urllib.parse import urlsplit

from mlservice.errors import ArtifactError, ArtifactExists, ArtifactNotFound, NoAnswer, StoreError

_ROOT = "[artifacts] root in service.toml"
_FULL = "the store is full: free some space or let its quota be raised, and run again"
_RENEW = "put a fresh delegation token into HDFS_DELEGATION_TOKEN"
# By words in Hadoop's exception or message; the first match counts.
_REMEDIES = {
    "safe mode": "HDFS refuses writes at the moment: wait until "
    "`hdfs dfsadmin -safemode get` says OFF",
    "StandbyException": f"this namenode is a standby: name the active one in {_ROOT}",
    "QuotaExceeded": _FULL,
    "could only be written to 0 of": f"no datanode takes the file: {_FULL}",
    "Failed to find datanode": "no datanode is up: see `hdfs dfsadmin -report`",
    "AccessControlException": "give the user (HADOOP_USER_NAME) the right to do that, or change "
    f"{_ROOT}",
    "InvalidToken": f"the delegation token has expired or is of another cluster: {_RENEW}",
    "user.name": "HDFS refuses the name in HADOOP_USER_NAME: set it to a user of the cluster",
}
_KERBEROS = 401


def refusal(uri: str, method: str, status: int, body: bytes) -> ArtifactError:
    """Return the error for HTTP ``status`` with Hadoop's RemoteException in ``body``."""
    name, message = _remote_exception(body)
    if name == "FileAlreadyExistsException":
        return taken(uri)
    if name == "FileNotFoundException" and method == "GET":
        return ArtifactNotFound(f"{uri}: there is no such object")
    if status == _KERBEROS:
        remedy = f"the cluster requires Kerberos: {_RENEW}"
    else:
        remedy = _remedy(f"{name} {message}")
    return StoreError(f"{uri}: HDFS refuses ({status} {name}: {message}): {remedy}")


def taken(uri: str) -> ArtifactExists:
    """Return the error for a name that another artifact has."""
    return ArtifactExists(f"{uri}: exists already, and artifacts are never replaced")


def no_answer(uri: str, url: str, cause: Exception | None) -> NoAnswer:
    """Return the error for a request to ``url`` that failed; a token in ``url`` is left out."""
    host = urlsplit(url).netloc
    return NoAnswer(
        f"{uri}: HDFS does not answer at {host} ({type(cause).__name__}): is it up, can {host} be "
        f"reached from here by that name, and is {_ROOT} right?"
    )


def _remote_exception(body: bytes) -> tuple[str, str]:
    """Name and first line of the exception; Hadoop sends its whole stack as the message."""
    try:
        told = json.loads(body)["RemoteException"]
        return str(told["exception"]), str(told["message"]).partition("\n")[0]
    except (ValueError, KeyError, TypeError):
        return "no exception of HDFS", body.decode(errors="replace").strip()[:80]


def _remedy(words: str) -> str:
    for sign, remedy in _REMEDIES.items():
        if sign.lower() in words.lower():
            return remedy
    return f"check {_ROOT}, the user (HADOOP_USER_NAME) and the state of the cluster"
