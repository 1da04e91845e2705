"""Classes made of classes and thresholds: a small declared algebra of sources, pixel by pixel."""

from __future__ import annotations

import ast
import math
from collections.abc import Callable, Mapping
from dataclasses import KW_ONLY, dataclass, field
from functools import partial, reduce
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from cube.classes.rasterising import class_code
from cube.derived import needs_together
from cube.errors import SourceError, SpecError
from cube.scenes import Needs, Source, Span

if TYPE_CHECKING:
    from odc.geo.geobox import GeoBox

    from cube.spec import LayerSpec

FloatArray = npt.NDArray[np.floating[Any]]
Floats = npt.NDArray[np.float64]
Codes = frozenset[int]

_OPERATIONS: Mapping[type, Callable[..., Any]] = MappingProxyType(
    {
        ast.Lt: np.less,
        ast.LtE: np.less_equal,
        ast.Gt: np.greater,
        ast.GtE: np.greater_equal,
        ast.Eq: np.equal,
        ast.NotEq: np.not_equal,
        ast.USub: np.negative,
        ast.Not: np.logical_not,
        ast.And: np.logical_and,
        ast.Or: np.logical_or,
        ast.Add: np.add,
        ast.Sub: np.subtract,
        ast.Mult: np.multiply,
    }
)

_GRAMMAR = (
    "numbers, names of sources, + - *, comparisons, in (1, 2), and, or, not, where(condition, "
    "then, otherwise) and first(a, b, ...)"
)


@dataclass(frozen=True, slots=True)
class ClassExpression:
    """Classes by a formula of other sources; a :class:`cube.scenes.Source` of one band.

    For instance, debris is what an inventory of glaciers holds and a map of clean ice does not::

        ClassExpression(
            "where(rgi == 1, where(first(stem, 0) > 3, 2, 1), 0)", {"rgi": rgi, "stem": stem}
        )

    A formula holds numbers, names of sources, ``+ - *``, comparisons, ``in (1, 2)``, ``and``,
    ``or``, ``not``, ``where(condition, then, otherwise)`` and ``first(a, b, ...)``. A condition
    is true where it is not 0; a comparison gives 1 or 0. Nodata in anything is nodata in what is
    made of it, also in the branch of ``where`` that is not taken. The one exception is ``first``:
    the first of its values that is no nodata. So ``first(stem, 0)`` says what nodata stands for,
    and ``first(upper, lower)`` lays one raster over another.

    Attributes:
        formula: See above. What comes out must be whole numbers.
        sources: One of one band for each name in the formula.
        name: Of the one band.
        codes: Every class code that may come out, ascending; None where nobody says.
    """

    formula: str
    sources: Mapping[str, Source]
    _: KW_ONLY
    name: str = "classes"
    codes: tuple[int, ...] | None = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "sources", dict(sorted(self.sources.items())))
        tree = _parsed(self.formula)
        _check_names(tree, self.sources)
        for name, source in self.sources.items():
            _check_one_band(source, what=repr(name))
        # Tried on a number each, so that a formula which is none is refused here.
        _evaluate(tree, dict.fromkeys(self.sources, np.ones(1)))
        known = {name: codes_of(source) for name, source in self.sources.items()}
        codes = _codes(tree, known)
        object.__setattr__(self, "codes", None if codes is None else tuple(sorted(codes)))

    @property
    def bands(self) -> tuple[str, ...]:
        """The one band."""
        return (self.name,)

    def read(self, grid: GeoBox, rows: Span, cols: Span) -> FloatArray:
        """See :meth:`cube.scenes.Source.read`; float32 where that holds the numbers exactly.

        Raises:
            SourceError: A number that comes out is not whole.
        """
        values = {
            name: source.read(grid, rows, cols)[0].astype("float64")
            for name, source in self.sources.items()
        }
        found = _evaluate(_parsed(self.formula), values)
        shape = rows[1] - rows[0], cols[1] - cols[0]
        return _whole(np.broadcast_to(found, shape), self.codes, what=repr(self.formula))[None]

    def check(self, grid: GeoBox) -> None:
        """See :meth:`cube.scenes.Source.check`."""
        for source in self.sources.values():
            source.check(grid)

    def needs(self, grid: GeoBox, rows: Span, cols: Span) -> Needs:
        """What a box takes; see :class:`cube.scenes.Needs`."""
        # Bands as float64, and what operations of the formula leave.
        own_bytes = 8 * (len(self.sources) + 4)
        return needs_together(list(self.sources.values()), grid, rows, cols, own_bytes=own_bytes)

    def describe(self) -> dict[str, Any]:
        """See :meth:`cube.scenes.Source.describe`."""
        return {
            "class_expression": ast.unparse(_parsed(self.formula)),
            "sources": {name: source.describe() for name, source in self.sources.items()},
        }


