"""What a cube is, as data: grid, calendar, stacks, layers and layout.

Every spec is frozen, keyword-only, checked when it is made, and survives a
round trip through JSON. The grid is odc-geo's ``GeoBox``; there is no other
grid class.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import numbers
import operator
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from datetime import date
from typing import Any, Self

import numpy as np
from affine import Affine
from odc.geo.geobox import GeoBox
from pyproj.exceptions import CRSError

from cube.errors import SpecError
from cube.layout import LayoutSpec

FORMAT_VERSION = 1
"""Version of what a cube looks like on disk; readers refuse newer ones."""

_NAME = re.compile(r"[a-z][a-z0-9_]*")
_COORDINATES = {"time", "time_bnds", "bounds", "x", "y", "spatial_ref"}
_RESERVED = _COORDINATES | {"ledger", "replaced", "locks", "grids", "blocks", "coverage"}


def _check_name(name: str, *, what: str) -> None:
    if not _NAME.fullmatch(name) or name in _RESERVED:
        raise SpecError(
            f"A {what} needs a lower_snake_case name that the cube does not use itself. "
            f"Received {name!r}."
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Period:
    """A span of time that one slice of the cube stands for, half-open.

    Attributes:
        label: What people call it, e.g. ``"2010"``; unique within a calendar.
        start: First day, ISO ``YYYY-MM-DD``; the value of the ``time`` coordinate.
        end: First day after it.
    """

    label: str
    start: str
    end: str

    def __post_init__(self) -> None:
        try:
            start, end = date.fromisoformat(self.start), date.fromisoformat(self.end)
            # Python 3.11 also takes 20100101, which NumPy would take for a year.
            if (start.isoformat(), end.isoformat()) != (self.start, self.end):
                raise ValueError("not YYYY-MM-DD")
        except (TypeError, ValueError) as error:
            raise SpecError(
                f"Period {self.label!r}: dates must be YYYY-MM-DD. "
                f"Received start={self.start!r}, end={self.end!r}."
            ) from error
        if not start < end:
            raise SpecError(
                f"Period {self.label!r}: the end must lie after the start. "
                f"Received start={self.start}, end={self.end}."
            )


def years(*which: int) -> tuple[Period, ...]:
    """Calendar of whole years, e.g. ``years(2000, 2010)``."""
    return tuple(
        Period(label=f"{year:04d}", start=f"{year:04d}-01-01", end=f"{year + 1:04d}-01-01")
        for year in which
    )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class VariableSpec:
    """One array of the cube: its packing and its meaning.

    Attributes:
        name: Variable name, lower_snake_case.
        dtype: Storage dtype, e.g. ``"int16"``; integers or floats.
        nodata: Stored value that means "no observation"; NaN for floats.
        scale: ``physical = stored * scale + offset``.
        offset: See ``scale``.
        static: True for an array without a time dimension.
        units: UDUNITS string of the physical value, e.g. ``"m"``; ``"1"`` for numbers.
        long_name: What the values are, for a person.
    """

    name: str
    dtype: str
    nodata: float = math.nan
    scale: float = 1.0
    offset: float = 0.0
    static: bool = False
    units: str = "1"
    long_name: str = ""

    def __post_init__(self) -> None:
        _check_name(self.name, what=type(self).__name__.removesuffix("Spec").lower())
        for name in ("nodata", "scale", "offset"):
            value = getattr(self, name)
            if not isinstance(value, numbers.Real):
                raise SpecError(f"{self.name!r}: {name} is a number. Received {value!r}.")
        self._check_dtype()
        for name in ("scale", "offset"):
            # One spelling of a number (1.0, never 1), or equal specs would have two digests.
            object.__setattr__(self, name, float(getattr(self, name)) + 0.0)
        if not (math.isfinite(self.scale) and math.isfinite(self.offset) and self.scale != 0):
            raise SpecError(
                f"{self.name!r}: scale and offset must be finite and scale not 0. "
                f"Received scale={self.scale}, offset={self.offset}."
            )
        if self.storage.kind == "f" and (self.scale, self.offset) != (1.0, 0.0):
            raise SpecError(f"{self.name!r}: floats are stored as they are; leave out the scale.")

    def __eq__(self, other: object) -> bool:
        # By content: NaN, the nodata of floats, does not equal itself.
        return isinstance(other, VariableSpec) and self.to_dict() == other.to_dict()

    def __hash__(self) -> int:
        return hash(self.digest)

    def _check_dtype(self) -> None:
        try:
            kind = np.dtype(self.dtype).kind
        except TypeError as error:
            raise SpecError(f"{self.name!r}: no such dtype: {self.dtype!r}.") from error
        storable = kind in "iu" or self.dtype in ("float32", "float64")
        if not storable or np.dtype(self.dtype).name != self.dtype:
            raise SpecError(
                f"{self.name!r}: dtype must be an integer, float32 or float64, by its plain name "
                f"such as 'int16'. Received {self.dtype!r}."
            )
        if kind == "f":
            if not math.isnan(self.nodata):
                raise SpecError(f"{self.name!r}: nodata of floats is NaN. Received {self.nodata}.")
            return
        info = np.iinfo(self.dtype)
        if math.isnan(self.nodata):
            raise SpecError(
                f"{self.name!r}: integers need a nodata value of their own; give nodata=, one of "
                f"{info.min}..{info.max} that no observation has."
            )
        if not (float(self.nodata).is_integer() and info.min <= self.nodata <= info.max):
            raise SpecError(
                f"{self.name!r}: nodata must be storable as {self.dtype} "
                f"({info.min}..{info.max}). Received nodata={self.nodata}."
            )

    @property
    def storage(self) -> np.dtype[Any]:
        """Dtype on disk."""
        return np.dtype(self.dtype)

    @property
    def fill(self) -> int | float:
        """Stored nodata as a plain Python number of the storage kind."""
        return float("nan") if self.storage.kind == "f" else int(self.nodata)

    @property
    def packed(self) -> bool:
        """True if stored and physical values differ by scale or offset."""
        return (self.scale, self.offset) != (1.0, 0.0)

    @property
    def dims(self) -> tuple[str, ...]:
        """Dimension names in stored order."""
        lead = () if self.static else ("time",)
        return (*lead, *self.inner_dims, "y", "x")

    @property
    def inner_dims(self) -> tuple[str, ...]:
        """Dimensions between time and y: the band dimension of a stack."""
        return ()

    @property
    def inner_shape(self) -> tuple[int, ...]:
        """Sizes of :attr:`inner_dims`."""
        return ()

    def to_dict(self) -> dict[str, Any]:
        """JSON-able form; the inverse of :func:`variable_from_dict`."""
        data = asdict(self)
        data["nodata"] = "NaN" if math.isnan(self.nodata) else self.fill
        data["kind"] = type(self).__name__.removesuffix("Spec").lower()
        return data

    @property
    def digest(self) -> str:
        """First 12 hex digits of the SHA-256 of the sorted JSON."""
        return digest(self.to_dict())


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class StackSpec(VariableSpec):
    """Bands stored together: one dtype, one nodata, one packing.

    Attributes:
        bands: Band names in stored order; selection is by name, never by place.
    """

    bands: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        VariableSpec.__post_init__(self)
        if isinstance(self.bands, str):
            raise SpecError(f"Stack {self.name!r}: bands are a list. Received {self.bands!r}.")
        object.__setattr__(self, "bands", tuple(self.bands))
        if not self.bands or len(set(self.bands)) != len(self.bands):
            raise SpecError(
                f"Stack {self.name!r}: bands must be named, once each. Received {self.bands}."
            )
        for band in self.bands:
            _check_name(band, what=f"band of stack {self.name!r}")

    @property
    def band_dim(self) -> str:
        """``"band"`` for the stack called predictors, else ``"<name>_band"``."""
        return "band" if self.name == "predictors" else f"{self.name}_band"

    @property
    def inner_dims(self) -> tuple[str, ...]:
        """The band dimension."""
        return (self.band_dim,)

    @property
    def inner_shape(self) -> tuple[int, ...]:
        """Number of bands."""
        return (len(self.bands),)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LayerSpec(VariableSpec):
    """A label or a prediction: one value per pixel (and time).

    Attributes:
        classes: For class layers, pairs of stored value and meaning, or a mapping from one to the
            other; nodata is none of them.
    """

    classes: tuple[tuple[int, str], ...] = ()

    def __post_init__(self) -> None:
        VariableSpec.__post_init__(self)
        object.__setattr__(self, "classes", _class_pairs(self.name, self.classes))
        if self.classes and (self.storage.kind not in "iu" or self.packed):
            raise SpecError(f"Layer {self.name!r}: classes need an integer dtype and no scale.")
        values = [value for value, _ in self.classes]
        storable = np.iinfo(self.storage) if self.classes else np.iinfo("int64")
        if len(set(values)) < len(values) or any(
            not storable.min <= value <= storable.max for value in values
        ):
            raise SpecError(
                f"Layer {self.name!r}: values of classes must be storable as {self.dtype} and "
                f"appear once each. Received {values}."
            )
        if any(value == self.nodata for value, _ in self.classes):
            raise SpecError(
                f"Layer {self.name!r}: nodata is never a class. Received nodata={self.fill} "
                f"among the classes; choose another nodata."
            )


def _class_pairs(name: str, classes: object) -> tuple[tuple[int, str], ...]:
    given: Any = classes.items() if isinstance(classes, Mapping) else classes
    try:
        return tuple((operator.index(value), str(meaning)) for value, meaning in given)
    except (TypeError, ValueError) as error:
        raise SpecError(
            f"Layer {name!r}: classes are pairs of a whole number and its meaning, such as "
            f"((0, 'rock'), (1, 'ice')). Received {classes!r}."
        ) from error


_KINDS: dict[str, type[VariableSpec]] = {"stack": StackSpec, "layer": LayerSpec}


def variable_from_dict(data: Mapping[str, Any]) -> StackSpec | LayerSpec:
    """Rebuild a stack or a layer from :meth:`VariableSpec.to_dict`."""
    kind = _KINDS.get(str(data.get("kind")))
    if kind is None:
        raise SpecError(f"A variable is a stack or a layer. Received kind={data.get('kind')!r}.")
    values = {key: value for key, value in data.items() if key != "kind"}
    if values.get("nodata") == "NaN":
        values["nodata"] = math.nan
    for listed in {"bands", "classes"} & values.keys():
        values[listed] = tuple(tuple(v) if isinstance(v, list) else v for v in values[listed])
    try:
        return kind(**values)  # type: ignore[return-value]
    except TypeError as error:
        raise SpecError(f"A {data['kind']} cannot be made of these fields: {error}.") from error


@dataclass(frozen=True, slots=True, kw_only=True)
class CubeSpec:
    """A whole cube as data.

    Attributes:
        grid: North-up grid with square-to-the-axes pixels; every array lies on it.
        calendar: Periods in order of time, without overlap.
        stacks: Bands stored together; kept sorted by name.
        layers: Labels and predictions known from the start; more can be added later.
            Kept sorted by name.
        layout: Chunks, shards, regions and codec.
        title: One line for people.
    """

    grid: GeoBox
    calendar: tuple[Period, ...]
    stacks: tuple[StackSpec, ...] = ()
    layers: tuple[LayerSpec, ...] = ()
    layout: LayoutSpec = field(default_factory=LayoutSpec)
    title: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "calendar", tuple(self.calendar))
        for listed in ("stacks", "layers"):
            # Variables are a set: their order means nothing, so that digests agree.
            ordered = sorted(getattr(self, listed), key=lambda variable: variable.name)
            object.__setattr__(self, listed, tuple(ordered))
        check_grid(self.grid)
        _check_calendar(self.calendar)
        names = [name for v in self.variables for name in (v.name, *v.inner_dims)]
        twice = {name for name in names if names.count(name) > 1}
        if twice:
            raise SpecError(f"Names must be unique within a cube. Received twice: {sorted(twice)}.")

    @property
    def variables(self) -> tuple[StackSpec | LayerSpec, ...]:
        """All stacks, then all layers."""
        return (*self.stacks, *self.layers)

    def variable(self, name: str) -> StackSpec | LayerSpec:
        """The stack or layer of that name.

        Raises:
            SpecError: There is none; the message lists those there are.
        """
        for variable in self.variables:
            if variable.name == name:
                return variable
        raise SpecError(
            f"The cube has no variable {name!r}. It has: "
            f"{', '.join(v.name for v in self.variables) or 'none'}."
        )

    def stack(self, name: str) -> StackSpec:
        """The stack of that name; see :meth:`variable`."""
        found = self.variable(name)
        if not isinstance(found, StackSpec):
            raise SpecError(f"{name!r} is a layer; a stack of bands was expected.")
        return found

    def layer(self, name: str) -> LayerSpec:
        """The layer of that name; see :meth:`variable`."""
        found = self.variable(name)
        if not isinstance(found, LayerSpec):
            raise SpecError(f"{name!r} is a stack of bands; a layer was expected.")
        return found

    def shape(self, name: str) -> tuple[int, ...]:
        """Sizes of a variable along its dims."""
        variable = self.variable(name)
        lead = () if variable.static else (len(self.calendar),)
        return (*lead, *variable.inner_shape, *self.grid.shape)

    def time_index(self, label: str) -> int:
        """Place of a period in the calendar.

        Raises:
            SpecError: The calendar has no such label.
        """
        labels = [period.label for period in self.calendar]
        if str(label) not in labels:
            raise SpecError(f"The calendar has no {label!r}. It has: {', '.join(labels)}.")
        return labels.index(str(label))

    def time_of(self, name: str, label: str | None) -> int | None:
        """Place in the calendar at which a variable is meant; None for a static one.

        Raises:
            SpecError: The variable or period is unknown, or a period was given
                where there is no time, or none where there is.
        """
        if self.variable(name).static:
            if label is not None:
                raise SpecError(f"{name!r} has no time dimension; leave out time={label!r}.")
            return None
        if label is None:
            labels = ", ".join(period.label for period in self.calendar)
            raise SpecError(f"{name!r} varies with time; give time=, one of {labels}.")
        return self.time_index(label)

    def with_variables(self, *more: StackSpec | LayerSpec) -> Self:
        """The same cube with further stacks and layers."""
        return replace(
            self,
            stacks=(*self.stacks, *(v for v in more if isinstance(v, StackSpec))),
            layers=(*self.layers, *(v for v in more if isinstance(v, LayerSpec))),
        )

    def to_dict(self) -> dict[str, Any]:
        """JSON-able form; the inverse of :meth:`from_dict`."""
        return {
            "format_version": FORMAT_VERSION,
            "grid": grid_to_dict(self.grid),
            "calendar": [asdict(period) for period in self.calendar],
            "stacks": [stack.to_dict() for stack in self.stacks],
            "layers": [layer.to_dict() for layer in self.layers],
            "layout": asdict(self.layout),
            "title": self.title,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Rebuild a cube spec from :meth:`to_dict`.

        Raises:
            SpecError: A field is missing, unknown or impossible, or the format is newer.
        """
        if not isinstance(data, Mapping):
            raise SpecError(f"A cube spec is a mapping of fields. Received {type(data).__name__}.")
        if int(data.get("format_version", 0)) > FORMAT_VERSION:
            raise SpecError(
                f"The cube has format {data['format_version']}; this version reads up to "
                f"{FORMAT_VERSION}. Install a newer quadrat."
            )
        known = {known.name for known in fields(cls)}
        unknown = set(data) - known - {"format_version"}
        if unknown or not {"grid", "calendar"} <= set(data):
            raise SpecError(
                f"A cube spec has the fields {', '.join(sorted(known))}; grid and calendar are "
                f"needed. Received {', '.join(sorted(data))}."
            )
        try:
            return cls(
                grid=grid_from_dict(data["grid"]),
                calendar=tuple(Period(**period) for period in data["calendar"]),
                stacks=tuple(variable_from_dict(s) for s in data.get("stacks", ())),  # type: ignore[misc]
                layers=tuple(variable_from_dict(v) for v in data.get("layers", ())),  # type: ignore[misc]
                layout=LayoutSpec(**data.get("layout", {})),
                title=str(data.get("title", "")),
            )
        except SpecError:
            raise
        except (TypeError, KeyError, ValueError, AttributeError, CRSError) as error:
            raise SpecError(f"The cube spec cannot be read: {error}.") from error

    @property
    def digest(self) -> str:
        """First 12 hex digits of the SHA-256 of the sorted JSON."""
        return digest(self.to_dict())


