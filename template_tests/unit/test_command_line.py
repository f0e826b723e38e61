"""The command line as its users meet it: help, usage errors, tables, progress, completion."""

from __future__ import annotations

import json
import os
import pty
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from mlservice.cli import progress as progress_module
from mlservice.cli.group import CommandGroup
from mlservice.cli.main import PROGRAM, main, make_command
from mlservice.cli.options import read_single_pairs
from mlservice.cli.output import plain_table
from mlservice.cli.progress import show_progress
from mlservice.errors import SettingsError
from template_tests.support.toy_service import PERIOD, Toy

_LISTING = ("changes", "doctor", "history", "list", "logs", "show", "status")


def leaves(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    below = getattr(command, "commands", {})
    for name, each in below.items():
        yield from leaves(each, (*path, name))
    if not below:
        yield path, command


COMMANDS = dict(leaves(make_command()))


@pytest.mark.parametrize("arguments", [["--help"], ["pipeline"], ["pipeline", "run", "--help"]])
def test_help_starts_without_what_commands_import(arguments: list[str]) -> None:
    code = f"import sys; from mlservice.cli.main import main; main({arguments}, {{}}); "
    done = subprocess.run(
        [sys.executable, "-c", f"{code}print(*sys.modules)"],
        capture_output=True, text=True, check=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    loaded = set(done.stdout.splitlines()[-1].split())
    heavy = {"grpc", "lightgbm", "luigi", "numpy", "pydantic", "requests", "rich", "uvicorn"}
    assert loaded & heavy == set()
    assert "mlservice.settings" not in loaded


@pytest.mark.parametrize("group", sorted({path[0] for path in COMMANDS if len(path) > 1}))
def test_a_group_alone_lists_its_commands(group: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([group], {}) == 2
    shown = capsys.readouterr().err
    for path in COMMANDS:
        if path[0] == group:
            assert re.search(rf"^  {path[1]} +\w", shown, re.MULTILINE)


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_each_command_says_what_it_does_with_an_example_that_it_takes(
    path: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*path, "--help"], {}) == 0
    shown = capsys.readouterr().out
    assert re.search(r"^  [A-Z][^\n]+\.$", shown, re.MULTILINE)
    example = shlex.split(shown.partition("Example:")[2].strip())
    assert tuple(example[: len(path) + 1]) == (PROGRAM, *path)
    COMMANDS[path].make_context(PROGRAM, example[len(path) + 1 :])  # would raise a usage error


@pytest.mark.parametrize("path", [p for p in COMMANDS if p[-1] in _LISTING], ids=" ".join)
def test_each_command_that_lists_or_shows_prints_json(path: tuple[str, ...]) -> None:
    options = {option for parameter in COMMANDS[path].params for option in parameter.opts}
    assert "--json" in options


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["pipelin"], "No such command 'pipelin'. Did you mean 'pipeline'?"),
        (["pipeline", "run", "--workers", "many"], "'--workers': 'many' is not a whole number"),
        (["pipeline", "run", "--workers", "0"], "'--workers': '0' is not at least 1"),
        (["pipeline", "grid"], "Missing option '--over'"),
        (["serve", "stand-ins", "--port", "99999"], "'99999' is not from 1 to 65535"),
        (["toggles", "set", "x", "--why", "y"], "exactly one of --percent, --split and --file"),
        (["toggles", "set", "x", "--why", "y", "--percent", "a"], "'a' is not a number"),
        (["clients", "add", "x", "--why", "y", "--burst", "1.5"], "'1.5' is not a whole number"),
        (["deploy", "register", "--only", "gpus"], "'gpus': give batch or services"),
        (["job", "train"], "exactly one of --call and --payload"),
        (["upgrade", "--data", "x"], "'x' is not NAME=VALUE"),
        (["models", "show"], "Missing argument 'VERSION'"),
    ],
)
def test_a_usage_error_names_the_value_and_exits_with_2(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments, {}) == 2
    assert words in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["deploy", "dispatch", "x", "--payload", "gone.json"], 2, "No such file or directory"),
        (["job", "x", "--payload", "gone.json"], 4, "gone.json: cannot be read: No such file"),
        (["routing", "set", "--weights", "a=-1", "--why", "x"], 2, "--weights a=-1: give a number"),
        (["routing", "set", "--weights", "a=b", "--why", "x"], 2, "'b' is not a number"),
        (["artifacts", "list", "--task", "Nope"], 0, "no artifacts in"),
    ],
)
def test_no_raw_words_of_python_reach_users(
    toy: Toy, arguments: list[str], code: int, words: str
) -> None:
    done = toy.run(*arguments, NOMAD_ADDR="http://127.0.0.1:9", CONSUL_HTTP_ADDR="127.0.0.1:9")
    assert done.returncode == code, done.stderr
    assert words in done.stdout + done.stderr
    assert "[Errno" not in done.stderr


def test_an_unknown_task_is_not_called_an_empty_store(toy: Toy) -> None:
    toy.train()
    done = toy.run("artifacts", "list", "--task", "Nope")
    assert "no artifacts of --task Nope" in done.stdout
    assert "there are some of Fit, Rows" in done.stdout


