"""Parse a formula into a response, fixed terms, random terms and smooths.

    formula = parse("log10(m_step) ~ log10(n_params) * Layer + s(x, k=5) + (Days | Subject)")
    formula.response      the node of log10(m_step)
    formula.intercept     True
    formula.terms         (("log10(n_params)",), ("Layer",), ("log10(n_params)", "Layer"))
    formula.smooths       (Smooth(("x",), k=(5,)),)
    formula.bars          (Bar(intercept=True, terms=(("Days",),), group=("Subject",)),)
    formula.offsets       () here; ("log(n)",) for offset(log(n))
    parse("y ~ . + (1 | g)", ["y", "g", "x", "z"]).terms        (("x",), ("z",))

A term is a tuple of variables, each written as in R; `formula.nodes` holds the expression of each.
`+ : * / %in% ^ -` expand as in Wilkinson & Rogers (1973, Applied Statistics 22, 392-399), which S and R follow (Chambers &
Hastie 1992, Statistical Models in S, ch. 2). `|` and `||` are those of Bates et al. (2015).
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

from headway.stats.formula_syntax import Call, Group, Name, Node, Number, Operation, Text, error_at, parse_syntax

Term = tuple[str, ...]
INTERCEPT: Term = ()
_ALL_OTHERS = Name(0, ".")
_SMOOTH_OPTIONS = ("k", "bs", "by")
_SMOOTHS = ("s", "te", "ti", "t2")
# How many variables a basis of s() takes at least and at most.
_VARIABLES_OF_S = {"tp": (1, 1), "cr": (1, 1), "cc": (1, 1), "fs": (2, 2), "re": (1, 9)}
MARGINS = ("cr", "cc", "tp")


@dataclass(frozen=True)
class Smooth:
    """One `s(…)`, `te(…)` or `ti(…)` with the options k, bs and by.

    `k` and `bs` have one entry, or one for each variable of te() and ti(). `k` is empty if the formula does not set it.
    """

    variables: tuple[str, ...]
    kind: str = "s"
    k: tuple[int, ...] = ()
    bs: tuple[str, ...] = ("tp",)
    by: str | None = None
    at: int = field(default=0, compare=False)

    @property
    def label(self) -> str:
        """Label as in mgcv. Smooths by a factor add the level to it."""
        return f"{self.kind}({','.join(self.variables)})" + (f":{self.by}" if self.by else "")


@dataclass(frozen=True)
class Bar:
    """One random term: correlated effects (`intercept` and `terms`) that vary over the levels of `group`."""

    intercept: bool
    terms: tuple[Term, ...]
    group: Term

    @property
    def group_name(self) -> str:
        return ":".join(self.group)


@dataclass(frozen=True)
class Formula:
    """A parsed formula. `nodes` maps each variable's text to the expression that computes it."""

    text: str
    response: Node
    intercept: bool
    terms: tuple[Term, ...]
    bars: tuple[Bar, ...]
    smooths: tuple[Smooth, ...]
    offsets: tuple[str, ...]
    nodes: dict[str, Node] = field(compare=False, hash=False)

    @property
    def grouping(self) -> tuple[str, ...]:
        """Variables after a `|`."""
        return tuple(dict.fromkeys(variable for bar in self.bars for variable in bar.group))

    @property
    def variables(self) -> tuple[str, ...]:
        """Variables of terms, effects, smooths and offsets."""
        terms = (*self.terms, *(term for bar in self.bars for term in bar.terms))
        smooths = (name for smooth in self.smooths for name in (*smooth.variables, smooth.by) if name)
        return tuple(dict.fromkeys([*(variable for term in terms for variable in term), *smooths, *self.offsets]))

    def refuse_bars(self, what: str) -> None:
        """Raise StatisticsError if there is a random term, which `what` does not support."""
        at = self.text.find("|")
        if self.bars:
            raise error_at(self.text, at, f"{what} has no random effects: leave (… | …) out, or use lmm")

    def refuse_offsets(self, what: str) -> None:
        """Raise StatisticsError if there is an offset, which `what` does not support."""
        if self.offsets:
            at = max(self.text.find("offset"), 0)
            raise error_at(self.text, at, f"{what} has no offsets: leave offset(…) out, or use lmm or ols")

    def refuse_smooths(self, what: str) -> None:
        """Raise StatisticsError if there is a smooth, which `what` does not support."""
        if self.smooths:
            raise error_at(self.text, self.smooths[0].at, f"{what} has no smooth terms: leave s(…) out, or use gam")


