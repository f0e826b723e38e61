"""The page on exit codes, from the tree of errors and the two codes that are no error's."""

from __future__ import annotations

import inspect
from collections.abc import Iterator

from mlservice.errors import MlserviceError
from mlservice.jobs.memory import OUT_OF_MEMORY_CODE
from mlservice.worker.server import EXIT_STUCK
from tools.pages.tables import table

INTRODUCTION = """# Exit codes of the command `mlservice`

A script must know whether a failure is worth another try, without reading a message. So each kind
of error has a code of its own. Example: try again only if the cluster is away.

```sh
.venv/bin/mlservice deploy register; [ $? -eq 7 ] && echo "Nomad or Consul: try again later"
```

A command that fails prints a message on stderr: the field, the value and the remedy. A traceback
instead is a bug of the platform.

Made from `src/mlservice/errors.py`.

"""
_OTHERS = (
    (0, "Success."),
    (2, "The command line cannot be parsed."),
    (EXIT_STUCK, "A worker whose model hangs: start it again, as Nomad does."),
    (129, "Ended by SIGHUP: the terminal was closed."),
    (130, "Interrupted by Ctrl+C."),
    (OUT_OF_MEMORY_CODE, "A job that ran out of memory: the pipeline tries the next size."),
    (143, "Ended by SIGTERM."),
)


def exit_codes_page() -> str:
    """The page on exit codes: one row for each error."""
    rows = [(str(code), "", meaning) for code, meaning in _OTHERS]
    rows += [
        (str(kind.exit_code), f"`{kind.__name__}`", _first_line(kind))
        for kind in _kinds(MlserviceError)
        if _ends_a_command(kind)
    ]
    titles = ("code", "error", "meaning")
    return INTRODUCTION + table(titles, sorted(rows, key=lambda row: (int(row[0]), row[1])))


def _kinds(kind: type[MlserviceError]) -> Iterator[type[MlserviceError]]:
    yield kind
    for child in kind.__subclasses__():
        yield from _kinds(child)


def _first_line(kind: type[MlserviceError]) -> str:
    return (inspect.getdoc(kind) or "").partition("\n")[0].replace("``", "`")


def _ends_a_command(kind: type[MlserviceError]) -> bool:
    """Errors of one request end the request, never the process."""
    return all(base.__name__ not in {"RequestRefused", "RequestError"} for base in kind.__mro__)
