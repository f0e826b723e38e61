"""Input variables and locals of a jobspec: declared, set by a var file, validated.

The jobs of a service share one var file for each environment, so wrong names and types are likely
there. All diagnostics are collected, because a user mends them in one edit.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from mlservice.errors import HclError
from mlservice.jobspec.diagnostics import refuse
from mlservice.jobspec.evaluate import CLOSED, Scope, evaluate
from mlservice.jobspec.source import Argument, Block, Body, Expression, read_body
from mlservice.jobspec.types import TypeConstraint, Unsuitable, convert, read_kind, to_bool

_KNOWN = ("description", "default", "type")
_UNSET = (
    "A used variable must be set or have a default value; see "
    "https://www.nomadproject.io/docs/job-specification/hcl2/variables for details."
)
_SENTENCE = (
    "Validation error message must be at least one full sentence starting with an uppercase letter "
    "( if the alphabet permits it ) and ending with a period or question mark."
)


@dataclass(frozen=True)
class Variable:
    """A declared variable: its type, its default if it has one, its validation blocks."""

    name: str
    kind: TypeConstraint
    default: Expression | None
    value: Any
    validations: tuple[Block, ...]


def read_values(body: Body, variables: str) -> dict[str, Any]:
    """Return the variables' values: from the var file's text, else their defaults.

    Raises ``HclError`` with every diagnostic: undeclared, unset, of a wrong type, refused by a
    rule.
    """
    declared = _declared(body)
    assigned, faults = _assigned(declared, variables)
    values: dict[str, Any] = {}
    for name, variable in declared.items():
        try:
            values[name] = _valued(variable, assigned)
        except HclError as error:
            faults += error.diagnostics
    if faults:
        raise HclError(*faults)
    return values


def read_locals(body: Body, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the locals. They may use each other in any order."""
    left = [a for block in body.blocks if block.kind == "locals" for a in block.body.arguments]
    _refuse_twins(left)
    found: dict[str, Any] = {}
    while left:
        later: list[tuple[Argument, HclError]] = []
        for argument in left:
            try:
                found[argument.name] = evaluate(argument.expression, job_scope(values, found))
            except HclError as error:
                later.append((argument, error))
        if len(later) == len(left):
            raise later[0][1]
        left = [argument for argument, _ in later]
    return found


def job_scope(values: Mapping[str, Any], found: Mapping[str, Any]) -> Scope:
    """Return the names for the job's expressions. The node replaces all other names."""
    return Scope({"var": dict(values), "local": dict(found)}, unknown_stay=True)


def _refuse_twins(arguments: list[Argument]) -> None:
    seen: set[str] = set()
    for argument in arguments:
        if argument.name in seen:
            raise refuse(
                argument.name_place, "Duplicate value in locals",
                f"Duplicate {argument.name} definition found.",
            )  # fmt: skip
        seen.add(argument.name)


def _declared(body: Body) -> dict[str, Variable]:
    found: dict[str, Variable] = {}
    for name, variable in _declarations(body):
        if name in found:
            raise refuse(None, "Duplicate variable", f"Duplicate {name} variable definition found.")
        found[name] = variable
    return found


def _declarations(body: Body) -> Iterator[tuple[str, Variable]]:
    for block in body.blocks:
        if block.kind == "variable":
            yield block.labels[0], _variable(block)
        elif block.kind == "variables":
            for argument in block.body.arguments:
                value = evaluate(argument.expression, CLOSED)
                yield argument.name, Variable(argument.name, "any", argument.expression, value, ())


def _variable(block: Block) -> Variable:
    arguments = {argument.name: argument for argument in block.body.arguments}
    for argument in block.body.arguments:
        if argument.name not in _KNOWN:
            raise refuse(
                argument.name_place, "Unsupported argument",
                f'An argument named "{argument.name}" is not expected here.',
            )  # fmt: skip
    for inner in block.body.blocks:
        if inner.kind != "validation":
            raise refuse(
                inner.kind_place, "Unsupported block type",
                f'Blocks of type "{inner.kind}" are not expected here.',
            )  # fmt: skip
    kind = read_kind(arguments["type"].expression) if "type" in arguments else "any"
    default = arguments["default"].expression if "default" in arguments else None
    value = _default(default, kind) if default else None
    name = block.labels[0]
    rules = tuple(block.body.blocks)
    for rule in rules:
        _check_rule(name, rule)
    return Variable(name, kind, default, value, rules)


