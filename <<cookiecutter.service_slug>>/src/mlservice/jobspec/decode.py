"""Turns a job block into the JSON of Nomad's API.

Nomad refuses any argument and block that it does not know, and so does this module: the table of
known keys decides. A misspelled key would otherwise be lost without a message.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from mlservice.errors import HclError
from mlservice.jobspec.diagnostics import refuse
from mlservice.jobspec.durations import parse_duration
from mlservice.jobspec.evaluate import Scope, evaluate
from mlservice.jobspec.keys import BlockRule, Table, table
from mlservice.jobspec.source import Argument, Block, Body, Expression
from mlservice.jobspec.types import (
    Unsuitable,
    to_bool,
    to_number,
    to_string,
    type_name,
)

Json = dict[str, Any]
Expanded = tuple[Block, Scope]
_ATTRIBUTE_FORMS = ("meta", "env")


def decode(body: Body, known: Table, scope: Scope) -> Json:
    """Return the body as JSON; raise ``HclError`` with all its diagnostics."""
    faults: list[str] = []
    found: Json = {key: None for key, _ in known.arguments.values()}
    for argument in body.arguments:
        try:
            _argument(argument, known, scope, found)
        except HclError as error:
            faults += error.diagnostics
    seen: dict[str, Block] = {}
    for block, inner in _expanded(body, scope):
        try:
            _block(block, known, inner, found, seen)
        except HclError as error:
            faults += error.diagnostics
    if faults:
        raise HclError(*faults)
    return found


def _argument(argument: Argument, known: Table, scope: Scope, found: Json) -> None:
    name = argument.name
    if name in _ATTRIBUTE_FORMS and name in known.blocks:
        value = evaluate(argument.expression, scope)
        found[known.blocks[name].json] = _strings(value, argument.expression)
        return
    if name not in known.arguments:
        hint = f' Did you mean to define a block of type "{name}"?' if name in known.blocks else ""
        raise refuse(
            argument.name_place, "Unsupported argument",
            f'An argument named "{name}" is not expected here.{hint}',
        )  # fmt: skip
    key, kind = known.arguments[name]
    found[key] = _typed(argument.expression, kind, scope)


def _block(block: Block, known: Table, scope: Scope, found: Json, seen: dict[str, Block]) -> None:
    rule = known.blocks.get(block.kind)
    if rule is None:
        hint = (
            f' Did you mean to define argument "{block.kind}"? If so, use the equals sign to '
            "assign it a value."
            if block.kind in known.arguments
            else ""
        )
        raise refuse(
            block.kind_place, "Unsupported block type",
            f'Blocks of type "{block.kind}" are not expected here.{hint}',
        )  # fmt: skip
    _check_labels(block, rule)
    if (not rule.many or rule.free) and (block.kind in seen or found.get(rule.json)):
        where = seen[block.kind].place if block.kind in seen else block.place
        raise refuse(
            block.place, f"Duplicate {block.kind} block",
            f"Only one {block.kind} block is allowed. Another was defined at {where}.",
        )  # fmt: skip
    seen[block.kind] = block
    value = _value(block, rule, scope)
    if rule.label:
        value[rule.label] = block.labels[0]
    if rule.many and not rule.free:
        found[rule.json] = [*(found.get(rule.json) or []), value]
    else:
        found[rule.json] = value


def _check_labels(block: Block, rule: BlockRule) -> None:
    if rule.label and not block.labels:
        raise refuse(
            block.place, f"Missing name for {block.kind}",
            f"All {block.kind} blocks must have 1 labels (name).",
        )  # fmt: skip
    if len(block.labels) > (1 if rule.label else 0):
        wanted = (
            f"Only 1 labels (name) are expected for {block.kind} blocks."
            if rule.label
            else f"No labels are expected for {block.kind} blocks."
        )
        raise refuse(block.place, f"Extraneous label for {block.kind}", wanted)


def _value(block: Block, rule: BlockRule, scope: Scope) -> Json:
    if rule.free is None:
        return _constraint(block.kind, decode(block.body, table(rule.table, block.kind), scope))
    if rule.free == "map[string]string":
        return _flat(block, scope, _string)
    if rule.free == "map[string][]string":
        return _flat(block, scope, _string_list)
    return _driver_config(block.body, scope)


def _flat(block: Block, scope: Scope, kind: Callable[[Any], Any]) -> Json:
    for inner in block.body.blocks:
        raise refuse(
            inner.kind_place, "Unexpected block",
            f'Blocks of type "{inner.kind}" are not allowed here.',
        )  # fmt: skip
    return {
        argument.name: _as(kind, evaluate(argument.expression, scope), argument.expression)
        for argument in block.body.arguments
    }


def _driver_config(body: Body, scope: Scope) -> Json:
    """Return a driver's configuration: values keep their types, blocks become lists of maps."""
    found: Json = {a.name: evaluate(a.expression, scope) for a in body.arguments}
    for block, inner in _expanded(body, scope):
        found.setdefault(block.kind, []).append(_driver_config(block.body, inner))
    return found


