"""Commands on chips, for ``python -m training``: index, split, look at, stream."""
# ruff: noqa: T201  (a command prints; a library logs)

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from tqdm.auto import tqdm

import cube
import training
from cube.errors import ClusterError, SpecError, SplitError, StoreError
from cube.files import check_free
from cube.spec import grid_from_dict
from training.splits.places import ROLES
from training.splits.rules import PARTS

if TYPE_CHECKING:
    from distributed import Client

_NEEDS = {
    "cells": ("cell_px",),
    "clusters": ("clusters",),
    "random": (),
    "regions": ("regions", "column"),
}
"""Options that a kind of split cannot do without."""

_TAKES = {
    "cells": ("buffer_px",),
    "clusters": ("buffer_px",),
    "random": (),
    "regions": ("buffer_px", "leave_out", "crs"),
}
"""Options that it may have besides those of all kinds."""

_OPTIONS = ("cell_px", "clusters", "regions", "column", "crs", "leave_out", "buffer_px")
"""Options of some kinds, not of all."""

_CONNECT_S = 10
"""How long a scheduler may take to answer, in seconds."""


def add_chip_commands(commands: Any) -> None:
    """Declare them; ``commands`` is what ``ArgumentParser.add_subparsers`` returned."""
    _add_index(commands)
    _add_split(commands)
    _add_sheet(commands)
    _add_stream(commands)


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file.

    Raises:
        StoreError: There is no such file, or it holds something else.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise StoreError(
            f"A file of JSON was expected; {str(path)!r} cannot be read: {error}."
        ) from error
    if not isinstance(data, dict):
        raise StoreError(f"{str(path)!r} holds JSON of type {type(data).__name__}, no object.")
    return data


def read_sample(path: Path) -> training.SampleSpec:
    """A sample from the JSON of ``SampleSpec.to_dict()``, or from an experiment that holds one.

    Raises:
        StoreError: See :func:`read_json`.
        SpecError: It is no sample; the message names the file.
    """
    data = read_json(path)
    try:
        return training.SampleSpec.from_dict(data.get("sample", data))
    except SpecError as error:
        raise SpecError(f"{str(path)!r}: {error}") from error


def _add_cube(command: argparse.ArgumentParser) -> None:
    command.add_argument("url")
    command.add_argument("sample", type=Path, help="JSON of a sample, or of an experiment")


def _add_out(command: argparse.ArgumentParser, what: str) -> None:
    command.add_argument("--out", type=Path, required=True, help=f"file to write: {what}")
    command.add_argument("--overwrite", action="store_true", help="replace what lies there")


def _add_seed(command: argparse.ArgumentParser) -> None:
    command.add_argument("--seed", type=int, default=0, help="of every draw; 0 by default")


def _check_files(args: argparse.Namespace, *, out: str, plot: Path | None = None) -> None:
    """Refuse files that cannot be written, before the long work."""
    for path, suffix in ((args.out, out), (plot, ".png")):
        if path is None:
            continue
        if path.suffix.lower() != suffix:
            raise SpecError(f"A file that ends in {suffix} was expected. Received {path.name!r}.")
        check_free(path, overwrite=args.overwrite)


# ------------------------------------------------------------------------------------------ index
def _add_index(commands: Any) -> None:
    index = commands.add_parser("index", help="say of every chip what it holds, as GeoParquet")
    _add_cube(index)
    index.add_argument("--size", type=int, required=True, help="side of a window in pixels")
    index.add_argument("--stride", type=int, help="pixels between windows; as the size by default")
    index.add_argument(
        "--where",
        nargs="+",
        action="extend",
        default=[],
        metavar="EXPRESSION",
        help="conditions on columns, e.g. 'valid_share > 0.9', one after another",
    )
    index.add_argument("--plot", type=Path, help="where the chips lie, .png")
    index.add_argument("--column", help="that the picture shows; valid_share by default")
    index.add_argument("--client", metavar="ADDRESS", help="of a Dask scheduler; threads without")
    _add_out(index, ".parquet")
    index.set_defaults(call=_index)


def _index(args: argparse.Namespace) -> int:
    _check_files(args, out=".parquet", plot=args.plot)
    if args.column is not None and args.plot is None:
        raise SpecError("--column says what a picture shows; give --plot, too.")
    sample = read_sample(args.sample)
    height, width = cube.read_spec(args.url).grid.shape
    stride = args.size if args.stride is None else args.stride
    windows = cube.Windows(shape=(height, width), size=args.size, stride=stride)
    with _connected(args.client) as client:
        index = training.index_chips(args.url, sample, windows, client=client)
    for expression in args.where:
        index = index.query(expression)
        step = index.history[-1]
        print(f"{step.expression}: {step.before:,} → {step.after:,}")
    print(f"{index.save(args.out, overwrite=args.overwrite)}: {index}")
    if args.plot is not None:
        column = args.column or "valid_share"
        print(index.plot(args.plot, column=column, overwrite=args.overwrite))
    return 0


