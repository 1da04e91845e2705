"""Commands on polygons, blocks and what they hold, for ``python -m cube``."""
# ruff: noqa: T201  (a command prints; a library logs)

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import pandas as pd

import cube
from cube.blocks import aggregating, exporting, vectors
from cube.blocks import members as blocks
from cube.blocks.tabulating import Column, TableLayout
from cube.blocks.value_tables import read_values
from cube.crosswalks import tables as crosswalk_tables
from cube.errors import SpecError
from cube.files import check_free, whole_file
from cube.labels import labelling as labels
from cube.labels.spreading import How
from cube.polygons.ids import column_of

if TYPE_CHECKING:
    import geopandas as gpd
    import xarray as xr

_HOW = get_args(How)

_TABLES = ".parquet, .gpkg, .csv or .dta"


def add_block_commands(commands: Any) -> None:
    """Declare them; ``commands`` is what ``ArgumentParser.add_subparsers`` returned."""
    _add_cover(commands)
    _add_label(commands)
    _add_aggregate(commands)
    _add_export(commands)
    _add_map(commands)
    _add_collect(commands)
    _add_crosswalk(commands)


def _add_polygon_options(command: argparse.ArgumentParser) -> None:
    command.add_argument("--id", help="column of the polygons' ids")
    command.add_argument("--crs", help="what the polygons' CRS really is, if their file is silent")
    command.add_argument(
        "--layer", dest="layer_name", help="which layer of the polygons' file, of several"
    )
    command.add_argument("--repair", action="store_true", help="make invalid polygons valid")


def _polygons(args: argparse.Namespace, path: str, counts: list[str]) -> gpd.GeoDataFrame:
    return cube.read_polygons(
        path,
        grid=cube.read_spec(args.url).grid,
        crs=args.crs,
        counts=counts,
        id=args.id,
        layer=args.layer_name,
        repair=args.repair,
    )


