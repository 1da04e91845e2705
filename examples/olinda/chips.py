"""Olinda, Brazil: from the cube of ``quickstart.py`` to chips, and by three doors to a model.

Run ``python examples/olinda/chips.py``; it writes cube, index, split, pictures: ``build/chips/``.
"""

import argparse
from pathlib import Path

import keras
import numpy as np

import catalogs
import cube
import training
from training.augmentation import Brightness, Dihedral
from training.augmentation.augmenting import Augmentation
from training.augmentation.fitted import augmented
from training.layers import standardiser

DATA = Path(__file__).parent / "data"
BANDS = ("blue", "green", "red", "nir", "swir1", "swir2")


def main(out=Path("build/chips"), *, seed=0):
    """Choose chips, look at them, and stream them to NumPy, TensorFlow and Keras."""
    url, tracts, coverage = build(out / "cube.zarr")

    # 1. What every chip holds, by one pass over the cube; then filters, which say what they took.
    target = training.Target(layer="population", per="km2", transform="log")
    sample = training.SampleSpec.of(
        {"predictors": BANDS}, target, label_time="2010", input_time="2000"
    )
    windows = cube.Windows(shape=cube.read_spec(url).grid.shape, size=16, stride=8)
    inhabited = training.CoverageShare(coverage=coverage)
    densest = training.DensityRank(layer="population", time="2010", name="rank")
    index = training.index_chips(url, sample, windows, predicates=[inhabited, densest])
    index = index.query("valid_share == 1 and tracts_share > 0.5").query("rank < 0.99")
    index.save(out / "chips.parquet", overwrite=True)
    red = cube.open(url)["predictors"].sel(band="red").isel(time=0)
    index.plot(out / "chips.png", column="label_mean", background=red, overwrite=True)

    # 2. Whole cells of the map train, watch or test, with a buffer of a window between them.
    split = training.split_by_cells(
        windows, cell_px=88, seed=seed, fractions={"train": 0.7, "validation": 0.1, "test": 0.2},
        balance="label", label=np.bincount(index.frame["window"], minlength=len(windows)),
    )  # fmt: skip
    split.save(out / "split.json")
    split.plot(out / "split.png")
    train = split.part("train", training.Chips(windows=windows), index=index)

    # 3. A stream of those that train, in 32 MB. Every tract counts the same, whatever its size.
    every = training.Supervision(coverage=coverage, polygons=np.arange(len(tracts)))
    statistics = training.training_statistics(url, sample, windows, train, supervision=every)
    how = training.StreamSpec(batch=32, seed=seed, memory="32 MB")
    stream = training.ChipStream(url, sample, windows, train, how, supervision=every)
    print(index, split, statistics, stream, sep="\n\n")

    # 4. NumPy: batches as the cube stores them. The first is drawn.
    chips = 0
    for batch in stream.epoch(0):
        if not chips:
            training.contact_sheet(batch, out / "sheet.png", sample=sample, cube_spec=stream.cube)
        chips += int((batch.chip >= 0).sum())
    print(f"\nNumPy: {chips} chips; {stream.report}")

    # 5. tf.data, and Keras' own PyDataset for any backend; chips are turned and lit anew each time.
    keras.utils.set_random_seed(seed)
    random = Augmentation.of((Dihedral(), Brightness()), stream.cube, sample, seed=seed)
    model = augmented(network(stream.cube, statistics, windows.size), random)
    model.compile(optimizer=keras.optimizers.Adam(0.01), loss="mse")
    model.fit(
        stream.tensorflow(epochs=2), epochs=2, steps_per_epoch=len(stream), shuffle=False, verbose=0
    )
    print(f"tf.data: {stream.report}")
    learned = model.fit(stream.keras(first=2), epochs=1, shuffle=False, verbose=0)
    print(f"PyDataset: {stream.report}; loss {learned.history['loss'][-1]:.3f}")


def build(url):
    """The image and the label of ``quickstart.py`` as a cube; with the tracts, and their shares."""
    image, polygons = DATA / "L7_ETMs.tif", DATA / "olinda1.shp"
    spec = cube.CubeSpec(
        grid=catalogs.grid_of(image),
        calendar=cube.years(2000, 2010),
        stacks=(cube.StackSpec(name="predictors", bands=BANDS, dtype="uint8", nodata=0),),
        layers=(cube.LayerSpec(name="population", dtype="float64", long_name="persons per pixel"),),
    )
    url = cube.create(url, spec)
    cube.ingest(url, "predictors", {"2000": catalogs.geotiff(image, bands=BANDS, nodata=0)})
    tracts = cube.read_polygons(polygons, grid=spec.grid, crs="EPSG:4674", counts=["V014"])
    coverage = cube.coverage.build(url, "tracts", tracts)
    cube.spread(coverage, "population", tracts["V014"], time="2010")
    return url, tracts, coverage


def network(spec, statistics, size):
    """A very small network, from stored values to the logarithm of a density."""
    stored = keras.Input((size, size, len(BANDS)), dtype="uint8", name="predictors")
    x = standardiser(statistics, spec.stack("predictors"))(stored)
    x = keras.layers.Conv2D(16, 5, padding="same", activation="relu")(x)
    x = keras.layers.Conv2D(1, 1, bias_initializer=keras.initializers.Constant(8.0))(x)
    return keras.Model({"predictors": stored}, x)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", default=Path("build/chips"), type=Path)
    main(**vars(parser.parse_args()))