def parse(text: str, columns: Collection[str] = ()) -> Formula:
    """Parse a formula.

    Args:
        columns: names of the table's columns, which `.` stands for: all that are not in the response, after a `|` or in a
            smooth.

    Raises:
        StatisticsError: `text` is no formula, or uses an unsupported feature. The message marks the position.
    """
    tree = parse_syntax(text)
    if not (isinstance(tree, Operation) and tree.operator == "~"):
        raise error_at(text, 0, "the formula has no '~': write it as response ~ terms")
    if len(tree.operands) == 1:
        raise error_at(text, tree.at, "the formula has no response: write response ~ terms")
    response, right = tree.operands
    reader = _Reader(text, _others(columns, tree))
    reader.check_arithmetic(response, outermost=False)
    fixed, bars, smooths, offsets = [], [], [], []
    for sign, node in _summands(right):
        if isinstance(node, Group) and _is_bar(node.inner):
            reader.refuse_minus(sign, node)
            bars.append(node.inner)
        elif isinstance(node, Call) and node.function in _SMOOTHS:
            reader.refuse_minus(sign, node)
            smooths.append(reader.smooth(node))
        elif isinstance(node, Call) and node.function == "offset":
            reader.refuse_minus(sign, node)
            offsets.append(reader.offset(node))
        else:
            fixed.append((sign, node))
    intercept, terms = reader.model(fixed)
    expanded = tuple(bar for node in bars for bar in reader.bars(node))
    return Formula(text, response, intercept, terms, expanded, tuple(smooths), tuple(offsets), reader.nodes)


def _others(columns: Collection[str], tree: Operation) -> tuple[str, ...]:
    """The columns that `.` stands for."""
    from headway.stats.functions import names_in

    response, right = tree.operands
    used = [response]
    for _, node in _summands(right):
        if isinstance(node, Group) and _is_bar(node.inner):
            assert isinstance(node.inner, Operation)
            used.append(node.inner.operands[1])
        elif isinstance(node, Call) and node.function in _SMOOTHS:
            used.append(node)
    taken = {name.name for node in used for name in names_in(node)}
    return tuple(name for name in columns if name not in taken)


def _is_bar(node: Node) -> bool:
    return isinstance(node, Operation) and node.operator in ("|", "||")


def _summands(node: Node, sign: str = "+") -> list[tuple[str, Node]]:
    """The signed summands of a sum, in order."""
    if isinstance(node, Operation) and node.operator in ("+", "-"):
        *left, right = node.operands
        flipped = node.operator if sign == "+" else ("-" if node.operator == "+" else "+")
        return [piece for inner in left for piece in _summands(inner, sign)] + _summands(right, flipped)
    return [(sign, node)]


