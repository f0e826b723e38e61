"""Evaluates HCL's expressions as Nomad does.

Nomad differs from HCL in one point: a name that is neither a variable nor a local
(``NOMAD_TASK_DIR``, ``attr.x``) is no error. It becomes the text ``${name}``, which the node
replaces later.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from mlservice.errors import HclError
from mlservice.jobspec.diagnostics import Position, refuse
from mlservice.jobspec.functions import Refused, call_function
from mlservice.jobspec.operators import combine, negate, unified
from mlservice.jobspec.source import Expression, SyntaxNode
from mlservice.jobspec.strings import pieces_of_heredoc, pieces_of_string
from mlservice.jobspec.types import Unsuitable, to_bool, to_number, to_string, type_name

_LITERALS = {"true": True, "false": False, "null": None}
_ACCESS = ("get_attr_expr_term", "index_expr_term")


@dataclass(frozen=True)
class Scope:
    """The names that an expression may use. A ``closed`` scope allows no name and no function."""

    names: Mapping[str, Any] = field(default_factory=dict)
    closed: bool = False
    unknown_stay: bool = False

    def extended(self, names: Mapping[str, Any]) -> Scope:
        """Return the scope with more names. They hide names that it already has."""
        return Scope({**self.names, **names}, self.closed, self.unknown_stay)


CLOSED = Scope(closed=True)


def evaluate(expression: Expression, scope: Scope) -> Any:
    """Return the expression's value; raise ``HclError``."""
    return _Evaluation(expression, scope).value(expression.node)


