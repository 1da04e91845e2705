"""Block groups, their people and their greenness as one picture."""

import numpy as np
from matplotlib import colormaps
from matplotlib.cm import ScalarMappable
from matplotlib.collections import PatchCollection
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Patch, PathPatch
from matplotlib.path import Path

UNKNOWN = {"facecolor": "#dddddd", "edgecolor": "#8c8c8c", "hatch": "////", "linewidth": 0.4}
HARDLY = {"facecolor": "none", "edgecolor": "white", "hatch": "..", "linewidth": 0}
NOBODY = {"facecolor": "white", "edgecolor": "#777777", "linewidth": 0.4}
ENOUGH = 0.8  # share of a group's area that was observed; below it, the group gets dots
TAILS = 2, 98  # percentiles of digital numbers, and of NDVI, at the ends of the colours
CROWDS = 0.1, 99.9  # percentiles of inhabited pixels at the ends of the colours


def draw(data, panel, path, *, source):
    """The image, persons by area, persons on developed land, and mean NDVI of block groups.

    Args:
        data: One period of the cube, as ``cube.open`` gives it.
        panel: Statistics by block, with geometry.
        path: Image to write.
        source: Where the rasters come from.
    """
    figure = Figure(figsize=(12, 13), layout="constrained")
    axes = figure.subplots(2, 2, sharex=True, sharey=True).ravel()
    left, bottom, right, top = data.rio.bounds()
    for axis in axes:
        lay_out(axis, left, bottom, right, top)
    place = {"extent": (left, right, bottom, top), "interpolation": "nearest"}
    groups = [outline(shape) for shape in panel["geometry"].values]
    draw_image(axes[0], data, place)
    draw_people(axes[1:3], data, groups, place)
    draw_greens(axes[3], panel.isel(time=0), groups)
    keys = {
        "not observed": Patch(**UNKNOWN),
        f"less than {100 * ENOUGH:.0f} % of the group observed": Patch(
            **{**HARDLY, "facecolor": colormaps["viridis"](0.7)}
        ),
        "nobody": Patch(**NOBODY),
    }
    title = f"{len(groups)} block groups of Raleigh, North Carolina, and one image"
    figure.legend(
        keys.values(), keys, title=title, title_fontsize="x-large", ncols=3, frameon=False,
        loc="outside upper center",
    )  # fmt: skip
    figure.supxlabel(
        f"Persons and outlines: U.S. Census Bureau, Census 2000. Image of 2000 and land cover of "
        f"1996: {source}.\nAxes: kilometres east and north of the image's corner.",
        fontsize="medium",
    )
    figure.savefig(path, dpi=100)


def lay_out(axis, left, bottom, right, top):
    """An empty map of the image's extent, where nothing is known yet."""
    axis.set(xlim=(left, right), ylim=(bottom, top), aspect="equal")
    axis.patch.set(**UNKNOWN)
    for ticks, start, end in ((axis.xaxis, left, right), (axis.yaxis, bottom, top)):
        every = np.arange(0, end - start, 2000)
        ticks.set_ticks(start + every, [f"{m / 1000:.0f}" for m in every])


def draw_image(axis, data, place):
    """Red, green and blue as the eye would have them."""
    axis.imshow(true_colour(data["predictors"]), **place)
    axis.set_title("Landsat 7 of 2000: red, green and blue")
    bar(axis, ScalarMappable(Normalize(*TAILS), "gray"), "percentile of each band")


def true_colour(predictors):
    """(y, x, rgba) between 0 and 1; clear where a band is nodata."""
    rgb = predictors.sel(band=["red", "green", "blue"]).transpose("y", "x", "band").values
    low, high = np.nanpercentile(rgb, TAILS, axis=(0, 1))
    seen = np.isfinite(rgb).all(axis=-1, keepdims=True)
    return np.concatenate([np.where(seen, np.clip((rgb - low) / (high - low), 0, 1), 0), seen], -1)


def draw_people(axes, data, groups, place):
    """Persons per hectare by area and on developed land, in the same colours."""
    hectares = pixel_m2(data) / 10_000
    layers = [data[name].values / hectares for name in ("persons_by_area", "persons_on_developed")]
    some = np.concatenate([layer[layer > 0] for layer in layers])
    norm = LogNorm(*np.percentile(some, CROWDS))
    cmap = colormaps["viridis_r"].with_extremes(under="white", bad=(0, 0, 0, 0))
    titles = "Persons, spread over the area of their group", "Persons, on land developed in 1996"
    for axis, layer, title in zip(axes, layers, titles, strict=True):
        # Zero has no logarithm, and would be drawn as nodata: it goes below all colours.
        layer[layer > 0] = np.maximum(layer[layer > 0], norm.vmin)
        image = axis.imshow(
            np.where(layer == 0, norm.vmin / 10, layer), cmap=cmap, norm=norm, **place
        )
        borders = PatchCollection(map(PathPatch, groups), fc="none", ec="#777777", lw=0.4)
        axis.add_collection(borders)
        axis.set_title(title)
        bar(axis, image, "persons per hectare, of Census 2000", format="{x:g}", extend="max")


def pixel_m2(data):
    """Area of a pixel."""
    transform = data.rio.transform()
    return abs(transform.a * transform.e)


def draw_greens(axis, panel, groups):
    """Mean NDVI of block groups; hatched where none of their pixels has one."""
    values = panel["indices_ndvi_mean"].values
    seen = (panel["indices_ndvi_valid_share"] * panel["covered_share"]).values
    known, whole = np.isfinite(values), seen >= ENOUGH
    patches = [PathPatch(groups[i]) for i in np.flatnonzero(known)]
    colours = PatchCollection(patches, array=values[known], cmap="viridis", ec="white", lw=0.4)
    colours.set_clim(*np.nanpercentile(values, TAILS))
    drawn = axis.add_collection(colours)
    for chosen, look in ((~known, UNKNOWN), (known & ~whole, HARDLY)):
        for i in np.flatnonzero(chosen):
            axis.add_patch(PathPatch(groups[i], **look))
    axis.set_title("Mean NDVI of block groups")
    bar(axis, drawn, "NDVI of digital numbers", extend="both")


def bar(axis, drawn, label, **look):
    """Colours and their numbers below a map."""
    axis.figure.colorbar(drawn, ax=axis, label=label, location="bottom", aspect=40, **look)


def outline(shape):
    """A polygon as one path; its holes run the other way round."""
    shape = shape.normalize()
    rings = [r for one in getattr(shape, "geoms", [shape]) for r in (one.exterior, *one.interiors)]
    return Path.make_compound_path(*(Path(ring.coords, closed=True) for ring in rings))
