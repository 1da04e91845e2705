"""Checks: the same numbers by rasterio and shapely alone, and totals that must stay."""

import numpy as np
import rasterio
import shapely

FILES = "lsat7_2000_30.tif", "lsat7_2000_40.tif", "strata.tif"

LIMIT = 1e-6
"""Smallest difference that is refused: NDVI, and shares of pixels, are kept as float32."""


def differences(folder, groups, data, panel):
    """Largest differences of what was spread and collected."""
    red, nir, cover = (band(folder / name) for name in FILES)
    with rasterio.open(folder / FILES[0]) as file:
        group, pixel, area = parts(groups.geometry.to_numpy(), file.transform, file.shape)
    developed = cover == 1
    ndvi = ((nir - red) / (nir + red)).ravel()[pixel]
    seen = np.isfinite(ndvi)
    total, size = (
        np.bincount(group[seen], values[seen], len(groups)) for values in (area * ndvi, area)
    )
    mean = np.divide(total, size, out=np.full(len(groups), np.nan), where=size > 0)
    density = (groups["persons"] / groups.geometry.area).to_numpy()
    built = area * developed.ravel()[pixel]
    inside, on_built = (np.bincount(group, size, len(groups)) for size in (area, built))
    some = on_built > 0
    rate = density * np.divide(inside, on_built, out=np.ones(len(groups)), where=some)
    by_area, on_developed = (
        np.bincount(pixel, persons, red.size).reshape(red.shape)
        for persons in (area * density[group], np.where(some[group], built, area) * rate[group])
    )
    return {
        "persons of a pixel, by area": largest(data["persons_by_area"], by_area),
        "persons of a pixel, on developed land": largest(
            data["persons_on_developed"], on_developed
        ),
        "mean NDVI of a block group": largest(panel["indices_ndvi_mean"][:, 0], mean),
    }


def conserved(coverage, groups, data, squares):
    """Largest differences of totals from what they must be."""
    inside = float((groups["persons"] * coverage.covered_share).sum())
    children = float((groups["children"] * coverage.covered_share).sum())
    print(f"{inside:,.1f} of {groups['persons'].sum():,.0f} persons live on the grid of the image")
    by_area = data["persons_by_area"]
    totals = {
        "persons of all pixels, by area": (by_area, inside),
        "persons of all pixels, on developed land": (data["persons_on_developed"], inside),
        "children of all pixels, from their share": (by_area * data["child_share"], children),
    }
    found = {what: abs(float(some.sum()) - all_) for what, (some, all_) in totals.items()}
    lost = squares.attrs["lost"]["persons"]
    found["persons in squares and outside"] = abs(squares.sum() + lost - groups["persons"].sum())
    return found


def band(path):
    """The one band of a file as float64, NaN for nodata."""
    with rasterio.open(path) as file:
        return file.read(1, masked=True).astype("float64").filled(np.nan)


def parts(shapes, transform, shape):
    """Place of the polygon, place of the pixel, and area, of what the two share."""
    rows, cols = (axis.ravel() for axis in np.indices(shape))
    left, top = transform @ (cols, rows)
    pixels = shapely.box(left, top + transform.e, left + transform.a, top)
    polygon, pixel = shapely.STRtree(pixels).query(shapes, predicate="intersects")
    shapely.prepare(shapes)
    cut = ~shapely.contains_properly(shapes[polygon], pixels[pixel])
    area = np.full(len(pixel), abs(transform.determinant))
    area[cut] = shapely.area(shapely.intersection(shapes[polygon[cut]], pixels[pixel[cut]]))
    return polygon, pixel, area


def largest(found, expected):
    """Largest difference; infinite where one has a number and the other has none."""
    found, expected = (np.asarray(values, "float64") for values in (found, expected))
    lost = np.isnan(found) != np.isnan(expected)
    return float(np.where(lost, np.inf, np.nan_to_num(abs(found - expected))).max())
