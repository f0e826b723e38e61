"""Translates what obstore and the operating system raise into our errors, with the remedy."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from obstore.exceptions import AlreadyExistsError, BaseError

from mlservice.errors import ArtifactExists, ArtifactNotFound, StoreError


@contextmanager
def translated(uri: str, user: str) -> Iterator[None]:
    """Raise our errors instead, with ``uri``; ``user`` is the one who may lack a right."""
    try:
        yield
    except AlreadyExistsError as error:
        raise ArtifactExists(f"{uri}: exists already, and artifacts are never replaced") from error
    except FileNotFoundError as error:
        raise ArtifactNotFound(f"{uri}: there is no such object") from error
    except (OSError, BaseError) as error:
        raise StoreError(f"{uri}: {_reason(error)}: {_remedy(error, user)}") from error


@contextmanager
def existing_place() -> Iterator[None]:
    """Let a missing bucket or folder be a fault of the store, and not a missing object."""
    try:
        yield
    except FileNotFoundError as error:
        raise OSError("the bucket or folder does not exist") from error


def _reason(error: Exception) -> str:
    return str(error).splitlines()[0].strip() if str(error) else type(error).__name__


def _remedy(error: Exception, user: str) -> str:
    text = str(error)
    if "No space left" in text:
        return "the disk is full: free some space and run again; complete artifacts stay"
    if "Permission denied" in text or "Read-only" in text:
        return f"give {user} the right to write there, or change [artifacts] root in service.toml"
    return (
        "check [artifacts] root in service.toml, the credentials in the environment and whether "
        "the store can be reached"
    )