@dataclass(frozen=True, slots=True)
class Recode:
    """Classes under other codes; a :class:`cube.scenes.Source` of one band.

    Attributes:
        source: Of one band.
        codes_by_old: New code of each old value; None makes it nodata.
        otherwise: What values that are not listed become: a code, None for nodata, ``"keep"``
            for themselves, or ``"refuse"``.
        missing: Code of nodata, on purpose; None leaves it nodata.
    """

    source: Source
    codes_by_old: Mapping[int, int | None]
    _: KW_ONLY
    otherwise: int | Literal["keep", "refuse"] | None = "refuse"
    missing: int | None = None

    def __post_init__(self) -> None:
        _check_one_band(self.source, what="Recode")
        pairs = {
            class_code(old): None if new is None else class_code(new)
            for old, new in self.codes_by_old.items()
        }
        object.__setattr__(self, "codes_by_old", dict(sorted(pairs.items())))
        if isinstance(self.otherwise, str):
            if self.otherwise not in ("keep", "refuse"):
                raise SpecError(
                    f"otherwise must be a class code, None for nodata, 'keep' or 'refuse'. "
                    f"Received {self.otherwise!r}."
                )
        elif self.otherwise is not None:
            object.__setattr__(self, "otherwise", class_code(self.otherwise))
        if self.missing is not None:
            object.__setattr__(self, "missing", class_code(self.missing))

    @property
    def bands(self) -> tuple[str, ...]:
        """That of the source."""
        return tuple(self.source.bands)

    @property
    def codes(self) -> tuple[int, ...] | None:
        """Every code that a pixel may get, ascending; None where nobody says."""
        found = {*self.codes_by_old.values(), self.missing}
        if self.otherwise == "keep":
            old = codes_of(self.source)
            if old is None:
                return None
            found |= {*old} - {*self.codes_by_old}
        elif self.otherwise != "refuse":
            found.add(self.otherwise)
        return tuple(sorted(code for code in found if code is not None))

    def read(self, grid: GeoBox, rows: Span, cols: Span) -> FloatArray:
        """See :meth:`cube.scenes.Source.read`; float32 where that holds the codes exactly.

        Raises:
            SourceError: A value is not listed and ``otherwise`` refuses it; or a value that is
                kept is not whole.
        """
        values = self.source.read(grid, rows, cols)[0].astype("float64")
        found = self._otherwise(values)
        for old, new in self.codes_by_old.items():
            found[values == old] = math.nan if new is None else new
        found[np.isnan(values)] = math.nan if self.missing is None else self.missing
        return _whole(found, self.codes, what="Recode")[None]

    def _otherwise(self, values: Floats) -> Floats:
        if self.otherwise == "keep":
            return values.copy()
        if self.otherwise == "refuse":
            other = ~np.isnan(values) & ~np.isin(values, [*self.codes_by_old])
            if other.any():
                raise SourceError(
                    f"Recode has no code for {_some(values[other])}, found in "
                    f"{int(other.sum())} pixels; list it, or say otherwise= a code, None or 'keep'."
                )
        whole = math.nan if self.otherwise in (None, "refuse") else float(self.otherwise)
        return np.full(values.shape, whole)

    def check(self, grid: GeoBox) -> None:
        """See :meth:`cube.scenes.Source.check`."""
        self.source.check(grid)

    def needs(self, grid: GeoBox, rows: Span, cols: Span) -> Needs:
        """What a box takes; see :class:`cube.scenes.Needs`."""
        return needs_together([self.source], grid, rows, cols, own_bytes=3 * 8)

    def describe(self) -> dict[str, Any]:
        """See :meth:`cube.scenes.Source.describe`."""
        return {
            "recode": [list(pair) for pair in self.codes_by_old.items()],
            "otherwise": self.otherwise,
            "missing": self.missing,
            "of": self.source.describe(),
        }


def codes_of(source: Source) -> tuple[int, ...] | None:
    """Every class code that a source may give, where it says so."""
    return getattr(source, "codes", None)


def check_codes(source: Source, layer: LayerSpec) -> None:
    """Refuse a source of classes that a layer has no meaning for, or takes for nodata.

    Raises:
        SourceError: The message names the codes.
    """
    codes = codes_of(source) or ()
    if layer.storage.kind in "iu" and layer.fill in codes:
        raise SourceError(
            f"Layer {layer.name!r} stores nodata as {layer.fill}, which is also a class of the "
            f"source, so that class would be lost. Choose another nodata, or another code."
        )
    declared = [value for value, _ in layer.classes]
    foreign = [code for code in codes if declared and code not in declared]
    if foreign:
        raise SourceError(
            f"Layer {layer.name!r} declares the classes {', '.join(map(str, declared))}. The "
            f"source may also give {', '.join(map(str, foreign))}; declare it, or recode."
        )


