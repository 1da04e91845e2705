"""Conditions on columns, such as ``"valid_share > 0.9 and majority in [1, 2]"``.

The text is parsed, and all that is no comparison, arithmetic, ``and``, ``or``, ``not``, ``in``,
column, number or text is refused. So it runs no code, wherever it came from.
"""

from __future__ import annotations

import ast
import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from cube.errors import SplitError

Truth = pd.arrays.BooleanArray
"""True or false of each row, or missing; ``&``, ``|`` and ``~`` follow Kleene's logic."""

_COMPARE: Mapping[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
}
_COMPUTE: Mapping[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: operator.pow,
}
_TOKENS = re.compile(r"""("(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*')|`([^`]*)`|([&|])""")
"""Text, which stays as it is; a name in backticks; another spelling of and, or."""


def condition(frame: pd.DataFrame, expression: str) -> npt.NDArray[np.bool_]:
    """Rows for which a condition is true.

    Args:
        frame: Its columns but ``geometry`` may be named, in backticks if their names need them.
        expression: Comparisons, arithmetic, ``and``, ``or``, ``not``, ``in`` with a list of
            constants, parentheses. ``&`` and ``|`` mean ``and`` and ``or``, as in pandas.

    Returns:
        bool (row,). What depends on a missing value is not true, and neither is its contrary.

    Raises:
        SplitError: It names another column, holds anything else, or is no condition.
    """
    names: dict[str, str] = {}
    try:
        tree = ast.parse(_plain(expression, names), mode="eval").body
        walk = _Walk(frame=frame, expression=expression, names=names)
        # What leaves the range of numbers goes to infinity, or is missing.
        with np.errstate(all="ignore"):
            found = walk.of(tree)
    except SplitError:
        raise
    except (SyntaxError, ValueError, TypeError, ArithmeticError, RecursionError, MemoryError) as e:
        reason = e.msg if isinstance(e, SyntaxError) else str(e) or type(e).__name__
        raise SplitError(
            f"{expression!r} is no condition on columns, such as 'valid_share > 0.9': {reason}."
        ) from e
    if not isinstance(found, Truth) or not any(isinstance(n, ast.Name) for n in ast.walk(tree)):
        raise SplitError(
            f"{expression!r} must be true or false of each chip, such as 'valid_share > 0.9'. "
            f"It gives {getattr(found, 'dtype', type(found).__name__)}."
        )
    return found.to_numpy(bool, na_value=False)