@contextmanager
def _connected(address: str | None) -> Iterator[Client | None]:
    """A client of a scheduler; None without an address."""
    if address is None:
        yield None
        return
    from distributed import Client

    try:
        # Not as Dask's default: a client whose address cannot be understood would stay it.
        client = Client(address, timeout=_CONNECT_S, set_as_default=False)
    except (OSError, ValueError) as error:
        raise ClusterError(
            f"No Dask scheduler answers at {address!r} ({error}); start one, and give its address, "
            f"e.g. tcp://127.0.0.1:8786."
        ) from error
    with client:
        yield client


# ------------------------------------------------------------------------------------------ split
def _add_split(commands: Any) -> None:
    split = commands.add_parser("split", help="which chips train, watch and test, by place")
    split.add_argument("--index", required=True, type=Path, help="what the command index wrote")
    split.add_argument("--by", choices=sorted(_NEEDS), required=True, help="what places are")
    split.add_argument("--cell-px", type=int, help="side of a cell in pixels")
    split.add_argument("--clusters", type=int, help="how many clusters to find by k-means")
    split.add_argument("--regions", metavar="FILE", help="polygons of the regions")
    split.add_argument("--column", help="that names the regions")
    split.add_argument("--crs", help="what the regions' CRS really is, if their file is silent")
    split.add_argument("--leave-out", nargs="+", metavar="NAME", help="regions to test")
    split.add_argument(
        "--fractions",
        nargs=3,
        type=float,
        metavar=("TRAIN", "VALIDATION", "TEST"),
        help="shares of the chips, with the sum 1",
    )
    split.add_argument("--folds", help="a number instead, or each: every place is a fold")
    split.add_argument("--validation-share", type=float, help="of the rest of a fold, to watch")
    split.add_argument("--buffer-px", type=int, help="between parts; a window by default")
    _add_seed(split)
    _add_out(split, ".json")
    split.add_argument("--plot", type=Path, help="map of the first fold, .png")
    split.set_defaults(call=_split)


def _split(args: argparse.Namespace) -> int:
    _check_files(args, out=".json", plot=args.plot)
    _check_kind(args)
    index = training.load_index(args.index)
    split = _divided(args, index)
    lines = [_counted(index, split, fold) for fold in range(len(split.folds))]
    split.save(args.out)
    print(f"{args.out}: {split}", f"of the {len(index):,} chips of the index:", *lines, sep="\n")
    if args.plot is not None:
        split.plot(args.plot)
        print(args.plot)
    return 0


def _check_kind(args: argparse.Namespace) -> None:
    """Refuse options of other kinds of splits, and the lack of one."""
    needed, taken = _NEEDS[args.by], _TAKES[args.by]
    for name in _OPTIONS:
        given = getattr(args, name) is not None
        option = f"--{name.replace('_', '-')}"
        if name in needed and not given:
            raise SpecError(f"A split by {args.by} needs {option}.")
        if given and name not in (*needed, *taken):
            raise SpecError(f"A split by {args.by} takes no {option}; leave it out.")


def _divided(args: argparse.Namespace, index: training.ChipIndex) -> training.PlaceSplit:
    windows = _windows(index)
    fractions = args.fractions and dict(zip(PARTS, args.fractions, strict=True))
    options: dict[str, Any] = {
        "seed": args.seed,
        "fractions": fractions,
        "folds": _folds(args.folds),
        "validation_share": args.validation_share,
    }
    if args.by == "random":
        return training.split_random(windows, **options)
    # Shares are of the chips that the filters left.
    chips = np.bincount(index.frame["window"].to_numpy("int64"), minlength=len(windows))
    options |= {"buffer_px": args.buffer_px, "balance": "label", "label": chips}
    if args.by == "cells":
        return training.split_by_cells(windows, cell_px=args.cell_px, **options)
    if args.by == "clusters":
        return training.split_by_clusters(windows, clusters=args.clusters, **options)
    grid = grid_from_dict(index.facts["grid"])
    polygons = cube.read_polygons(args.regions, grid=grid, crs=args.crs)
    return training.split_by_regions(
        windows, polygons, grid=grid, by=args.column, leave_out=args.leave_out, **options
    )


def _folds(text: str | None) -> int | str | None:
    if text is None or text == "each":
        return text
    try:
        return int(text)
    except ValueError as error:
        raise SpecError(f"--folds is a number, or each. Received {text!r}.") from error


def _windows(index: training.ChipIndex) -> cube.Windows:
    made = index.facts["windows"]
    if set(made) != {"shape", "size", "stride"}:
        raise SpecError(
            f"Commands know windows of one size and stride over the whole grid. The index is of "
            f"{made}; use training in Python."
        )
    return cube.Windows(shape=tuple(made["shape"]), size=made["size"], stride=made["stride"])


