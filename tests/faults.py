"""A network that is slow and that fails, between a client and a server on the loopback.

    with faults.proxy(server.endpoint, delay_s=0.05, faults=("500", "cut"), rate=0.1) as proxy:
        os.environ.update(server.through(proxy.endpoint).environment)

Requests and answers pass unchanged, ``Host`` too, so signatures stay valid. Whether a request meets
a fault depends on the seed, its method, its target and how often it came: neither on time nor on
what else is under way.

The proxy runs in a process of its own, which ends with its standard input; it is asked and told
through its standard streams, a line of JSON each way.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

ROOT = Path(__file__).parents[1]

KINDS = ("500", "503", "429", "timeout", "cut", "partial")
"""What can be injected; besides these ``"401"`` and ``"403"``, which no client should retry.

- ``"500"``, ``"503"``, ``"429"``: an answer with this status.
- ``"timeout"``: silence, then the connection closes.
- ``"cut"``: the connection closes without an answer.
- ``"partial"``: the answer to a GET breaks off after half of its body.

``"cut before"`` strikes only before the server got the request, ``"cut after"`` only when it has
carried it out; without either it is one or the other, half of the times each.
"""

_ANSWERS = {
    "500": ("Internal Server Error", "InternalError"),
    "503": ("Service Unavailable", "SlowDown"),
    "429": ("Too Many Requests", "TooManyRequests"),
    "401": ("Unauthorized", "AuthenticationRequired"),
    "403": ("Forbidden", "AccessDenied"),
}

_IDLE_S = 0.5
"""How long a connection to the server may rest and be used again; servers close after seconds."""


@dataclass(frozen=True)
class Settings:
    """The keywords of :func:`proxy`."""

    delay_s: float
    faults: Sequence[str]
    rate: float
    seed: int
    most: int
    silence_s: float

    def __post_init__(self) -> None:
        unknown = {fault.partition(" ")[0] for fault in self.faults} - {*KINDS, *_ANSWERS}
        if unknown:
            raise ValueError(f"Unknown faults {sorted(unknown)}; there are {KINDS}.")


class Proxy:
    """A running proxy, as its parent process sees it.

    Attributes:
        endpoint: Where clients reach it, e.g. ``"http://127.0.0.1:4001"``.
    """

    def __init__(self, process: subprocess.Popen[str], settings: Settings) -> None:
        self._process, self._settings = process, settings
        self._turn = threading.Lock()
        self.endpoint = str(self._read())

    def counts(self) -> dict[str, int]:
        """Faults injected since the last reset, by kind."""
        return self._ask("counts")

    def requests(self) -> dict[str, int]:
        """Requests seen since the last reset, by method, and in all as ``"all"``."""
        return self._ask("requests")

    def reset(self) -> None:
        """Count from zero, and forget what came how often."""
        self._ask("reset")

    def change(self, **settings: Any) -> None:
        """Go on with other settings: any keyword of :func:`proxy`."""
        self._settings = replace(self._settings, **settings)
        self._ask("change", self._settings)

    def _ask(self, what: str, settings: Settings | None = None) -> Any:
        with self._turn:
            self._process.stdin.write(json.dumps([what, settings and asdict(settings)]) + "\n")
            self._process.stdin.flush()
            return self._read()

    def _read(self) -> Any:
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"The proxy ended with status {self._process.wait()}.")
        return json.loads(line)


@contextlib.contextmanager
def proxy(
    upstream: str,
    *,
    delay_s: float = 0,
    faults: Sequence[str] = (),
    rate: float = 0,
    seed: int = 0,
    most: int = 3,
    silence_s: float = 5,
) -> Iterator[Proxy]:
    """Run a proxy before a server.

    Args:
        upstream: The server, e.g. ``"http://127.0.0.1:4000"``.
        delay_s: Every request waits so long, all of them at the same time.
        faults: What to inject, each as often as the others; see :data:`KINDS`.
        rate: Share of the requests that meet a fault, 0–1.
        seed: Of the draws.
        most: Faults in a row that one request, its method and target, meets.
        silence_s: How long ``"timeout"`` says nothing.
    """
    settings = Settings(delay_s, tuple(faults), rate, seed, most, silence_s)
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.faults", upstream, json.dumps(asdict(settings))],
        cwd=ROOT,
        text=True,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        yield Proxy(process, settings)
    finally:
        process.kill()
        process.communicate()


# --------------------------------------------------------------------- inside the proxy's process
@dataclass(frozen=True)
class Fault:
    kind: str
    after: bool


@dataclass
class Dice:
    """Which request meets which fault, and what was counted."""

    settings: Settings
    counts: Counter[str] = field(default_factory=Counter)
    requests: Counter[str] = field(default_factory=Counter)
    came: Counter[str] = field(default_factory=Counter)
    in_a_row: Counter[str] = field(default_factory=Counter)

    def roll(self, method: str, target: str) -> Fault | None:
        self.requests.update((method, "all"))
        key = f"{method} {target}"
        self.came[key] += 1
        rng = random.Random(f"{self.settings.seed} {key} {self.came[key]}")
        possible = [f for f in self.settings.faults if method == "GET" or "partial" not in f]
        hit = rng.random() < self.settings.rate
        if not (possible and hit and self.in_a_row[key] < self.settings.most):
            self.in_a_row[key] = 0
            return None
        self.in_a_row[key] += 1
        kind, _, when = rng.choice(possible).partition(" ")
        after = when == "after" or kind == "partial" or (not when and rng.random() < 0.5)
        return Fault(kind, after)

    def command(self, what: str, settings: dict[str, Any] | None) -> Any:
        """Answer a line of the parent's."""
        if what == "change":
            self.settings = Settings(**settings)
        elif what == "reset":
            for counter in (self.counts, self.requests, self.came, self.in_a_row):
                counter.clear()
        else:
            return dict(getattr(self, what))
        return None