def _expanded(body: Body, scope: Scope) -> Iterator[Expanded]:
    """Return the body's blocks, each dynamic block replaced by the blocks that it makes."""
    for block in body.blocks:
        if block.kind == "dynamic":
            yield from _dynamic(block, scope)
        else:
            yield block, scope


def _dynamic(block: Block, scope: Scope) -> Iterator[Expanded]:
    arguments = {argument.name: argument.expression for argument in block.body.arguments}
    contents = [inner for inner in block.body.blocks if inner.kind == "content"]
    if "for_each" not in arguments or len(contents) != 1 or len(block.labels) != 1:
        raise refuse(
            block.place, "Missing required argument",
            'A dynamic block has one label, the argument "for_each" and one "content" block.',
        )  # fmt: skip
    over = evaluate(arguments["for_each"], scope)
    if not isinstance(over, list | dict):
        raise refuse(
            arguments["for_each"].place, "Invalid dynamic for_each value",
            f"Cannot use a {type_name(over)} value in for_each. An iterable collection is "
            "required.",
        )  # fmt: skip
    name = _iterator(arguments, block)
    pairs = sorted(over.items()) if isinstance(over, dict) else list(enumerate(over))
    for key, value in pairs:
        inner = scope.extended({name: {"key": key, "value": value}})
        labels = _dynamic_labels(arguments, inner)
        yield (
            Block(block.labels[0], labels, contents[0].body, block.place, block.kind_place),
            inner,
        )


def _iterator(arguments: dict[str, Expression], block: Block) -> str:
    if "iterator" not in arguments:
        return block.labels[0]
    return arguments["iterator"].source.words(arguments["iterator"].node)


def _dynamic_labels(arguments: dict[str, Expression], scope: Scope) -> tuple[str, ...]:
    if "labels" not in arguments:
        return ()
    return tuple(to_string(label) for label in evaluate(arguments["labels"], scope))


def _typed(expression: Expression, kind: str, scope: Scope) -> Any:
    value = evaluate(expression, scope)
    if kind == "duration":
        return _duration(value, expression)
    if value is None:
        return None
    if kind == "bool":
        return _as(to_bool, value, expression)
    if kind.startswith("map["):
        return _strings(value, expression)
    if kind.startswith("[]"):
        return _as(_string_list if kind == "[]string" else _int_list, value, expression)
    if "int" in kind:
        return _as(_int, value, expression)
    return _as(_string, value, expression)


def _duration(value: Any, expression: Expression) -> int | None:
    if value is None:
        return None
    if isinstance(value, str):
        try:
            return parse_duration(value)
        except ValueError as error:
            raise refuse(
                expression.place, "Unsuitable value type", f"Unsuitable duration value: {error}"
            ) from None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise refuse(
            expression.place, "Unsuitable value type",
            f"Unsuitable value: expected a string but found cty.{type_name(value).title()}",
        )  # fmt: skip
    return int(value)


def _strings(value: Any, expression: Expression) -> dict[str, str] | None:
    if value is None:
        return None
    if not isinstance(value, dict):
        raise refuse(
            expression.place, "Unsuitable value type", "Unsuitable value: map of string required"
        )
    return {key: _as(_string, item, expression) for key, item in value.items()}


def _string(value: Any) -> str:
    if value is None:
        raise Unsuitable("string required")
    return to_string(value)


def _int(value: Any) -> int:
    number = to_number(value)
    if number != int(number):
        raise Unsuitable("value must be a whole number")
    return int(number)


def _string_list(value: Any) -> list[str]:
    if not isinstance(value, list):
        raise Unsuitable("list of string required")
    return [_string(item) for item in value]


def _int_list(value: Any) -> list[int]:
    if not isinstance(value, list):
        raise Unsuitable("list of number required")
    return [_int(item) for item in value]


def _as(kind: Callable[[Any], Any], value: Any, expression: Expression) -> Any:
    try:
        return kind(value)
    except Unsuitable as error:
        raise refuse(
            expression.place, "Unsuitable value type", f"Unsuitable value: {error}"
        ) from None


def _constraint(kind: str, found: Json) -> Json:
    """Return a constraint or an affinity; its short form has the operator as its key."""
    if kind not in ("constraint", "affinity"):
        return found
    rule = {key: found.pop(key, None) or "" for key in ("LTarget", "RTarget", "Operand")}
    weight = found.pop("Weight", None)
    for word, value in found.items():
        if value:
            rule["Operand"] = word
            if word == "distinct_property":
                rule["LTarget"] = value
            elif word != "distinct_hosts":
                rule["RTarget"] = value
    rule["Operand"] = rule["Operand"] or "="
    return {**rule, "Weight": weight} if kind == "affinity" else rule
