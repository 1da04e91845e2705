"""Wall-to-wall prediction: read a region with its halo, predict, blend, write, tick."""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from cube import filling, nodata, template, urls
from cube.errors import BundleError, SpecError
from cube.filling import Filling, FillingPlan
from cube.reading import read_region
from cube.regions import Region
from cube.report import Report
from cube.spec import CubeSpec, LayerSpec
from cube.windows import Windows, box_sums
from inference.blending import Blend
from training.bundle import ModelBundle, load_bundle
from training.networks import beyond_maps
from training.stream import read_channels_last
from training.targets import pixel_km2

if TYPE_CHECKING:
    import keras
    from distributed import Client

BATCH = 64
"""Windows in a batch. Every batch has this shape, the last filled up with zeros:
the same window then gives the same bits wherever it stands."""

_one_at_a_time = threading.Lock()


@dataclass(frozen=True, slots=True, kw_only=True)
class PredictionPlan(FillingPlan):
    """What :func:`predict` will do.

    Attributes:
        bundles: Models by the value of the fold layer; one model under 0 without.
        fold_layer: Static layer that says which model predicts each pixel.
    """

    bundles: Mapping[int, ModelBundle]
    fold_layer: str | None


def plan_predict(  # noqa: PLR0913  (what to predict, and who does it)
    url: str | os.PathLike[str],
    layer: str,
    bundles: ModelBundle | Mapping[int, ModelBundle] | list[ModelBundle],
    *,
    fold_layer: str | None = None,
    overwrite: bool = False,
    client: Client | None = None,
    calibrate: bool = False,
) -> PredictionPlan:
    """Say what a prediction will take; writes nothing.

    Args:
        url: The cube.
        layer: Layer to write, in the units of the models' target.
        bundles: One model, or models by fold (a list counts from 0).
        fold_layer: Static layer with the fold of every pixel; needed with more
            than one model. Each pixel is predicted by the model of its fold,
            which never saw that place.
        overwrite: See :func:`predict`.
        client: See :func:`predict`.
        calibrate: Predict one region in memory, to estimate time and bytes after
            compression. Otherwise no pixels are read.

    Raises:
        BundleError: A model does not fit the cube, or they differ in what they need.
        SpecError: The memory that is free does not suffice; or there are pixels between windows.
        SourceError: The layer was begun with other models.
        StoreError: The disk has less room than a sample lets expect.
    """
    url = urls.normalise(url)
    models = _numbered(bundles)
    spec = template.read_spec(url)
    _check_models(spec, models, fold_layer)
    first = models[min(models)]
    target = spec.layer(first.sample.layer_target.layer)
    new = all(v.name != layer for v in spec.variables)
    spec = template.checked_addition(spec, _prediction_layer(layer, target))
    time = None if target.static else first.sample.time_of(spec, target.name)
    work = filling.prepare(
        f"predict {layer}",
        url,
        spec,
        layer,
        {time: _describe(models, fold_layer)},
        overwrite=overwrite,
        new=new,
    )
    summary = filling.plan(
        work,
        bytes_in=len(work.todo) * _inputs_bytes(work, models, spec.layout.region),
        peak=partial(_peak_bytes, work, models),
        workers=1,
        client=client,
        reads=_objects_read(work, models),
        values=_predictor(work, models, fold_layer) if calibrate else None,
    )
    return PredictionPlan(filling=work, bundles=models, fold_layer=fold_layer, summary=summary)


def _inputs_bytes(work: Filling, models: Mapping[int, ModelBundle], side: int) -> int:
    """Stored bytes of what is read for a region of that side, with its halo."""
    bundle = models[min(models)]
    depth = sum(
        work.spec.stack(s.stack).storage.itemsize * len(s.bands) for s in bundle.sample.inputs
    )
    return (side + 2 * bundle.window) ** 2 * depth


def _peak_bytes(work: Filling, models: Mapping[int, ModelBundle], side: int) -> int:
    """Memory that predicting one region of that side takes."""
    bundle = models[min(models)]
    # The region's inputs, one batch of float32 chips, and two float64 sums per model.
    return (
        2 * _inputs_bytes(work, models, side)
        + BATCH * bundle.window**2 * bundle.sample.bands * 4
        + side**2 * 8 * 2 * len(models)
    )


def _objects_read(work: Filling, models: Mapping[int, ModelBundle]) -> int:
    """Objects of the cube that are read for a region, at most."""
    bundle, layout = models[min(models)], work.spec.layout
    across = math.ceil((layout.region + 2 * bundle.window) / layout.unit) + 1
    return len(bundle.sample.inputs) * across**2


