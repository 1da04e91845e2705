"""From polygons to other polygons: sparse matrices of the part of each that goes to each.

An amount that was counted in one set of polygons, census blocks of 2000, is wanted in another,
blocks of 2010, tracts, or the squares of images. A crosswalk says which part of every source goes
to which target; it comes from a published table (:mod:`cube.crosswalks.tables`), from geometries
(:mod:`cube.crosswalks.overlay`), from the pixels of a cube (:mod:`cube.crosswalks.dasymetric`),
from wholes and their parts (:mod:`cube.crosswalks.nesting`), or from groups (here).
"""

from __future__ import annotations

import html
import os
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, Self, get_args

import numpy as np
import numpy.typing as npt
import pandas as pd
import scipy.sparse

from cube.crosswalks.parts import (
    absent,
    canonical,
    group_sums,
    named,
    product,
    rearranged,
    scaled_to_one,
)
from cube.crosswalks.reallocating import Values, reallocate
from cube.errors import PolygonError, SpecError
from cube.files import whole_file
from cube.labels.spreading import How
from cube.polygons.ids import examples, text_ids

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.integer[Any]]

TOLERANCE = 1e-6
"""How far the parts of a source may be from one; published weights are rounded."""

Cover = Literal["whole", "partial", "overlapping"]
"""How targets cover sources: fully, in part, or some places more than once."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class Crosswalk:
    """Parts of sources that go to targets; ids keep their order.

    Attributes:
        sources: Unique text ids, pandas.Index (source,).
        targets: Unique text ids, pandas.Index (target,).
        matrix: SciPy CSR float64 (target, source): the part of the source's
            amount that goes to the target, 0..1. A stored zero says that the
            two belong together and nothing goes; a target without any entry
            gets nothing that is known, and is missing in every result.
        cover: ``"whole"``: the parts of a source sum to one, or all are zero
            and its amount must be zero too. ``"partial"``: they may sum to
            less; the rest is lost, and reported. ``"overlapping"``: they may
            sum to more.
        size: Size of each source that intensive variables are weighted by
            unless told otherwise, such as its area; float64 (source,), or None.
        origin: What it was made from, for provenance.
        notes: What was left out or changed on the way, a sentence each.
    """

    sources: pd.Index[Any]
    targets: pd.Index[Any]
    matrix: Any
    cover: Cover = "whole"
    size: FloatArray | None = None
    origin: str = "parts"
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.cover not in get_args(Cover):
            raise SpecError(f"cover is {', '.join(get_args(Cover))}. Received {self.cover!r}.")
        for side in ("sources", "targets"):
            object.__setattr__(self, side, text_ids(getattr(self, side), side))
        object.__setattr__(self, "matrix", canonical(self.matrix))
        shape = (len(self.targets), len(self.sources))
        if self.matrix.shape != shape:
            raise PolygonError(f"A matrix of {shape} was expected. Received {self.matrix.shape}.")
        if self.size is not None:
            object.__setattr__(self, "size", _checked_sizes(self.size, shape[1]))
        self._check_parts()

    def _check_parts(self) -> None:
        parts = self.matrix.data
        if wrong := int((~((parts >= 0) & (parts <= 1 + TOLERANCE))).sum()):
            raise PolygonError(f"Parts of a source must be 0..1. {wrong} of {len(parts)} are not.")
        sums = self.sums
        if self.cover == "whole":
            self._refuse((np.abs(sums - 1) > TOLERANCE) & (sums > 0), "do not sum to one")
        elif self.cover == "partial":
            self._refuse(sums > 1 + TOLERANCE, "sum to more than one")

    def _refuse(self, wrong: npt.NDArray[np.bool_], what: str) -> None:
        if wrong.any():
            first = int(np.flatnonzero(wrong)[0])
            raise PolygonError(
                f"The parts of {int(wrong.sum())} of {len(wrong)} sources {what}: "
                f"{examples(self.sources[wrong])}; the first sum to {self.sums[first]:.9g}. "
                f"Correct or renormalise them, or say how targets cover sources with cover=."
            )

    @classmethod
    def of_entries(
        cls,
        sources: Iterable[str],
        targets: Iterable[str],
        *,
        source: IntArray,
        target: IntArray,
        part: FloatArray,
        **more: Any,
    ) -> Self:
        """From entries in any order, each a pair of places in the lists of ids and a part.

        Args:
            sources: Ids.
            targets: Ids.
            source: Integers (entry,), places in ``sources``.
            target: Integers (entry,), places in ``targets``.
            part: float64 (entry,), 0..1.
            more: Other attributes.

        Raises:
            PolygonError: A pair appears twice, or is no pair of places; see also the class.
        """
        sources, targets = pd.Index(sources), pd.Index(targets)
        shape = (len(targets), len(sources))
        try:
            matrix = scipy.sparse.coo_array((part, (target, source)), shape=shape).tocsr()
        except ValueError as error:
            raise PolygonError(f"Entries must be places in the lists of ids: {error}.") from error
        matrix.sum_duplicates()
        if matrix.nnz < len(part):
            pairs = pd.DataFrame({"source": source, "target": target})
            twice = pairs[pairs.duplicated()]
            first = twice.iloc[0]
            raise PolygonError(
                f"A pair of source and target must appear once. {len(twice)} appear again, the "
                f"first {sources[first['source']]!r} to {targets[first['target']]!r}."
            )
        return cls(sources=sources, targets=targets, matrix=matrix, **more)

    @classmethod
    def of_groups(cls, groups: pd.Series[Any]) -> Self:
        """Sums: every source goes to one target whole, as blocks to their tract.

        Args:
            groups: Id of the target, indexed by id of the source.

        Raises:
            PolygonError: An id is missing, no text, or a source appears twice.
        """
        sources = text_ids(groups.index, "sources")
        target, targets = pd.factorize(text_ids(groups, "groups", unique=False))
        return cls.of_entries(
            sources, targets, source=np.arange(len(sources)), target=target,
            part=np.ones(len(sources)), origin="groups",
        )  # fmt: skip

    @property
    def sums(self) -> FloatArray:
        """Sum of the parts of each source, float64 (source,)."""
        return group_sums(self.matrix.indices, self.matrix.data, len(self.sources))

    @property
    def lost_share(self) -> FloatArray:
        """Part of each source that goes to no target, float64 (source,), 0..1.

        What lies within the rounding of the parts counts as nothing. Where targets overlap, what
        goes to several hides some of it: at least so much is lost.
        """
        lost = 1.0 - self.sums
        return np.where(lost > TOLERANCE, lost, 0.0)

    @property
    def reached(self) -> npt.NDArray[np.bool_]:
        """Targets that belong to some source, bool (target,)."""
        return np.diff(self.matrix.indptr) > 0

    def apply(
        self,
        values: Values,
        *,
        how: How = "extensive",
        size: pd.Series[Any] | None = None,
        of: pd.Series[Any] | None = None,
        unmatched: Literal["refuse", "missing"] = "refuse",
        skipna: bool = False,
    ) -> Values | pd.DataFrame:
        """Bring values of sources to targets.

        Args:
            values: Numbers indexed by the id of the source; NaN where nothing is known.
            how: ``"extensive"`` for amounts: sum of part x amount.
                ``"intensive"`` for densities, rates and means: mean of the
                sources that meet a target, weighted by part x size, which for
                areas is the area they share. ``"share"`` for parts of an
                amount: share x amount and the amount are summed each, and then
                divided.
            size: Of every source, 0 or more, for ``"intensive"``: what its
                values are means over; by default the crosswalk's own.
            of: Of every source, 0 or more, for ``"share"``: the amount.
            unmatched: Ids that only the values or only the crosswalk has are
                refused; ``"missing"`` takes sources without a value for
                unknown, and counts values without a source as lost.
            skipna: Leave what is unknown out, and say beside each column, as
                ``<column>_known_share``, which part of what the target gets is
                known: by size where there is one, else by the sum of parts.

        Returns:
            float64, indexed by target. NaN where a target gets any part of an
            unknown source, or nothing at all, or the size or amount is 0. Zero
            stays zero. Of amounts, ``attrs["lost"]`` holds by column how much
            of the total went to no target.

        Raises:
            PolygonError: Ids are no text, appear twice or are unmatched; values
                are no finite numbers; an amount belongs to a source whose parts
                are all zero.
            SpecError: ``how`` is unknown, or its size or amount was not given.
        """
        return reallocate(
            self, values, how=how, size=size, of=of, unmatched=unmatched, skipna=skipna
        )

    def then(self, other: Crosswalk, *, unmatched: Literal["refuse", "drop"] = "refuse") -> Self:
        """This crosswalk and then another, in one: from its sources to the other's targets.

        Args:
            other: Its sources are the targets of this one, in any order.
            unmatched: Ids that one of the two lacks, and those that get a part
                here of which none goes on, are refused; ``"drop"`` loses them,
                and notes how many.

        Raises:
            PolygonError: An id in the middle is unmatched.
            SpecError: ``unmatched`` is unknown.
        """
        _check_rule(unmatched, "drop")
        place, count = other.sources.get_indexer(self.targets), len(other.sources)
        ends = (other.cover == "whole") & (other.sums <= 0) & _gets(self, place, count)
        first_only, second_only = self.targets[place < 0], other.sources[absent(place, count)]
        found = [
            ("targets of the first are no sources of the second", first_only),
            ("sources of the second are no targets of the first", second_only),
            ("ids in the middle get a part, of which none goes on", other.sources[ends]),
        ]
        notes = _noted(found, unmatched, "drop")
        order = get_args(Cover)
        cover = max(self.cover, other.cover, key=order.index)
        second = scaled_to_one(other.matrix) if other.cover == "whole" else other.matrix
        return replace(
            self,
            targets=other.targets,
            matrix=product(second, self.matrix, place),
            cover="partial" if notes and cover == "whole" else cover,
            origin=f"{self.origin}, then {other.origin}",
            notes=(*self.notes, *other.notes, *notes),
        )

    def normalised(self) -> Self:
        """The same targets, with the parts of each source scaled so that they sum to one.

        An image that lies partly outside all blocks then gives them all that it holds.
        """
        sums = self.sums
        off = np.where(sums > 0, np.abs(sums - 1), 0.0)
        changed = int((off > TOLERANCE).sum())
        what = f"parts of {changed} sources scaled to sum to one, the farthest off by {{:.3g}}"
        notes = (*self.notes, what.format(off.max())) if changed else self.notes
        return replace(self, matrix=scaled_to_one(self.matrix), cover="whole", notes=notes)

    def aligned(
        self,
        *,
        sources: Iterable[str] | None = None,
        targets: Iterable[str] | None = None,
        unmatched: Literal["refuse", "missing"] = "refuse",
    ) -> Self:
        """The same parts for the ids that are wanted, in the order that they are wanted in.

        Args:
            sources: Those wanted; others are left out. All by default.
            targets: Those wanted. All by default.
            unmatched: Wanted ids that the crosswalk lacks, and parts that go to
                targets that are not wanted, are refused; ``"missing"`` lists
                such ids without entries, and loses such parts.

        Raises:
            PolygonError: Something is unmatched.
            SpecError: ``unmatched`` is unknown.
        """
        _check_rule(unmatched, "missing")
        wanted = self.sources if sources is None else text_ids(sources, "sources")
        kept = self.targets if targets is None else text_ids(targets, "targets")
        column, row = wanted.get_indexer(self.sources), kept.get_indexer(self.targets)
        coo = self.matrix.tocoo()
        of_wanted = column[coo.col] >= 0
        lost = of_wanted & (row[coo.row] < 0) & (coo.data > 0)
        found = [
            ("sources are not in the crosswalk", wanted[absent(column, len(wanted))]),
            ("targets are not in the crosswalk", kept[absent(row, len(kept))]),
            ("targets get a part and are not wanted", self.targets[np.unique(coo.row[lost])]),
        ]
        notes = _noted(found, unmatched, "missing")
        use = of_wanted & (row[coo.row] >= 0)
        size = None if self.size is None else rearranged(self.size, column, len(wanted))
        return type(self).of_entries(
            wanted, kept, source=column[coo.col][use], target=row[coo.row][use],
            part=coo.data[use], size=size, origin=self.origin, notes=(*self.notes, *notes),
            cover="partial" if notes and self.cover == "whole" else self.cover,
        )  # fmt: skip

    def to_table(self) -> pd.DataFrame:
        """One row per entry, by source and then target: ``source``, ``target``, ``weight``.

        Ids without any entry have a row of weight 0 with an empty partner, so
        that :func:`cube.crosswalks.tables.read_crosswalk` gives them back.
        """
        by_source = self.matrix.tocsc()
        entries = np.diff(by_source.indptr)
        empty = entries == 0
        source = np.repeat(np.arange(len(self.sources)), np.maximum(entries, 1))
        at = by_source.indptr[:-1][empty]
        target = np.insert(by_source.indices.astype("int64"), at, -1)
        unreached = np.flatnonzero(~self.reached)
        nowhere = np.full(len(unreached), -1)
        return pd.DataFrame(
            {
                "source": named(self.sources, np.concatenate([source, nowhere])),
                "target": named(self.targets, np.concatenate([target, unreached])),
                "weight": np.append(np.insert(by_source.data, at, 0.0), np.zeros(len(unreached))),
            }
        )

    def write(self, path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
        """Write :meth:`to_table` as ``.parquet`` or ``.csv``, whole or not at all.

        Raises:
            SpecError: The name ends otherwise.
            StoreError: A file lies there and ``overwrite`` is not set, or it cannot be written.
        """
        target = Path(path)
        if target.suffix not in (".parquet", ".csv"):
            raise SpecError(f"A crosswalk is written as .parquet or .csv. Received {str(path)!r}.")
        with whole_file(target, overwrite=overwrite) as partial:
            if target.suffix == ".csv":
                self.to_table().to_csv(partial, index=False)
            else:
                self.to_table().to_parquet(partial, index=False)

    def __str__(self) -> str:
        lost, unreached = int((self.lost_share > 0).sum()), int((~self.reached).sum())
        facts = [
            f"{self.matrix.nnz:,} parts of {len(self.sources):,} sources in "
            f"{len(self.targets):,} targets ({self.origin})",
            *([f"{lost:,} sources go not wholly to targets"] if lost else []),
            *([f"{unreached:,} targets get nothing"] if unreached else []),
            *(note.rstrip(".") for note in self.notes),
        ]
        return f"crosswalk: {'; '.join(facts)}"

    def __repr__(self) -> str:
        return f"<{self}>"

    def _repr_html_(self) -> str:
        return f"<p>{html.escape(str(self))}</p>"


def _checked_sizes(size: Any, count: int) -> FloatArray:
    sizes = np.asarray(size, "float64")
    if sizes.shape != (count,):
        raise PolygonError(f"{count} sizes were expected. Received {sizes.shape}.")
    if wrong := int((~(np.isfinite(sizes) & (sizes >= 0))).sum()):
        raise PolygonError(f"Sizes must be known and 0 or more. {wrong} of {count} are not.")
    return sizes


def _check_rule(rule: str, allowed: str) -> None:
    if rule not in ("refuse", allowed):
        raise SpecError(f"unmatched is 'refuse' or {allowed!r}. Received {rule!r}.")


def _noted(found: list[tuple[str, pd.Index[Any]]], rule: str, allowed: str) -> tuple[str, ...]:
    """Notes about ids without a partner; refused unless that is allowed."""
    notes = tuple(f"{len(ids)} {what}: {examples(ids)}" for what, ids in found if len(ids))
    if notes and rule == "refuse":
        raise PolygonError(f"{notes[0]}. Correct the ids, or give unmatched={allowed!r}.")
    return notes


def _gets(first: Crosswalk, place: IntArray, middle: int) -> npt.NDArray[np.bool_]:
    """Sources of the second crosswalk that get a part through the first, bool (middle,)."""
    got = first.matrix @ np.ones(len(first.sources)) > 0
    out = np.zeros(middle, bool)
    out[place[got & (place >= 0)]] = True
    return out