def check_grid(grid: GeoBox) -> None:
    """Refuse grids that coverage and windows cannot use.

    Raises:
        SpecError: The grid has no CRS, is rotated, south-up or empty.
    """
    if grid.crs is None:
        raise SpecError("The grid has no CRS; give one, e.g. crs='EPSG:31985'.")
    t = grid.transform
    if t.b or t.d or t.a <= 0 or t.e >= 0 or not all(map(math.isfinite, t[:6])):
        raise SpecError(
            f"The grid must be north-up and not rotated (transform a > 0, b = d = 0, e < 0). "
            f"Received {tuple(t)[:6]}; warp onto such a grid first."
        )
    if min(grid.shape) < 1:
        raise SpecError(f"The grid must hold pixels. Received shape {tuple(grid.shape)}.")


def _check_calendar(calendar: tuple[Period, ...]) -> None:
    if not calendar:
        raise SpecError("A cube needs at least one period in its calendar.")
    for earlier, later in itertools.pairwise(calendar):
        if later.start < earlier.end:
            raise SpecError(
                f"Periods must follow one another without overlap. "
                f"Received {earlier.label!r} until {earlier.end}, then {later.label!r} "
                f"from {later.start}."
            )
    labels = [period.label for period in calendar]
    if len(set(labels)) != len(labels):
        raise SpecError(f"Labels of periods must be unique. Received {labels}.")


