"""A TCP proxy that has bad days: it cuts connections, refuses, hangs, is slow, and comes back, when a test says so.

    with Proxy(server.port) as proxy:
        …talk to 127.0.0.1:proxy.port…
        proxy.cut()                          all connections now
        proxy.cut_after(10_000, "down")      the connection that carries the 10,000th byte from now on, in that direction
        proxy.cut_at(rb"COMMIT")             the connection whose client says so, before the server hears it
        proxy.cut_at(rb"COMMIT", heard=True) … once the server has answered, but before the client hears that
        proxy.do_at(rb"COPY", restart)       calls that before the server hears it, and goes on
        proxy.refuse()                       no new connections, as when nobody listens
        proxy.hang()                         accepts, takes, and says nothing
        proxy.slow(50_000)                   so many bytes a second, in each direction of each connection
        proxy.back()                         all well again, on the same port

`up` is from the client to the server, `down` is back. Whatever was asked for last holds for old connections too, `refuse`
for new ones only. It knows nothing of what it carries, so it serves every adapter's tests.
"""

from __future__ import annotations

import re
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Literal

Direction = Literal["up", "down"]
PIECE_BYTES = 1 << 16
TICKS = 20
"""A slow line passes its bytes in so many pieces a second."""
NO_GOODBYE = struct.pack("ii", 1, 0)
"""A socket closed with this lingers for no time: the peer gets a reset, as from a host that broke down."""


class _Link:
    """One client's connection, and the proxy's own to the server."""

    def __init__(self, client: socket.socket, server: socket.socket) -> None:
        self.client = client
        self.server = server
        self.is_mute = False
        """Whether the client hears no more: the server's next word ends the connection."""

    def cut(self) -> None:
        for end in (self.client, self.server):
            with suppress(OSError):
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, NO_GOODBYE)
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


class Proxy:
    """Forwards a port of its own to a server."""

    def __init__(self, port: int, host: str = "127.0.0.1") -> None:
        self._address = (host, port)
        self._lock = threading.Lock()
        self._links: list[_Link] = []
        self.threads: list[threading.Thread] = []
        self._moving = threading.Event()
        self._moving.set()
        self._rate: float | None = None
        self._left: tuple[int, Direction] | None = None
        self._word: tuple[re.Pattern[bytes], bool] | None = None
        self._then_refuse = False
        self._work: tuple[re.Pattern[bytes], Callable[[], None]] | None = None
        self._is_closed = False
        self.connections = 0
        """So many were made."""
        self.cuts = 0
        """So many were cut by `cut_after` and `cut_at`."""
        self.done = 0
        """So often something was done by `do_at`."""
        self.port = 0
        self._listen()

    def __enter__(self) -> Proxy:
        return self

    def __exit__(self, *fault: object) -> None:
        self.close()

    def cut(self) -> None:
        """Cuts all connections."""
        with self._lock:
            links = list(self._links)
        for link in links:
            link.cut()

    def cut_after(self, count: int, direction: Direction) -> None:
        """Cuts the connection by which the `count`th byte from now on comes, in front of the next."""
        self._left = (count, direction)

    def cut_at(self, word: bytes, *, heard: bool = False, then_refuse: bool = False) -> None:
        """Cuts the first connection whose client sends what this pattern finds: before the server hears it, or after it
        has answered. `then_refuse`: from that moment on nobody gets in."""
        self._word = (re.compile(word, re.DOTALL), heard)
        self._then_refuse = then_refuse

    def do_at(self, word: bytes, work: Callable[[], None]) -> None:
        """Does something when the first client sends what this pattern finds: before the server hears it."""
        self._work = (re.compile(word, re.DOTALL), work)

    def refuse(self) -> None:
        """Lets no new connection in."""
        with suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()

    def hang(self) -> None:
        """Carries nothing any more, and accepts new connections."""
        self._moving.clear()

    def slow(self, bytes_per_second: float) -> None:
        """Carries so many bytes a second in each direction of each connection."""
        self._rate = bytes_per_second

    def back(self) -> None:
        """All well again."""
        self._rate = self._left = self._word = None
        self._moving.set()
        if self._listening.fileno() < 0:
            self._listen()

    def close(self) -> None:
        """Ends everything."""
        self._is_closed = True
        self.refuse()
        self._moving.set()
        self._rate = None
        self.cut()
        for thread in self.threads:
            thread.join()

    def _listen(self) -> None:
        self._listening = socket.create_server(("127.0.0.1", self.port))
        self.port = self._listening.getsockname()[1]
        self._start(self._accept, self._listening)

    def _start(self, work: object, *words: object) -> None:
        thread = threading.Thread(target=work, args=words, daemon=True)  # type: ignore[arg-type]
        self.threads.append(thread)
        thread.start()

    def _accept(self, listening: socket.socket) -> None:
        while True:
            try:
                client, _ = listening.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(self._address)
            except OSError:
                client.close()
                continue
            link = _Link(client, server)
            with self._lock:
                self._links.append(link)
                self.connections += 1
            done = threading.Barrier(2, lambda link=link: self._forget(link))  # type: ignore[misc]
            self._start(self._carry, link, client, server, "up", done)
            self._start(self._carry, link, server, client, "down", done)
            if self._is_closed:
                link.cut()

    def _forget(self, link: _Link) -> None:
        link.client.close()
        link.server.close()
        with self._lock:
            self._links.remove(link)

    def _carry(
        self, link: _Link, source: socket.socket, sink: socket.socket, way: Direction, done: threading.Barrier
    ) -> None:
        try:
            with suppress(OSError):
                while said := source.recv(PIECE_BYTES):
                    self._moving.wait()
                    if way == "down" and link.is_mute:
                        break
                    if not all(self._passed(link, sink, piece, way) for piece in self._in_time(said)):
                        break
                else:
                    with suppress(OSError):
                        sink.shutdown(socket.SHUT_WR)  # one side has said all: the other may still be answering
                    done.wait()
                    return
            link.cut()
            done.wait()
        except threading.BrokenBarrierError:
            pass

    def _in_time(self, said: bytes) -> Iterator[bytes]:
        """What was said, as quickly as it may go on: at once, or piece by piece."""
        while said:
            rate = self._rate
            count = len(said) if rate is None else max(1, int(rate / TICKS))
            if rate is not None:
                time.sleep(min(count, len(said)) / rate)
            yield said[:count]
            said = said[count:]

    def _passed(self, link: _Link, sink: socket.socket, said: bytes, way: Direction) -> bool:
        """Whether the connection goes on after what was said has been handed over, as far as it may."""
        with self._lock:
            work = self._work
            if work is not None and way == "up" and work[0].search(said) is not None:
                self._work = None
                self.done += 1
            else:
                work = None
        if work is not None:
            work[1]()
        with self._lock:
            count, direction = self._left or (0, None)
            is_last = direction == way and len(said) >= count
            if direction == way:
                self._left = None if is_last else (count - len(said), direction)
            word, heard = self._word or (None, False)
            is_word = way == "up" and word is not None and word.search(said) is not None
            if is_word:
                self._word = None
            self.cuts += is_last or is_word
        if is_word:
            if self._then_refuse:
                self.refuse()
            if heard:
                link.is_mute = True
                sink.sendall(said)
            return heard
        sink.sendall(said[:count] if is_last else said)
        return not is_last
