"""Polygons as classes of pixels: which class a pixel has, and which share of it each class."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass, field
from itertools import product
from numbers import Integral
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from cube.classes.claiming import Groups, tile_spans
from cube.errors import PolygonError, SpecError
from cube.scenes import Needs, Span

if TYPE_CHECKING:
    import geopandas as gpd
    from odc.geo.geobox import GeoBox

FloatArray = npt.NDArray[np.floating[Any]]
Floats = npt.NDArray[np.float64]

Rule = Literal["majority", "centre", "all_touched"]

_DECIMALS = 6
"""Shares that agree in so many are equal; they are kept as float32."""


@dataclass(frozen=True, slots=True, eq=False)
class ClassPolygons:
    """Classes of pixels from polygons; a :class:`cube.scenes.Source` of one band.

    ``rule`` says which class a pixel has:

    * ``"majority"``: the one with the largest share of it, where what lies outside all polygons
      is a class too, the background. Shares are exact but where polygons of one class overlap
      within a pixel: they are summed, up to 1.
    * ``"centre"``: the one that its centre lies in. A centre on an edge that two polygons share
      lies in exactly one of them.
    * ``"all_touched"``: any that has an area in it, however small: more than 5e-13 of the pixel,
      once corners are rounded to 1e-9 of its side. GDAL's ``all_touched`` takes pixels along a
      boundary by a walk over them, which also finds some that share no area with the polygon.

    Attributes:
        polygons: With a CRS whose datum is known. They are brought into the grid's.
        classes: The class code of all polygons, or of each value of ``column``.
        column: Says the class of each polygon.
        rule: See above.
        priority: All class codes of the polygons, the first of which wins where several claim a
            pixel; under ``"majority"`` where shares are equal to six digits, the background being
            last. Without it equal shares go to the smaller code, the background's among them; and
            the other rules refuse pixels that several classes claim.
        background: Class code of pixels outside all polygons; None for nodata: nobody knows.
        extent: Polygons of what was looked at. Outside them, by pixel centres, classes are
            unknown, and so nodata. None for everywhere.
        name: Of the one band.
    """

    polygons: gpd.GeoDataFrame = field(repr=False)
    classes: int | Mapping[Any, int]
    _: KW_ONLY
    column: str | None = None
    rule: Rule = "majority"
    priority: tuple[int, ...] = ()
    background: int | None = 0
    extent: gpd.GeoDataFrame | None = field(default=None, repr=False)
    name: str = "classes"
    _order: tuple[int, ...] = field(init=False, repr=False)
    _groups: Groups = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if self.rule not in get_args(Rule):
            raise SpecError(
                f"rule must be one of {', '.join(get_args(Rule))}. Received {self.rule!r}."
            )
        codes = {
            value: class_code(code)
            for value, code in _by_value(self.classes, self.column, what="a class code").items()
        }
        if self.background is not None:
            object.__setattr__(self, "background", class_code(self.background))
        if not isinstance(self.priority, tuple | list):
            raise SpecError(f"priority is a tuple of class codes. Received {self.priority!r}.")
        object.__setattr__(self, "priority", tuple(self.priority))
        object.__setattr__(self, "_order", _ordered(set(codes.values()), self.priority))
        numbers = {value: self._order.index(code) for value, code in codes.items()}
        groups = Groups.of(self.polygons, numbers, self.column, extent=self.extent)
        object.__setattr__(self, "_groups", groups)
        object.__setattr__(self, "polygons", groups.polygons)

    @property
    def bands(self) -> tuple[str, ...]:
        """The one band."""
        return (self.name,)

    @property
    def codes(self) -> tuple[int, ...]:
        """Every class code that a pixel may get, ascending."""
        background = () if self.background is None else (self.background,)
        return tuple(sorted({*self._order, *background}))

    def read(self, grid: GeoBox, rows: Span, cols: Span) -> FloatArray:
        """See :meth:`cube.scenes.Source.read`; float32 where that holds every code exactly.

        Raises:
            PolygonError: Several classes claim a pixel, and no priority says which wins.
        """
        dtype = "float32" if max(map(abs, self.codes)) <= 2**24 else "float64"
        return self._groups.read(self._tile, grid, rows, cols, depth=1, dtype=dtype)

    def check(self, grid: GeoBox) -> None:
        """See :meth:`cube.scenes.Source.check`.

        Raises:
            PolygonError: None of the polygons meets the grid; or several classes claim a pixel,
                and no priority says which wins.
        """
        self._groups.check(grid)
        if self._may_conflict:
            height, width = (int(n) for n in grid.shape)
            tiles = product(tile_spans((0, height)), tile_spans((0, width)))
            self._refuse(sum(_conflicts(self._claims(grid, *tile), grid, *tile) for tile in tiles))

    def needs(self, grid: GeoBox, rows: Span, cols: Span) -> Needs:
        """What a box takes; see :class:`cube.scenes.Needs`."""
        return self._groups.needs(depth=1)

    def describe(self) -> dict[str, Any]:
        """See :meth:`cube.scenes.Source.describe`; polygons by a digest."""
        return {
            "class_polygons": self._groups.digest,
            "codes": list(self._order),
            "rule": self.rule,
            "priority": list(self.priority),
            "background": self.background,
        }

    @property
    def _may_conflict(self) -> bool:
        return self.rule != "majority" and not self.priority and len(self._order) > 1

    def _claims(self, grid: GeoBox, rows: Span, cols: Span) -> npt.NDArray[np.bool_]:
        if self.rule == "centre":
            claims = self._groups.centres(grid, rows, cols)
        else:
            claims = self._groups.shares(grid, rows, cols) > 0
        return claims & self._groups.known(grid, rows, cols)

    def _tile(self, grid: GeoBox, rows: Span, cols: Span) -> Floats:
        if self.rule == "majority":
            shares = self._groups.shares(grid, rows, cols)
            by_code = not self.priority
            return largest(shares, self._order, self.background, by_code=by_code)[None]
        claims = self._claims(grid, rows, cols)
        if self._may_conflict:
            self._refuse(_conflicts(claims, grid, rows, cols))
        return first_claim(claims, self._order, self.background)[None]

    def _refuse(self, conflicts: int) -> None:
        if conflicts:
            raise PolygonError(
                f"{conflicts} pixels are claimed by several classes under the rule {self.rule!r}. "
                f"Say which wins, e.g. priority={self._order}; for points conflict='positive'."
            )


@dataclass(frozen=True, slots=True, eq=False)
class ClassShares:
    """Share of each pixel in each class of polygons; a Source with a band a class, 0..1.

    Shares are exact but where polygons of one class overlap within a pixel: they are summed, up
    to 1. Outside all polygons they are 0.

    Attributes:
        polygons: With a CRS whose datum is known. They are brought into the grid's.
        classes: The band of all polygons, or of each value of ``column``.
        column: Says the class of each polygon.
        extent: Outside, by pixel centres, shares are nodata; see :class:`ClassPolygons`.
    """

    polygons: gpd.GeoDataFrame = field(repr=False)
    classes: str | Mapping[Any, str]
    _: KW_ONLY
    column: str | None = None
    extent: gpd.GeoDataFrame | None = field(default=None, repr=False)
    bands: tuple[str, ...] = field(init=False)
    _groups: Groups = field(init=False, repr=False)

    def __post_init__(self) -> None:
        names = _by_value(self.classes, self.column, what="a band")
        object.__setattr__(self, "bands", tuple(dict.fromkeys(names.values())))
        numbers = {value: self.bands.index(name) for value, name in names.items()}
        groups = Groups.of(self.polygons, numbers, self.column, extent=self.extent)
        object.__setattr__(self, "_groups", groups)
        object.__setattr__(self, "polygons", groups.polygons)

    @property
    def units(self) -> tuple[str, ...]:
        """Shares are pure numbers."""
        return ("1",) * len(self.bands)

    def read(self, grid: GeoBox, rows: Span, cols: Span) -> FloatArray:
        """See :meth:`cube.scenes.Source.read`; float32."""
        depth = len(self.bands)
        return self._groups.read(
            self._groups.shares, grid, rows, cols, depth=depth, dtype="float32"
        )

    def check(self, grid: GeoBox) -> None:
        """See :meth:`cube.scenes.Source.check`.

        Raises:
            PolygonError: None of the polygons meets the grid.
        """
        self._groups.check(grid)

    def needs(self, grid: GeoBox, rows: Span, cols: Span) -> Needs:
        """What a box takes; see :class:`cube.scenes.Needs`."""
        return self._groups.needs(depth=len(self.bands))

    def describe(self) -> dict[str, Any]:
        """See :meth:`cube.scenes.Source.describe`; polygons by a digest."""
        return {"class_shares": self._groups.digest, "bands": list(self.bands)}


def largest(
    shares: Floats, order: tuple[int, ...], background: int | None, *, by_code: bool
) -> Floats:
    """The class with the largest share of each pixel, the background's being the rest.

    Args:
        shares: Those of the classes, (class, y, x), 0..1.
        order: Their codes; of equal shares the first wins.
        background: Code of the rest; None for nodata, which only wins with more than others.
        by_code: Whether the background stands among the others by its code, or after them.

    Returns:
        float64 (y, x), NaN for nodata.
    """
    rest = np.maximum(1.0 - np.add.reduce(shares, axis=0), 0.0)
    if background in order:
        own = order.index(background)
        claims = shares.copy()
        claims[own] = np.minimum(claims[own] + rest, 1.0)
        return np.array(order, "float64")[np.round(claims, _DECIMALS).argmax(axis=0)]
    place = len(order)
    if by_code and background is not None:
        place = sum(code < background for code in order)
    codes = np.insert(
        np.array(order, "float64"), place, np.nan if background is None else background
    )
    return codes[np.round(np.insert(shares, place, rest, axis=0), _DECIMALS).argmax(axis=0)]


def first_claim(
    claims: npt.NDArray[np.bool_], order: tuple[int, ...], background: int | None
) -> Floats:
    """The first class that claims each pixel.

    Args:
        claims: (class, y, x).
        order: Codes of the classes.
        background: Code of pixels that nobody claims; None for nodata.

    Returns:
        float64 (y, x), NaN for nodata.
    """
    codes = np.array([*order, np.nan if background is None else background], "float64")
    return codes[np.where(claims.any(axis=0), claims.argmax(axis=0), len(order))]


def _conflicts(claims: npt.NDArray[np.bool_], grid: GeoBox, rows: Span, cols: Span) -> int:
    """Pixels of the grid that several classes claim; what lies outside it harms nobody."""
    inner = (
        slice(max(-start, 0), max(int(size) - start, 0))
        for (start, _), size in zip((rows, cols), grid.shape, strict=True)
    )
    return int((claims[:, *inner].sum(axis=0) > 1).sum())


def class_code(code: object) -> int:
    """A class code as a plain whole number.

    Raises:
        SpecError: It is something else; nodata is no class.
    """
    if isinstance(code, bool | np.bool_) or not isinstance(code, Integral):
        raise SpecError(
            f"A class code is a whole number, and nodata (NaN) is never a class. Received {code!r}."
        )
    return int(code)


def _by_value(classes: Any, column: str | None, *, what: str) -> dict[Any, Any]:
    """What each value of the column stands for; the one thing, where there is no column."""
    listed = isinstance(classes, Mapping)
    if listed != (column is not None) or (listed and not classes):
        raise SpecError(
            f"Give {what} for all polygons, or a column= and a mapping from its values to {what}. "
            f"Received classes={classes!r} and column={column!r}."
        )
    return dict(classes) if listed else {None: classes}


def _ordered(codes: set[int], priority: tuple[int, ...]) -> tuple[int, ...]:
    if priority and sorted(priority) != sorted(codes):
        raise SpecError(
            f"priority must name every class of the polygons once: "
            f"{', '.join(map(str, sorted(codes)))}. Received {', '.join(map(str, priority))}."
        )
    return priority or tuple(sorted(codes))