_BODILESS = ("100", "204", "304")


@dataclass(frozen=True)
class Message:
    """A request or an answer, whole."""

    first: str
    headers: list[tuple[str, str]]
    body: bytes = b""

    @property
    def status(self) -> str:
        return self.first.split(" ", 2)[1]

    def get(self, name: str) -> str:
        return next((v for k, v in self.headers if k.lower() == name), "")

    def without(self, *names: str) -> Message:
        return replace(self, headers=[(k, v) for k, v in self.headers if k.lower() not in names])

    def holding(self, body: bytes) -> Message:
        headers = [*self.headers, ("Content-Length", str(len(body)))]
        return replace(self, headers=headers, body=body)

    def encode(self, *, part: float = 1) -> bytes:
        """As bytes; ``part`` of the body, though the head speaks of all of it."""
        lines = [self.first, *(f"{name}: {value}" for name, value in self.headers), "", ""]
        return "\r\n".join(lines).encode("latin-1") + self.body[: int(len(self.body) * part)]


async def _read(
    reader: asyncio.StreamReader,
    *,
    answers: str = "",
    writer: asyncio.StreamWriter | None = None,
) -> Message | None:
    """The next message; None where the connection ended.

    Args:
        reader: What the other side sends.
        answers: The method of the request that this message answers; none for a request.
        writer: To say "go on" to who waits for it before sending a body.
    """
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    except asyncio.IncompleteReadError:
        return None
    first, *lines = head[:-4].split("\r\n")
    headers = [(name, value.strip()) for name, _, value in (line.partition(":") for line in lines)]
    message = Message(first, headers)
    if writer and message.get("expect"):
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        message = message.without("expect")
    if answers == "HEAD" or (answers and message.status in _BODILESS):
        return message
    return await _with_body(message, reader, to_the_end=bool(answers))


async def _with_body(message: Message, reader: Any, *, to_the_end: bool) -> Message:
    if "chunked" in message.get("transfer-encoding"):
        # Whole here, so it goes on with its length.
        body = await _read_chunks(reader)
        return message.without("transfer-encoding").holding(body)
    if length := message.get("content-length"):
        return replace(message, body=await reader.readexactly(int(length)))
    return message.holding(await reader.read()) if to_the_end else message


