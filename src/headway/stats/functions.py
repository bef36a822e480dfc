"""Compute a formula's variables from columns: arithmetic, R's functions, and factors.

A value is a float64 array (NaN = missing) or a Factor; `poly(x, 2)` is an array with two columns. Integers stay integers until
arithmetic needs floats. Centre and spread of `scale(x)` and the polynomials of `poly(x, 2)` are stored in a memory, so that new
rows are treated like the fitted ones.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from headway.stats.columns import Column, Factor, Integers, Value, as_factor
from headway.stats.contrasts import orthogonal_polynomials, orthogonal_recursion
from headway.stats.formula_syntax import Call, Group, Name, Node, Number, Operation, Text, error_at

Constant = float | str
Numbers = np.ndarray | float
Memory = dict[str, tuple[float, ...]]

_ARITHMETIC: dict[str, Callable[[Numbers, Numbers], Numbers]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": operator.truediv,
    "^": operator.pow,
}
_COMPARISONS: dict[str, Callable[[Numbers, Numbers], np.ndarray | bool]] = {
    "<": operator.lt,
    ">": operator.gt,
    "<=": operator.le,
    ">=": operator.ge,
    "==": operator.eq,
    "!=": operator.ne,
}
_ELEMENTWISE: dict[str, Callable[[Numbers], Numbers]] = {
    "log": np.log,
    "log2": np.log2,
    "log10": np.log10,
    "log1p": np.log1p,
    "sqrt": np.sqrt,
    "exp": np.exp,
    "abs": np.abs,
}
POLY = "poly"
FUNCTIONS = (*_ELEMENTWISE, "scale", "factor", "ordered", "I", POLY)
# A column with the name of a constant hides it, as in R.
CONSTANTS = {"pi": float(np.pi)}


@dataclass(frozen=True)
class Evaluator:
    """Evaluates expressions of the formula `text` on `columns` with `n_rows` rows.

    Args:
        memory: values learned from the fitted data. It is filled if `learning`, else read.
    """

    text: str
    columns: Mapping[str, Column]
    n_rows: int
    memory: Memory
    learning: bool

    def variable(self, node: Node) -> Value:
        """Value of a variable in every row.

        Raises:
            StatisticsError: text is used as a number. The message marks the position.
        """
        with np.errstate(all="ignore"):
            value = self._evaluate(node)
        if isinstance(value, str):
            raise error_at(self.text, node.at, f"{node} is a text, not a column")
        if isinstance(value, Factor):
            return value
        if isinstance(value, Integers):
            value = value.numbers
        array = np.asarray(value, dtype=np.float64)
        return array if array.ndim == 2 else np.broadcast_to(array, self.n_rows).copy()

    def factor(self, node: Node) -> Factor:
        """Value of a variable as a factor in every row. Numbers become levels.

        Raises:
            StatisticsError: text is used as a number. The message marks the position.
        """
        with np.errstate(all="ignore"):
            value = self._evaluate(node)
        return as_factor(value if isinstance(value, Factor | Integers) else self.variable(node))

    def _evaluate(self, node: Node) -> Column | Constant:
        match node:
            case Number(value=value) | Text(value=value):
                return value
            case Name(name=name):
                return self.columns[name] if name in self.columns else CONSTANTS[name]
            case Group(inner=inner):
                return self._evaluate(inner)
            case Call():
                return self._call(node)
            case Operation(operator=sign, operands=(inner,)):
                return self._numbers(inner) if sign == "+" else -self._numbers(inner)
            case Operation(operator=sign, operands=(left, right)) if sign in _COMPARISONS:
                return self._compare(sign, left, right)
            case Operation(operator=sign, operands=(left, right)):
                return _ARITHMETIC[sign](self._numbers(left), self._numbers(right))
        raise AssertionError(f"a formula has no {type(node).__name__}")

    def _numbers(self, node: Node) -> Numbers:
        value = self._evaluate(node)
        if isinstance(value, Integers):
            return value.numbers
        if isinstance(value, Factor) and value.logical:
            return np.where(value.codes < 0, np.nan, value.codes)
        if isinstance(value, Factor | str):
            raise error_at(self.text, node.at, f"{node} holds text where numbers are needed")
        return value

    def _compare(self, sign: str, left: Node, right: Node) -> Factor:
        a, b = self._evaluate(left), self._evaluate(right)
        if isinstance(a, Integers) and isinstance(b, str):  # id == "9007199254740993" is compared digit by digit
            a = a.factor
        if isinstance(a, Factor) and isinstance(b, str) and sign in ("==", "!="):
            code = a.levels.index(b) if b in a.levels else len(a.levels)
            truth, missing = _COMPARISONS[sign](a.codes, code), a.codes < 0
        else:
            x, y = self._numbers(left), self._numbers(right)
            truth, missing = _COMPARISONS[sign](x, y), np.isnan(x) | np.isnan(y)
        codes = np.where(missing, -1, np.asarray(truth, dtype=int))
        return Factor(np.broadcast_to(codes, self.n_rows), ("FALSE", "TRUE"))

    def _call(self, node: Call) -> Column | Constant:
        n_most = 2 if node.function in ("log", POLY) else 1
        options = dict(node.keywords)
        allowed = {"log": {"base"}, "scale": {"center", "scale"}, POLY: {"degree"}}.get(node.function, set())
        if not 1 <= len(node.arguments) <= n_most or not options.keys() <= allowed:
            raise error_at(
                self.text, node.at, f"{node.function}() takes one column{_SIGNATURES.get(node.function, '')}"
            )
        argument = node.arguments[0]
        if node.function == "I":
            return self._evaluate(argument)
        if node.function == "factor":
            return self.factor(argument)
        if node.function == "ordered":
            return self.factor(argument)._replace(ordered=True)
        x = self._numbers(argument)
        if node.function == "scale":
            return self._scale(node, np.asarray(x), options)
        second = node.arguments[1] if len(node.arguments) == 2 else None
        if node.function == POLY:
            return self._poly(node, np.asarray(x), second or options.get("degree"))
        base = second or options.get("base")
        if base is not None:
            return np.log(x) / np.log(self._numbers(base))
        return _ELEMENTWISE[node.function](x)

    def _scale(self, node: Call, x: np.ndarray, options: Mapping[str, Node]) -> np.ndarray:
        key = str(node)
        if self.learning:
            centred = "center" not in options or bool(self._numbers(options["center"]))
            scaled = "scale" not in options or bool(self._numbers(options["scale"]))
            known = x[~np.isnan(x)]
            centre = float(known.mean()) if centred and len(known) else 0.0
            n_free = max(len(known) - 1, 1)
            spread = float(np.sqrt(np.sum((known - centre) ** 2) / n_free)) if scaled else 1.0
            if spread == 0:
                raise error_at(self.text, node.at, f"{node} cannot be computed: the column does not vary")
            self.memory[key] = (centre, spread)
        centre, spread = self.memory[key]
        return (x - centre) / spread

    def _poly(self, node: Call, x: np.ndarray, degree: Node | None) -> np.ndarray:
        """Orthogonal polynomials of degrees 1 to `degree` (default 1): (rows, degree)."""
        count = 1.0 if degree is None else degree.value if isinstance(degree, Number) else 0.0
        if count < 1 or count != int(count):
            raise error_at(self.text, node.at, f"the degree of {node} must be a whole number, such as poly(x, 2)")
        key = str(node)
        if self.learning:
            known = x[~np.isnan(x)]
            if len(np.unique(known)) <= count:
                raise error_at(self.text, node.at, f"{node} needs more than {int(count)} different values")
            self.memory[key] = tuple(orthogonal_recursion(known, int(count)).ravel())
        return orthogonal_polynomials(x, np.reshape(self.memory[key], (2, -1)))


_SIGNATURES = {"log": " and a base: log(x, base)", "scale": ", center = TRUE/FALSE and scale = TRUE/FALSE",
               POLY: " and a degree: poly(x, 2)"}  # fmt: skip


def names_in(node: Node) -> list[Name]:
    """Names in an expression, in order. Each is a column, or a constant that no column hides."""
    match node:
        case Name():
            return [node]
        case Group(inner=inner):
            return names_in(inner)
        case Operation(operands=operands):
            return [name for operand in operands for name in names_in(operand)]
        case Call(arguments=arguments, keywords=keywords):
            return [name for inner in (*arguments, *(value for _, value in keywords)) for name in names_in(inner)]
    return []
