"""Spectral indices by name, with the formulas of spyndex's catalogue.

Formulas and constants are those of Awesome Spectral Indices (Montero et al.
2023, Scientific Data 10, doi 10.1038/s41597-023-02096-0), which spyndex brings
along. This is the one module that names spyndex. Its catalogue is all that is
used of it: spyndex would hand the text of a formula to Python's ``eval``, here
nothing but numbers, names and the four operations and powers is understood.
"""

from __future__ import annotations

import ast
import difflib
import operator
from collections.abc import Callable, Mapping
from dataclasses import KW_ONLY, dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from cube.derived import needs_together, read_named
from cube.errors import SourceError
from cube.scenes import Needs, Source, Span

if TYPE_CHECKING:
    from odc.geo.geobox import GeoBox

FloatArray = npt.NDArray[np.floating[Any]]

COMMON_NAMES: Mapping[str, str] = MappingProxyType(
    {
        "A": "coastal",
        "B": "blue",
        "G": "green",
        "Y": "yellow",
        "R": "red",
        "RE1": "rededge1",
        "RE2": "rededge2",
        "RE3": "rededge3",
        "N": "nir",
        "N2": "nir08",
        "WV": "nir09",
        "S1": "swir1",
        "S2": "swir2",
        "T": "thermal",
        "T1": "thermal1",
        "T2": "thermal2",
        "VV": "vv",
        "VH": "vh",
        "HH": "hh",
        "HV": "hv",
    }
)
"""Letter of the catalogue to the name that a band has unless told otherwise.

RE1, RE2 and RE3 lie near 705, 740 and 783 nm, N2 near 865 and WV near 945 nm;
T1 and T2 near 10.9 and 12 µm (spyndex's ``bands``).
"""

_OPERATIONS: Mapping[type, Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Pow: operator.pow,
}