def _counted(index: training.ChipIndex, split: training.PlaceSplit, fold: int) -> str:
    """How many chips of an index are in each part.

    Raises:
        SplitError: A part has windows and no chip.
    """
    roles = split.roles(fold)
    chips = np.bincount(roles[index.frame["window"].to_numpy("int64")], minlength=len(ROLES))
    empty = [
        name
        for name, held, count in zip(
            PARTS, np.bincount(roles, minlength=len(ROLES)), chips, strict=False
        )
        if held and not count
    ]
    if empty:
        raise SplitError(
            f"Fold {fold + 1}: the index has no chip for {' and '.join(empty)}. Filter less, or "
            f"take smaller places or another seed."
        )
    counts = ", ".join(f"{n:,} {name}" for name, n in zip(ROLES, chips, strict=True) if n)
    return f"  fold {fold + 1}: {counts}"


# ---------------------------------------------------------------------------- sheets and streams
def _add_chips(command: argparse.ArgumentParser) -> None:
    _add_cube(command)
    command.add_argument("--index", required=True, type=Path, help="what the command index wrote")
    command.add_argument("--split", type=Path, help="what the command split wrote, for a part only")
    command.add_argument("--part", choices=PARTS, help="of the split; train by default")
    command.add_argument("--fold", type=int, help="of the split, from 0; 0 by default")
    command.add_argument("--memory", default="1 GB", help="that the stream may take, '1 GB'")
    _add_seed(command)


def _chosen(args: argparse.Namespace) -> tuple[training.ChipIndex, training.SplitChips | None]:
    """Chips of the index, and the part of the split that they are if there is one."""
    index = training.load_index(args.index)
    if args.split is None:
        if args.part is not None or args.fold is not None:
            raise SpecError("--part and --fold are of a split; give --split, too.")
        return index, None
    split = training.load_split(args.split)
    if not isinstance(split, training.PlaceSplit):
        raise SpecError(f"A split of windows by place was expected. Received one {split.kind}.")
    timings = len(index.facts["sample"]["timings"])
    chips = training.Chips(windows=_windows(index), timings=timings)
    part = split.part(args.part or "train", chips, fold=args.fold or 0, index=index)
    print(part)
    return index.where(np.isin(index.ids, part.ids), part.name), part


def _streamed(
    args: argparse.Namespace,
    index: training.ChipIndex,
    part: training.SplitChips | None,
    **options: Any,
) -> training.ChipStream:
    """The stream of an index; a part of a split checks itself for leaks.

    Labels of tables are no part of an index or a cube.
    """
    sample = read_sample(args.sample)
    if isinstance(sample.target, training.TableTarget):
        raise SpecError(
            f"Commands stream labels of layers. {str(args.sample)!r} takes them from columns of a "
            f'table; say "target": null, or use training.ChipStream in Python.'
        )
    spec = training.StreamSpec(seed=args.seed, memory=args.memory, **options)
    chips = index if part is None else part.within(index)
    return training.ChipStream(args.url, sample, _windows(index), chips, spec)


def _add_sheet(commands: Any) -> None:
    sheet = commands.add_parser("sheet", help="a picture of chips beside their labels")
    _add_chips(sheet)
    sheet.add_argument("--limit", type=int, default=64, help="chips, drawn by the seed; 64")
    sheet.add_argument("--bands", help="one, or three as red, green and blue: a,b,c")
    _add_out(sheet, ".png")
    sheet.set_defaults(call=_sheet)


def _sheet(args: argparse.Namespace) -> int:
    _check_files(args, out=".png")
    if args.limit < 1:
        raise SpecError(f"--limit is 1 or more. Received {args.limit}.")
    if args.seed < 0:
        raise SpecError(f"--seed is 0 or more. Received {args.seed}.")
    index, part = _chosen(args)
    count = min(args.limit, len(index))
    drawn = np.random.default_rng([args.seed]).permutation(len(index))[:count]
    shown = index.where(np.isin(np.arange(len(index)), drawn), f"{count} by lot")
    stream = _streamed(args, shown, part, batch=count, prefetch=1, shuffle=False)
    (batch,) = stream.epoch()
    training.contact_sheet(
        batch,
        args.out,
        sample=stream.sample,
        cube_spec=stream.cube,
        bands=None if args.bands is None else args.bands.split(","),
        limit=count,
    )
    print(f"{args.out}: {count:,} of {len(index):,} chips")
    return 0


def _add_stream(commands: Any) -> None:
    stream = commands.add_parser("stream", help="read epochs for nothing, and say how fast")
    _add_chips(stream)
    stream.add_argument("--batch", type=int, default=64, help="chips in a batch; 64")
    stream.add_argument("--epochs", type=int, default=1, help="how many; 1")
    stream.set_defaults(call=_stream)


def _stream(args: argparse.Namespace) -> int:
    if args.epochs < 1:
        raise SpecError(f"--epochs is 1 or more. Received {args.epochs}.")
    stream = _streamed(args, *_chosen(args), batch=args.batch)
    print(stream.describe())
    total = args.epochs * stream.chips_per_epoch
    with tqdm(total=total, desc="stream", unit=" chips", disable=None) as bar:
        for batch in stream.epochs(0, args.epochs):
            bar.update(int((batch.chip >= 0).sum()))
    print(*stream.reports, sep="\n")
    rate = max(report.rate for report in stream.reports)
    print(
        f"Nothing was computed meanwhile: a model of up to {rate:,.0f} chips a second can be fed."
    )
    return 0
