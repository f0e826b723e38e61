"""Reads HCL text into blocks and arguments. Their expressions are not evaluated yet.

python-hcl2 offers dictionaries too, but they have no line numbers, which messages need, and they
mix values with expressions. So this module reads its parse tree. The tree's grammar also accepts
two arguments on one line, which HCL does not; that is checked here.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import hcl2
from lark import Token, Tree
from lark.exceptions import UnexpectedInput

from mlservice.errors import HclError
from mlservice.jobspec.diagnostics import Position, refuse

SyntaxNode = Tree[Token]
_LAYOUT = ("new_line_or_comment",)


@dataclass(frozen=True)
class Expression:
    """The tree of an expression, and the text that it belongs to."""

    node: SyntaxNode
    source: Source

    @property
    def place(self) -> Position:
        """Where the expression is in the text."""
        return self.source.place(self.node)


@dataclass(frozen=True)
class Argument:
    """``name = expression``."""

    name: str
    expression: Expression
    place: Position
    name_place: Position


@dataclass(frozen=True)
class Body:
    """The content of a block, in order."""

    arguments: tuple[Argument, ...]
    blocks: tuple[Block, ...]


@dataclass(frozen=True)
class Block:
    """``kind "label" { ... }``; ``place`` is its header."""

    kind: str
    labels: tuple[str, ...]
    body: Body
    place: Position
    kind_place: Position


class Source:
    """One HCL text, with the name that messages use for it."""

    def __init__(self, text: str, file: str) -> None:
        """Keep the text. It is parsed when ``body`` is read."""
        self.text = text
        self.file = file

    @cached_property
    def body(self) -> Body:
        """The text's blocks and arguments; raises ``HclError``."""
        return _body(_tree(self), self)

    def place(self, node: SyntaxNode | Token) -> Position:
        """Return where a node is in the text."""
        tokens = list(_tokens(node))
        if not tokens:
            return Position(self.file, 1, 1, 1, 1)
        first, last = tokens[0], tokens[-1]
        return Position(
            self.file,
            int(first.line or 1),
            int(first.column or 1),
            int(last.end_line or 1),
            int(last.end_column or 1),
        )

    def words(self, node: SyntaxNode) -> str:
        """Return the text of a node as it was written."""
        tokens = list(_tokens(node))
        return self.text[tokens[0].start_pos : tokens[-1].end_pos]


@lru_cache(maxsize=64)
def read_body(text: str, file: str) -> Body:
    """Return the blocks and arguments of an HCL text; raises ``HclError``.

    A text is parsed once: a check reads the same files for each job, environment and version.
    """
    return Source(text, file).body


def expression(text: str, file: str, place: Position) -> Expression:
    """Parse one expression; raise ``HclError`` at ``place`` if that fails."""
    source = Source(f"x = {text}", file)
    try:
        (argument,) = source.body.arguments
    except (HclError, ValueError):
        raise refuse(place, "Invalid expression", f"Cannot read the expression {text!r}.") from None
    return argument.expression


def _tree(source: Source) -> SyntaxNode:
    try:
        tree: SyntaxNode = hcl2.parses_to_tree(source.text)
    except UnexpectedInput as error:
        line, column = max(1, error.line), max(1, error.column)
        raise refuse(
            Position(source.file, line, column, line, column + 1),
            "Invalid argument or block definition",
            "An argument or block definition is required here, or a part of one is not readable: "
            + source.text.splitlines()[line - 1 : line][0].strip()
            if 0 < line <= len(source.text.splitlines())
            else "The text ends too early.",
        ) from None
    return next(child for child in tree.children if isinstance(child, Tree))


def _body(tree: SyntaxNode, source: Source) -> Body:
    arguments: list[Argument] = []
    blocks: list[Block] = []
    for child in _items(tree, source):
        if child.data == "attribute":
            arguments.append(_argument(child, source, arguments))
        else:
            blocks.append(_block(child, source))
    return Body(tuple(arguments), tuple(blocks))


def _items(tree: SyntaxNode, source: Source) -> Iterator[SyntaxNode]:
    """Return the body's items; refuse an item that does not begin on a line of its own."""
    end = 0
    for child in tree.children:
        if not isinstance(child, Tree) or child.data in _LAYOUT:
            continue
        place = source.place(child)
        if place.line == end:
            raise refuse(
                place, "Missing newline after argument",
                "An argument or block definition must end with a newline.",
            )  # fmt: skip
        end = _last_line(child)
        yield child


def _last_line(node: SyntaxNode) -> int:
    """Return the last line of an item, with a heredoc's end mark and inner line ends."""
    tokens = [token for token in _tokens(node) if token.strip()]
    last = tokens[-1]
    return int(last.end_line or 1) - (1 if last.endswith("\n") else 0)


def _argument(node: SyntaxNode, source: Source, before: list[Argument]) -> Argument:
    name_node, _, value = node.children[0], node.children[1], node.children[2]
    name = source.words(name_node)  # type: ignore[arg-type]  # the grammar has a tree there
    argument = Argument(
        name, Expression(value, source), source.place(node), source.place(name_node)  # type: ignore[arg-type]  # as above
    )  # fmt: skip
    twin = next((other for other in before if other.name == name), None)
    if twin:
        raise refuse(
            argument.name_place,
            "Attribute redefined",
            f'The argument "{name}" was already set at {twin.name_place}. Each argument may be set '
            "only once.",
        )
    return argument


def _block(node: SyntaxNode, source: Source) -> Block:
    header: list[Any] = []
    for child in node.children:
        if isinstance(child, Token) and child == "{":
            break
        if isinstance(child, Tree) and child.data not in _LAYOUT:
            header.append(child)
    body_node = next(c for c in node.children if isinstance(c, Tree) and c.data == "body")
    kind = source.place(header[0])
    last = source.place(header[-1])
    place = Position(kind.file, kind.line, kind.column, last.end_line, last.end_column)
    _check_single_line(node, body_node, source, place)
    labels = tuple(_label(child, source) for child in header[1:])
    return Block(source.words(header[0]), labels, _body(body_node, source), place, kind)


def _check_single_line(node: SyntaxNode, body: SyntaxNode, source: Source, place: Position) -> None:
    items = [c for c in body.children if isinstance(c, Tree) and c.data not in _LAYOUT]
    if not items:
        return
    brace = next(c for c in node.children if isinstance(c, Token) and c == "{")
    if source.place(items[0]).line != brace.line:
        return
    closing = next(c for c in reversed(node.children) if isinstance(c, Token))
    if len(items) > 1 or items[0].data != "attribute" or closing.line != _last_line(items[0]):
        raise refuse(
            place,
            "Invalid single-argument block definition",
            "A single-line block definition can contain only a single argument. If you want to "
            "define multiple arguments, use the closing brace on a line of its own.",
        )


def _label(node: SyntaxNode, source: Source) -> str:
    if node.data != "string":
        return source.words(node)
    if any(isinstance(part, Tree) and _is_template(part) for part in node.children):
        raise refuse(
            source.place(node),
            "Invalid string literal",
            'Template sequences are not allowed in this string. To include a literal "$", double '
            'it (as "$$") to escape it.',
        )
    return source.words(node)[1:-1]


def _is_template(part: SyntaxNode) -> bool:
    return any(isinstance(child, Tree) for child in part.children)


def _tokens(node: SyntaxNode | Token) -> Iterator[Token]:
    if isinstance(node, Token):
        yield node
        return
    for child in node.children:
        if isinstance(child, Token):
            yield child
        elif child.data not in _LAYOUT:
            yield from _tokens(child)
