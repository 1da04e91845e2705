"""What a collection of a catalogue holds, where its items do not say so themselves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from cube.errors import SpecError
from cube.quality import LANDSAT_C2, SENTINEL2_SCL, Quality
from cube.scenes import RESAMPLING

REST = "*"
"""In a mapping by band: all bands that it does not name."""

Place = tuple[str, int | str | None]
"""An asset, and the band in it: by number from 1, by name, or None for the only one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """A collection: which assets are which bands, and what holds where an item is silent.

    ``resampling``, ``nodata``, ``scale``, ``offset``, ``valid_range`` and ``units`` are one value
    for all bands, or a mapping from band to value, ``"*"`` standing for the rest.

    Attributes:
        name: For messages.
        bands: Band name to asset key, or to (asset key, band): its number from 1, or its
            name or common name as the item lists them.
        optional: Bands that an item may lack; its scene lacks them too.
        resampling: One of :data:`cube.scenes.RESAMPLING`; nearest for classes and flags.
        nodata: Stored value of "not observed"; ``"none"`` if every pixel is an observation;
            None refuses items that do not say.
        scale: ``physical = stored * scale + offset``.
        offset: See ``scale``.
        valid_range: Stored values outside (lowest, highest) are not observed.
        units: UDUNITS string of the physical values.
        quality: How bad pixels are told, from :mod:`cube.quality`; None where nobody says.
        radiometry: Name of the rule by which stored values have to be corrected.
        offset_since: Property of an item, and its first number such as ``"04.00"`` for which
            ``offset`` holds; before it was 0.
        alternate: Which of the alternate places of an asset to open instead of its own, such as
            ``"s3"`` (https://github.com/stac-extensions/alternate-assets); empty for its own.
        offset_applied: Property of an item that is true where the offset was taken out of the
            stored values, so that it is 0, whatever else the item says of it.
    """

    name: str
    bands: Mapping[str, str | tuple[str, int | str]]
    optional: tuple[str, ...] = ()
    resampling: str | Mapping[str, str] = "nearest"
    nodata: float | str | Mapping[str, float | str | None] | None = None
    scale: float | Mapping[str, float] = 1.0
    offset: float | Mapping[str, float] = 0.0
    valid_range: tuple[float, float] | Mapping[str, tuple[float, float] | None] | None = None
    units: str | Mapping[str, str] = ""
    quality: Quality | None = None
    radiometry: str = ""
    offset_since: tuple[str, str] | None = None
    offset_applied: str = ""
    alternate: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "bands", dict(self.bands))
        if not self.bands:
            raise SpecError(f"Profile {self.name!r}: bands must map names to assets.")
        object.__setattr__(self, "optional", tuple(self.optional))
        for band in self.bands:
            self._check_place(band)
            self._check_values(band)
        for name in _BY_BAND:
            setting = getattr(self, name)
            named = set(setting) - {REST} if isinstance(setting, Mapping) else set()
            self._check_known(name, named)
        self._check_known("optional", set(self.optional))

    def _check_place(self, band: str) -> None:
        asset, place = self.place(band)
        if not asset or place == "" or (isinstance(place, int) and place < 1):
            raise SpecError(
                f"Profile {self.name!r}, band {band!r}: an asset key, or (asset key, band) was "
                f"expected. Received {self.bands[band]!r}."
            )

    def _check_values(self, band: str) -> None:
        resampling, nodata = self.of("resampling", band), self.of("nodata", band)
        if resampling not in RESAMPLING:
            raise SpecError(
                f"Profile {self.name!r}, band {band!r}: resampling must be one of "
                f"{', '.join(RESAMPLING)}. Received {resampling!r}."
            )
        if isinstance(nodata, str) and nodata != "none":
            raise SpecError(
                f"Profile {self.name!r}, band {band!r}: nodata must be a number, 'none' or None. "
                f"Received {nodata!r}."
            )

    def _check_known(self, name: str, bands: set[str]) -> None:
        unknown = sorted(bands - set(self.bands))
        if unknown:
            raise SpecError(
                f"Profile {self.name!r}: {name} names {', '.join(map(repr, unknown))}, which are "
                f"no bands of it. It has: {', '.join(self.bands)}."
            )

    def of(self, name: str, band: str) -> Any:
        """What holds for a band: a field's own value, or what its mapping says."""
        setting = getattr(self, name)
        if not isinstance(setting, Mapping):
            return setting
        return setting.get(band, setting.get(REST, _BY_BAND[name]))

    def place(self, band: str) -> Place:
        """Asset of a band, and where in it."""
        place = self.bands[band]
        if isinstance(place, str):
            return place, None
        return place

    def select(self, bands: Sequence[str]) -> Profile:
        """The same with these bands alone, in this order; none of them optional.

        Raises:
            SpecError: It lacks one of them.
        """
        self._check_known("select", set(bands))
        kept: dict[str, Any] = {
            name: {band: self.of(name, band) for band in bands}
            for name in _BY_BAND
            if isinstance(getattr(self, name), Mapping)
        }
        chosen = {band: self.bands[band] for band in bands}
        return replace(self, bands=chosen, optional=(), **kept)


