"""Tests and facts name each other: no test without a fact, no fact without a test."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

HERE = Path(__file__).resolve().parent
FACTS = HERE.parent / "FACTS.md"
ROW = re.compile(r"^\| ([a-z][a-z0-9-]+) \| (.+) \| (.+) \| (.+) \|$", re.MULTILINE)
NOT_COVERED = "not covered"


def facts() -> dict[str, bool]:
    """Each fact, and whether a test must hold the double to it."""
    rows = ROW.findall(FACTS.read_text("utf-8"))
    names = [name for name, *_ in rows if name != "fact"]
    assert len(names) == len(set(names)), "a name stands for one fact"
    return {name: NOT_COVERED not in source for name, _, _, source in rows if name != "fact"}


def marked_tests() -> Iterator[tuple[str, set[str]]]:
    """Each test of Nomad's behaviour, and the facts that its marker names."""
    for file in sorted(HERE.glob("test_nomad_*.py")):
        for node in ast.parse(file.read_text("utf-8")).body:
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                yield f"{file.name}::{node.name}", named_facts(node)


def named_facts(test: ast.FunctionDef) -> set[str]:
    return {
        str(ast.literal_eval(argument))
        for decorator in test.decorator_list
        if isinstance(decorator, ast.Call) and ast.unparse(decorator.func) == "pytest.mark.fact"
        for argument in decorator.args
    }


def test_every_test_names_a_fact() -> None:
    missing = [name for name, named in marked_tests() if not named]
    assert not missing, 'name the fact that it holds the double to: @pytest.mark.fact("...")'


def test_every_fact_that_a_test_names_is_known() -> None:
    unknown = {
        name: named - facts().keys() for name, named in marked_tests() if named - facts().keys()
    }
    assert not unknown, "correct the name, or add the fact to FACTS.md"


def test_every_fact_is_named_by_a_test_or_marked() -> None:
    named = set().union(*(found for _, found in marked_tests()))
    covered = {name for name, needed in facts().items() if needed}
    assert covered - named == set(), "write a test, or mark the fact as not covered"
    assert named - covered == set(), "the fact is marked as not covered, but a test names it"