def predict(
    url: str | os.PathLike[str],
    layer: str,
    bundles: ModelBundle | Mapping[int, ModelBundle] | list[ModelBundle],
    *,
    fold_layer: str | None = None,
    overwrite: bool = False,
    client: Client | None = None,
) -> Report:
    """Predict every pixel and write the result as a layer of the cube.

    Run it again to do only what is missing. The result is the same to the bit
    for any region size, order and number of workers.

    Args:
        url: The cube.
        layer: See :func:`plan_predict`.
        bundles: See :func:`plan_predict`.
        fold_layer: See :func:`plan_predict`.
        overwrite: Predict again what is predicted already, also with other models.
        client: A Dask client; its workers must see the bundles' folders. None
            runs here, one region at a time: the framework has threads of its own.

    Returns:
        What was done and what was skipped.

    Raises:
        IncompleteError: A region failed; the others are written.
    """
    plan = plan_predict(
        url, layer, bundles, fold_layer=fold_layer, overwrite=overwrite, client=client
    )
    work = plan.filling
    template.add(work.url, work.spec.layer(layer))
    values = _predictor(work, plan.bundles, fold_layer)
    return filling.fill(work, values, client=client, workers=1, bound=False)


def _predictor(
    work: Filling, models: Mapping[int, ModelBundle], fold_layer: str | None
) -> filling.Values:
    return partial(
        _predict_region,
        url=work.url,
        spec=work.spec,
        bundles=dict(models),
        fold_layer=fold_layer,
        windows=_windows(work.spec, models[min(models)]),
    )


def _windows(spec: CubeSpec, bundle: ModelBundle) -> Windows:
    """What a model looks through.

    Raises:
        SpecError: There are pixels between the windows.
    """
    height, width = spec.grid.shape
    windows = Windows(shape=(height, width), size=bundle.window, stride=bundle.stride)
    if not windows.gapless:
        raise SpecError(
            f"A prediction needs every pixel in a window: a stride of at most the window, "
            f"{bundle.window} px. Received stride={bundle.stride}; give the bundle a smaller one."
        )
    return windows


def _numbered(
    bundles: ModelBundle | Mapping[int, ModelBundle] | list[ModelBundle],
) -> dict[int, ModelBundle]:
    if isinstance(bundles, ModelBundle):
        return {0: bundles}
    models = dict(bundles) if isinstance(bundles, Mapping) else dict(enumerate(bundles))
    if not models:
        raise BundleError("At least one model is needed to predict.")
    return models


def _check_models(
    spec: CubeSpec, models: Mapping[int, ModelBundle], fold_layer: str | None
) -> None:
    if len(models) > 1 and fold_layer is None:
        raise BundleError(
            f"With {len(models)} models, fold_layer= must say which predicts which pixel."
        )
    if fold_layer is not None and not spec.layer(fold_layer).static:
        raise SpecError(f"The fold layer {fold_layer!r} must be static.")
    needs = {(m.sample, m.window, m.stride) for m in models.values()}
    if len(needs) > 1:
        raise BundleError("Models that predict one layer must share inputs, target and windows.")
    for model in models.values():
        model.check(spec)
        _check_map(spec, model)
        _windows(spec, model)


def _check_map(spec: CubeSpec, model: ModelBundle) -> None:
    """Refuse models that do not make one map of numbers, of one period, from one image."""
    beyond = beyond_maps(spec, model.sample)
    if getattr(model.sample.target, "change", False):
        beyond.append("changes")
    if len(model.sample.timings) > 1:
        beyond.append(f"{len(model.sample.timings)} timings")
    if beyond:
        raise BundleError(
            f"A prediction is one map of numbers from one image. The model in "
            f"{str(model.path)!r} is of {', '.join(beyond)}; apply it to a ChipStream instead."
        )


def _prediction_layer(name: str, target: LayerSpec) -> LayerSpec:
    return LayerSpec(
        name=name,
        dtype="float32",
        nodata=float("nan"),
        static=target.static,
        units=target.units,
        long_name=f"predicted {target.long_name or target.name}",
    )


def _describe(models: Mapping[int, ModelBundle], fold_layer: str | None) -> dict[str, Any]:
    return {
        "models": {str(k): m.weights_digest for k, m in sorted(models.items())},
        "splits": sorted({m.split_digest for m in models.values()}),
        "seeds": {str(k): m.seed for k, m in sorted(models.items())},
        "fold_layer": fold_layer,
        "batch": BATCH,
    }


def _predict_region(
    region: Region,
    *,
    url: str,
    spec: CubeSpec,
    bundles: dict[int, ModelBundle],
    fold_layer: str | None,
    windows: Windows,
) -> npt.NDArray[np.floating[Any]]:
    """Predicted values of one region in the units of the target, (y, x)."""
    fold = np.zeros(region.shape, "int64")
    if fold_layer is not None:
        place = Region(time=None, rows=region.rows, cols=region.cols)
        fold = read_region(url, fold_layer, place, spec=spec).astype("int64")
        _check_folds(fold, bundles, region)
    out = np.full(region.shape, np.nan)
    for number in np.unique(fold):
        wanted = fold == number
        out[wanted] = predict_pixels(url, spec, bundles[int(number)], windows, region, wanted)[
            wanted
        ]
    target = bundles[min(bundles)].sample.layer_target
    area_km2 = pixel_km2(spec.grid) if target.per == "km2" else 1.0
    return target.inverse(out, pixel_km2=area_km2).astype("float32")


