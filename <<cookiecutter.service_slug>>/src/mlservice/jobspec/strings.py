"""Splits quoted strings and heredocs into texts and interpolated expressions.

The grammar of python-hcl2 keeps a string as one token, with escapes and ``${...}`` inside.
"""

from __future__ import annotations

import re

from mlservice.errors import HclError
from mlservice.jobspec.diagnostics import refuse
from mlservice.jobspec.source import Expression, Source, SyntaxNode, expression

_SIMPLE = {"n": "\n", "r": "\r", "t": "\t", '"': '"', "\\": "\\"}
_ESCAPE = re.compile(r"\\(u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8}|.)", re.DOTALL)
_HEREDOC = re.compile(r"<{2}(-?)([A-Za-z][A-Za-z0-9._-]*)\r?\n(.*)", re.DOTALL)
Piece = str | Expression


def pieces_of_string(node: SyntaxNode, source: Source) -> list[Piece]:
    """Return the parts of a quoted string, with its escapes resolved."""
    pieces: list[Piece] = []
    for part in node.children:
        if isinstance(part, str):
            continue
        inner = part.children[0]
        if isinstance(inner, str):
            pieces.append(_unescaped(_plain_dollars(str(inner)), part, source))
        elif inner.data == "interpolation":
            value = next(each for each in inner.children if not isinstance(each, str))
            pieces.append(Expression(value, source))
        else:
            raise _no_directives(part, source)
    return _merged(pieces)


def pieces_of_heredoc(node: SyntaxNode, source: Source) -> list[Piece]:
    """Return the parts of a heredoc, without the common indent if its mark follows a minus."""
    found = _HEREDOC.match(source.words(node))
    assert found  # noqa: S101  # the grammar's own pattern
    flush, mark, rest = found.groups()
    text = re.sub(rf"[ \t]*{re.escape(mark)}\r?\n?$", "", rest)
    if flush:
        text = _flush(text)
    pieces: list[Piece] = []
    while text:
        start = re.search(r"\$?\$\{|%?%\{", text)
        if start is None:
            break
        pieces.append(text[: start.start()])
        if start[0] in ("$${", "%%{"):
            pieces.append(start[0][1:])
            text = text[start.end() :]
        elif start[0] == "%{":
            raise _no_directives(node, source)
        else:
            inside, text = _to_brace(text[start.end() :], node, source)
            pieces.append(expression(inside, source.file, source.place(node)))
    return _merged([*pieces, text])


def _flush(text: str) -> str:
    lines = text.split("\n")
    indents = [len(line) - len(line.lstrip(" \t")) for line in lines if line.strip()]
    least = min(indents, default=0)
    return "\n".join(line[least:] for line in lines)


def _to_brace(text: str, node: SyntaxNode, source: Source) -> tuple[str, str]:
    """Return the text before the brace that ends an interpolation, and the text after it."""
    depth, quoted, i = 1, False, 0
    while i < len(text):
        letter = text[i]
        if quoted and letter == "\\":
            i += 1
        elif letter == '"':
            quoted = not quoted
        elif not quoted and letter in "{}":
            depth += 1 if letter == "{" else -1
            if depth == 0:
                return text[:i], text[i + 1 :]
        i += 1
    raise refuse(
        source.place(node), "Unclosed template interpolation sequence",
        "There is no closing brace for this interpolation sequence before the end of the template.",
    )  # fmt: skip


def _plain_dollars(text: str) -> str:
    return text.replace("$${", "${").replace("%%{", "%{")


def _unescaped(text: str, node: SyntaxNode, source: Source) -> str:
    def one(found: re.Match[str]) -> str:
        word = found[1]
        if word[0] in "uU" and len(word) > 1:
            return chr(int(word[1:], 16))
        if word not in _SIMPLE:
            raise refuse(
                source.place(node), "Invalid escape sequence",
                f'The symbol "{word}" is not a valid escape sequence selector.',
            )  # fmt: skip
        return _SIMPLE[word]

    return _ESCAPE.sub(one, text)


def _merged(pieces: list[Piece]) -> list[Piece]:
    """Join neighbouring texts and drop empty ones."""
    merged: list[Piece] = []
    for piece in pieces:
        if isinstance(piece, str) and merged and isinstance(merged[-1], str):
            merged[-1] += piece
        elif piece != "":
            merged.append(piece)
    return merged


def _no_directives(node: SyntaxNode, source: Source) -> HclError:
    return refuse(
        source.place(node), "Unsupported template directive",
        "Template directives (%{ if }, %{ for }) are not read here; Nomad itself knows them.",
    )  # fmt: skip