_BY_BAND: dict[str, Any] = {
    "resampling": "nearest",
    "nodata": None,
    "scale": 1.0,
    "offset": 0.0,
    "valid_range": None,
    "units": "",
}
"""Fields that may be said by band, and what holds where a mapping says nothing."""

LANDSAT_C2_L2 = Profile(
    name="landsat-c2-l2",
    bands={
        "coastal": "coastal",
        "blue": "blue",
        "green": "green",
        "red": "red",
        "nir": "nir08",
        "swir1": "swir16",
        "swir2": "swir22",
        "thermal": "lwir11",
        "qa_pixel": "qa_pixel",
    },
    optional=("coastal", "thermal"),
    resampling={REST: "bilinear", "qa_pixel": "nearest"},
    nodata={REST: 0, "qa_pixel": 1},
    scale={REST: 0.0000275, "thermal": 0.00341802, "qa_pixel": 1.0},
    offset={REST: -0.2, "thermal": 149.0, "qa_pixel": 0.0},
    valid_range={REST: (7273, 43636), "thermal": None, "qa_pixel": None},
    units={REST: "1", "thermal": "K", "qa_pixel": ""},
    quality=LANDSAT_C2,
)
"""Landsat 4 to 9, Collection 2, Level 2: surface reflectance, as the USGS and Planetary Computer
list it. Scale, offset and valid range: https://www.usgs.gov/landsat-missions (Collection 2 Level-2
science products). Landsat 4 to 7 lack the coastal band, and call the thermal one otherwise. Files
at the USGS need a login, their copies at Amazon an account that pays for requests
(``AWS_REQUEST_PAYER=requester``); for these, ``dataclasses.replace(LANDSAT_C2_L2,
alternate="s3")``."""

_SENTINEL2 = {
    "blue": ("blue", "B02"),
    "green": ("green", "B03"),
    "red": ("red", "B04"),
    "rededge1": ("rededge1", "B05"),
    "rededge2": ("rededge2", "B06"),
    "rededge3": ("rededge3", "B07"),
    "nir": ("nir", "B08"),
    "nir08": ("nir08", "B8A"),
    "swir1": ("swir16", "B11"),
    "swir2": ("swir22", "B12"),
    "scl": ("scl", "SCL"),
}
"""Band to the asset's key at Earth Search and on Planetary Computer."""


def _sentinel2(name: str, column: int, *, offset_applied: str = "") -> Profile:
    return Profile(
        name=name,
        bands={band: keys[column] for band, keys in _SENTINEL2.items()},
        resampling={REST: "bilinear", "scl": "nearest"},
        nodata=0,
        scale={REST: 0.0001, "scl": 1.0},
        units={REST: "1", "scl": ""},
        offset={REST: -0.1, "scl": 0.0},
        quality=SENTINEL2_SCL,
        radiometry="sentinel2-l2a",
        offset_since=("s2:processing_baseline", "04.00"),
        offset_applied=offset_applied,
    )


SENTINEL2_L2A_EARTH_SEARCH = _sentinel2(
    "sentinel-2-l2a at Earth Search", 0, offset_applied="earthsearch:boa_offset_applied"
)
"""Sentinel-2 Level 2A of https://earth-search.aws.element84.com/v1. Where the catalogue took the
offset out of the files, its items say so, but state the offset all the same."""

SENTINEL2_L2A_PLANETARY = _sentinel2("sentinel-2-l2a on Planetary Computer", 1)
"""Sentinel-2 Level 2A of https://planetarycomputer.microsoft.com/api/stac/v1. Since processing
baseline 04.00 stored values are 1000 higher (https://sentiwiki.copernicus.eu/web/s2-processing)."""
