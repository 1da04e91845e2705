"""Block groups, their people and their greenness as one picture."""

import numpy as np
from matplotlib import colormaps
from matplotlib.collections import PatchCollection
from matplotlib.colors import LogNorm, to_rgba
from matplotlib.figure import Figure
from matplotlib.patches import Patch, PathPatch
from matplotlib.path import Path

UNKNOWN = {"facecolor": "#dddddd", "edgecolor": "#8c8c8c", "hatch": "////", "linewidth": 0.4}
HARDLY = {"facecolor": "none", "edgecolor": "white", "hatch": "..", "linewidth": 0}
ENOUGH = 0.8  # share of a group's pixels with a value; below it, the group gets dots
DENSEST = 99.9  # percentile of inhabited pixels at the end of the colours
ORDERS = 1000  # how much more the darkest has than the lightest
TAILS = 2, 98  # percentiles of digital numbers that are black and white


def draw(data, panel, path, *, source):
    """The image, persons by area, persons on developed land, and mean NDVI of block groups.

    Args:
        data: One period of the cube, as ``cube.open`` gives it.
        panel: Statistics by block, with geometry.
        path: Image to write.
        source: Where the rasters come from.
    """
    figure = Figure(figsize=(12, 12.9), layout="constrained")
    axes = figure.subplots(2, 2, sharex=True, sharey=True).ravel()
    left, bottom, right, top = data.rio.bounds()
    for axis in axes:
        lay_out(axis, left, bottom, right, top)
    place = {"extent": (left, right, bottom, top), "interpolation": "nearest"}
    axes[0].imshow(true_colour(data["predictors"]), **place)
    groups = [outline(shape) for shape in panel["geometry"].values]
    draw_people(axes[1:3], data, groups, place)
    draw_greens(axes[3], panel.isel(time=0), groups)
    keys = Patch(**UNKNOWN), Patch(**{**HARDLY, "facecolor": "#35b779"})
    words = "not observed", f"fewer than {ENOUGH:.0%} of the group's pixels observed"
    figure.legend(keys, words, loc="outside lower center", ncols=2, frameon=False)
    figure.suptitle(f"{len(groups)} block groups of Raleigh, North Carolina, and one image")
    figure.supxlabel(
        f"Persons and outlines: U.S. Census Bureau, Census 2000. Image (2000) and land cover "
        f"(1996): {source}.\nAxes: kilometres east and north of the image's corner.",
        fontsize="small",
    )
    figure.savefig(path, dpi=100)


def lay_out(axis, left, bottom, right, top):
    """An empty map of the image's extent, where nothing is known yet."""
    axis.set(xlim=(left, right), ylim=(bottom, top), aspect="equal")
    axis.patch.set(**UNKNOWN)
    for ticks, start, end in ((axis.xaxis, left, right), (axis.yaxis, bottom, top)):
        every = np.arange(0, end - start, 2000)
        ticks.set_ticks(start + every, [f"{m / 1000:.0f}" for m in every])


def true_colour(predictors):
    """(y, x, rgba) between 0 and 1; clear where a band is nodata."""
    rgb = predictors.sel(band=["red", "green", "blue"]).transpose("y", "x", "band").values
    low, high = np.nanpercentile(rgb, TAILS, axis=(0, 1))
    seen = np.isfinite(rgb).all(axis=-1, keepdims=True)
    return np.concatenate([np.where(seen, np.clip((rgb - low) / (high - low), 0, 1), 0), seen], -1)


def draw_people(axes, data, groups, place):
    """Persons per hectare by area and on developed land, in the same colours."""
    left, bottom, right, top = data.rio.bounds()
    hectares = (right - left) * (top - bottom) / data["persons_by_area"].size / 10_000
    layers = [data[name] / hectares for name in ("persons_by_area", "persons_on_developed")]
    most = np.percentile(np.concatenate([x.values[x.values > 0] for x in layers]), DENSEST)
    cmap = colormaps["viridis_r"].with_extremes(under="white", bad=to_rgba("white", 0))
    titles = "Persons, spread over the area of their group", "Persons, on land developed in 1996"
    for axis, layer, title in zip(axes, layers, titles, strict=True):
        # LogNorm would take zero for nodata; "nobody" has a colour of its own.
        shown = layer.clip(min=most / ORDERS / 10).values
        norm = LogNorm(most / ORDERS, most)
        image = axis.imshow(shown, cmap=cmap, norm=norm, **place)
        axis.add_collection(
            PatchCollection(map(PathPatch, groups), fc="none", ec="#777777", lw=0.4)
        )
        axis.set_title(title)
        label = "persons per hectare (white: fewer, or nobody)"
        bar(axis, image, label, extend="both")


def draw_greens(axis, panel, groups):
    """Mean NDVI of block groups; hatched where none of their pixels has one."""
    values, seen = panel["indices_ndvi_mean"].values, panel["indices_ndvi_valid_share"].values
    known = np.isfinite(values)
    for chosen, look in ((known, {"cmap": "viridis", "ec": "white", "lw": 0.4}),):
        patches = [PathPatch(groups[i]) for i in np.flatnonzero(chosen)]
        drawn = axis.add_collection(PatchCollection(patches, array=values[chosen], **look))
    for chosen, look in ((~known, UNKNOWN), (known & (seen < ENOUGH), HARDLY)):
        for i in np.flatnonzero(chosen):
            axis.add_patch(PathPatch(groups[i], **look))
    axis.set_title("Mean NDVI of block groups")
    bar(axis, drawn, "NDVI of digital numbers, 1")


def bar(axis, drawn, label, **look):
    """Colours and numbers below a map."""
    axis.figure.colorbar(drawn, ax=axis, label=label, location="bottom", aspect=40, **look)


def outline(shape):
    """A polygon as one path; holes run the other way round."""
    polygons = getattr(shape.normalize(), "geoms", [shape.normalize()])
    rings = [ring for one in polygons for ring in (one.exterior, *one.interiors)]
    return Path.make_compound_path(*(Path(ring.coords, closed=True) for ring in rings))
