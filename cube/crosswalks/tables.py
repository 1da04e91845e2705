"""Published crosswalks: a row for every pair of source and target, with a weight.

So NHGIS publishes the blocks of one census in those of another
(https://www.nhgis.org/geographic-crosswalks), 11 million rows for the nation;
the relationship files of the Census Bureau hold sizes of part and whole instead
(https://www.census.gov/geographies/reference-files/time-series/geo/relationship-files.html).
Ids stay text, and are kept once each, so that a national file fits in memory.
"""

from __future__ import annotations

import gzip
import os
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import IO, Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from cube.crosswalks.crosswalk import TOLERANCE, Cover, Crosswalk
from cube.errors import PolygonError, SpecError
from cube.polygons.ids import examples

FloatArray = npt.NDArray[np.float64]

SEPARATORS = ",|\t;"
"""What may stand between columns; the one that the header has most of does."""


def read_crosswalk(  # noqa: PLR0913  (columns, what is wrong with them, and which rows are wanted)
    path: str | os.PathLike[str],
    *,
    source: str,
    target: str,
    weight: str | tuple[str, str],
    cover: Cover = "whole",
    zero: Literal["refuse", "keep"] = "refuse",
    renormalise: bool = False,
    sources: Iterable[str] | None = None,
    targets: Iterable[str] | None = None,
    unmatched: Literal["refuse", "missing"] = "refuse",
) -> Crosswalk:
    """Read a table of weights and check that it neither makes nor loses anything.

    Args:
        path: ``.csv`` or ``.txt`` with a header, also as ``.gz`` or in a ``.zip``;
            ``.parquet``; ``.dta``.
        source: Column of the source's id, e.g. ``"blk2000gj"``.
        target: Column of the target's id, e.g. ``"blk2010gj"``.
        weight: Column of the part of the source that goes to the target, 0..1;
            or the columns of the size of the part and of the source, as in a
            relationship file ``("AREALAND_PART", "AREALAND_TRACT_20")``.
        cover: See :class:`cube.crosswalks.Crosswalk`; ``"whole"`` wants the
            weights of each source to sum to one within 1e-6, and scales what is rounded.
        zero: Sources whose weights are all zero, as those of empty blocks are,
            are refused; ``"keep"`` keeps them, and their amounts must be 0.
        renormalise: Scale the weights of each source so that they sum to one, see
            :meth:`cube.crosswalks.Crosswalk.normalised`; ``cover`` is then ``"whole"``.
        sources: Sources that are wanted, in this order; see
            :meth:`cube.crosswalks.Crosswalk.aligned`.
        targets: Targets that are wanted, in this order.
        unmatched: What is done about ids without a partner among those wanted.

    Returns:
        Ids in order of their first row. A row of weight 0 with one empty id
        lists the other as an id without a partner.

    Raises:
        PolygonError: The file cannot be read; a column is missing; ids are
            numbers; a weight is text, missing or not 0..1; a pair appears
            twice; the weights of a source do not sum to one.
        SpecError: ``zero``, ``cover`` or ``unmatched`` is unknown, or ``weight`` is neither one
            column nor two.
    """
    numbers = (weight,) if isinstance(weight, str) else tuple(weight)
    if len(numbers) not in (1, 2):
        raise SpecError(f"weight is a column, or those of part and whole. Received {weight!r}.")
    if zero not in ("refuse", "keep"):
        raise SpecError(f"zero is 'refuse' or 'keep'. Received {zero!r}.")
    name = os.fspath(path)
    if not os.path.exists(name):
        raise PolygonError(f"There is no file {name!r}.")
    table = _read(name, (source, target), numbers)
    from_, sources_in = _coded(table, source, name)
    to, targets_in = _coded(table, target, name)
    part = _weights(table, numbers, name)
    empty = (from_ < 0) | (to < 0)
    if (bad := empty & ((part > 0) | ((from_ < 0) & (to < 0)))).any():
        raise PolygonError(
            f"{int(bad.sum())} rows of {name!r} have a weight and an empty id, the first is row "
            f"{int(np.flatnonzero(bad)[0])}; drop them first."
        )
    from_, to, part = from_[~empty], to[~empty], part[~empty]
    found = Crosswalk.of_entries(
        sources_in, targets_in, source=from_, target=to, part=part,
        cover="overlapping" if renormalise else cover, origin=f"table, {source} to {target}",
    )  # fmt: skip
    if found.cover == "whole" or renormalise:
        found = found.normalised()  # of rounded weights, too: totals are conserved
    _check_zero(found, zero)
    if sources is None and targets is None:
        return found
    return found.aligned(sources=sources, targets=targets, unmatched=unmatched)


def _check_zero(found: Crosswalk, zero: str) -> None:
    nothing = found.sums == 0
    if zero == "refuse" and found.cover == "whole" and nothing.any():
        raise PolygonError(
            f"The weights of {int(nothing.sum())} of {len(nothing)} sources are all zero: "
            f"{examples(found.sources[nothing])}. If nothing is in them, give zero='keep'; their "
            f"amounts must then be 0."
        )


def _read(name: str, ids: tuple[str, str], numbers: tuple[str, ...]) -> Any:
    """The columns that are needed, as a table of Arrow's."""
    import pyarrow as pa

    lower = name.lower()
    wanted = list(dict.fromkeys([*ids, *numbers]))
    try:
        if lower.endswith(".parquet"):
            return _parquet(name, wanted)
        if lower.endswith(".dta"):
            with pd.read_stata(name, iterator=True, convert_categoricals=False) as file:
                _check_columns(wanted, file.variable_labels(), name)
            frame = pd.read_stata(name, columns=wanted, convert_categoricals=False)
            return pa.Table.from_pandas(frame, preserve_index=False)
        return _csv(name, ids, wanted)
    except (pa.ArrowInvalid, pa.ArrowKeyError, zipfile.BadZipFile, ValueError, OSError) as error:
        if isinstance(error, PolygonError):
            raise
        reason = " ".join(str(error).split())  # in one line
        raise PolygonError(f"{name!r} cannot be read as a crosswalk: {reason}") from error