async def _read_chunks(reader: asyncio.StreamReader) -> bytes:
    parts = []
    while size := int((await reader.readline()).split(b";")[0], 16):
        parts.append(await reader.readexactly(size))
        await reader.readline()
    while (await reader.readline()).strip():
        pass  # trailers
    return b"".join(parts)


class Upstream:
    """Connections to the server, kept for a moment."""

    def __init__(self, url: str) -> None:
        self.address = urlsplit(url)
        self.idle: list[tuple[float, asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def ask(self, request: Message) -> Message:
        """Let the server carry out a request, once."""
        reader, writer = await self._connection()
        try:
            writer.write(request.encode())
            await writer.drain()
            answer = await _read(reader, answers=request.first.split()[0])
            if answer is None:
                raise ConnectionError("The server closed the connection.")
        except BaseException:
            writer.close()
            raise
        if answer.first.startswith("HTTP/1.0") or "close" in answer.get("connection").lower():
            writer.close()
        else:
            self.idle.append((time.monotonic(), reader, writer))
        return answer

    async def _connection(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        while self.idle:
            since, reader, writer = self.idle.pop()
            if time.monotonic() - since < _IDLE_S and not reader.at_eof():
                return reader, writer
            writer.close()
        return await asyncio.open_connection(
            self.address.hostname, self.address.port, limit=1 << 20
        )


class Middle:
    """Serves the clients."""

    def __init__(self, upstream: Upstream, dice: Dice) -> None:
        self.upstream, self.dice = upstream, dice

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection of a client, request after request."""
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while request := await _read(reader, writer=writer):
                if not await self._answer(request, writer):
                    break
                await writer.drain()
        writer.close()

    async def _answer(self, request: Message, writer: asyncio.StreamWriter) -> bool:
        """Answer a request or do not; False if the connection is to be closed."""
        method, target, _ = request.first.split(" ", 2)
        settings = self.dice.settings
        fault = self.dice.roll(method, target)
        await asyncio.sleep(settings.delay_s)
        answer = await self._upstream(request) if fault is None or fault.after else None
        if fault and fault.kind == "partial" and (answer is None or len(answer.body) < 2):
            fault = None  # nothing to break off
        if fault:
            self.dice.counts[fault.kind] += 1
        if fault and fault.kind in ("cut", "timeout"):
            await asyncio.sleep(settings.silence_s if fault.kind == "timeout" else 0)
            return False
        if fault and fault.kind in _ANSWERS:
            answer = _refusal(fault.kind)
        if answer is None:
            return False  # the server itself did not answer
        whole = not (fault and fault.kind == "partial")
        if method == "HEAD":
            answer = replace(answer, body=b"")
        writer.write(answer.encode(part=1 if whole else 0.5))
        return whole

    async def _upstream(self, request: Message) -> Message | None:
        try:
            answer = await self.upstream.ask(request)
        except (OSError, asyncio.IncompleteReadError):
            return None
        # What holds for the connection to the server does not hold for the client's.
        first = f"HTTP/1.1 {answer.first.split(' ', 1)[1]}"
        return replace(answer.without("connection", "keep-alive"), first=first)


def _refusal(kind: str) -> Message:
    reason, code = _ANSWERS[kind]
    body = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>{reason}</Message></Error>"
    answer = Message(f"HTTP/1.1 {kind} {reason}", [("Content-Type", "application/xml")])
    return answer.holding(body.encode())


async def _main(upstream: str, settings: dict[str, Any]) -> None:
    dice = Dice(Settings(**settings))
    middle = Middle(Upstream(upstream), dice)
    server = await asyncio.start_server(middle.serve, "127.0.0.1", 0, limit=1 << 20, backlog=256)
    port = server.sockets[0].getsockname()[1]
    print(json.dumps(f"http://127.0.0.1:{port}"), flush=True)
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        what, changes = json.loads(line)
        print(json.dumps(dice.command(what, changes)), flush=True)


if __name__ == "__main__":
    asyncio.run(_main(sys.argv[1], json.loads(sys.argv[2])))
