"""What the years looked like: as lines of text, and as a picture."""

import numpy as np
from matplotlib import colormaps
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize, to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

BRIGHTEST = 0.12  # reflectance that is drawn as white
NODATA = "magenta"  # a colour of neither forest nor fields


def facts(data):
    """A line a year: how often it was clear, and how green forest was."""
    forest, ndvi = data["tree_cover"] >= 50, data["indices"].sel(indices_band="ndvi")
    years = data["time"].dt.year.values
    for year, green, dates in zip(years, ndvi, data["clear_observations"], strict=True):
        inside, outside = (float(green.where(there).median()) for there in (forest, ~forest))
        seen = f"{int(dates.min())} to {int(dates.max())} clear dates a pixel"
        yield f"{year}: {seen}, NDVI {inside:.2f} in forest and {outside:.2f} outside"


def draw(data, path, *, crs):
    """A row a year: true colour, greenness, and the number of dates they are the median of.

    Every year has the same colours for the same numbers.

    Args:
        data: A cube as ``cube.open`` gives it.
        path: Image to write.
        crs: Name of its coordinate system.
    """
    left, bottom, right, top = data.rio.bounds()
    place = {"extent": (0, right - left, 0, top - bottom), "interpolation": "nearest"}
    most = max(1, int(data["clear_observations"].max()))
    years = data["time"].dt.year.values
    figure = Figure(figsize=(7.5, 2.4 * len(years) + 2), layout="constrained")
    axes = figure.subplots(len(years), 3, sharex=True, sharey=True, squeeze=False)
    for i, (colour, green, count) in enumerate(axes):
        now = data.isel(time=i)
        colour.imshow(true_colour(now["predictors"]), **place)
        ndvi, dates = now["indices"].sel(indices_band="ndvi"), now["clear_observations"]
        greens = green.imshow(ndvi, cmap=shades("viridis"), vmin=0.4, vmax=0.95, **place)
        counts = count.imshow(dates, cmap=shades("cividis"), vmin=0, vmax=most, **place)
        colour.set_ylabel(f"{years[i]}\nnorth, m")
    for axis in axes[-1]:
        axis.set_xlabel("east, m")
        axis.xaxis.set_major_locator(MaxNLocator(4, prune="upper"))
    greys = ScalarMappable(Normalize(0, BRIGHTEST), "gray")
    columns = ("true colour", greys), ("NDVI", greens), ("clear observations", counts)
    labels = ("reflectance of each colour", "NDVI", "dates a pixel")
    for column, (title, shown), label in zip(axes.T, columns, labels, strict=True):
        column[0].set_title(title)
        figure.colorbar(shown, ax=column, label=label, location="bottom", pad=0.01, aspect=15)
    nodata = Patch(facecolor=NODATA, edgecolor="black", label="nodata")
    figure.legend(handles=[nodata], loc="outside lower center", frameon=False)
    figure.suptitle(
        f"Annual medians of clear Sentinel-2 observations\n"
        f"from E {left:.0f} m, N {bottom:.0f} m of {crs}"
    )
    figure.savefig(path, dpi=100)


def true_colour(predictors):
    """(y, x, rgb) between 0 and 1."""
    rgb = predictors.sel(band=["red", "green", "blue"]).transpose("y", "x", "band").values
    return np.where(np.isnan(rgb), to_rgb(NODATA), np.clip(rgb / BRIGHTEST, 0, 1))


def shades(name):
    """A colour map in which nodata is nodata."""
    return colormaps[name].with_extremes(bad=NODATA)
