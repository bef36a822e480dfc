"""Parse the text of a formula into a syntax tree, with R's operator precedence.

From weakest to strongest: `~`, `||` and `|`, comparisons, `+ -`, `* /`, `%in%`, `:`, unary sign, `^`. Nothing is evaluated
here, and Python's `eval` is never used, because a formula from a file or a command line is untrusted data.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from headway.errors import StatisticsError

_TOKEN = re.compile(
    r"""\s*(?:
    (?P<number>(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)
  | (?P<name>[^\W\d][\w.]*|\.[^\W\d][\w.]*|\.(?![\w.])|`[^`]+`)
  | (?P<text>"[^"]*"|'[^']*')
  | (?P<operator>%in%|\|\||<=|>=|==|!=|\*\*|[-+*/:^()|~,=<>])
    )""",
    re.VERBOSE,
)
_BINDING = {"~": 1, "||": 2, "|": 2, "+": 4, "-": 4, "*": 5, "/": 5, "%in%": 6, ":": 7, "^": 9}
_BINDING |= dict.fromkeys(("<", ">", "<=", ">=", "==", "!="), 3)
_SIGN_BINDING = 8
_RESERVED = {"TRUE": 1.0, "FALSE": 0.0}  # they win over columns of these names, unless written in backticks
_TIGHT = {"^", "/", ":"}  # R writes these without surrounding spaces


@dataclass(frozen=True)
class Node:
    """A part of a formula. `at` is its position in the text, which equality ignores."""

    at: int = field(compare=False)


@dataclass(frozen=True)
class Number(Node):
    value: float
    text: str

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True)
class Text(Node):
    value: str

    def __str__(self) -> str:
        return f'"{self.value}"'


@dataclass(frozen=True)
class Name(Node):
    name: str

    def __str__(self) -> str:
        plain = re.fullmatch(r"[^\W\d][\w.]*|\.[^\W\d][\w.]*", self.name)
        return self.name if plain and self.name not in _RESERVED else f"`{self.name}`"


@dataclass(frozen=True)
class Operation(Node):
    operator: str
    operands: tuple[Node, ...]

    def __str__(self) -> str:
        if len(self.operands) == 1:
            return f"{self.operator}{self.operands[0]}"
        space = "" if self.operator in _TIGHT else " "
        return f"{space}{self.operator}{space}".join(str(operand) for operand in self.operands)


@dataclass(frozen=True)
class Group(Node):
    """An expression in parentheses."""

    inner: Node

    def __str__(self) -> str:
        return f"({self.inner})"


@dataclass(frozen=True)
class Call(Node):
    function: str
    arguments: tuple[Node, ...]
    keywords: tuple[tuple[str, Node], ...]

    def __str__(self) -> str:
        words = [str(argument) for argument in self.arguments] + [f"{key} = {value}" for key, value in self.keywords]
        return f"{self.function}({', '.join(words)})"


def error_at(text: str, at: int, message: str) -> StatisticsError:
    """Make an error about a formula, with a mark under the position."""
    return StatisticsError(f"{message}\n    {text}\n    {' ' * at}^")


@dataclass(frozen=True)
class _Token:
    kind: str
    text: str
    at: int


def _tokens(text: str) -> list[_Token]:
    tokens, at = [], 0
    while text[at:].strip():
        match = _TOKEN.match(text, at)
        if match is None or match.lastgroup is None:
            at += len(text[at:]) - len(text[at:].lstrip())
            raise error_at(text, at, f"the formula has {text[at]!r}, which is no part of one")
        kind = match.lastgroup
        word = match.group(kind)
        tokens.append(_Token(kind, "^" if word == "**" else word, match.start(kind)))
        at = match.end()
    return [*tokens, _Token("end", "", len(text.rstrip()))]


class _Parser:
    """Precedence-climbing parser for the tokens of one formula."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.tokens = _tokens(text)
        self.position = 0

    @property
    def token(self) -> _Token:
        return self.tokens[self.position]

    def advance(self) -> _Token:
        token = self.token
        self.position += 1
        return token

    def unexpected(self, wanted: str) -> StatisticsError:
        found = f"the formula has {self.token.text!r}" if self.token.text else "the formula ends"
        return error_at(self.text, self.token.at, f"{found} where {wanted} is expected")

    def expect(self, operator: str) -> None:
        if self.token.text != operator:
            raise self.unexpected(repr(operator))
        self.advance()

    def formula(self) -> Node:
        tree = self.expression(0)
        if self.token.kind != "end":
            raise self.unexpected("an operator (+ : * / - ^ | ~)")
        return tree

    def expression(self, weakest: int) -> Node:
        left = self.operand()
        while self.token.kind == "operator" and _BINDING.get(self.token.text, -1) >= weakest:
            token = self.advance()
            binding = _BINDING[token.text]
            right = self.expression(binding if token.text == "^" else binding + 1)  # ^ is right-associative
            left = Operation(token.at, token.text, (left, right))
        return left

    def operand(self) -> Node:
        token = self.token
        if token.kind == "number":
            self.advance()
            return Number(token.at, float(token.text), token.text)
        if token.kind == "text":
            self.advance()
            return Text(token.at, token.text[1:-1])
        if token.kind == "name":
            self.advance()
            quoted = token.text.startswith("`")
            if self.token.text == "(" and not quoted:
                return self.call(token)
            if token.text in _RESERVED:
                return Number(token.at, _RESERVED[token.text], token.text)
            return Name(token.at, token.text.strip("`"))
        if token.text in ("+", "-"):
            self.advance()
            return Operation(token.at, token.text, (self.expression(_SIGN_BINDING),))
        if token.text == "~":
            self.advance()
            return Operation(token.at, "~", (self.expression(_BINDING["~"] + 1),))
        if token.text == "(":
            self.advance()
            inner = self.expression(0)
            self.expect(")")
            return Group(token.at, inner)
        raise self.unexpected("a column, a number, a function or '('")

    def call(self, name: _Token) -> Call:
        self.expect("(")
        arguments: list[Node] = []
        keywords: list[tuple[str, Node]] = []
        while self.token.text != ")":
            if self.token.kind == "name" and self.tokens[self.position + 1].text == "=":
                key = self.advance().text
                self.expect("=")
                keywords.append((key, self.expression(0)))
            else:
                arguments.append(self.expression(0))
            if self.token.text != ")":
                self.expect(",")
        self.expect(")")
        return Call(name.at, name.text, tuple(arguments), tuple(keywords))


def parse_syntax(text: str) -> Node:
    """Parse `text` into a syntax tree.

    Raises:
        StatisticsError: it is no formula. The message marks the position.
    """
    return _Parser(text).formula()
