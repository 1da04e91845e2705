"""Template first, bytes later: creating a cube and changing what it is.

Each change here is a function from the old metadata to the new, made by
:func:`cube.metadata.change` under the cube's lock. Data is never touched, except
where a variable is removed.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from cube import annex, metadata, objects, store, urls
from cube.arrays import (
    ROOT,
    RUNS,
    band_plan,
    coordinate_plans,
    root_attrs,
    time_plans,
    variable_plans,
)
from cube.errors import SpecError, StoreError
from cube.ledger import LEDGER, REPLACED
from cube.metadata import Change, Metadata
from cube.spec import (
    FORMAT_VERSION,
    CubeSpec,
    LayerSpec,
    Period,
    StackSpec,
    differences,
    to_json,
    variable_from_dict,
)
from cube.store import ArrayPlan

if TYPE_CHECKING:
    import numpy.typing as npt


def create(url: str | os.PathLike[str], spec: CubeSpec) -> str:
    """Create a cube: metadata only, for the whole calendar.

    Running it again with the same spec changes nothing, and finishes a
    creation that was cut short. Variables added and periods appended later do
    not count as a difference.

    Args:
        url: A folder, ``s3://bucket/path``, ``gs://...``, ``az://...`` or ``memory://name``;
            new, empty or already this cube.
        spec: What the cube is.

    Returns:
        The URL; folders are absolute.

    Raises:
        StoreError: Something else lies there, or a cube with another spec.
    """
    url = urls.normalise(url)
    if metadata.exists(url):
        _check_same(url, metadata.read(url), spec)
    else:
        metadata.make_place(url)
        metadata.change(url, lambda before: _creation(url, before, spec))
    return url


def _creation(url: str, before: Metadata | None, spec: CubeSpec) -> Change | None:
    if before is not None:
        # Another process was faster, and may have written data already.
        _check_same(url, before, spec)
        return None
    plans: list[tuple[ArrayPlan, npt.NDArray[Any] | None]] = [*coordinate_plans(spec)]
    plans += [(plan, None) for v in spec.variables for plan in variable_plans(spec, v)]
    arrays, values = _rendered(plans)
    new = Metadata(attributes=root_attrs(spec), arrays=arrays)
    _check_vacant(url, {*values, *metadata.document_keys(new)})
    return Change(metadata=new, values=values)


def _rendered(
    plans: Iterable[tuple[ArrayPlan, npt.NDArray[Any] | None]],
) -> tuple[dict[str, Any], dict[str, bytes]]:
    """Documents of arrays by path, and their encoded chunks by key."""
    arrays: dict[str, Any] = {}
    values: dict[str, bytes] = {}
    for plan, filled in plans:
        arrays[plan.path], chunks = store.rendered(plan, filled)
        values |= chunks
    return arrays, values


def _check_vacant(url: str, own: set[str]) -> None:
    """Refuse a place that holds anything but what a creation that was cut short leaves."""
    stranger = next((key for key in metadata.lying(url) if key not in own), None)
    if stranger is not None:
        raise StoreError(
            f"Cannot create a cube at {url!r}: it is not empty, {stranger!r} lies there. "
            f"Choose another place."
        )


def _check_same(url: str, before: Metadata | None, spec: CubeSpec) -> None:
    if before is None or ROOT not in before.attributes:
        raise StoreError(
            f"Cannot create a cube at {url!r}: a Zarr group that is no cube lies there. "
            f"Choose another place."
        )
    stored = _spec_of(url, before)
    wanted = _names(spec)
    added = [v for v in stored.variables if v.name not in wanted]
    if stored.calendar[: len(spec.calendar)] == spec.calendar:
        spec = replace(spec, calendar=stored.calendar)
    if found := differences(stored, spec.with_variables(*added)):
        raise StoreError(
            f"A cube with another spec lies at {url!r}. {'; '.join(found)}. "
            f"Use its spec, or another place."
        )


def _names(spec: CubeSpec) -> set[str]:
    return {variable.name for variable in spec.variables}


def read_spec(url: str | os.PathLike[str]) -> CubeSpec:
    """The spec of an existing cube, with every variable and period added since; one request.

    Raises:
        StoreError: There is no cube.
        SpecError: The cube's format is newer than this version reads.
    """
    text = urls.normalise(url)
    known = metadata.read(text)
    if known is None:
        raise _missing(text)
    return _spec_of(text, known)


def _missing(url: str) -> StoreError:
    if next(iter(metadata.lying(url)), None) is None:
        return StoreError(f"There is no cube at {url!r}; create it first.")
    return StoreError(
        f"{url!r} is not a cube: it holds no Zarr v3 group. If the creation of a cube was cut "
        f"short there, create it again with the same spec; else give the URL of a cube."
    )


def _spec_of(url: str, known: Metadata) -> CubeSpec:
    if ROOT not in known.attributes:
        raise StoreError(
            f"{url!r} is a Zarr group but not a cube: its attributes have no {ROOT!r}. "
            f"Give the URL of a cube."
        )
    if not known.arrays:
        # Taken for a cube without variables, it would be written over.
        raise StoreError(
            f"The root of the cube at {url!r} no longer lists its arrays; another program has "
            f"rewritten it. Run zarr.consolidate_metadata({url!r})."
        )
    try:
        data = json.loads(known.attributes[ROOT])
        version = int(data.get("format_version", 0))
    except (ValueError, TypeError, AttributeError) as error:
        raise StoreError(
            f"{url!r} is not a cube: its attribute {ROOT!r} cannot be read ({error})."
        ) from error
    if version > FORMAT_VERSION:
        raise SpecError(
            f"The cube at {url!r} has format {version}; this version reads up to "
            f"{FORMAT_VERSION}. Install a newer quadrat."
        )
    texts = [node.get("attributes", {}).get("quadrat_spec") for node in known.arrays.values()]
    try:
        variables = [variable_from_dict(json.loads(text)) for text in texts if text is not None]
    except (ValueError, TypeError, AttributeError) as error:
        raise StoreError(
            f"{url!r} is damaged: the spec of a variable cannot be read ({error})."
        ) from error
    return CubeSpec.from_dict(data).with_variables(*variables)


def stale(url: str, spec: CubeSpec) -> dict[str, bytes]:
    """Documents and coordinates that are not what the root says, by key: what they should be."""
    _, wanted = _rendered(coordinate_plans(spec))
    lying = objects.get_many(objects.at(url), wanted)
    coordinates = {
        key: data for (key, data), there in zip(wanted.items(), lying, strict=True) if there != data
    }
    return {**metadata.stale_documents(url), **coordinates}


def add(url: str | os.PathLike[str], *variables: StackSpec | LayerSpec) -> CubeSpec:
    """Add stacks or layers to a cube; those it has already stay as they are.

    Returns:
        The spec of the whole cube.

    Raises:
        StoreError: A variable of that name has another spec.
    """
    return _changed(url, lambda text, before: _addition(text, before, variables))


def _changed(
    url: str | os.PathLike[str], edit: Callable[[str, Metadata | None], Change | None]
) -> CubeSpec:
    """Change an existing cube; its new spec."""
    text = urls.normalise(url)
    read_spec(text)  # or the lock would leave its file where there is no cube
    metadata.change(text, lambda before: edit(text, before))
    return read_spec(text)


def _addition(
    url: str, before: Metadata | None, variables: Iterable[StackSpec | LayerSpec]
) -> Change | None:
    known, old = _existing(url, before)
    spec = checked_addition(old, *variables)
    new = [v for v in spec.variables if v.name not in _names(old)]
    if not new:
        return None
    plans: list[tuple[ArrayPlan, npt.NDArray[Any] | None]] = [
        band_plan(v) for v in new if isinstance(v, StackSpec)
    ]
    plans += [(plan, None) for v in new for plan in variable_plans(spec, v)]
    return _with_arrays(known, plans)


def put_arrays(
    url: str | os.PathLike[str],
    arrays: Iterable[tuple[ArrayPlan, npt.NDArray[Any] | None]],
    *,
    replacing: str | None = None,
    like: Mapping[str, Any] | None = None,
) -> None:
    """Add whole arrays that are no variables, such as a coverage; they become visible together.

    Args:
        url: A cube, or an annex of one.
        arrays: Plans and values; None for an array whose chunks are written elsewhere.
        replacing: Path of a group, all of whose arrays give way to these. Chunks that lie there
            stay where an array is replaced by one without values.
        like: Attributes that those must have to give way; None takes any.

    Raises:
        StoreError: Other arrays lie under these names.
    """
    plans = list(arrays)
    _at_home(url, lambda text, before: _further_arrays(text, before, plans, replacing, like))


def remove_group(url: str | os.PathLike[str], path: str) -> None:
    """Take all arrays below a path away, with their data; none need be there.

    Args:
        url: A cube, or an annex of one.
        path: Of a group that holds no variables, e.g. ``"coverage/tracts"``.

    Raises:
        SpecError: It is no such path: nothing else may be taken away.
        StoreError: There is no cube or annex.
    """
    if not re.fullmatch("[a-z][a-z0-9_]*/[a-z][a-z0-9_]*", path):
        raise SpecError(
            f"A group to take away needs a lower_snake_case name. Received "
            f"{path.partition('/')[2]!r}."
        )
    _at_home(url, lambda text, before: _without_group(text, before, path))


def _at_home(
    url: str | os.PathLike[str], edit: Callable[[str, Metadata | None], Change | None]
) -> None:
    text = urls.normalise(url)
    _home(text, metadata.read(text))  # or the lock would leave its file where there is no cube
    metadata.change(text, lambda before: edit(text, before))


def _home(url: str, before: Metadata | None) -> Metadata:
    if before is None or not annex.is_home(before.attributes):
        raise _missing(url)
    return before


def _below(known: Metadata, path: str) -> set[str]:
    return {name for name in known.arrays if name.startswith(f"{path}/")}


def _without_group(url: str, before: Metadata | None, path: str) -> Change | None:
    known = _home(url, before)
    gone = _below(known, path)
    left = {name: node for name, node in known.arrays.items() if name not in gone}
    # Chunks of a build that was cut short may lie there without any array.
    return Change(metadata=replace(known, arrays=left), values={}, remove=(f"{path}/",))


def _further_arrays(
    url: str,
    before: Metadata | None,
    plans: list[tuple[ArrayPlan, npt.NDArray[Any] | None]],
    replacing: str | None,
    like: Mapping[str, Any] | None,
) -> Change | None:
    known = _home(url, before)
    old = _below(known, replacing) if replacing else set[str]()
    if not all(_is_like(known.arrays[path], like or {}) for path in old):
        old = set()
    taken = {plan.path for plan, _ in plans} & (known.arrays.keys() - old)
    kept = {name: node for name, node in known.arrays.items() if name not in old}
    change = _with_arrays(replace(known, arrays=kept), plans)
    if not taken:
        gone = old - change.metadata.arrays.keys()
        # What a removal that was cut short has left must not come to life again.
        new = (p.path for p, filled in plans if filled is not None or p.path not in old)
        purge = tuple(f"{path}/" for path in new)
        return replace(change, purge=purge, remove=tuple(f"{path}/" for path in sorted(gone)))
    if change.metadata.arrays == known.arrays:
        return None  # another process was faster, with the same
    raise StoreError(
        f"The cube at {url!r} has another {min(taken)!r} already; choose another name."
    )


def _is_like(document: Mapping[str, Any], attrs: Mapping[str, Any]) -> bool:
    own = document.get("attributes", {})
    return all(own.get(key) == value for key, value in attrs.items())


def _with_arrays(
    known: Metadata, plans: Iterable[tuple[ArrayPlan, npt.NDArray[Any] | None]]
) -> Change:
    arrays, values = _rendered(plans)
    return Change(
        metadata=replace(known, arrays={**known.arrays, **arrays}),
        values=values,
        # A removal that was cut short may have left chunks, which would come to life again.
        purge=tuple(f"{path}/" for path in arrays),
    )


def _existing(url: str, before: Metadata | None) -> tuple[Metadata, CubeSpec]:
    if before is None:
        raise _missing(url)
    return before, _spec_of(url, before)


def checked_addition(spec: CubeSpec, *variables: StackSpec | LayerSpec) -> CubeSpec:
    """The spec with further variables; those it has already stay as they are.

    Raises:
        StoreError: A variable of that name has another spec.
    """
    known = {v.name: v for v in spec.variables}
    for variable in variables:
        if known.get(variable.name, variable) != variable:
            raise StoreError(
                f"The cube has another {variable.name!r}: {known[variable.name].to_dict()}; "
                f"wanted {variable.to_dict()}. Choose another name."
            )
    return spec.with_variables(*(v for v in variables if v.name not in known))


def append(url: str | os.PathLike[str], *periods: Period) -> CubeSpec:
    """Append periods to the calendar; nothing that is written changes.

    The cube then holds the same bytes as one that was created with them.
    Periods that it has already stay as they are.

    Returns:
        The spec of the whole cube.

    Raises:
        SpecError: A period does not come after the last one.
    """
    return _changed(url, lambda text, before: _extension(text, before, periods))


def _extension(url: str, before: Metadata | None, periods: tuple[Period, ...]) -> Change | None:
    known, old = _existing(url, before)
    new = [period for period in periods if period not in old.calendar]
    if not new:
        return None
    if early := next((p for p in new if p.start < old.calendar[-1].end), None):
        raise SpecError(
            f"Periods are appended after the last, {old.calendar[-1].label!r}, which ends on "
            f"{old.calendar[-1].end}. Received {early.label!r} from {early.start}; create another "
            f"cube to put a period in between."
        )
    spec = replace(old, calendar=(*old.calendar, *new))
    arrays, values = _rendered(time_plans(spec))
    longer = {
        path: {**node, "shape": [len(spec.calendar), *node["shape"][1:]]}
        for path, node in known.arrays.items()
        if (node.get("dimension_names") or [])[:1] == ["time"] and path not in arrays
    }
    return Change(
        metadata=Metadata(
            attributes={**known.attributes, **root_attrs(spec)},
            arrays={**known.arrays, **longer, **arrays},
        ),
        values=values,
    )


def remove(url: str | os.PathLike[str], name: str, *, force: bool = False) -> CubeSpec:
    """Remove a stack or a layer, its data and its ledger; nothing else changes.

    It is gone for readers at once; removing it again finishes a removal that
    was cut short.

    Args:
        url: The cube.
        name: The stack or layer.
        force: Even if a run is at work on it, or was killed at it.

    Returns:
        The spec of what is left.

    Raises:
        SpecError: There is no such variable.
        StoreError: A run is at work on it.
    """
    return _changed(url, lambda text, before: _removal(text, before, name, force=force))


def _removal(url: str, before: Metadata | None, name: str, *, force: bool) -> Change:
    known, spec = _existing(url, before)
    dims = _left_of(url, name) if name not in _names(spec) else None
    if dims is None:
        dims = spec.variable(name).inner_dims
    runs = known.arrays.get(name, {}).get("attributes", {}).get(RUNS)
    if runs is not None and not force:
        raise StoreError(
            f"{name!r} is being filled by another process. Wait for it to end; if it was killed, "
            f"give force=True."
        )
    # The variable's own folder comes last: for as long as its document lies there, the rest does.
    gone = [*dims, f"{REPLACED}/{name}", f"{LEDGER}/{name}", name]
    kept = {path: node for path, node in known.arrays.items() if path not in gone}
    return Change(
        metadata=replace(known, arrays=kept),
        values={},
        remove=tuple(f"{path}/" for path in gone),
    )


def _left_of(url: str, name: str) -> tuple[str, ...] | None:
    """Inner dimensions of a variable whose removal was cut short; None if nothing is left of it."""
    document = objects.at(url).get(f"{name}/{metadata.ROOT_DOCUMENT}")
    attributes = json.loads(document).get("attributes", {}) if document else {}
    if "quadrat_spec" not in attributes:
        return None
    return variable_from_dict(json.loads(attributes["quadrat_spec"])).inner_dims


def annotate(url: str | os.PathLike[str], name: str, **attrs: Any) -> None:
    """Set attributes of a variable, such as provenance; nothing else changes.

    A mapping is kept as JSON, and merged with the one that is there, under the
    lock, so that two processes that record two times both leave their mark.
    """
    _changed(url, lambda text, before: _annotation(text, before, name, attrs))


def _annotation(
    url: str, before: Metadata | None, name: str, attrs: Mapping[str, Any]
) -> Change | None:
    known, spec = _existing(url, before)
    node = known.arrays[spec.variable(name).name]
    there = node["attributes"]
    new = {
        key: to_json({**json.loads(there.get(key, "{}")), **value})
        if isinstance(value, Mapping)
        else value
        for key, value in attrs.items()
    }
    if all(there.get(key) == value for key, value in new.items()):
        return None
    changed = {**node, "attributes": {**there, **new}}
    return Change(metadata=replace(known, arrays={**known.arrays, name: changed}), values={})