@dataclass(frozen=True, slots=True)
class Indices:
    """Spectral indices of a source, pixel by pixel.

    Reflectances must be fractions (0..1) and not percent or scaled integers:
    ratios such as NDVI, NBR, NDSI and NDWI would not notice, but EVI, SAVI and
    every other formula with a constant would be wrong without a word. T is a
    brightness temperature in kelvin, and VV, VH, HH and HV are backscatter as
    the reference of the index has it. Where a formula divides by zero, or has
    no real value, or a band it uses is NaN, the index is NaN.

    Constants have spyndex's defaults, where L is 1.0: right for EVI, while Huete
    (1988, doi 10.1016/0034-4257(88)90106-X) gives SAVI with 0.5. Set it with
    ``constants={"L": 0.5}``.

    Attributes:
        of: Source of the bands.
        names: Indices as the catalogue spells them, e.g. ``("NDVI", "SAVI")``; the
            bands that come out are called so in lower case.
        letters: The catalogue's letter of a band to the source's name for it; for
            those left out see :data:`COMMON_NAMES`.
        constants: Other values than the defaults, by the catalogue's name.
        formulas: Text of each formula, as in the catalogue. Kept here, so that
            workers do not look it up in a catalogue of their own.
    """

    of: Source
    names: tuple[str, ...]
    letters: Mapping[str, str] = field(default_factory=dict)
    _: KW_ONLY
    constants: Mapping[str, float] = field(default_factory=dict)
    formulas: tuple[str, ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        names = tuple(self.names)
        object.__setattr__(self, "names", names)
        if not names or len(set(self.bands)) < len(names):
            raise SourceError(
                f"Indices must be named, once each, upper and lower case alike. "
                f"Received {', '.join(names) or 'none'}."
            )
        object.__setattr__(self, "formulas", tuple(_formula(name) for name in names))
        every = set().union(*map(_names_in, self.formulas))
        constants = _constants(every, self.constants)
        inputs = every - {*constants}
        letters = {x: dict(self.letters).get(x, COMMON_NAMES.get(x, x)) for x in inputs}
        _check_known("letters", self.letters, letters)
        _check_known("constants", self.constants, constants)
        object.__setattr__(self, "letters", dict(sorted(letters.items())))
        object.__setattr__(self, "constants", dict(sorted(constants.items())))
        for name, formula in zip(names, self.formulas, strict=True):
            self._check_bands(name, _names_in(formula) & inputs)

    @property
    def bands(self) -> tuple[str, ...]:
        """The indices in lower case, e.g. ``("ndvi", "savi")``."""
        return tuple(name.lower() for name in self.names)

    def read(self, grid: GeoBox, rows: Span, cols: Span) -> FloatArray:
        """See :meth:`cube.scenes.Source.read`; float32."""
        read = read_named(self.of, tuple(self.letters.values()), grid, rows, cols)
        values = dict(zip(self.letters, read, strict=True))
        return np.stack([compute(text, {**values, **self.constants}) for text in self.formulas])

    def check(self, grid: GeoBox) -> None:
        """See :meth:`cube.scenes.Source.check`."""
        self.of.check(grid)

    def needs(self, grid: GeoBox, rows: Span, cols: Span) -> Needs:
        """What a box takes; see :class:`cube.scenes.Needs`."""
        # Bands as float64, and what operations of a formula leave.
        own_bytes = 8 * (len(self.letters) + 2)
        return needs_together([self.of], grid, rows, cols, own_bytes=own_bytes)

    def describe(self) -> dict[str, Any]:
        """See :meth:`cube.scenes.Source.describe`; formulas, and not the version they are from."""
        return {
            "indices": dict(zip(self.bands, self.formulas, strict=True)),
            "letters": dict(self.letters),
            "constants": dict(self.constants),
            "of": self.of.describe(),
        }

    def _check_bands(self, name: str, used: set[str]) -> None:
        missing = [
            f"{self.letters[x]!r} ({x})"
            for x in sorted(used)
            if self.letters[x] not in self.of.bands
        ]
        if missing:
            raise SourceError(
                f"{name} needs the band {', '.join(missing)}. The source has "
                f"{', '.join(self.of.bands)}; name its bands with letters=, e.g. "
                f"letters={{'N': 'nir'}}."
            )


def compute(formula: str, values: Mapping[str, FloatArray | float]) -> npt.NDArray[np.float32]:
    """A formula of bands and constants, in float64, rounded to float32 at the end.

    Args:
        formula: Arithmetic on numbers and names with ``+ - * / **``.
        values: Each name's float64 array, all of one shape, or its number.

    Returns:
        Shape of the arrays; NaN where there is no finite real value.

    Raises:
        SourceError: The formula is something else than arithmetic.
    """
    with np.errstate(all="ignore"):
        found = _evaluate(_parsed(formula), values)
        rounded = np.asarray(found, "float64").astype("float32")
    return np.where(np.isfinite(rounded), rounded, np.float32(np.nan))


def _parsed(formula: str) -> ast.expr:
    try:
        return ast.parse(formula, mode="eval").body
    except SyntaxError as error:
        raise SourceError(f"A formula must be arithmetic. Received {formula!r}.") from error


def _evaluate(node: ast.expr, values: Mapping[str, FloatArray | float]) -> Any:
    match node:
        # NumPy's numbers divide by zero, and have no complex roots.
        case ast.Constant(value=int() | float() as number) if not isinstance(number, bool):
            return np.float64(number)
        case ast.Name(id=name):
            value = values[name]
            return value if isinstance(value, np.ndarray) else np.float64(value)
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return -_evaluate(operand, values)
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _OPERATIONS:
            return _OPERATIONS[type(op)](_evaluate(left, values), _evaluate(right, values))
    raise SourceError(
        f"A formula holds numbers, names and + - * / ** only. Received {ast.unparse(node)!r}."
    )


def _names_in(formula: str) -> set[str]:
    return {node.id for node in ast.walk(_parsed(formula)) if isinstance(node, ast.Name)}


def _formula(name: str) -> str:
    """Text of a formula in the catalogue."""
    import spyndex

    if name not in spyndex.indices:
        lower = {known.lower(): known for known in spyndex.indices}
        near = [lower[x] for x in difflib.get_close_matches(name.lower(), lower, n=5)]
        raise SourceError(
            f"spyndex's catalogue has no index {name!r}. "
            f"{'Near it: ' + ', '.join(near) if near else 'See spyndex.indices for all'}."
        )
    return str(spyndex.indices[name].formula)


def _constants(used: set[str], given: Mapping[str, float]) -> dict[str, float]:
    """Values of the constants among the names that formulas use."""
    import spyndex

    found: dict[str, float] = {}
    for name in used & {*spyndex.constants}:
        value = given.get(name, spyndex.constants[name].default)
        if value is None:
            raise SourceError(
                f"The constant {name} ({spyndex.constants[name].description}) has no default; "
                f"give it with constants={{{name!r}: ...}}."
            )
        found[name] = float(value)
    return found


def _check_known(what: str, given: Mapping[str, object], used: Mapping[str, object]) -> None:
    unknown = sorted(set(given) - set(used))
    if unknown:
        raise SourceError(
            f"These formulas have the {what} {', '.join(sorted(used)) or 'none'}. "
            f"Received {', '.join(unknown)}."
        )
