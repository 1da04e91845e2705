"""What an asset of a STAC item says of its bands: their order, and what stored values mean.

By the old names of the raster and eo extensions, and by the new ones of STAC 1.1
(https://github.com/radiantearth/stac-spec/blob/master/commons/common-metadata.md).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cube.errors import SourceError

Dictionary = Mapping[str, Any]

_INTEGER = re.compile(r"u?int(8|16|32|64)")
_NAMES = ("name", "eo:common_name", "common_name")


@dataclass(frozen=True, slots=True, kw_only=True)
class Statements:
    """What an asset says of its bands.

    Attributes:
        where: Item and asset, for messages.
        bands: ``bands``, or ``eo:bands`` of older items.
        raster: ``raster:bands`` of older items.
        asset: The asset itself, for what holds for all its bands.
        properties: Of the item, for what holds for all its assets.
    """

    where: str
    bands: list[Dictionary]
    raster: list[Dictionary]
    asset: Dictionary
    properties: Dictionary

    def index(self, place: int | str | None) -> int:
        """Number, from 1, of a band."""
        count = max(len(self.bands), len(self.raster))
        names = [
            {name for key in _NAMES if isinstance(name := band.get(key), str)}
            for band in self.bands
        ]
        if isinstance(place, int):
            if not 1 <= place <= max(count, place if count == 0 else 1):
                raise SourceError(f"{self.where}: band {place} was expected. It lists {count}.")
            return place
        listed = ", ".join(str(band.get("name"))[:40] for band in self.bands[:20]) or str(count)
        if place is None and count > 1:
            raise SourceError(
                f"{self.where}: it has several bands ({listed}); say which in the profile, "
                f"as (asset, band)."
            )
        matches = [i for i, said in enumerate(names, start=1) if place in said]
        if place is not None and len(matches) != 1:
            raise SourceError(f"{self.where}: one band {place!r} was expected. It has: {listed}.")
        return matches[0] if place is not None else 1

    def value(self, field: str, index: int) -> float | None:
        """``scale`` or ``offset`` of a band: its own, or the asset's, or the item's."""
        own = [(band, f"raster:{field}") for band in self.bands[index - 1 : index]]
        own += [(band, field) for band in self.raster[index - 1 : index]]
        for places in (
            own,
            [(self.asset, f"raster:{field}")],
            [(self.properties, f"raster:{field}")],
        ):
            if (value := self._one(field, places)) is not None:
                return value
        return None

    def nodata(self, index: int) -> float | None:
        """Nodata of the file: all that its bands and itself say, or what the item says."""
        places = [(said, "nodata") for said in (*self.bands, *self.raster, self.asset)]
        value = self._one("nodata", places)
        if value is None:
            value = self._one("nodata", [(self.properties, "nodata")])
        if value is not None:
            self._check_storable(value, index)
        return value

    def _one(self, field: str, places: Sequence[tuple[Dictionary, str]]) -> float | None:
        what = f"{self.where}: {field}"
        stated = [number(said.get(key), what) for said, key in places]
        values = {repr(value): value for value in stated if value is not None}
        if len(values) > 1:
            raise SourceError(f"{what} is stated as {' and as '.join(values)}.")
        return next(iter(values.values()), None)

    def _check_storable(self, nodata: float, index: int) -> None:
        own = (*self.bands[index - 1 : index], *self.raster[index - 1 : index], self.asset)
        for kind in (said.get("data_type") for said in own):
            if isinstance(kind, str) and _INTEGER.fullmatch(kind):
                info = np.iinfo(kind)
                if not (nodata.is_integer() and info.min <= nodata <= info.max):
                    raise SourceError(
                        f"{self.where}: data_type is {kind}, which cannot hold nodata={nodata:g}."
                    )


def statements_of(asset: Dictionary, properties: Dictionary, *, where: str) -> Statements:
    """What an asset says.

    Args:
        asset: As JSON gives it.
        properties: Of its item.
        where: Item and asset, for messages.

    Raises:
        SourceError: Its bands are no list of mappings.
    """
    listed = asset.get("bands") if asset.get("bands") is not None else asset.get("eo:bands")
    return Statements(
        where=where,
        bands=_dictionaries(listed, f"{where}: bands"),
        raster=_dictionaries(asset.get("raster:bands"), f"{where}: raster:bands"),
        asset=asset,
        properties=properties,
    )


def _dictionaries(value: object, what: str) -> list[Dictionary]:
    if value is None:
        return []
    if not isinstance(value, list) or not all(isinstance(entry, Mapping) for entry in value):
        raise SourceError(f"{what} must be a list of mappings. Received {type(value).__name__}.")
    return value


def number(value: object, what: str) -> float | None:
    """A number, or one of the words for what JSON cannot write."""
    if value is None:
        return None
    if isinstance(value, str) and value.lower() in ("nan", "inf", "-inf"):
        return float(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise SourceError(f"{what} must be a number. Received {type(value).__name__}.")
    try:
        return float(value)
    except OverflowError as error:
        raise SourceError(f"{what} is out of range.") from error
