"""The hand-over from training to prediction: one folder with a model and what it needs."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cube.errors import BundleError, SpecError
from cube.spec import CubeSpec
from training.samples import SampleSpec

if TYPE_CHECKING:
    import keras

FORMAT_VERSION = 1
MODEL_FILE = "model.keras"
FACTS_FILE = "bundle.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelBundle:
    """Everything about a trained model except its weights.

    Attributes:
        path: The folder.
        sample: Inputs by name, target and times.
        window: Side of the window in pixels.
        stride: Step between windows when predicting.
        packing: Stack name to its spec as a dict: dtype, nodata, scale, offset.
        fold: Number of the fold; None for a model of all data.
        split_digest: Of the split's manifest.
        cube_digest: Of the cube's spec.
        seed: Of the training.
        weights_digest: Of the network's weights, whatever file they lie in.
        metrics: Name to value, of the best epoch.
        environment: Package to version.
        licence: Of the weights.
    """

    path: Path
    sample: SampleSpec
    window: int
    stride: int
    packing: Mapping[str, Any]
    fold: int | None
    split_digest: str
    cube_digest: str
    seed: int
    weights_digest: str
    metrics: Mapping[str, float]
    environment: Mapping[str, str]
    licence: str = "Apache-2.0"

    def model(self) -> keras.Model:
        """Load the network; runs no foreign code.

        Raises:
            BundleError: The file is missing or damaged, or holds other weights.
        """
        import keras

        import training.layers  # noqa: F401  (registers the layers by name)

        try:
            model = keras.saving.load_model(self.path / MODEL_FILE, compile=False, safe_mode=True)
        except Exception as error:
            # Of a damaged file zipfile, zlib, HDF5 or Keras may complain, each in its own way.
            reason = " ".join(str(error).split())[:300]
            raise BundleError(
                f"The model in {str(self.path)!r} cannot be loaded: {reason}"
            ) from error
        if weights_digest(model) != self.weights_digest:
            raise BundleError(
                f"The model in {str(self.path)!r} has other weights than its {FACTS_FILE} says, "
                f"as when saving was cut short; train it again."
            )
        return model

    def save(self, model: keras.Model) -> None:
        """Write the folder.

        Raises:
            BundleError: It cannot be written to.
        """
        text = json.dumps(self.to_dict(), indent=1, sort_keys=True) + "\n"
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            model.save(self.path / MODEL_FILE)
            (self.path / FACTS_FILE).write_text(text, encoding="utf-8")
        except OSError as error:
            raise BundleError(f"Cannot save the model in {str(self.path)!r}: {error}.") from error

    def check(self, spec: CubeSpec) -> None:
        """Refuse a cube whose stacks are packed otherwise than the model's inputs were.

        Raises:
            BundleError: The message says which stack differs.
        """
        try:
            self.sample.check(spec)
        except SpecError as error:
            raise BundleError(f"The model does not fit this cube: {error}") from error
        for name, packing in self.packing.items():
            stack = spec.stack(name).to_dict()
            differing = [
                k for k in ("dtype", "nodata", "scale", "offset") if stack[k] != packing[k]
            ]
            if differing:
                raise BundleError(
                    f"The model was trained on stack {name!r} with "
                    f"{', '.join(f'{k}={packing[k]}' for k in differing)}; the cube has "
                    f"{', '.join(f'{k}={stack[k]}' for k in differing)}."
                )

    def to_dict(self) -> dict[str, Any]:
        """JSON-able form, without the path."""
        return {
            "format_version": FORMAT_VERSION,
            "sample": self.sample.to_dict(),
            "window": self.window,
            "stride": self.stride,
            "packing": dict(self.packing),
            "fold": self.fold,
            "split_digest": self.split_digest,
            "cube_digest": self.cube_digest,
            "seed": self.seed,
            "weights_digest": self.weights_digest,
            "metrics": dict(self.metrics),
            "environment": dict(self.environment),
            "licence": self.licence,
        }


def load_bundle(path: str | os.PathLike[str]) -> ModelBundle:
    """Read a bundle's facts; the network itself is loaded by :meth:`ModelBundle.model`.

    Raises:
        BundleError: There is no bundle, or a damaged or newer one.
    """
    folder = Path(path)
    data = _read_facts(folder / FACTS_FILE)
    try:
        sample = SampleSpec.from_dict(data.pop("sample"))
        return ModelBundle(path=folder.absolute(), sample=sample, **data)
    except (KeyError, TypeError, SpecError) as error:
        raise BundleError(f"{str(folder / FACTS_FILE)!r} lacks something: {error}.") from error


def _read_facts(path: Path) -> dict[str, Any]:
    """Content of a facts file, less its version."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise BundleError(f"There is no model bundle at {str(path.parent)!r}.") from error
    except (OSError, ValueError) as error:
        raise BundleError(f"{str(path)!r} cannot be read as JSON: {error}.") from error
    known = data.pop("format_version", None) if isinstance(data, dict) else None
    if not isinstance(known, int):
        raise BundleError(f"{str(path)!r} does not hold the facts of a model.")
    if known > FORMAT_VERSION:
        raise BundleError(f"The bundle {str(path.parent)!r} is newer than this version of quadrat.")
    return data


def weights_digest(model: keras.Model) -> str:
    """First 12 hex digits of the SHA-256 of all weights, in order."""
    sha = hashlib.sha256()
    for weight in model.get_weights():
        sha.update(np.ascontiguousarray(weight).tobytes())
    return sha.hexdigest()[:12]


def environment() -> dict[str, str]:
    """Versions that decide what a model computes."""
    import keras

    found = {"quadrat": version("quadrat"), "keras": str(keras.__version__)}
    backend = keras.backend.backend()
    package = {"tensorflow": "tensorflow", "jax": "jax", "torch": "torch"}[backend]
    module = __import__(package)
    return {**found, "backend": backend, backend: str(module.__version__)}