def test_a_parameter_of_a_grid_that_is_given_twice_is_refused() -> None:
    with pytest.raises(SettingsError, match="such as --over trees=1,2,3"):
        read_single_pairs("--over", ["trees=1,2", "trees=3"])


def test_lists_of_a_service_are_json_on_demand(toy: Toy) -> None:
    uri = toy.train()
    listed = json.loads(toy.run("artifacts", "list", "--json").stdout)
    assert uri in [artifact["uri"] for artifact in listed]
    shown = json.loads(toy.run("artifacts", "show", uri, "--json").stdout)
    assert shown["lineage"]["inputs"]
    again = toy.run("pipeline", "run", "--json", "--period", PERIOD)
    run = json.loads(again.stdout)
    assert run == {"artifact": uri, "ran": 0, "metrics": shown["metrics"], "published": None}


def test_a_row_in_a_pipe_is_one_line_however_long() -> None:
    rows = [("a", "x" * 500), ("b", "y")]
    assert plain_table(("name", "value"), rows).splitlines()[1] == f"a     {'x' * 500}"


@pytest.mark.parametrize(("environ", "coloured"), [({}, True), ({"NO_COLOR": "1"}, False)])
def test_help_is_coloured_on_terminals_alone(environ: dict[str, str], coloured: bool) -> None:
    code = "import os; from mlservice.cli.main import main; main(['--help'], os.environ)"
    assert ("\x1b[" in on_a_terminal(code, environ)) == coloured


@pytest.mark.parametrize("environ", [{}, {"NO_COLOR": "1"}])
def test_a_table_shows_its_cells_as_they_are(environ: dict[str, str]) -> None:
    code = "from mlservice.cli.output import print_table; print_table(('name',), [('[red]x',)])"
    shown = on_a_terminal(code, environ)
    assert "[red]x" in shown
    assert "\x1b[3" not in shown, "no colour"


def on_a_terminal(code: str, environ: dict[str, str]) -> str:
    """What Python prints for ``code`` on a terminal of its own."""
    ours, theirs = pty.openpty()
    kept = {name: value for name, value in os.environ.items() if name != "NO_COLOR"}
    path = os.pathsep.join(sys.path)
    subprocess.run(
        [sys.executable, "-c", code], stdin=theirs, stdout=theirs, stderr=theirs, check=True,
        env={**kept, "TERM": "xterm", "PYTHONPATH": path, **environ},
    )  # fmt: skip
    os.close(theirs)
    shown = os.read(ours, 1_000_000).decode()
    os.close(ours)
    return shown


def test_progress_in_a_pipe_is_a_line_now_and_then_with_rate_and_estimate(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress_module, "_LINE_SECONDS", 0.0)
    with show_progress() as progress:
        progress.begin("tasks", 2)
        time.sleep(0.01)
        progress.advance()
        progress.advance()
        progress.end()
    first, last = capsys.readouterr().err.splitlines()
    assert re.fullmatch(r"tasks: 1 of 2 after 0\.\d s, [\d.]+/s, about 0\.\d s left", first)
    assert re.fullmatch(r"tasks: 2 of 2 in 0\.\d s, [\d.]+/s", last)


def test_nothing_is_said_of_progress_beside_json(capsys: pytest.CaptureFixture[str]) -> None:
    with show_progress(silent=True) as progress:
        progress.begin("tasks", 1)
        progress.advance()
    assert capsys.readouterr() == ("", "")


def test_a_shell_completes_commands(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "mlservice"], cwd=tmp_path, capture_output=True, text=True,
        env={
            **os.environ, "PYTHONPATH": os.pathsep.join(sys.path),
            "_MLSERVICE_COMPLETE": "complete_bash", "COMP_WORDS": "mlservice pipeline ",
            "COMP_CWORD": "2",
        }, check=False,
    )  # fmt: skip
    assert done.stdout.split() == ["run", "status", "grid"]


@pytest.mark.parametrize("error", [BrokenPipeError(32, "Broken pipe"), EOFError("no more")])
def test_a_bug_keeps_its_traceback_whatever_it_raises(
    error: Exception, capsys: pytest.CaptureFixture[str]
) -> None:
    group = CommandGroup("A group.")

    @group.command("break")
    def break_down() -> None:
        """Raise."""
        raise error

    @group.command("other")
    def other() -> None:
        """Do nothing."""

    with pytest.raises(SystemExit, match="1"):
        typer.main.get_command(group).main(["break"], prog_name="x")
    assert f"{type(error).__name__}: " in capsys.readouterr().err


def test_a_reader_that_leaves_ends_a_command_without_a_traceback(toy: Toy) -> None:
    command = f"{shlex.quote(sys.executable)} -u -m mlservice --help | true"
    done = subprocess.run(
        ["bash", "-c", command], cwd=toy.folder, env=toy.environ, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert "Traceback" not in done.stderr


def test_the_version_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"], {}) == 0
    assert re.fullmatch(r"mlservice \d+\.\d+\.\d+\n", capsys.readouterr().out)
