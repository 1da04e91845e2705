"""How a run ended, region by region; kept beside the cube."""

from __future__ import annotations

import html
import json
import logging
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields
from datetime import UTC, datetime
from typing import Any, Literal, get_args

from cube import objects, urls
from cube.errors import CubeError, IncompleteError, SpecError

Status = Literal["done", "skipped", "partial", "failed"]

FORMAT_VERSION = 1

_log = logging.getLogger("quadrat.run")


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How one task ended.

    Attributes:
        task: What it was, for a person.
        status: Done; skipped (was done already); partial (it lost an input, so it
            was not ticked, and the next run does it again); or failed.
        reason: Why it is partial or failed.
        tries: How often it was tried; 0 if skipped.
        seconds: How long it took, pauses included.
        bytes_out: Stored bytes that it wrote, before compression.
        lost: Inputs that could not be read, by name, with the reason of each.
    """

    task: str
    status: Status
    reason: str = ""
    tries: int = 0
    seconds: float = 0.0
    bytes_out: int = 0
    lost: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.status not in get_args(Status):
            raise SpecError(
                f"A status is one of {', '.join(get_args(Status))}. Received {self.status!r}."
            )


_DEFAULTS = {"reason": "", "tries": 0, "seconds": 0.0, "bytes_out": 0, "lost": {}}


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """How a run ended.

    Attributes:
        verb: As in the plan.
        outcomes: One per region that ended.
        left: Regions that were not done since the run stopped early.
        stopped: Why it did; empty if it went through.
        started: When it began, UTC as in ISO 8601; empty if unknown.
        seconds: How long it took.
    """

    verb: str
    outcomes: tuple[Outcome, ...]
    left: int = 0
    stopped: str = ""
    started: str = ""
    seconds: float = 0.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "outcomes", tuple(self.outcomes))

    def count(self, status: Status) -> int:
        """Number of regions with that status."""
        return sum(outcome.status == status for outcome in self.outcomes)

    @property
    def failed(self) -> tuple[Outcome, ...]:
        """Outcomes of regions that failed, with their reasons."""
        return tuple(o for o in self.outcomes if o.status == "failed")

    @property
    def partial(self) -> tuple[Outcome, ...]:
        """Outcomes of regions that lost an input, with their reasons."""
        return tuple(o for o in self.outcomes if o.status == "partial")

    @property
    def lost(self) -> dict[str, str]:
        """Inputs that could not be read, by name, each with one reason; in quarantine, so to say.

        A region that could not read one it needs is partial, and never written without it. What
        is lost for good is to be taken out of the inputs, e.g. with ``Manifest.exclude``.
        """
        return dict(sorted({k: v for o in self.outcomes for k, v in o.lost.items()}.items()))

    @property
    def regions(self) -> int:
        """Number of regions that it was about."""
        return len(self.outcomes) + self.left

    @property
    def written(self) -> int:
        """Number of regions that are written, by this run or before."""
        return self.count("done") + self.count("skipped")

    @property
    def bytes_out(self) -> int:
        """Stored bytes that were written, before compression."""
        return sum(outcome.bytes_out for outcome in self.outcomes)

    def __str__(self) -> str:
        counts = [f"{self.count(s)} {s}" for s in ("done", "skipped")]
        counts += [f"{len(self.partial)} partial"] * bool(self.partial)
        counts += [f"{len(self.failed)} failed"]
        counts += [f"{self.left} left"] * bool(self.left)
        counts += [f"{len(self.lost)} inputs lost"] * bool(self.lost)
        return f"{self.verb}: {', '.join(counts)}" + (f". {self.stopped}" if self.stopped else "")

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><td>{html.escape(o.task)}</td><td>{html.escape(o.reason)}</td></tr>"
            for o in (*self.failed, *self.partial)
        )
        lost = "".join(
            f"<tr><td>{html.escape(name)}</td><td>{html.escape(reason)}</td></tr>"
            for name, reason in self.lost.items()
        )
        tables = (f"<table>{table}</table>" for table in (lost, rows) if table)
        return f"<p>{html.escape(str(self))}</p>" + "".join(tables)

    def check(self) -> Report:
        """Return the report itself.

        Raises:
            IncompleteError: A region failed or is partial; the message gives the first reason.
        """
        missing = (*self.failed, *self.partial)
        if missing:
            first = missing[0]
            what = "failed" if not self.partial else "failed or lost an input"
            raise IncompleteError(
                f"{self.verb}: {len(missing)} of {self.regions} regions {what}; "
                f"the others are written. First at {first.task}: {first.reason} "
                f"Run it again to redo only what is missing.{self._advice()}",
                self,
            )
        return self

    def _advice(self) -> str:
        if not self.lost:
            return ""
        names = ", ".join(map(repr, list(self.lost)[:3]))
        more = f" and {len(self.lost) - 3} more" if len(self.lost) > 3 else ""
        return f" Should {names}{more} stay lost, exclude them from the inputs."

    def to_dict(self) -> dict[str, Any]:
        """JSON-able form; the inverse of :meth:`from_dict`."""
        own = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "outcomes"}
        return {
            "format_version": FORMAT_VERSION,
            **own,
            # A run of many regions has many outcomes, most of which say little.
            "outcomes": [
                {k: v for k, v in asdict(o).items() if k not in _DEFAULTS or v != _DEFAULTS[k]}
                for o in self.outcomes
            ],
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Report:
        """Rebuild a report from :meth:`to_dict`.

        Raises:
            SpecError: It is no report, or one of a newer version.
        """
        try:
            if int(data["format_version"]) > FORMAT_VERSION:
                raise SpecError(
                    f"The report has format {data['format_version']}; this version reads up to "
                    f"{FORMAT_VERSION}. Install a newer quadrat."
                )
            own = {k: v for k, v in data.items() if k not in ("format_version", "outcomes")}
            return cls(**own, outcomes=tuple(Outcome(**o) for o in data["outcomes"]))
        except (KeyError, TypeError, AttributeError) as error:
            raise SpecError(f"This is no report of a run: {error!r}.") from error


def now() -> str:
    """The time in UTC, as in ISO 8601, to the microsecond."""
    return datetime.now(UTC).isoformat(timespec="microseconds")


def place_of(url: str) -> str:
    """Where the reports of a cube lie: beside it, so that they never change its bytes."""
    return f"{urls.normalise(url)}.reports"


def save(report: Report, url: str) -> None:
    """Keep a report beside its cube; if that fails, a warning is logged and nothing else.

    A cube in memory has no place beside it.
    """
    if urls.is_memory(url):
        return
    stamp = re.sub(r"[^0-9T.]", "", (report.started or now()).partition("+")[0])
    verb = re.sub(r"[^a-z0-9_]+", "-", report.verb.lower())
    try:
        data = json.dumps(report.to_dict(), indent=1).encode()
        objects.at(place_of(url)).put(f"{stamp}Z-{verb}.json", data)
    except CubeError as error:
        _log.warning("The report of %s could not be kept: %s", report.verb, error)


def reports(url: str) -> list[Report]:
    """The reports of past runs on a cube, oldest first.

    Raises:
        StoreError: They cannot be read.
        SpecError: One is damaged, or of a newer version.
    """
    return [] if urls.is_memory(urls.normalise(url)) else list(_read(place_of(url)))


def _read(place: str) -> Iterator[Report]:
    there = objects.at(place)
    for key in sorted(e.key for e in there.list("") if e.key.endswith(".json")):
        data = there.get(key)
        if data is None:
            continue
        try:
            yield Report.from_dict(json.loads(data))
        except ValueError as error:  # a SpecError is one too
            raise SpecError(f"The report {place}/{key} cannot be read: {error}") from error
