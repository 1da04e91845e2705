"""Olinda, Brazil: from one Landsat scene to the population of 470 census tracts.

Run ``python examples/olinda/quickstart.py``; it writes ``build/olinda/``: the cube, a
model per fold, the table of tracts, and ``index.html``. What the data are: ``data/README.md``.
"""

import itertools
import resource
import time
from pathlib import Path

import catalogs
import cube
import inference
import training

DATA = Path(__file__).parent / "data"
OPTICAL = ("blue", "green", "red", "nir", "swir1", "swir2")
TERRAIN = ("elevation", "slope", "northness", "curvature")
NOTES = (
    "The image carries no date (1999 or later) and the census is of 2010. Neither the elevation "
    "model nor the tracts name their datum; both are declared to be SIRGAS 2000. Three tracts "
    "lie partly outside the image, and the smallest is four pixels large.",
)


def main(out=Path("build/olinda"), *, client=None, region=64, epochs=12, members=3, seed=0):
    """Run the whole chain, here or on the workers of a Dask client."""
    clock = {"start": time.perf_counter()}

    # 1. Scenes to cube: metadata first, then region by region, each checked and ticked.
    image, dem = DATA / "L7_ETMs.tif", DATA / "olinda_dem_utm25s.tif"
    landsat = catalogs.geotiff(image, bands=OPTICAL, nodata=0)
    elevation = catalogs.geotiff(
        dem, bands=["elevation"], nodata="none", crs="EPSG:31985", resampling="cubic"
    )
    spec = cube.CubeSpec(
        title="Olinda",
        grid=catalogs.grid_of(image),
        calendar=cube.years(2000, 2010),
        stacks=(
            cube.StackSpec(name="predictors", bands=OPTICAL, dtype="uint8", nodata=0),
            cube.StackSpec(name="terrain", bands=TERRAIN, dtype="float32", static=True),
        ),
        layers=(cube.LayerSpec(name="population", dtype="float64", long_name="persons per pixel"),),
        layout=cube.LayoutSpec(chunk=32, region=region),
    )
    url = cube.create(out / "cube.zarr", spec)
    cube.ingest(url, "predictors", {"2000": landsat}, client=client)
    cube.ingest(url, "terrain", cube.Terrain(elevation=elevation, bands=TERRAIN), client=client)
    clock["scenes to cube"] = time.perf_counter()

    # 2. What people counted becomes a label: persons per pixel, none lost.
    tracts = cube.read_polygons(
        DATA / "olinda1.shp", grid=spec.grid, crs="EPSG:4674", counts=["V014"]
    )
    coverage = cube.coverage.build(url, "tracts", tracts, client=client)
    cube.spread(coverage, "population", tracts["V014"], time="2010", client=client)
    persons = float(cube.open(url)["population"].sel(time="2010").sum())
    print(f"{persons:,.6f} of {tracts['V014'].sum():,} persons live in the image")
    clock["census to label"] = time.perf_counter()

    # 3. Chips, folds of whole neighbourhoods with a buffer, a network per fold.
    windows = cube.Windows(shape=spec.grid.shape, size=24, stride=8)
    sample = training.SampleSpec.of(
        {"predictors": OPTICAL, "terrain": ["slope"]},  # elevation would tell where a tract is
        training.Target(layer="population", per="km2", transform="log"),
        label_time="2010",
        input_time="2000",
    )
    training.index_chips(url, sample, windows).save(out / "chips.parquet", overwrite=True)
    rules = training.SplitRules(seed=seed)
    split = training.split_by_place(coverage, tracts, windows, rules, by="NM_BAIR", folds=5)
    print(split)
    split.save(out / "split.json")
    fit = training.FitSpec(epochs=epochs, members=members, seed=seed)
    models = training.cross_validate(url, sample, split, fit, out=out / "models")
    clock["training of 5 folds"] = time.perf_counter()

    # 4. Every pixel by the model that never saw its place; back into the cube, then to tracts.
    inference.predict(url, "population_predicted", models, fold_layer="fold", client=client)
    clock["prediction, wall to wall"] = time.perf_counter()
    evaluation = inference.evaluate(
        coverage, tracts, "population_predicted", sample, split,
        persons="V014", groups=training.whole_groups(tracts, "NM_BAIR"), client=client,
    )  # fmt: skip
    inference.write_table(evaluation.polygons, out / "tracts")
    clock["tracts, baselines, scores"] = time.perf_counter()

    times = list(clock.items())
    seconds = {b: t - s for (_, s), (b, t) in itertools.pairwise(times)}
    story = inference.Story(
        title="Population of Olinda from Landsat", place="census tracts of Olinda",
        rgb=("predictors", ("red", "green", "blue")), notes=NOTES, seconds=seconds,
    )  # fmt: skip
    page = inference.write_summary(out / "index.html", evaluation, story)
    print(cube.verify(url), evaluation, sep="\n")
    print(", ".join(f"{step} {s:.1f} s" for step, s in seconds.items()))
    print(f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6:.2f} GB at most;", page)
    return evaluation


if __name__ == "__main__":
    main()