def _default(expression: Expression, kind: TypeConstraint) -> Any:
    value = evaluate(expression, CLOSED)
    try:
        return convert(value, kind)
    except Unsuitable as error:
        raise refuse(
            expression.place, "Invalid default value for variable",
            f"This default value is not compatible with the variable's type constraint: {error}.",
        ) from None  # fmt: skip


def _assigned(
    declared: Mapping[str, Variable], variables: str
) -> tuple[dict[str, tuple[Any, Expression]], list[str]]:
    """Return the values that the var file sets, and diagnostics for wrong ones."""
    found: dict[str, tuple[Any, Expression]] = {}
    faults: list[str] = []
    body = read_body(variables, "input.hcl.var")
    for block in body.blocks:
        raise refuse(
            block.kind_place, "Variable declaration in a .var file",
            "A .var file is used to assign values to variables that have already been declared in "
            "job files, not to declare new variables.",
        )  # fmt: skip
    for argument in body.arguments:
        try:
            found[argument.name] = _set(declared, argument), argument.expression
        except HclError as error:
            faults += error.diagnostics
    return found, faults


def _set(declared: Mapping[str, Variable], argument: Argument) -> Any:
    name = argument.name
    if name not in declared:
        raise refuse(
            None, "Undefined variable",
            f'A "{name}" variable was set but was not found in known variables. To declare '
            f'variable "{name}", place this block in your job files',
        )  # fmt: skip
    try:
        return convert(evaluate(argument.expression, CLOSED), declared[name].kind)
    except Unsuitable as error:
        raise refuse(
            argument.expression.place, "Invalid value for variable",
            f"The value for {name} is not compatible with the variable's type constraint: {error}.",
        ) from None  # fmt: skip


def _valued(variable: Variable, assigned: Mapping[str, tuple[Any, Expression]]) -> Any:
    if variable.name in assigned:
        value, expression = assigned[variable.name]
        return _validated(variable, value, "varfile", expression)
    if variable.default is None:
        raise refuse(None, f"Unset variable {json.dumps(variable.name)}", _UNSET)
    return _validated(variable, variable.value, "default", variable.default)


def _validated(variable: Variable, value: Any, origin: str, expression: Expression) -> Any:
    scope = Scope({"var": {variable.name: value}})
    for rule in variable.validations:
        arguments = {argument.name: argument for argument in rule.body.arguments}
        if not _holds(arguments["condition"].expression, scope):
            message = evaluate(arguments["error_message"].expression, CLOSED)
            raise refuse(
                expression.place, f"Invalid value for {origin} variable",
                f"{message}\n\nThis was checked by the validation rule at {rule.place}.",
            )  # fmt: skip
    return value


def _holds(condition: Expression, scope: Scope) -> bool:
    result = evaluate(condition, scope)
    try:
        if result is None:
            raise Unsuitable(
                "Validation condition expression must return either true or false, not null"
            )
        return to_bool(result)
    except Unsuitable as error:
        raise refuse(condition.place, "Invalid variable validation result", f"{error}.") from None


def _check_rule(name: str, rule: Block) -> None:
    arguments = {argument.name: argument for argument in rule.body.arguments}
    for needed in ("condition", "error_message"):
        if needed not in arguments:
            raise refuse(
                rule.place, "Missing required argument",
                f'The argument "{needed}" is required, but no definition was found.',
            )  # fmt: skip
    message = str(evaluate(arguments["error_message"].expression, CLOSED))
    if (
        not message
        or (message[0].isalpha() and not message[0].isupper())
        or message[-1] not in ".?!"
    ):
        raise refuse(
            arguments["error_message"].expression.place,
            "Invalid validation error message",
            _SENTENCE,
        )
    _check_references(name, arguments["condition"].expression)


def _check_references(name: str, condition: Expression) -> None:
    references = [
        condition.source.words(node)
        for node in condition.node.iter_subtrees()
        if node.data == "get_attr_expr_term"
    ]
    own = f"var.{name}"
    strangers = [
        words for words in references
        if words.startswith(("var.", "local.")) and words != own and not words.startswith(f"{own}.")
    ]  # fmt: skip
    if strangers:
        raise refuse(
            condition.place, "Invalid reference in variable validation",
            f'The condition for variable "{name}" can only refer to the variable itself, '
            f"using {own}.",
        )  # fmt: skip
    if own not in references:
        raise refuse(
            condition.place, "Invalid variable validation condition",
            f'The condition for variable "{name}" must refer to {own} in order to test incoming '
            "values.",
        )  # fmt: skip