def _check_folds(
    fold: npt.NDArray[np.int64], bundles: Mapping[int, ModelBundle], region: Region
) -> None:
    unknown = sorted(set(np.unique(fold).tolist()) - set(bundles))
    if unknown:
        raise BundleError(
            f"The fold layer holds {unknown} at {region}; there are models for {sorted(bundles)}."
        )


def predict_pixels(
    url: str,
    spec: CubeSpec,
    bundle: ModelBundle,
    windows: Windows,
    region: Region,
    wanted: npt.NDArray[np.bool_],
) -> npt.NDArray[np.float64]:
    """Blended output of one model over a region, in the units it learned.

    Args:
        url: The cube.
        spec: Its spec.
        bundle: The model.
        windows: What it looks through.
        region: Where.
        wanted: Pixels that matter, bool (y, x); windows without one are left out.

    Returns:
        float64 (y, x); NaN where an input is nodata, or nothing was wanted.
    """
    ids = _needed(windows, region, wanted)
    if not len(ids):
        return np.full(region.shape, np.nan)
    origins = windows.origins(ids)
    low = np.minimum(origins.min(axis=0), (region.rows[0], region.cols[0]))
    high = np.maximum(origins.max(axis=0) + windows.size, (region.rows[1], region.cols[1]))
    rows, cols = (int(low[0]), int(high[0])), (int(low[1]), int(high[1]))
    stacks = {
        s.stack: read_channels_last(url, spec, bundle.sample, s.stack, rows=rows, cols=cols)
        for s in bundle.sample.inputs
    }
    valid = np.ones((rows[1] - rows[0], cols[1] - cols[0]), dtype=bool)
    for name, values in stacks.items():
        valid &= nodata.valid(values, spec.stack(name)).all(axis=-1)
    seen = origins[box_sums(valid, origins - low, windows.size) > 0]
    blend = Blend(region, windows.size)
    for origin, output in _outputs(bundle, stacks, seen - low):
        blend.add((origin[0] + rows[0], origin[1] + cols[0]), output)
    here = tuple(
        slice(first - start, last - start)
        for (first, last), start in zip((region.rows, region.cols), low, strict=True)
    )
    return np.where(valid[here], blend.result(), np.nan)


def _needed(
    windows: Windows, region: Region, wanted: npt.NDArray[np.bool_]
) -> npt.NDArray[np.int64]:
    """Windows that hold a wanted pixel of the region, ascending."""
    ids = windows.touching(region.rows, region.cols)
    # Seen from the region, a window may begin before it and end behind it.
    padded = np.pad(wanted, windows.size)
    origins = windows.origins(ids) - (region.rows[0], region.cols[0]) + windows.size
    return ids[box_sums(padded, origins, windows.size) > 0]


def _outputs(
    bundle: ModelBundle, stacks: Mapping[str, npt.NDArray[Any]], origins: npt.NDArray[np.int64]
) -> Iterator[tuple[tuple[int, int], npt.NDArray[np.floating[Any]]]]:
    """Origin and network output (size, size) of windows, in order, in batches of one shape."""
    size = bundle.window
    for at in range(0, len(origins), BATCH):
        part = origins[at : at + BATCH]
        inputs = {name: _chips(values, part, size) for name, values in stacks.items()}
        with _one_at_a_time:
            outputs = np.asarray(_network(bundle).predict_on_batch(inputs))
        for (y, x), output in zip(part, outputs, strict=False):
            yield (int(y), int(x)), output[..., 0]


def _chips(values: npt.NDArray[Any], origins: npt.NDArray[np.int64], size: int) -> npt.NDArray[Any]:
    """Windows of a channels-last array as one batch, filled up with zeros."""
    out = np.zeros((BATCH, size, size, values.shape[-1]), values.dtype)
    for chip, (y, x) in zip(out, origins, strict=False):
        chip[:] = values[y : y + size, x : x + size]
    return out


def _network(bundle: ModelBundle) -> keras.Model:
    """The network of a bundle, loaded once per process."""
    return _loaded(bundle.path, bundle.weights_digest)


@lru_cache(maxsize=32)
def _loaded(path: Path, weights_digest: str) -> keras.Model:
    there = load_bundle(path)
    if there.weights_digest != weights_digest:
        raise BundleError(
            f"The model in {str(path)!r} was trained anew since the bundle was made: its weights "
            f"are {there.weights_digest}, not {weights_digest}. Load the bundle again."
        )
    return there.model()