class _Reader:
    """Expands model expressions, and records every variable in order of appearance."""

    def __init__(self, text: str, others: tuple[str, ...] = ()) -> None:
        self.text = text
        self.others = others
        self.nodes: dict[str, Node] = {}

    def refuse_minus(self, sign: str, node: Node) -> None:
        if sign == "-":
            raise error_at(self.text, node.at, f"{node} cannot be taken away with '-'")

    def model(self, summands: list[tuple[str, Node]]) -> tuple[bool, tuple[Term, ...]]:
        """Whether there is an intercept, and the terms, by order of interaction and then of appearance."""
        found: dict[Term, None] = {INTERCEPT: None}
        order: dict[str, int] = {}
        for sign, node in summands:
            if isinstance(node, Number) and node.value == 0:
                sign, node = ("-" if sign == "+" else "+"), Number(node.at, 1.0, "1")
            for term in self.expand(node):
                for variable in term:
                    order.setdefault(variable, len(order))
                term = tuple(sorted(term, key=order.__getitem__))
                if sign == "+":
                    found.setdefault(term)
                else:
                    found.pop(term, None)
        intercept = INTERCEPT in found
        found.pop(INTERCEPT, None)
        return intercept, tuple(sorted(found, key=len))

    def expand(self, node: Node) -> list[Term]:
        """The terms of a model expression."""
        if isinstance(node, Group):
            if _is_bar(node.inner):
                raise error_at(self.text, node.at, "a random term (… | …) can only be added with '+'")
            return self.expand(node.inner)
        if isinstance(node, Number):
            if node.value != 1:
                raise error_at(
                    self.text, node.at, f"{node} is not a term: 1 and 0 stand for the intercept; use I() to compute"
                )
            return [INTERCEPT]
        if node == _ALL_OTHERS:
            if not self.others:
                raise error_at(
                    self.text, node.at, "'.' stands for all other columns of the table, and there are none here"
                )
            return [(self.variable(Name(node.at, name)),) for name in self.others]
        if isinstance(node, Operation) and node.operator in ("+", "-", "*", "/", ":", "%in%", "^"):
            return self._expand_operation(node)
        if _is_bar(node):
            raise error_at(self.text, node.at, "a random term stands in parentheses: (… | …)")
        return [(self.variable(node),)]

    def _expand_operation(self, node: Operation) -> list[Term]:
        if node.operator in ("+", "-"):
            intercept, terms = self.model([("-", Number(node.at, 1.0, "1")), *_summands(node)])
            return ([INTERCEPT] if intercept else []) + list(terms)
        left = self.expand(node.operands[0])
        if node.operator == "^":
            return self._power(node, left)
        right = self.expand(node.operands[1])
        if node.operator in (":", "%in%"):
            return _cross(left, right)
        if node.operator == "*":
            return _unique([*left, *right, *_cross(left, right)])
        everything = tuple(dict.fromkeys(variable for term in left for variable in term))
        return _unique([*left, *_cross([everything], right)])  # a/b is a + a:b

    def _power(self, node: Operation, base: list[Term]) -> list[Term]:
        exponent = node.operands[1]
        if not (isinstance(exponent, Number) and exponent.value >= 1 and exponent.value == int(exponent.value)):
            raise error_at(
                self.text, exponent.at, "outside of I() the power of a formula is a whole number, such as (a + b)^2"
            )
        terms = base
        for _ in range(int(exponent.value) - 1):
            terms = _unique([*terms, *_cross(terms, base)])
        return terms

    def number(self, node: Node) -> str:
        """Text of a variable with one column: for groups, smooths and offsets."""
        self.check_arithmetic(node, outermost=False)
        return self.variable(node)

    def variable(self, node: Node) -> str:
        """Text of a variable. Its expression is recorded in `nodes`."""
        self.check_arithmetic(node)
        text = str(node)
        self.nodes.setdefault(text, node)
        return text

    def check_arithmetic(self, node: Node, outermost: bool = True) -> None:
        """Check that an expression can be computed, before the columns are read."""
        from headway.stats.functions import FUNCTIONS, POLY

        if node == _ALL_OTHERS:
            raise error_at(self.text, node.at, "'.' stands for all other columns, and cannot be computed with")
        if isinstance(node, Call):
            if node.function == POLY and not outermost:
                raise error_at(self.text, node.at, f"{node} has several columns, and cannot be computed with")
            if node.function in (*_SMOOTHS, "offset"):
                raise error_at(self.text, node.at, f"{node.function}(…) can only be added with '+'")
            if node.function not in FUNCTIONS:
                known = ", ".join(FUNCTIONS)
                raise error_at(self.text, node.at, f"the formula calls {node.function}(), which is none of {known}")
            for inner in (*node.arguments, *(value for _, value in node.keywords)):
                self.check_arithmetic(inner, outermost=False)
        elif isinstance(node, Operation):
            if node.operator in ("~", "|", "||", ":", "%in%"):
                raise error_at(self.text, node.at, f"'{node.operator}' cannot be computed here")
            for inner in node.operands:
                self.check_arithmetic(inner, outermost=False)
        elif isinstance(node, Group):
            self.check_arithmetic(node.inner, outermost=False)

    def offset(self, node: Call) -> str:
        if len(node.arguments) != 1 or node.keywords:
            raise error_at(self.text, node.at, "offset() takes one column or expression, such as offset(log(n))")
        return self.number(node.arguments[0])

    def smooth(self, node: Call) -> Smooth:
        if node.function == "t2":
            raise error_at(self.text, node.at, "t2(…) is not supported: write te(…) or ti(…) for a surface")
        options = dict(node.keywords)
        for key, value in options.items():
            if key not in _SMOOTH_OPTIONS:
                known = ", ".join(_SMOOTH_OPTIONS)
                raise error_at(self.text, value.at, f"{node.function}() has no option {key!r} here: it takes {known}")
        default = "tp" if node.function == "s" else "cr"
        bs = self._bases(node, options["bs"]) if "bs" in options else (default,)
        self._check_variables(node, bs)
        by = options.get("by")
        return Smooth(
            tuple(self.number(argument) for argument in node.arguments),
            kind=node.function,
            k=self._dimensions(node, options["k"]) if "k" in options else (),
            bs=bs,
            by=self.number(by) if by is not None else None,
            at=node.at,
        )

    def _check_variables(self, node: Call, bs: tuple[str, ...]) -> None:
        """Check that a smooth has as many variables as its basis takes."""
        count = len(node.arguments)
        by_name = "k, bs and by are given by name, such as s(x, k=5)"
        if node.function != "s":
            if count < 2:
                raise error_at(self.text, node.at, f"{node} needs two variables or more; {by_name}")
            return
        fewest, most = _VARIABLES_OF_S[bs[0]]
        if fewest <= count <= most:
            return
        if most == 1:
            surface = ". A surface of two variables is te(x, z)" if count == 2 else ""
            raise error_at(self.text, node.at, f"{node} needs one variable; {by_name}{surface}")
        wanted = "a variable and a factor, such as s(x, g, bs='fs')" if bs[0] == "fs" else "one variable or more"
        raise error_at(self.text, node.at, f"{node} needs {wanted}")

    def _bases(self, node: Call, option: Node) -> tuple[str, ...]:
        """The option bs: one text, or c(…) with one for each variable of a surface."""
        values = self._one_or_each(node, option)
        known = tuple(_VARIABLES_OF_S) if node.function == "s" else MARGINS
        bases = tuple(value.value if isinstance(value, Text) else "" for value in values)
        for value, basis in zip(values, bases, strict=True):
            if not isinstance(value, Text):
                raise error_at(self.text, value.at, f'bs of {node.function}() is a text, such as bs="cr"')
            if basis not in known:
                choice = " or ".join(map(repr, known))
                raise error_at(self.text, value.at, f"{node.function}() has no basis bs={basis!r}: choose {choice}")
        return bases

    def _dimensions(self, node: Call, option: Node) -> tuple[int, ...]:
        """The option k: one whole number, or c(…) with one for each variable of a surface."""
        values = self._one_or_each(node, option)
        for value in values:
            if not (isinstance(value, Number) and value.value == int(value.value)):
                raise error_at(self.text, value.at, f"k of {node.function}() is a whole number")
        return tuple(int(value.value) for value in values if isinstance(value, Number))

    def _one_or_each(self, node: Call, option: Node) -> tuple[Node, ...]:
        if not (isinstance(option, Call) and option.function == "c"):
            return (option,)
        if node.function == "s" or len(option.arguments) != len(node.arguments) or option.keywords:
            wanted = "s() takes one value" if node.function == "s" else "give one value for each variable"
            raise error_at(self.text, option.at, f"{option} does not fit {node}: {wanted}")
        return option.arguments

    def bars(self, node: Node) -> list[Bar]:
        """The random terms of `effects | group`. Nested groups, and uncorrelated effects, become separate terms."""
        assert isinstance(node, Operation)
        effects, group = node.operands
        if _is_bar(effects):
            raise error_at(self.text, node.at, "a random term has one '|'")
        intercept, terms = _Reader.model(self, _summands(effects))
        found = []
        for grouping in self.groups(group):
            if node.operator == "|":
                found.append(Bar(intercept, terms, grouping))
            else:
                found += [Bar(True, (), grouping)] if intercept else []
                found += [Bar(False, (term,), grouping) for term in terms]
        if not intercept and not terms:
            raise error_at(self.text, node.at, "this random term has no effects: write (1 | g) or (x | g)")
        return found

    def groups(self, node: Node) -> list[Term]:
        """Convert `g` to g, `a:b` to a:b, and `a/b` to b:a and a, the inner one first, as lme4 names them."""
        if isinstance(node, Group):
            return self.groups(node.inner)
        if isinstance(node, Operation) and node.operator == "/":
            outer, inner = self.groups(node.operands[0]), self.groups(node.operands[1])
            return [inner[0] + outer[0], *outer]
        if isinstance(node, Operation) and node.operator == ":":
            return [self.groups(node.operands[0])[0] + self.groups(node.operands[1])[0]]
        if isinstance(node, Operation) and node.operator == "+":
            return [group for operand in node.operands for group in self.groups(operand)]
        if not isinstance(node, Name | Call):
            raise error_at(self.text, node.at, f"{node} is no grouping: after '|' comes a column, a:b or a/b")
        return [(self.number(node),)]


def _unique(terms: list[Term]) -> list[Term]:
    return list({frozenset(term): term for term in reversed(terms)}.values())[::-1]


def _cross(left: list[Term], right: list[Term]) -> list[Term]:
    """Every interaction of a term of `left` with one of `right`."""
    return _unique([tuple(dict.fromkeys(a + b)) for a in left for b in right])
