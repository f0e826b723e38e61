"""Access control: which token has which capabilities.

A deployment tool meets a cluster with access control late, usually in production. With tokens of
few capabilities a test shows which ones the tool needs.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Mapping

from nomad_double.refusal import ApiError

MANAGEMENT = "management"
DENIED = "Permission denied"


class Acl:
    """Tokens and their capabilities. Without tokens access control is off."""

    def __init__(self, tokens: Mapping[str, Collection[str]] | None) -> None:
        """Keep the tokens; None turns access control off."""
        self._tokens = None if tokens is None else dict(tokens)
        self._expired: set[str] = set()
        self._lock = threading.Lock()

    @property
    def on(self) -> bool:
        """Whether access control is on."""
        return self._tokens is not None

    def expire(self, token: str) -> None:
        """Let the token expire now."""
        with self._lock:
            self._expired.add(token)

    def check(self, token: str, *capabilities: str, raw: bool = False) -> None:
        """Raise ``ApiError`` unless the token has one of the capabilities.

        ``raw`` is for endpoints that read the token in Nomad's HTTP layer, where an expired one is
        a 500.
        """
        if self._tokens is None or not capabilities:
            return
        if raw and token in self._expired:
            raise ApiError("failed to resolve token: ACL token expired", 500)
        if not self.allows(token, *capabilities):
            raise ApiError(DENIED, 403)

    def allows(self, token: str, *capabilities: str) -> bool:
        """Whether the token has one of the capabilities."""
        if self._tokens is None:
            return True
        with self._lock:
            if token in self._expired:
                return False
        have = set(self._tokens.get(token, ()))
        return MANAGEMENT in have or any(one in have for one in _implied(capabilities))

    def describe(self, token: str) -> dict[str, object]:
        """Return the answer of ``/v1/acl/token/self``."""
        if self._tokens is None:
            raise ApiError("ACL support disabled", 400)
        if token not in self._tokens or token in self._expired:
            raise ApiError(DENIED, 403)
        manages = MANAGEMENT in self._tokens[token]
        return {
            "AccessorID": "00000000-0000-0000-0000-000000000001", "SecretID": token,
            "Name": "token", "Type": "management" if manages else "client",
            "Policies": None if manages else sorted(self._tokens[token]), "Roles": None,
            "Global": False, "CreateTime": "2026-01-01T00:00:00Z", "ExpirationTime": None,
            "CreateIndex": 5, "ModifyIndex": 5,
        }  # fmt: skip


def _implied(capabilities: Collection[str]) -> set[str]:
    """Return the capabilities that include one of these."""
    wider = {"dispatch-job": {"dispatch-job"}, "read-job": {"read-job", "submit-job"}}
    return set().union(*(wider.get(one, {one}) for one in capabilities))