def _parsed(formula: str) -> ast.expr:
    try:
        return ast.parse(formula.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise SpecError(
            f"A class expression holds {_GRAMMAR}. Received {formula!r}, which is none."
        ) from error


def _check_names(tree: ast.expr, sources: Mapping[str, Source]) -> None:
    called = {node.func for node in ast.walk(tree) if isinstance(node, ast.Call)}
    used = {n.id for n in ast.walk(tree) if isinstance(n, ast.Name) and n not in called}
    if used != set(sources):
        raise SpecError(
            f"The formula names the sources {', '.join(sorted(used)) or 'none'}. "
            f"Received {', '.join(sources) or 'none'}; give one for each name, and no other."
        )


def _check_one_band(source: Source, *, what: str) -> None:
    if len(source.bands) != 1:
        raise SpecError(
            f"{what} takes a source of one band. It gives {', '.join(source.bands)}; select one."
        )


def _evaluate(node: ast.expr, values: Mapping[str, Floats]) -> Floats:
    """Values of a formula as float64, NaN for nodata."""
    match node:
        case ast.Constant(value=int() | float() as number) if _is_plain(number):
            return np.array(float(number))
        case ast.Name(id=name):
            return values[name]
    operation, operands = _operation(node)
    found = [_evaluate(operand, values) for operand in operands]
    if operation is _first:
        return _first(*found)
    missing = reduce(np.logical_or, map(np.isnan, found))
    return np.where(missing, math.nan, operation(*found))


def _operation(node: ast.expr) -> tuple[Callable[..., Any], list[ast.expr]]:
    """What a step of a formula does, and with what."""
    match node:
        case ast.UnaryOp(op=op, operand=operand) if type(op) in _OPERATIONS:
            return _OPERATIONS[type(op)], [operand]
        case ast.BoolOp(op=op, values=parts):
            return partial(_joined, _OPERATIONS[type(op)]), parts
        case ast.Compare(left=left, ops=[op], comparators=[ast.Tuple(elts=[_, *_] as options)]) if (
            type(op) in _MEMBERSHIPS
        ):
            return _MEMBERSHIPS[type(op)], [left, *options]
        case (
            ast.BinOp(left=left, op=op, right=right)
            | ast.Compare(left=left, ops=[op], comparators=[right])
        ) if type(op) in _OPERATIONS:
            return _OPERATIONS[type(op)], [left, right]
        case ast.Call(func=ast.Name(id="where"), args=[_, _, _] as args, keywords=[]):
            return np.where, args
        case ast.Call(func=ast.Name(id="first"), args=[_, *_] as args, keywords=[]):
            return _first, args
    raise SpecError(f"A class expression holds {_GRAMMAR}. Received {ast.unparse(node)!r}.")


def _is_plain(number: float) -> bool:
    return not isinstance(number, bool) and abs(number) <= 2**53


def _joined(operation: Callable[..., Any], *parts: Floats) -> Any:
    return reduce(operation, parts)


def _first(*parts: Floats) -> Floats:
    """The first that is no nodata."""
    return reduce(lambda one, other: np.where(np.isnan(one), other, one), parts)


def _is_one_of(value: Floats, *options: Floats) -> Any:
    return reduce(np.logical_or, [np.equal(value, option) for option in options])


def _is_none_of(value: Floats, *options: Floats) -> Any:
    return ~_is_one_of(value, *options)


_MEMBERSHIPS: Mapping[type, Callable[..., Any]] = MappingProxyType(
    {ast.In: _is_one_of, ast.NotIn: _is_none_of}
)


def _codes(node: ast.expr, known: Mapping[str, tuple[int, ...] | None]) -> Codes | None:
    """Whole numbers that a formula may give; None where that depends on what is not known."""
    match node:
        case ast.Constant(value=int() | float() as number):
            return frozenset({int(number)}) if float(number).is_integer() else None
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            found = _codes(operand, known)
            return None if found is None else frozenset(-code for code in found)
        case ast.Name(id=name):
            codes = known[name]
            return None if codes is None else frozenset(codes)
        case ast.Compare() | ast.BoolOp() | ast.UnaryOp():
            return frozenset({0, 1})
        case ast.Call(func=ast.Name(id=function), args=args):
            parts = [_codes(arg, known) for arg in (args[1:] if function == "where" else args)]
            return None if None in parts else frozenset().union(*(p for p in parts if p))
    return None


def _whole(values: Floats, codes: tuple[int, ...] | None, *, what: str) -> FloatArray:
    """Classes as float32, or as float64 where float32 might round them.

    Raises:
        SourceError: A number is not whole.
    """
    broken = ~np.isnan(values) & (values != np.rint(values))
    if broken.any():
        raise SourceError(
            f"Classes are whole numbers. {what} gives {_some(values[broken])}; compare it with a "
            f"threshold, or list what it stands for."
        )
    small = codes is not None and all(abs(code) <= 2**24 for code in codes)
    return values.astype("float32" if small else "float64")


def _some(values: Floats) -> str:
    found = np.unique(values)
    return ", ".join(f"{value:g}" for value in found[:5]) + (", ..." if len(found) > 5 else "")