def _parquet(name: str, wanted: list[str]) -> Any:
    import pyarrow.parquet

    _check_columns(wanted, pyarrow.parquet.read_schema(name).names, name)
    return pyarrow.parquet.read_table(name, columns=wanted)


def _csv(name: str, ids: tuple[str, str], wanted: list[str]) -> Any:
    import pyarrow as pa
    from pyarrow import csv

    with _opened(name) as file:
        header = file.readline().decode("utf-8-sig", errors="replace").strip()
    separator = max(SEPARATORS, key=header.count)
    _check_columns(wanted, [c.strip().strip('"') for c in header.split(separator)], name)
    # Each id once: a national file has 40 million characters of them in every million rows.
    kinds = {column: pa.dictionary(pa.int32(), pa.string()) for column in ids}
    options = csv.ConvertOptions(
        include_columns=wanted,
        column_types={c: kinds.get(c, pa.float64()) for c in wanted},
        strings_can_be_null=False,
    )
    with _opened(name) as file:
        return csv.read_csv(
            file, parse_options=csv.ParseOptions(delimiter=separator), convert_options=options
        )


@contextmanager
def _opened(name: str) -> Iterator[IO[bytes]]:
    """A text file as bytes, or the one table in an archive."""
    if not name.lower().endswith(".zip"):
        opened: Any = gzip.open if name.lower().endswith(".gz") else open
        with opened(name, "rb") as file:
            yield file
        return
    with zipfile.ZipFile(name) as archive:
        texts = [m for m in archive.namelist() if m.lower().endswith((".csv", ".txt"))]
        # Beside a .csv, a .txt is what explains it.
        tables = [m for m in texts if m.lower().endswith(".csv")] or texts
        if len(tables) != 1:
            raise PolygonError(
                f"{name!r} must hold one .csv or .txt. It holds {len(tables)}: "
                f"{', '.join(tables[:3]) or ', '.join(archive.namelist()[:3])}."
            )
        with archive.open(tables[0]) as file:
            yield file


def _check_columns(wanted: Iterable[str], there: Iterable[str], name: str) -> None:
    there = list(there)
    for column in wanted:
        if column not in there:
            raise PolygonError(f"{name!r} has no column {column!r}. It has: {', '.join(there)}.")


def _coded(
    table: Any, column: str, name: str
) -> tuple[npt.NDArray[np.integer[Any]], pd.Index[Any]]:
    """Place of each row's id in the list of ids, -1 where it is empty, and the list."""
    import pyarrow as pa
    import pyarrow.compute as pc

    values = table[column]
    if not pa.types.is_dictionary(values.type):
        if not (pa.types.is_string(values.type) or pa.types.is_large_string(values.type)):
            raise PolygonError(
                f"Ids in column {column!r} of {name!r} must be text, because numbers lose leading "
                f"zeros. It holds {values.type}."
            )
        values = pc.fill_null(values, "").dictionary_encode()
    whole = values.unify_dictionaries().combine_chunks()
    if isinstance(whole, pa.ChunkedArray):  # of no chunks, in a table without rows
        raise PolygonError(f"{name!r} has no rows.")
    # Ids that are repeated in a dictionary, and its nulls, would be two ids.
    code, ids = whole.indices.to_numpy(), pd.Index(whole.dictionary.to_pandas(), dtype="str")
    blank = np.flatnonzero(ids == "")
    if not len(blank):
        return code, ids
    at = int(blank[0])
    return np.where(code == at, -1, code - (code > at)), ids.delete(at)


def _weights(table: Any, columns: tuple[str, ...], name: str) -> FloatArray:
    """Weight of every row, float64 (row,), from one column or as the first over the second."""
    numbers = [_numbers(table[column], column, name) for column in columns]
    if len(numbers) == 1:
        return _between(numbers[0], f"Column {columns[0]!r}", name, most=1 + TOLERANCE)
    for column, values in zip(columns, numbers, strict=True):
        _between(values, f"Column {column!r}", name)
    part, whole = numbers
    ratio = np.divide(part, whole, out=np.where(part > 0, np.inf, 0.0), where=whole > 0)
    return _between(ratio, f"{columns[0]!r} over {columns[1]!r}", name, most=1 + TOLERANCE)


def _numbers(values: Any, column: str, name: str) -> FloatArray:
    import pyarrow as pa

    if not (pa.types.is_floating(values.type) or pa.types.is_integer(values.type)):
        raise PolygonError(f"Column {column!r} of {name!r} must hold numbers, not {values.type}.")
    return values.cast(pa.float64()).to_numpy()


def _between(values: FloatArray, what: str, name: str, *, most: float = np.inf) -> FloatArray:
    wrong = ~(np.isfinite(values) & (values >= 0) & (values <= most))
    if wrong.any():
        first = int(np.flatnonzero(wrong)[0])
        limits = "0..1" if np.isfinite(most) else "0 or more"
        raise PolygonError(
            f"{what} of {name!r} must be {limits} everywhere. {int(wrong.sum())} of {len(values)} "
            f"rows are not, the first is row {first}: {values[first]}."
        )
    return np.minimum(values, 1.0) if np.isfinite(most) else values
