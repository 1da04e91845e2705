"""Steps of an augmentation as data: which random changes a chip may undergo.

A step says how many uniform numbers a chip needs for it and what they mean. Moves give a
:class:`~training.augmentation.placement.Placement`, all of which are composed and applied at once;
radiometric steps change the stored values of observed pixels, in their order.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from cube.errors import SpecError
from training.packing import Packing

if TYPE_CHECKING:
    from training.augmentation.placement import Placement

Stacks = Mapping[str, Packing]
Arrays = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """A step that puts other pixels of a chip in the place of each.

    Attributes:
        exact: Pixels go to pixels, so that stored values need no interpolation.
        whole: Nothing leaves the chip: a symmetry of the square.
    """

    exact: ClassVar[bool] = True
    whole: ClassVar[bool] = False

    def count(self, stacks: Stacks) -> int:
        """Uniform numbers that a chip needs."""
        raise NotImplementedError

    def placement(self, draws: Any, *, side: int) -> Placement:
        """Where the pixels come from.

        Args:
            draws: Uniform numbers in [0, 1), float32 (batch, count).
            side: Of a chip, in pixels.
        """
        raise NotImplementedError


@dataclass(frozen=True, slots=True, kw_only=True)
class Flip(Move):
    """Mirror left and right, up and down, or either by itself; each with one half chance.

    Attributes:
        along: ``"x"`` mirrors left and right, ``"y"`` up and down, ``"both"`` each of them.
    """

    along: Literal["x", "y", "both"] = "both"
    whole: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.along not in ("x", "y", "both"):
            raise SpecError(f"A flip is along 'x', 'y' or 'both'. Received {self.along!r}.")

    def count(self, stacks: Stacks) -> int:
        """One for each axis."""
        del stacks
        return 2 if self.along == "both" else 1

    def placement(self, draws: Any, *, side: int) -> Placement:
        """See :class:`Move`."""
        from training.augmentation import placement

        del side
        return placement.mirrored(
            y=None if self.along == "x" else draws[:, 0],
            x=None if self.along == "y" else draws[:, -1],
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Dihedral(Move):
    """One of the 8 symmetries of the square, all as likely: quarter turns, and mirrored."""

    whole: ClassVar[bool] = True

    def count(self, stacks: Stacks) -> int:
        """One."""
        del stacks
        return 1

    def placement(self, draws: Any, *, side: int) -> Placement:
        """See :class:`Move`."""
        from training.augmentation import placement

        del side
        return placement.symmetric(draws[:, 0])


@dataclass(frozen=True, slots=True, kw_only=True)
class Jitter(Move):
    """Shift by whole pixels, at random in y and x; what comes in from outside is nodata.

    Attributes:
        pixels: At most so many, either way.
    """

    pixels: int

    def __post_init__(self) -> None:
        if self.pixels != int(self.pixels) or self.pixels < 1:
            raise SpecError(f"A jitter is of 1 pixel or more. Received pixels={self.pixels}.")

    def count(self, stacks: Stacks) -> int:
        """One for each axis."""
        del stacks
        return 2

    def placement(self, draws: Any, *, side: int) -> Placement:
        """See :class:`Move`.

        Raises:
            SpecError: A chip could leave itself altogether.
        """
        from training.augmentation import placement

        if self.pixels >= side:
            raise SpecError(
                f"A jitter of {self.pixels} pixels empties chips of {side}; give at most "
                f"{side - 1}."
            )
        return placement.shifted(draws, pixels=int(self.pixels))


@dataclass(frozen=True, slots=True, kw_only=True)
class CropZoom(Move):
    """A random square of a chip, as large as the chip again.

    Attributes:
        low: Least side of the square, as a fraction of the chip's, above 0.
        high: Greatest, at most 1.
    """

    low: float = 0.9
    high: float = 1.0
    exact: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if not 0 < self.low <= self.high <= 1:
            raise SpecError(
                f"A crop keeps a fraction with 0 < low <= high <= 1. Received low={self.low}, "
                f"high={self.high}."
            )

    def count(self, stacks: Stacks) -> int:
        """One for the fraction, two for the place."""
        del stacks
        return 3

    def placement(self, draws: Any, *, side: int) -> Placement:
        """See :class:`Move`."""
        from training.augmentation import placement

        return placement.cropped(draws, low=self.low, high=self.high, side=side)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rotation(Move):
    """Turn about the centre by a random angle; corners from outside are nodata.

    Attributes:
        degrees: At most so many, either way; 0 to 180.
    """

    degrees: float
    exact: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if not 0 < self.degrees <= 180:
            raise SpecError(
                f"A rotation is by at most 180 degrees either way. Received {self.degrees}."
            )

    def count(self, stacks: Stacks) -> int:
        """One."""
        del stacks
        return 1

    def placement(self, draws: Any, *, side: int) -> Placement:
        """See :class:`Move`."""
        from training.augmentation import placement

        del side
        return placement.turned((2.0 * draws[:, 0] - 1.0) * math.radians(self.degrees))


@dataclass(frozen=True, slots=True, kw_only=True)
class Radiometric:
    """A step that changes values of observed pixels, and never where they lie.

    Attributes:
        stacks: Names of the inputs that it changes; None for all of them.
    """

    stacks: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        given: Any = self.stacks
        if isinstance(given, str):
            raise SpecError(f"stacks is a list of names. Received {given!r}.")
        object.__setattr__(self, "stacks", None if given is None else tuple(given))

    def among(self, stacks: Stacks) -> dict[str, Packing]:
        """Those that it changes, in their order.

        Raises:
            SpecError: It names one that is not there.
        """
        wanted = tuple(stacks) if self.stacks is None else self.stacks
        if unknown := sorted(set(wanted) - set(stacks)):
            raise SpecError(
                f"{type(self).__name__} changes the inputs {', '.join(unknown)}; there are "
                f"{', '.join(stacks)}."
            )
        return {name: packing for name, packing in stacks.items() if name in wanted}

    def count(self, stacks: Stacks) -> int:
        """Uniform numbers that a chip needs: one for each band."""
        return sum(packing.bands for packing in self.among(stacks).values())

    def applied(self, arrays: Arrays, draws: Any, *, stacks: Stacks) -> dict[str, Any]:
        """Stored values changed.

        Args:
            arrays: Input name to stored values, (batch, [time,] y, x, band).
            draws: Uniform numbers in [0, 1), float32 (batch, count).
            stacks: Packing of every input.
        """
        raise NotImplementedError


@dataclass(frozen=True, slots=True, kw_only=True)
class Brightness(Radiometric):
    """Multiply physical values by a random factor, one for all bands of a chip.

    Attributes:
        low: Least factor, above 0.
        high: Greatest.
    """

    low: float = 0.8
    high: float = 1.2

    def __post_init__(self) -> None:
        # Without arguments super() would look for the class that slots=True replaced.
        Radiometric.__post_init__(self)
        if not 0 < self.low <= self.high < math.inf:
            raise SpecError(
                f"A brightness is a factor with 0 < low <= high. Received low={self.low}, "
                f"high={self.high}."
            )

    def count(self, stacks: Stacks) -> int:
        """One."""
        self.among(stacks)
        return 1

    def applied(self, arrays: Arrays, draws: Any, *, stacks: Stacks) -> dict[str, Any]:
        """See :class:`Radiometric`."""
        from training.augmentation import radiometry

        factor = self.low + draws * (self.high - self.low)
        changed = {
            name: radiometry.brightened(arrays[name], factor, packing)
            for name, packing in self.among(stacks).items()
        }
        return {**arrays, **changed}


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelShift(Radiometric):
    """Add a random number to the physical values of each band, another for each.

    Attributes:
        amount: At most so much, either way, in the units of the bands; above 0.
    """

    amount: float

    def __post_init__(self) -> None:
        Radiometric.__post_init__(self)
        if not 0 < self.amount < math.inf:
            raise SpecError(f"A channel shift is above 0. Received amount={self.amount}.")

    def applied(self, arrays: Arrays, draws: Any, *, stacks: Stacks) -> dict[str, Any]:
        """See :class:`Radiometric`."""
        from training.augmentation import radiometry

        shift = (2.0 * draws - 1.0) * self.amount
        return radiometry.by_band(radiometry.shifted, arrays, shift, self.among(stacks))


@dataclass(frozen=True, slots=True, kw_only=True)
class BandDropout(Radiometric):
    """Make whole bands nodata, each by itself, but never all that it may change.

    Attributes:
        probability: That a band is lost, above 0 and below 1.
    """

    probability: float

    def __post_init__(self) -> None:
        Radiometric.__post_init__(self)
        if not 0 < self.probability < 1:
            raise SpecError(
                f"A band is dropped with a probability between 0 and 1. Received "
                f"probability={self.probability}."
            )

    def count(self, stacks: Stacks) -> int:
        """One for each band.

        Raises:
            SpecError: There is one band, which is never dropped.
        """
        bands = Radiometric.count(self, stacks)
        if bands < 2:
            raise SpecError(
                f"BandDropout never drops all bands, so it needs 2 or more. Received "
                f"{', '.join(self.among(stacks)) or 'none'} of {bands} band."
            )
        return bands

    def applied(self, arrays: Arrays, draws: Any, *, stacks: Stacks) -> dict[str, Any]:
        """See :class:`Radiometric`."""
        from training.augmentation import radiometry

        lost = radiometry.dropped(draws, self.probability)
        return radiometry.by_band(radiometry.without, arrays, lost, self.among(stacks))


Step = Move | Radiometric

_STEPS: dict[str, type[Step]] = {
    step.__name__: step
    for step in (
        Flip,
        Dihedral,
        Jitter,
        CropZoom,
        Rotation,
        Brightness,
        ChannelShift,
        BandDropout,
    )
}


def step_to_dict(step: Step) -> dict[str, Any]:
    """JSON-able form: ``{"step": "Flip", "along": "x"}``."""
    options = {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(step).items()}
    return {"step": type(step).__name__, **options}


def step_from_dict(data: Mapping[str, Any]) -> Step:
    """Rebuild from :func:`step_to_dict`.

    Raises:
        SpecError: There is no such step, or it has no such option.
    """
    options = dict(data)
    name = options.pop("step", None)
    if name not in _STEPS:
        raise SpecError(
            f"An augmentation has the steps {', '.join(_STEPS)}. Received step={name!r}."
        )
    try:
        return _STEPS[name](**options)
    except TypeError as error:
        raise SpecError(f"{name} cannot be made of {options}: {error}.") from error


def steps_of(given: Iterable[Any]) -> tuple[Step, ...]:
    """Steps from steps, or from the dicts of them.

    Raises:
        SpecError: There are none, or one cannot be read.
    """
    steps = tuple(step_from_dict(s) if isinstance(s, Mapping) else s for s in given)
    wrong = [step for step in steps if not isinstance(step, Move | Radiometric)]
    if not steps or wrong:
        raise SpecError(
            f"An augmentation is made of steps such as Dihedral(). Received {wrong or 'none'}."
        )
    return steps