class _Evaluation:
    def __init__(self, expression: Expression, scope: Scope) -> None:
        self._source = expression.source
        self._scope = scope

    def value(self, node: SyntaxNode) -> Any:
        method = getattr(self, f"_{node.data}", None)
        if method is None:
            raise self._refuse(
                node, "Unsupported expression", f"'{node.data}' is not evaluated here."
            )
        return method(node)

    def _expr_term(self, node: SyntaxNode) -> Any:
        return self.value(_trees(node)[0])

    def _literal_value(self, node: SyntaxNode) -> Any:
        return _LITERALS[self._words(node)]

    def _int_lit(self, node: SyntaxNode) -> Any:
        return int(self._words(node))

    def _float_lit(self, node: SyntaxNode) -> Any:
        return float(self._words(node))

    def _string(self, node: SyntaxNode) -> Any:
        return self._joined(pieces_of_string(node, self._source), node)

    def _heredoc_template(self, node: SyntaxNode) -> Any:
        return self._joined(pieces_of_heredoc(node, self._source), node)

    _heredoc_template_trim = _heredoc_template

    def _joined(self, pieces: list[str | Expression], node: SyntaxNode) -> Any:
        """Return the text of a template. A single interpolation keeps its type."""
        values = [
            piece if isinstance(piece, str) else _Evaluation(piece, self._scope).value(piece.node)
            for piece in pieces
        ]
        if len(values) == 1 and not isinstance(pieces[0], str):
            return values[0]
        try:
            return "".join("" if piece is None else to_string(piece) for piece in values)
        except Unsuitable as error:
            raise self._refuse(
                node, "Invalid template interpolation value",
                f"Cannot include the given value in a string template: {error}.",
            ) from None  # fmt: skip

    def _tuple(self, node: SyntaxNode) -> Any:
        return [self.value(item) for item in _trees(node)]

    def _object(self, node: SyntaxNode) -> Any:
        found = {}
        for element in _trees(node):
            key, value = _trees(element)
            found[self._key(key)] = self.value(value)
        return found

    def _key(self, node: SyntaxNode) -> str:
        inner = _trees(node)[0]
        while inner.data == "expr_term" and len(inner.children) == 1:
            inner = _trees(inner)[0]
        if inner.data in ("identifier", "keyword", "literal_value"):
            return self._words(inner)
        if inner.data in _ACCESS:
            raise self._refuse(
                node, "Ambiguous attribute key",
                "If this expression is intended to be a reference, wrap it in parentheses.",
            )  # fmt: skip
        return self._text(inner)

    def _identifier(self, node: SyntaxNode) -> Any:
        name = self._words(node)
        if self._scope.closed:
            raise self._refuse(node, "Variables not allowed", "Variables may not be used here.")
        if name in self._scope.names:
            return self._scope.names[name]
        if self._scope.unknown_stay:
            return "${" + name + "}"
        raise self._refuse(node, "Unknown variable", f'There is no variable named "{name}".')

    def _get_attr_expr_term(self, node: SyntaxNode) -> Any:
        stays = self._unknown(node)
        if stays is not None:
            return stays
        target, access = _trees(node)
        return self._attribute(self.value(target), access)

    def _index_expr_term(self, node: SyntaxNode) -> Any:
        stays = self._unknown(node)
        if stays is not None:
            return stays
        target, access = _trees(node)
        return self._indexed(self.value(target), access)

    def _unknown(self, node: SyntaxNode) -> str | None:
        """Return ``${name}`` for a reference that only the node can resolve, else None."""
        root: SyntaxNode = node
        while root.data in (*_ACCESS, "expr_term"):
            root = _trees(root)[0]
        if root.data != "identifier" or not self._scope.unknown_stay:
            return None
        return None if self._words(root) in self._scope.names else "${" + self._words(node) + "}"

    def _attribute(self, target: Any, access: SyntaxNode) -> Any:
        name = self._words(access).lstrip(".").strip()
        if isinstance(target, dict):
            if name in target:
                return target[name]
            raise self._refuse(
                access, "Unsupported attribute",
                f'This object does not have an attribute named "{name}".',
            )  # fmt: skip
        raise self._refuse(
            access, "Unsupported attribute",
            f"Can't access attributes on a primitive-typed value ({type_name(target)}).",
        )  # fmt: skip

    def _indexed(self, target: Any, access: SyntaxNode) -> Any:
        trees = _trees(access)
        key = self.value(trees[0]) if trees else int(self._words(access).lstrip("."))
        try:
            if isinstance(target, dict):
                return target[to_string(key)]
            if isinstance(target, list) and to_number(key) >= 0:
                return target[int(to_number(key))]
        except (KeyError, IndexError, Unsuitable):
            pass
        raise self._refuse(
            access, "Invalid index",
            "The given key does not identify an element in this collection value.",
        )  # fmt: skip

    def _attr_splat_expr_term(self, node: SyntaxNode) -> Any:
        target, splat = _trees(node)
        value = self.value(target)
        items = value if isinstance(value, list) else ([] if value is None else [value])
        for access in _trees(splat):
            one = self._attribute if access.data == "get_attr" else self._indexed
            items = [one(item, access) for item in items]
        return items

    _full_splat_expr_term = _attr_splat_expr_term

    def _conditional(self, node: SyntaxNode) -> Any:
        condition, *branches = _trees(node)
        chosen = self._bool(condition)
        values: list[Any] = []
        for branch, wanted in zip(branches, (chosen, not chosen), strict=True):
            try:
                values.append(self.value(branch))
            except HclError:
                if wanted:
                    raise
                return self.value(branches[0 if chosen else 1])
        try:
            return unified(values, 0 if chosen else 1)
        except Unsuitable as error:
            raise self._refuse(node, "Inconsistent conditional result types", f"{error}") from None

    def _binary_op(self, node: SyntaxNode) -> Any:
        left, term = _trees(node)
        operator, right = _trees(term)
        try:
            return combine(self._words(operator), self.value(left), self.value(right))
        except Unsuitable as error:
            raise self._refuse(node, "Invalid operand", f"Unsuitable value: {error}.") from None
        except ZeroDivisionError:
            raise self._refuse(node, "Division by zero", "Cannot divide by zero.") from None

    def _unary_op(self, node: SyntaxNode) -> Any:
        operator = str(node.children[0])
        try:
            return negate(operator, self.value(_trees(node)[0]))
        except Unsuitable as error:
            raise self._refuse(node, "Invalid operand", f"Unsuitable value: {error}.") from None

    def _function_call(self, node: SyntaxNode) -> Any:
        name_node, *rest = _trees(node)
        name = self._words(name_node)
        if self._scope.closed:
            raise self._refuse(
                node, "Function calls not allowed", "Functions may not be called here."
            )
        if name in ("try", "can"):
            return self._try_or_can(name, rest, node)
        try:
            return call_function(name, self._arguments(rest))
        except Refused as error:
            raise self._refuse(node, error.summary, f"{error}") from None
        except Unsuitable as error:
            raise self._refuse(
                node,
                "Invalid function argument",
                f'Invalid value for a parameter of "{name}": {error}.',
            ) from None

    def _arguments(self, rest: list[SyntaxNode]) -> list[Any]:
        found: list[Any] = []
        for arguments in rest:
            found += [self.value(each) for each in _trees(arguments)]
            if str(arguments.children[-1]) == "...":
                found += found.pop()
        return found

    def _try_or_can(self, name: str, rest: list[SyntaxNode], node: SyntaxNode) -> Any:
        for each in [each for arguments in rest for each in _trees(arguments)]:
            try:
                value = self.value(each)
            except HclError:
                continue
            return True if name == "can" else value
        if name == "can":
            return False
        raise self._refuse(
            node, "Error in function call",
            'Call to function "try" failed: no expression succeeded.',
        )  # fmt: skip

    def _for_tuple_expr(self, node: SyntaxNode) -> Any:
        intro, value, *rest = _trees(node)
        return [inner.value(value) for inner in self._each(intro) if all(map(inner._holds, rest))]

    def _for_object_expr(self, node: SyntaxNode) -> Any:
        intro, key, value, *rest = _trees(node)
        grouped = any(str(child) == "..." for child in node.children)
        found: dict[str, Any] = {}
        for inner in self._each(intro):
            if not all(map(inner._holds, rest)):
                continue
            name = inner._text(key)
            if grouped:
                found.setdefault(name, []).append(inner.value(value))
            elif name in found:
                raise self._refuse(
                    key, "Duplicate object key",
                    f'Two different items produced the key "{name}" in this \'for\' expression.',
                )  # fmt: skip
            else:
                found[name] = inner.value(value)
        return found

    def _each(self, intro: SyntaxNode) -> list[_Evaluation]:
        *names, over = _trees(intro)
        words = [self._words(name) for name in names]
        value = self.value(over)
        pairs = list(value.items()) if isinstance(value, dict) else list(enumerate(value))
        return [
            self._within(dict(zip(reversed(words), reversed(pair), strict=False)))
            for pair in (sorted(pairs) if isinstance(value, dict) else pairs)
        ]

    def _within(self, names: dict[str, Any]) -> _Evaluation:
        inner = _Evaluation.__new__(_Evaluation)
        inner._source, inner._scope = self._source, self._scope.extended(names)
        return inner

    def _holds(self, condition: SyntaxNode) -> bool:
        return self._bool(_trees(condition)[0])

    def _bool(self, node: SyntaxNode) -> bool:
        value = self.value(node)
        try:
            if value is None:
                raise Unsuitable("the condition is null")
            return to_bool(value)
        except Unsuitable as error:
            raise self._refuse(
                node, "Incorrect condition type",
                f"The condition expression must be of type bool: {error}.",
            ) from None  # fmt: skip

    def _text(self, node: SyntaxNode) -> str:
        try:
            return to_string(self.value(node))
        except Unsuitable as error:
            raise self._refuse(
                node, "Incorrect key type", f"Can't use this value as a key: {error}."
            ) from None

    def _words(self, node: SyntaxNode) -> str:
        return self._source.words(node)

    def _refuse(self, node: SyntaxNode, summary: str, detail: str) -> HclError:
        place: Position = self._source.place(node)
        return refuse(place, summary, detail)


def _trees(node: SyntaxNode) -> list[SyntaxNode]:
    return [
        child
        for child in node.children
        if not isinstance(child, str) and child.data != "new_line_or_comment"
    ]