def crs_text(grid: GeoBox) -> str:
    """``"EPSG:<code>"`` where there is a code, else WKT."""
    crs = grid.crs
    if crs is None:
        raise SpecError("The grid has no CRS; give one, e.g. crs='EPSG:31985'.")
    return f"EPSG:{crs.epsg}" if crs.epsg else crs.to_wkt()


def grid_to_dict(grid: GeoBox) -> dict[str, Any]:
    """JSON-able form of a grid: CRS, affine transform (a, b, c, d, e, f), shape (y, x)."""
    return {
        "crs": crs_text(grid),
        # Adding 0.0 turns -0.0, which is equal, into 0.0, or equal grids would have two digests.
        "transform": [float(value) + 0.0 for value in tuple(grid.transform)[:6]],
        "shape": [int(n) for n in grid.shape],
    }


def grid_from_dict(data: Mapping[str, Any]) -> GeoBox:
    """Rebuild a grid from :func:`grid_to_dict`."""
    height, width = data["shape"]
    return GeoBox((int(height), int(width)), Affine(*data["transform"]), data["crs"])


def digest(data: object) -> str:
    """First 12 hex digits of the SHA-256 of sorted JSON."""
    return hashlib.sha256(to_json(data).encode()).hexdigest()[:12]


def digest_each(parts: Iterable[object]) -> str:
    """:func:`digest` of a list, which is never held as a whole."""
    sha = hashlib.sha256(b"[")
    for i, part in enumerate(parts):
        sha.update(f"{',' if i else ''}{to_json(part)}".encode())
    sha.update(b"]")
    return sha.hexdigest()[:12]


def to_json(data: object) -> str:
    """One spelling of JSON. Attributes hold text, since netCDF knows no nested ones."""
    return json.dumps(data, sort_keys=True, separators=(",", ":"), allow_nan=False)


def differences(stored: CubeSpec, wanted: CubeSpec) -> list[str]:
    """Fields in which two specs differ, each as ``"field: stored ... wanted ..."``."""
    old, new = stored.to_dict(), wanted.to_dict()
    return [
        f"{key}: the cube has {_short(old[key])}, the spec says {_short(new[key])}"
        for key in old
        if old[key] != new[key]
    ]


def _short(value: object) -> str:
    text = json.dumps(value, sort_keys=True)
    return text if len(text) <= 160 else f"{text[:157]}..."
