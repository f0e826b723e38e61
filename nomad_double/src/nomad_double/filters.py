"""Filter expressions of lists, in the part of go-bexpr's language that callers use.

``==``, ``!=``, ``in``, ``not in``, ``contains``, ``is empty`` and ``matches``, joined by ``and``,
``or``, ``not`` and parentheses, on the fields of the full object. An expression outside of it is
refused, because a filter that matches too much would look like a correct answer.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

from nomad_double.refusal import ApiError

_WORD = re.compile(
    r"""\s*(?:(?P<text>"(?:[^"\\]|\\.)*"|`[^`]*`)|(?P<sign>==|!=|[()\[\]])|(?P<word>[^\s()\[\]"`=!]+))"""
)
Test = Callable[[Mapping[str, Any]], bool]
_MISSING = object()


@lru_cache(256)
def compile_filter(expression: str) -> Test:
    """Return the expression as a predicate; raise ``ApiError`` (400) if it is invalid."""
    return _Parser(expression).whole()


def refused(reason: str) -> ApiError:
    """Return Nomad's error for a filter that cannot be used."""
    return ApiError(f"failed to read result page: {reason}", 400)


class _Parser:
    def __init__(self, text: str) -> None:
        self._text = text
        self._words = self._split(text)
        self._at = 0

    def whole(self) -> Test:
        test = self._or_expression()
        if self._at < len(self._words):
            raise self._syntax_error()
        return test

    def _split(self, text: str) -> list[tuple[str, str]]:
        found, at = [], 0
        text = text.rstrip()
        while at < len(text):
            match = _WORD.match(text, at)
            if match is None:
                raise refused(
                    f"failed to read filter expression: 1:{at + 1} ({at}): no match found"
                )
            kind = match.lastgroup or ""
            value = match[kind]
            found.append((kind, value[1:-1].replace('\\"', '"') if kind == "text" else value))
            at = match.end()
        return found

    def _peek(self, *words: str) -> bool:
        if self._at >= len(self._words):
            return False
        kind, value = self._words[self._at]
        return kind != "text" and value.lower() in words

    def _accept(self, *words: str) -> bool:
        if self._peek(*words):
            self._at += 1
            return True
        return False

    def _or_expression(self) -> Test:
        tests = [self._and_expression()]
        while self._accept("or"):
            tests.append(self._and_expression())
        return tests[0] if len(tests) == 1 else lambda item: any(test(item) for test in tests)

    def _and_expression(self) -> Test:
        tests = [self._term()]
        while self._accept("and"):
            tests.append(self._term())
        return tests[0] if len(tests) == 1 else lambda item: all(test(item) for test in tests)

    def _term(self) -> Test:
        if self._accept("not"):
            test = self._term()
            return lambda item: not test(item)
        if self._accept("("):
            test = self._or_expression()
            if not self._accept(")"):
                raise self._syntax_error()
            return test
        return self._comparison()

    def _comparison(self) -> Test:
        kind, first = self._next()
        if kind == "text":
            return self._membership(first)
        if self._peek("in") or (self._peek("not") and self._at + 1 < len(self._words)):
            before = self._at
            if self._accept("in") or (self._accept("not") and self._accept("in")):
                self._at = before
                return self._membership(first)
            self._at = before
        return self._comparison_of(self._selector(first))

    def _membership(self, value: str) -> Test:
        negated = self._accept("not")
        if not self._accept("in"):
            raise self._syntax_error()
        read = self._selector(self._next()[1])
        return lambda item: _contains(read(item), value) != negated

    def _comparison_of(self, read: Callable[[Mapping[str, Any]], Any]) -> Test:
        if self._accept("is"):
            negated = self._accept("not")
            if not self._accept("empty"):
                raise self._syntax_error()
            return lambda item: (not _present(read(item))) != negated
        negated = self._peek("!=", "not")
        if not self._accept("==", "!="):
            self._accept("not")
            word = self._next()[1].lower()
            if word not in ("contains", "matches"):
                raise self._syntax_error()
            value = self._next()[1]
            check = _contains if word == "contains" else _matches
            return lambda item: check(read(item), value) != negated
        value = self._next()[1]
        return lambda item: _equals(read(item), value) != negated

    def _selector(self, first: str) -> Callable[[Mapping[str, Any]], Any]:
        path = first.strip(".").split(".")
        while self._accept("["):
            path.append(self._next()[1])
            if not self._accept("]"):
                raise self._syntax_error()
            if self._at < len(self._words) and self._words[self._at][1].startswith("."):
                path += self._next()[1].strip(".").split(".")
        return lambda item: _read(item, path)

    def _next(self) -> tuple[str, str]:
        if self._at >= len(self._words):
            raise self._syntax_error()
        self._at += 1
        return self._words[self._at - 1]

    def _syntax_error(self) -> ApiError:
        end = len(self._text)
        return refused(f"failed to read filter expression: 1:{end + 1} ({end}): no match found")


def _read(item: Any, path: list[str]) -> Any:
    """Return a field. An unknown one is refused; a missing key of a map is ``_MISSING``."""
    for depth, name in enumerate(path):
        if isinstance(item, Mapping) and name in item:
            item = item[name]
        elif depth == 0:
            raise refused(
                f"error finding value in datum: /{'/'.join(path)} at part 0: couldn't find key: "
                f'struct field with name "{name}"'
            )
        else:
            return _MISSING
    return item


def _present(value: Any) -> bool:
    return value is not _MISSING and bool(value)


def _equals(value: Any, wanted: str) -> bool:
    if isinstance(value, bool):
        return wanted.lower() in (("true", "t", "1") if value else ("false", "f", "0"))
    return value is not _MISSING and value is not None and str(value) == wanted


def _contains(value: Any, wanted: str) -> bool:
    return value is not _MISSING and value is not None and wanted in value


def _matches(value: Any, pattern: str) -> bool:
    return isinstance(value, str) and re.search(pattern, value) is not None
