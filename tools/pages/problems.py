"""The page on problem codes, from the two tables that map errors to HTTP and to the queue."""

from __future__ import annotations

from mlservice.errors import HttpError, RequestError
from mlservice.gateway.problems import PROBLEMS, Problem
from mlservice.queue.outcomes import OUTCOMES
from tools.pages.tables import table

INTRODUCTION = """# Problem codes

A program that gets an error must know whether to change the request, to wait, or to give up. The
code says so. It stands at the end of the field `type` of problem details (RFC 9457), for example
`urn:mlservice:problem:too_many_requests`. [api.md](api.md) shows a whole response.

A later version may add codes. If you do not know a code, the status says what kind of error it is.

The last column says what becomes of a message of Kafka ([queue.md](queue.md)): it is `refused` or
`failed`, with an answer and a dead letter; it is `expired`, with an answer; or it `waits`.

Made from `src/mlservice/gateway/problems.py` and `src/mlservice/queue/outcomes.py`.

"""


def problems_page() -> str:
    """The page on problem codes: one row for each."""
    rows = {(problem.status, kind.code): _row(kind, problem) for kind, problem in PROBLEMS.items()}
    titles = ("code", "status", "meaning", "what to do", "header", "queue")
    return INTRODUCTION + table(titles, [row for _, row in sorted(rows.items())])


def _row(kind: type[RequestError], problem: Problem) -> tuple[str, ...]:
    header = f"`{problem.header}`" if problem.header else ""
    queue = "" if issubclass(kind, HttpError) else f"`{_outcome_of(kind)}`"
    return f"`{kind.code}`", str(problem.status), problem.meaning, problem.remedy, header, queue


def _outcome_of(kind: type[RequestError]) -> str:
    return next(OUTCOMES[base].kind for base in kind.__mro__ if base in OUTCOMES)