def _listed(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


# ---------------------------------------------------------------------------- polygons to pixels
def _add_cover(commands: Any) -> None:
    cover = commands.add_parser("cover", help="keep the shares of pixels in polygons")
    cover.add_argument("url")
    cover.add_argument("name", help="of the polygon set, lower_snake_case")
    cover.add_argument("polygons")
    _add_polygon_options(cover)
    cover.add_argument("--into", help="another URL to keep it at, if the cube cannot be written")
    cover.set_defaults(call=_cover)


def _cover(args: argparse.Namespace) -> int:
    polygons = _polygons(args, args.polygons, [])
    found = cube.coverage.build(args.url, args.name, polygons, id=args.id, into=args.into)
    print(found.report)
    return 0


def _add_label(commands: Any) -> None:
    label = commands.add_parser("label", help="spread what polygons hold as a layer")
    label.add_argument("url")
    label.add_argument("layer")
    label.add_argument("polygons")
    label.add_argument("--column", required=True, help="column of the numbers")
    label.add_argument("--time", help="label of the period; leave out for a static layer")
    label.add_argument("--coverage", default="polygons", help="name for the polygon set")
    label.add_argument("--how", choices=_HOW, default="extensive", help="what the numbers are")
    label.add_argument("--weight", help="layer that amounts are divided in proportion to")
    label.add_argument("--of", help="column of the amounts that shares are shares of")
    _add_polygon_options(label)
    label.set_defaults(call=_label)


def _label(args: argparse.Namespace) -> int:
    spec = cube.read_spec(args.url)
    spec.time_of(spec.layer(args.layer).name, args.time)  # refused before anything is built
    amounts = [args.column] if args.how == "extensive" else []
    polygons = _polygons(args, args.polygons, [*amounts, *([args.of] if args.of else [])])
    values = column_of(polygons, args.column).reset_index(drop=True)
    of = column_of(polygons, args.of).reset_index(drop=True) if args.of else None
    coverage = cube.coverage.build(args.url, args.coverage, polygons, id=args.id)
    report = labels.spread(
        coverage,
        args.layer,
        values,
        time=args.time,
        how=args.how,
        weight=args.weight,
        of=of,
    )
    print(report)
    return 0


# ---------------------------------------------------------------------------- pixels to polygons
def _add_aggregate(commands: Any) -> None:
    aggregate = commands.add_parser("aggregate", help="statistics of layers by block, as a panel")
    aggregate.add_argument("url")
    aggregate.add_argument("coverage", help="name of the polygon set")
    aggregate.add_argument("layers", nargs="+", help="layers or stacks")
    aggregate.add_argument("--statistics", type=_listed, default=["sum", "mean"], help="a,b,c")
    aggregate.add_argument("--times", type=_listed, help="labels of periods, a,b; all by default")
    aggregate.add_argument("--weights", help="layer that weighs pixels")
    aggregate.add_argument(
        "--conserve", action="store_true", help="divide pixels among the blocks that they meet"
    )
    aggregate.add_argument(
        "--missing", choices=("refuse", "nodata"), default="refuse", help="what was never written"
    )
    aggregate.add_argument(
        "--into", help="where the coverage is kept, and what is saved, if not in the cube"
    )
    aggregate.add_argument(
        "--geometry", help="file of the polygons, to write them, too; with --id, matched by ids"
    )
    _add_polygon_options(aggregate)
    _add_wide(aggregate)
    aggregate.add_argument("--save", metavar="NAME", help="keep the panel in the cube")
    _add_out(aggregate, _TABLES, required=False)
    aggregate.set_defaults(call=_aggregate)


def _add_wide(command: argparse.ArgumentParser) -> None:
    command.add_argument("--wide", action="store_true", help="a row a block, a column a period")


def _add_out(command: argparse.ArgumentParser, kinds: str, *, required: bool = True) -> None:
    command.add_argument("--out", type=Path, required=required, help=f"file to write: {kinds}")
    command.add_argument("--overwrite", action="store_true", help="replace what lies there")


def _aggregate(args: argparse.Namespace) -> int:
    _check_targets(args)  # before the long work
    coverage = cube.coverage.load(args.url, args.coverage, into=args.into)
    drawn = _polygons(args, args.geometry, []) if args.geometry else None
    panel = aggregating.aggregate(
        coverage,
        args.layers,
        times=args.times,
        statistics=args.statistics,
        weights=args.weights,
        conserve=args.conserve,
        missing=args.missing,
    )
    if drawn is not None:
        panel = blocks.with_geometry(panel, drawn, id=args.id)
    if args.save is not None:
        place = cube.save_blocks(
            args.url, args.save, panel, into=args.into, overwrite=args.overwrite
        )
        print(f"{place}, blocks/{args.save}: {_size(panel)}")
    if args.out is not None:
        _export(panel, args)
    return 0


def _check_targets(args: argparse.Namespace) -> None:
    if args.out is None and args.save is None:
        raise SpecError("Say where the panel goes: --out a file, --save a name, or both.")
    if args.out is not None:
        exporting.check_target(args.out, overwrite=args.overwrite)
    if args.save is not None:
        vectors.check_name(args.save)


def _export(panel: xr.Dataset, args: argparse.Namespace) -> None:
    layout: TableLayout = "wide" if args.wide else "long"
    exporting.export(panel, args.out, layout=layout, overwrite=args.overwrite)
    print(f"{args.out}: {_size(panel)}")


def _size(panel: xr.Dataset) -> str:
    times = f" x {panel.sizes['time']} periods" if "time" in panel.sizes else ""
    return f"{panel.sizes['block']} blocks{times}"


def _add_panel(command: argparse.ArgumentParser) -> None:
    command.add_argument("url")
    command.add_argument("name", help="of a panel that was saved")
    command.add_argument("--into", help="where the panel is kept, if not in the cube")


def _add_export(commands: Any) -> None:
    export = commands.add_parser("export", help="a panel that was saved, as a file")
    _add_panel(export)
    _add_wide(export)
    _add_out(export, _TABLES)
    export.set_defaults(call=_export_saved)


def _export_saved(args: argparse.Namespace) -> int:
    exporting.check_target(args.out, overwrite=args.overwrite)
    _export(cube.open_blocks(args.url, args.name, into=args.into), args)
    return 0


def _add_map(commands: Any) -> None:
    drawing = commands.add_parser("map", help="a variable of a panel that was saved, as a picture")
    _add_panel(drawing)
    drawing.add_argument("variable")
    drawing.add_argument("--time", help="label of the period, for what varies with time")
    _add_out(drawing, ".png")
    drawing.set_defaults(call=_map)


def _map(args: argparse.Namespace) -> int:
    panel = cube.open_blocks(args.url, args.name, into=args.into)
    print(cube.panel_map(panel, args.variable, args.out, args.time, overwrite=args.overwrite))
    return 0


def _add_collect(commands: Any) -> None:
    collect = commands.add_parser("collect", help="aggregate a layer to polygons, as CSV")
    collect.add_argument("url")
    collect.add_argument("layer")
    collect.add_argument("coverage")
    collect.add_argument("--time", help="label of the period; leave out for a static layer")
    collect.add_argument("--out", type=Path, required=True, help="CSV to write")
    collect.set_defaults(call=_collect)


def _collect(args: argparse.Namespace) -> int:
    check_free(args.out, overwrite=True)
    coverage = cube.coverage.load(args.url, args.coverage)
    table = cube.collect(coverage, args.layer, time=args.time)
    if coverage.ids is not None:
        table.index = pd.Index(coverage.ids)
    with whole_file(args.out, overwrite=True) as partial:
        table.rename_axis("polygon").to_csv(partial)
    print(f"{args.out}: {len(table)} polygons")
    return 0


# -------------------------------------------------------------------------- polygons to polygons
def _add_crosswalk(commands: Any) -> None:
    crosswalk = commands.add_parser("crosswalk", help="bring a table from polygons to others")
    crosswalk.add_argument("table", help="weights: a row for each pair of source and target")
    crosswalk.add_argument("values", help="what sources hold: .csv, .parquet or .dta")
    crosswalk.add_argument("--source", required=True, help="column of the source's id, in both")
    crosswalk.add_argument("--target", required=True, help="column of the target's id")
    crosswalk.add_argument("--weight", required=True, help="column of the part of the source")
    crosswalk.add_argument("--columns", type=_listed, required=True, help="of the values, a,b,c")
    crosswalk.add_argument("--how", choices=_HOW, default="extensive", help="what the numbers are")
    crosswalk.add_argument("--of", help="column of the amounts that shares are shares of")
    crosswalk.add_argument(
        "--size", help="column of the sizes that intensive values are means over"
    )
    _add_out(crosswalk, ".parquet, .csv or .dta")
    crosswalk.set_defaults(call=_crosswalk)


def _crosswalk(args: argparse.Namespace) -> int:
    exporting.check_target(args.out, overwrite=args.overwrite)
    beside = [name for name in (args.of, args.size) if name]
    values = read_values(args.values, id=args.source, columns=[*args.columns, *beside])
    table = crosswalk_tables.read_crosswalk(
        args.table, source=args.source, target=args.target, weight=args.weight
    )
    found = table.apply(
        values[args.columns],
        how=args.how,
        of=values[args.of] if args.of else None,
        size=values[args.size] if args.size else None,
    )
    ids = Column(name=args.target, values=found.index.to_numpy(object), label="id of the target")
    numbers = [Column(name=n, values=found[n].to_numpy("float64"), label=n) for n in args.columns]
    exporting.export_columns([ids, *numbers], args.out, overwrite=args.overwrite)
    print(f"{args.out}: {len(values)} sources to {len(found)} targets")
    return 0
