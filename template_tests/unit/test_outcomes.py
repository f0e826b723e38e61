"""Every error of a request is mapped by each transport, in the one table that it has."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from mlservice.errors import HttpError, InvalidRequest, RequestError
from mlservice.gateway.problems import BY_STATUS, PROBLEMS, problem_of
from mlservice.queue.outcomes import OUTCOMES, outcome_of


def subclasses(kind: type[RequestError]) -> Iterator[type[RequestError]]:
    """All classes below ``kind`` that have a code."""
    for child in kind.__subclasses__():
        if child is not HttpError:
            yield child
        yield from subclasses(child)


KINDS = sorted(set(subclasses(RequestError)), key=lambda kind: kind.__name__)


def error_of(kind: type[RequestError]) -> RequestError:
    """An error of this kind, without what its constructor wants."""
    return kind.__new__(kind)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_http_and_the_queue_map_every_error(kind: type[RequestError]) -> None:
    status = problem_of(error_of(kind)).status
    if not issubclass(kind, HttpError):
        assert outcome_of(error_of(kind)).status == status


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_a_subclass_has_the_row_of_its_own_code(kind: type[RequestError]) -> None:
    assert kind.code in BY_STATUS[problem_of(error_of(kind)).status]


def test_no_row_maps_what_is_no_error_of_a_request() -> None:
    assert set(PROBLEMS) | set(OUTCOMES) <= set(KINDS)
    assert not [kind for kind in OUTCOMES if issubclass(kind, HttpError)]


def test_what_the_owner_raises_is_a_broken_contract_with_its_fault() -> None:
    error = InvalidRequest("note", "x", "is not wanted")
    assert (error.code, problem_of(error).status) == ("invalid_request", 422)
    assert [fault.field for fault in error.faults] == ["note"]


def test_only_503_waits_and_only_504_expires_in_the_queue() -> None:
    kinds = {
        row.kind: {other.status for other in OUTCOMES.values() if other.kind == row.kind}
        for row in OUTCOMES.values()
    }
    assert kinds == {
        "refused": {400, 413, 422},
        "failed": {500},
        "expired": {504},
        "waits": {503},
    }
