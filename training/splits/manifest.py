"""Splits as JSON with a digest: written whole, read again, refused if edited."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cube.errors import SplitError, StoreError
from cube.files import whole_file
from cube.spec import digest

IntArray = npt.NDArray[np.int64]


class Manifested:
    """What is told by a manifest: its digest, and how it is saved."""

    __slots__ = ()

    def to_dict(self) -> dict[str, Any]:
        """The manifest, JSON-able."""
        raise NotImplementedError

    @property
    def digest(self) -> str:
        """First 12 hex digits of the SHA-256 of the manifest."""
        return digest(self.to_dict())

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the manifest as JSON; :func:`training.splits.load_split` reads it.

        Raises:
            StoreError: There is no such folder, or the system refuses.
        """
        write(path, self.to_dict())


def write(path: str | os.PathLike[str], data: Mapping[str, Any]) -> None:
    """Write a manifest and its digest as JSON, over what lies there.

    Raises:
        StoreError: There is no such folder, or the system refuses.
    """
    whole = {**data, "digest": digest(data)}
    with whole_file(Path(path), overwrite=True) as partial:
        partial.write_text(json.dumps(whole, indent=1) + "\n", encoding="utf-8")


def read(path: str | os.PathLike[str]) -> dict[str, Any]:
    """A manifest without its digest, which was checked.

    Raises:
        StoreError: There is no file, or it holds no JSON.
        SplitError: It is no manifest of a split, or was edited.
    """
    try:
        data = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise StoreError(f"A split as JSON was expected at {str(path)!r}: {error}.") from error
    if (
        not isinstance(data, dict)
        or not {"kind", "folds", "digest"} <= set(data)
        or not data["folds"]
    ):
        raise SplitError(f"{str(path)!r} is no manifest of a split; write one with split.save.")
    said = data.pop("digest")
    if digest(data) != said:
        raise SplitError(
            f"{str(path)!r} was edited: it says digest {said}, and its content has {digest(data)}. "
            f"Make the split again."
        )
    return data


def packed(place: IntArray) -> int | dict[str, list[int]]:
    """Places of windows in few numbers: runs of equal ones; a count if each has its own."""
    if np.array_equal(place, np.arange(len(place))):
        return len(place)
    starts = np.concatenate([[0], np.flatnonzero(np.diff(place)) + 1])
    runs = np.diff(np.concatenate([starts, [len(place)]]))
    return {"number": place[starts].tolist(), "windows": runs.tolist()}


def unpacked(data: int | Mapping[str, list[int]]) -> IntArray:
    """The inverse of :func:`packed`, int64 (window,)."""
    if isinstance(data, int):
        return np.arange(data, dtype="int64")
    return np.repeat(np.asarray(data["number"], dtype="int64"), data["windows"])
