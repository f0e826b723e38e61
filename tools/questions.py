"""Makes cookiecutter.json from copier.yml, so that every question and rule is written once.

copier knows validators and cookiecutter does not, so each rule is carried over as a private
variable, which cookiecutter renders before it writes anything (see cookiecutter_refuse.py).
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parent.parent
ENVIRONMENT = ("variable_", "block_", "comment_", "trim_", "lstrip_")
Question = dict[str, Any]


def main(argv: list[str]) -> int:
    """Write cookiecutter.json, or with ``--check`` compare it; returns the exit code."""
    parser = argparse.ArgumentParser(description="make cookiecutter.json from copier.yml")
    parser.add_argument("--check", action="store_true", help="only compare, exit 1 on a difference")
    check: bool = parser.parse_args(argv).check
    source = yaml.safe_load((ROOT / "copier.yml").read_text("utf-8"))
    text = json.dumps(cookiecutter_json(source), indent=2, ensure_ascii=False) + "\n"
    target = ROOT / "cookiecutter.json"
    if check and (not target.exists() or target.read_text("utf-8") != text):
        print("cookiecutter.json does not follow from copier.yml: run `make questions`")
        return 1
    if not check:
        target.write_text(text, "utf-8")
    return 0


def cookiecutter_json(source: dict[str, Any]) -> dict[str, Any]:
    """The content of cookiecutter.json for the questions in copier.yml."""
    questions = {key: value for key, value in source.items() if not key.startswith("_")}
    names = cookiecutter_names(questions)
    context: dict[str, Any] = {}
    for key, question in questions.items():
        if key != "cookiecutter":
            context[names[key]] = _value(question, names)
    rules = [question["validator"] for question in questions.values() if "validator" in question]
    context["_extensions"] = ["cookiecutter_refuse.Refuse"]
    for number, rule in enumerate(rules, start=1):
        message = _renamed(rule, names)
        context[f"__rule_{number}"] = f"<% filter refuse %>{message}<% endfilter %>"
    context["__prompts__"] = {
        key: question["help"] for key, question in questions.items() if "help" in question
    }
    context["_jinja2_env_vars"] = {
        key: value for key, value in source["_envops"].items() if key.startswith(ENVIRONMENT)
    }
    return context


def cookiecutter_names(questions: dict[str, Question]) -> dict[str, str]:
    """For each name in copier.yml its name in cookiecutter: private ones carry underscores."""

    def name(key: str, question: Question) -> str:
        if question.get("when", True):
            return key
        derived = "<<" in str(question["default"])
        return f"__{key}" if derived else f"_{key}"

    return {key: name(key, question) for key, question in questions.items()}


def _value(question: Question, names: dict[str, str]) -> Any:
    if "choices" in question:
        default = question["default"]
        return [default, *(choice for choice in question["choices"] if choice != default)]
    default = question["default"]
    return _renamed(default, names) if isinstance(default, str) else default


def _renamed(expression: str, names: dict[str, str]) -> str:
    """``expression`` with the questions' names as cookiecutter knows them, in its blocks only."""

    def block(match: re.Match[str]) -> str:
        return re.sub(
            rf"(?<![\w'.])({'|'.join(names)})(?![\w'])",
            lambda name: f"cookiecutter.{names[name[1]]}",
            match[0],
        )

    return re.sub(r"<[<%].*?[%>]>", block, expression, flags=re.DOTALL)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
