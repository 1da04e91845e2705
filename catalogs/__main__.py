"""Commands on data.

python -m catalogs ingest URL STACK FILE --bands blue,green,red --time 2000
python -m catalogs scan FOLDER PATTERN --out scenes.json         scenes of files
python -m catalogs netcdf FILE --out scenes.json                 scenes of a NetCDF file
python -m catalogs items PATH --profile NAME --out scenes.json   scenes of a static catalogue
python -m catalogs search API --collection NAME --profile NAME --cube URL --datetime A/B --out ...
python -m catalogs exclude scenes.json ID REASON                 a scene is out, for good
python -m catalogs duplicates scenes.json                        scenes with the same pixels
python -m catalogs fill URL STACK scenes.json --quality NAME     composites of scenes
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, TypeVar

import catalogs
import cube
from cube.command import run_command

Known = TypeVar("Known")

PROFILES = {
    "landsat-c2-l2": catalogs.LANDSAT_C2_L2,
    "sentinel2-l2a-earth-search": catalogs.SENTINEL2_L2A_EARTH_SEARCH,
    "sentinel2-l2a-planetary": catalogs.SENTINEL2_L2A_PLANETARY,
}
QUALITIES: dict[str, cube.QualityBits | cube.QualityClasses] = {
    "landsat-c1-sr": cube.LANDSAT_C1_SR,
    "landsat-c2": cube.LANDSAT_C2,
    "sentinel2-scl": cube.SENTINEL2_SCL,
    "sentinel2-scl-snow": cube.SENTINEL2_SCL_SNOW,
}

_LISTED = 20
"""Excluded scenes that are printed."""


def main(arguments: list[str] | None = None) -> int:
    """Parse, call one function of the library, print one line a fact; 2 on an error."""
    parser = argparse.ArgumentParser(prog="python -m catalogs", description="Commands on data.")
    commands = parser.add_subparsers(required=True)
    for add in (_add_ingest, _add_scenes, _add_search, _add_manifest, _add_fill):
        add(commands)
    return run_command(parser, arguments)


# ---------------------------------------------------------------------------------- what there is
def _add_ingest(commands: Any) -> None:
    ingest = commands.add_parser("ingest", help="fill a stack or layer of a cube from a GeoTIFF")
    ingest.add_argument("url")
    ingest.add_argument("variable", help="stack or layer to fill")
    ingest.add_argument("file")
    ingest.add_argument("--bands", required=True, help="names of the file's bands, with commas")
    ingest.add_argument("--time", help="label of the period; leave out for a static variable")
    ingest.add_argument("--nodata", help="a number, or 'none' if every pixel is an observation")
    ingest.add_argument("--crs", help="what the CRS really is, if the file does not say")
    ingest.add_argument("--resampling", default="nearest")
    ingest.add_argument("--plan", action="store_true", help="print the plan and stop")
    ingest.set_defaults(call=_ingest)


def _add_scenes(commands: Any) -> None:
    scan = commands.add_parser("scan", help="scenes of the files of a folder")
    scan.add_argument("folder")
    scan.add_argument("pattern", help="of names below it, e.g. '{date}_{band}.tif'")
    scan.set_defaults(call=_scan)
    netcdf = commands.add_parser("netcdf", help="scenes of a NetCDF file, one for each time")
    netcdf.add_argument("file")
    netcdf.set_defaults(call=_netcdf)
    for command in (scan, netcdf):
        command.add_argument("--bands", help="names with commas, or pairs: B4=red,B8=nir")
        command.add_argument("--quality", help="those of classes or flags, with commas")
        command.add_argument("--nodata", help="a number, or 'none' if every pixel is one")
        command.add_argument("--crs", help="what the CRS really is, if the files do not say")
        command.add_argument("--resampling", default="nearest")
        command.add_argument("--scale", type=float, help="physical = stored * scale + offset")
        command.add_argument("--offset", type=float)
    items = commands.add_parser("items", help="scenes of STAC items in files of this machine")
    items.add_argument("path", help="an item, an item collection, or a catalogue")
    items.add_argument("--profile", required=True, help=", ".join(PROFILES))
    items.set_defaults(call=_items)
    for command in (scan, netcdf, items):
        _add_out(command)


def _add_search(commands: Any) -> None:
    search = commands.add_parser("search", help="scenes that a STAC API finds")
    search.add_argument("api", help="URL of the API")
    search.add_argument("--collection", required=True, nargs="+", help="one or more")
    search.add_argument("--profile", required=True, help=", ".join(PROFILES))
    place = search.add_mutually_exclusive_group(required=True)
    place.add_argument("--cube", help="URL of the cube to cover")
    place.add_argument("--bbox", help="west,south,east,north in degrees; --bbox=-35.1,... if minus")
    search.add_argument("--datetime", required=True, help="a span, e.g. 2018-05-01/2018-08-30")
    search.add_argument("--max-cloud", type=float, help="percent of eo:cloud_cover at most")
    _add_out(search)
    search.set_defaults(call=_search)


def _add_out(command: argparse.ArgumentParser) -> None:
    command.add_argument("--title", default="", help="one line for people")
    command.add_argument("--out", type=Path, required=True, help="manifest to write: .json[.gz]")


def _add_manifest(commands: Any) -> None:
    exclude = commands.add_parser("exclude", help="take a scene out of a manifest, for good")
    exclude.add_argument("manifest", type=Path)
    exclude.add_argument("id")
    exclude.add_argument("reason")
    exclude.set_defaults(call=_exclude)
    duplicates = commands.add_parser("duplicates", help="scenes with the same pixels as others")
    duplicates.add_argument("manifest", type=Path)
    duplicates.add_argument("--out", type=Path, help="manifest to write, without them")
    duplicates.set_defaults(call=_duplicates)


def _add_fill(commands: Any) -> None:
    fill = commands.add_parser("fill", help="fill a stack or layer with composites of scenes")
    fill.add_argument("url")
    fill.add_argument("variable", help="stack or layer to fill")
    fill.add_argument("manifest", type=Path)
    fill.add_argument("--bands", help="of the scenes, with commas; those of the stack if left out")
    fill.add_argument("--method", default="median", help="median, mean, medoid, first, ...")
    fill.add_argument("--quality", help=f"what is clear: {', '.join(QUALITIES)}")
    fill.add_argument("--season", help="days of the year, e.g. 06-01..09-15")
    fill.add_argument("--times", help="labels of periods, with commas; all if left out")
    fill.add_argument("--plan", action="store_true", help="print the plan and stop")
    fill.add_argument("--workers", type=int, help="threads")
    fill.set_defaults(call=_fill)


# --------------------------------------------------------------------------------- what they call
def _ingest(args: argparse.Namespace) -> int:
    scene = catalogs.geotiff(
        args.file,
        bands=args.bands.split(","),
        nodata=_nodata(args.nodata),
        crs=args.crs,
        resampling=args.resampling,
    )
    sources = scene if args.time is None else {args.time: scene}
    print(cube.plan_ingest(args.url, args.variable, sources))
    if not args.plan:
        print(cube.ingest(args.url, args.variable, sources))
    return 0


def _scan(args: argparse.Namespace) -> int:
    return _kept(catalogs.scenes_from_files(args.folder, args.pattern, **_reading(args)), args)


def _netcdf(args: argparse.Namespace) -> int:
    return _kept(catalogs.scenes_from_netcdf(args.file, **_reading(args)), args)


def _items(args: argparse.Namespace) -> int:
    profile = _known(PROFILES, args.profile, option="--profile")
    access = catalogs.Access.of_folder(Path(args.path).resolve().parent)
    items = catalogs.read_items(args.path)
    return _kept(catalogs.scenes_of(items, profile, access), args)


def _search(args: argparse.Namespace) -> int:
    found = catalogs.search(
        args.api,
        collections=args.collection,
        profile=_known(PROFILES, args.profile, option="--profile"),
        datetime=args.datetime,
        grid=cube.read_spec(args.cube).grid if args.cube else None,
        bbox=_numbers(args.bbox, option="--bbox") if args.bbox else None,
        query=None if args.max_cloud is None else {"eo:cloud_cover": {"lte": args.max_cloud}},
    )
    return _kept(found, args)


def _exclude(args: argparse.Namespace) -> int:
    before = catalogs.Manifest.load(args.manifest)
    after = before.exclude({args.id: args.reason})
    after.save(args.manifest)
    print(f"digest before: {before.digest}")
    print(f"digest: {after.digest}")
    return 0


def _duplicates(args: argparse.Namespace) -> int:
    before = catalogs.Manifest.load(args.manifest)
    after = catalogs.without_duplicates(before)
    copies = {id_: why for id_, why in after.excluded.items() if id_ not in before.excluded}
    print(f"{len(copies)} of {len(before)} scenes are copies")
    for id_, why in copies.items():
        print(f"{id_}: {why}")
    if args.out:
        after.save(args.out)
        print(f"{args.out}: {len(after)} scenes, digest {after.digest}")
    return 0


def _fill(args: argparse.Namespace) -> int:
    spec = cube.read_spec(args.url)
    chosen = _listed(args.times) or [period.label for period in spec.calendar]
    sources = catalogs.Manifest.load(args.manifest).sources(
        [spec.calendar[spec.time_index(label)] for label in chosen],
        bands=_listed(args.bands) or _bands_of(spec.variable(args.variable)),
        method=args.method,
        quality=_known(QUALITIES, args.quality, option="--quality") if args.quality else None,
        season=_season(args.season) if args.season else None,
    )
    print(cube.plan_ingest(args.url, args.variable, sources, workers=args.workers))
    if not args.plan:
        print(cube.ingest(args.url, args.variable, sources, workers=args.workers))
    return 0


def _kept(manifest: catalogs.Manifest, args: argparse.Namespace) -> int:
    """Save a manifest, and print what it holds."""
    manifest = replace(manifest, title=args.title)
    manifest.save(args.out)
    print(f"{args.out}: {len(manifest)} scenes")
    times = [scene.time for scene in manifest.scenes if scene.time]
    print(f"span: {times[0]} to {times[-1]}" if times else "span: none, no scene says its time")
    print(f"excluded: {len(manifest.excluded)}")
    for id_, reason in list(manifest.excluded.items())[:_LISTED]:
        print(f"  {id_}: {reason}")
    if len(manifest.excluded) > _LISTED:
        print(f"  and {len(manifest.excluded) - _LISTED} more")
    print(f"digest: {manifest.digest}")
    return 0


# ----------------------------------------------------------------------------------- what is said
def _reading(args: argparse.Namespace) -> dict[str, Any]:
    """How files are read, of which what nobody said is left out."""
    said = {
        "bands": _bands(args.bands),
        "quality": _listed(args.quality),
        "nodata": _nodata(args.nodata),
        "crs": args.crs,
        "resampling": args.resampling,
        "scale": args.scale,
        "offset": args.offset,
    }
    return {name: value for name, value in said.items() if value not in (None, [])}


def _listed(text: str | None) -> list[str]:
    return text.split(",") if text else []


def _bands(text: str | None) -> list[str] | dict[str, str] | None:
    """Names, or pairs of what stands in the files and the name to give."""
    if not text or "=" not in text:
        return _listed(text) or None
    pairs = [part.split("=") for part in _listed(text)]
    names = {pair[0]: pair[-1] for pair in pairs}
    if any(len(pair) != 2 or not all(pair) for pair in pairs) or len(names) < len(pairs):
        raise cube.CubeError(
            f"--bands must be names, or pairs such as B4=red,B8=nir, once each. Received {text!r}."
        )
    return names


def _bands_of(variable: cube.StackSpec | cube.LayerSpec) -> Sequence[str]:
    return variable.bands if isinstance(variable, cube.StackSpec) else (variable.name,)


def _season(text: str) -> cube.Season:
    first, dots, last = text.partition("..")
    if not dots:
        raise cube.CubeError(f"--season must be two days, e.g. 06-01..09-15. Received {text!r}.")
    return cube.Season(first=first, last=last)


def _numbers(text: str, *, option: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",")]
    except ValueError as error:
        raise cube.CubeError(f"{option} must be numbers with commas. Received {text!r}.") from error


def _known(table: Mapping[str, Known], name: str, *, option: str) -> Known:
    if name not in table:
        raise cube.CubeError(f"{option} must be one of {', '.join(table)}. Received {name!r}.")
    return table[name]


def _nodata(text: str | None) -> float | Literal["none"] | None:
    if text is None:
        return None
    if text == "none":
        return "none"
    try:
        return float(text)
    except ValueError as error:
        raise cube.CubeError(f"--nodata must be a number or 'none'. Received {text!r}.") from error


if __name__ == "__main__":
    sys.exit(main())