def _plain(expression: str, names: dict[str, str]) -> str:
    """The expression as Python, with identifiers for the ``names`` that stand in backticks."""

    def replaced(match: re.Match[str]) -> str:
        if match[2] is None:
            return match[1] or {"&": " and ", "|": " or "}[match[3]]
        names[f"_quoted_{len(names)}"] = match[2]
        return f" _quoted_{len(names) - 1} "

    return _TOKENS.sub(replaced, str(expression)).strip()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Walk:
    """One way through a parsed expression; values are of all rows, or constants."""

    frame: pd.DataFrame
    expression: str
    names: Mapping[str, str]

    def of(self, node: ast.expr) -> Any:
        """Numbers as float64, text as objects, conditions as truth."""
        match node:
            case ast.Name():
                return self._column(self.names.get(node.id, node.id))
            case ast.Constant(value=bool() | int() | float() | str() as value):
                return value if isinstance(value, str) else np.float64(value)
            case ast.Compare():
                return self._comparisons(node)
            case ast.BoolOp():
                both = operator.and_ if isinstance(node.op, ast.And) else operator.or_
                return reduce(both, [self._truth(value) for value in node.values])
            case ast.UnaryOp(op=ast.Not() | ast.Invert()):
                return ~self._truth(node.operand)
        return self._computed(node)

    def _computed(self, node: ast.expr) -> Any:
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
            return -self._numbers(node.operand)
        if isinstance(node, ast.BinOp) and type(node.op) in _COMPUTE:
            compute = _COMPUTE[type(node.op)]
            return compute(self._numbers(node.left), self._numbers(node.right))
        raise self._refused(node)

    def _column(self, name: str) -> Any:
        known = [str(column) for column in self.frame.columns if column != "geometry"]
        if name not in known:
            raise SplitError(
                f"{self.expression!r} names a column that is not there: {name!r}. There are: "
                f"{', '.join(known)}."
            )
        values = self.frame[name]
        if pd.api.types.is_bool_dtype(values):
            return values.astype("boolean").array
        if pd.api.types.is_numeric_dtype(values):
            return values.to_numpy("float64", na_value=np.nan)
        return values.to_numpy(object)

    def _comparisons(self, node: ast.Compare) -> Truth:
        """A chain, such as ``0.2 < share < 0.8``."""
        sides = [node.left, *node.comparators]
        links = zip(sides, node.ops, sides[1:], strict=False)
        return reduce(operator.and_, [self._comparison(*link) for link in links])

    def _comparison(self, left: ast.expr, how: ast.cmpop, right: ast.expr) -> Truth:
        if isinstance(how, ast.In | ast.NotIn):
            found = self._among(left, right)
            return found if isinstance(how, ast.In) else ~found
        if type(how) not in _COMPARE:
            raise self._refused(ast.Compare(left, [how], [right]))
        return self._compared(_COMPARE[type(how)], self.of(left), self.of(right))

    def _compared(self, how: Callable[[Any, Any], Any], one: Any, other: Any) -> Truth:
        one, other = (_plain_values(v) for v in (one, other))
        if {_is_text(one), _is_text(other)} == {True, False}:
            raise SplitError(
                f"{self.expression!r} compares text with what is no text; put text in quotes, and "
                f"numbers in none."
            )
        one, other = (np.broadcast_to(v, len(self.frame)) for v in (one, other))
        missing = pd.isna(one) | pd.isna(other)
        found = np.zeros(len(self.frame), dtype=bool)
        found[~missing] = how(one[~missing], other[~missing])
        return Truth(found, missing)

    def _among(self, column: ast.expr, values: ast.expr) -> Truth:
        if not isinstance(values, ast.List | ast.Tuple) or not values.elts:
            raise self._refused(ast.Compare(column, [ast.In()], [values]))
        known = self.of(column)
        each = [self._compared(operator.eq, known, self.of(value)) for value in values.elts]
        return reduce(operator.or_, each)

    def _truth(self, node: ast.expr) -> Truth:
        found = self.of(node)
        if not isinstance(found, Truth):
            raise SplitError(
                f"{self.expression!r} must join conditions, such as 'valid_share > 0.9'. Received "
                f"{ast.unparse(node)!r} among them."
            )
        return found

    def _numbers(self, node: ast.expr) -> Any:
        found = self.of(node)
        if isinstance(found, str | Truth) or found.dtype != np.float64:
            raise SplitError(
                f"{self.expression!r} must compute with numbers. Received {ast.unparse(node)!r}."
            )
        return found

    def _refused(self, node: ast.expr) -> SplitError:
        return SplitError(
            f"{self.expression!r} must be made of comparisons, arithmetic, and, or, not, in [...], "
            f"columns, numbers and text alone. Received {ast.unparse(node)!r}; ChipIndex.where "
            f"takes any mask."
        )


def _plain_values(value: Any) -> npt.NDArray[Any]:
    """Numbers as float64, NaN where missing; text as objects."""
    if isinstance(value, Truth):
        return value.to_numpy("float64", na_value=np.nan)
    return np.asarray(value, dtype=object) if isinstance(value, str) else np.asarray(value)


def _is_text(values: npt.NDArray[Any]) -> bool | None:
    """Whether what is known of them is text; None if some is, or if nothing is known."""
    kind = pd.api.types.infer_dtype(np.atleast_1d(values), skipna=True)
    return None if kind == "empty" or kind.startswith("mixed") else kind == "string"
