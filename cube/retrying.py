"""Trying again: only what may pass, ever more patiently, and not for ever."""

from __future__ import annotations

import errno
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from cube.errors import CubeError, SpecError, TransientError

PASSING = frozenset(
    {
        errno.ETIMEDOUT,
        errno.ECONNRESET,
        errno.ECONNABORTED,
        errno.ECONNREFUSED,
        errno.EPIPE,
        errno.ENETDOWN,
        errno.ENETUNREACH,
        errno.EHOSTUNREACH,
        errno.ESTALE,
        errno.EAGAIN,
        errno.EINTR,
    }
)
"""What the system says when it may work the next time. Not EIO, which is a broken disk."""


def is_transient(error: BaseException) -> bool:
    """True if the same may succeed when tried again."""
    if isinstance(error, CubeError):
        return isinstance(error, TransientError)
    return isinstance(error, OSError) and error.errno in PASSING


@dataclass(frozen=True, slots=True, kw_only=True)
class Retry:
    """How often and how patiently to try again.

    Before try n + 1 comes a pause, drawn evenly from 0 to ``first_s * 2**(n - 1)``
    and never longer than ``most_s``: tasks that failed together do not come back
    together ("full jitter",
    https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/).

    Attributes:
        tries: How often to try at most, the first time included.
        first_s: Longest first pause in seconds; each next may be twice as long.
        most_s: Longest pause in seconds.
        total_s: No further try begins so many seconds after the first.
        seed: Of the pauses; None takes another one each time.
        sleep: Called with seconds.
    """

    tries: int = 5
    first_s: float = 1.0
    most_s: float = 30.0
    total_s: float = 300.0
    seed: int | None = None
    sleep: Callable[[float], Any] = time.sleep

    def __post_init__(self) -> None:
        if self.tries < 1:
            raise SpecError(f"tries must be a whole number from 1. Received {self.tries!r}.")
        for name in ("first_s", "most_s", "total_s"):
            if not getattr(self, name) >= 0:
                raise SpecError(
                    f"{name} must be seconds, 0 or more. Received {getattr(self, name)!r}."
                )

    def pauses(self) -> Iterator[float]:
        """Seconds to wait before the second try, the third and so on."""
        rng = random.Random(self.seed)
        for n in range(self.tries - 1):
            # A float holds no 2**1024.
            yield rng.uniform(0.0, min(self.most_s, self.first_s * 2.0 ** min(n, 1000)))

    def call(self, function: Callable[[], Any]) -> tuple[Any, int]:
        """Result of a function that is called again while its error may pass.

        Returns:
            What it returned, or the :class:`CubeError` it raised last; and the
            number of tries. A passing error of the system comes out as a
            :class:`TransientError`; any other error is raised.
        """
        began = time.monotonic()
        pauses = self.pauses()
        for tries in range(1, self.tries + 1):
            try:
                return function(), tries
            except Exception as error:
                if not (isinstance(error, CubeError) or is_transient(error)):
                    raise
                pause_s = next(pauses, None) if is_transient(error) else None
                if pause_s is None or time.monotonic() - began + pause_s > self.total_s:
                    return _ours(error), tries
            self.sleep(pause_s)
        raise AssertionError  # pragma: no cover  (the last try has no pause after it)


def _ours(error: Exception) -> CubeError:
    if isinstance(error, CubeError):
        return error
    ours = TransientError(f"{str(error).rstrip('.')}.")
    ours.__cause__ = error
    return ours
