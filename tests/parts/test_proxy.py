"""The proxy does what it says, and leaves no thread and no socket."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import closing

import pytest

from tests.parts.proxy import Proxy


@pytest.fixture
def echo() -> Iterator[int]:
    """A server that says everything again."""
    listening = socket.create_server(("127.0.0.1", 0))

    def answer(client: socket.socket) -> None:
        with closing(client):
            try:
                while said := client.recv(4096):
                    client.sendall(said)
            except OSError:
                pass

    def serve() -> None:
        threads = []
        while True:
            try:
                client, _ = listening.accept()
            except OSError:
                break
            threads.append(threading.Thread(target=answer, args=(client,)))
            threads[-1].start()
        for thread in threads:
            thread.join()

    server = threading.Thread(target=serve)
    server.start()
    yield listening.getsockname()[1]
    listening.shutdown(socket.SHUT_RDWR)
    server.join()
    listening.close()


def called(proxy: Proxy) -> socket.socket:
    return socket.create_connection(("127.0.0.1", proxy.port), timeout=5)


def heard(line: socket.socket, count: int) -> bytes:
    """What comes, up to so many bytes; less where the line was cut."""
    found = b""
    try:
        while len(found) < count and (said := line.recv(count - len(found))):
            found += said
    except ConnectionError:
        pass
    return found


def test_it_carries_both_ways_and_leaves_nothing_behind(echo: int) -> None:
    with Proxy(echo) as proxy, closing(called(proxy)) as one, closing(called(proxy)) as other:
        one.sendall(b"one")
        other.sendall(b"other" * 100_000)
        one.shutdown(socket.SHUT_WR)

        assert heard(one, 100) == b"one"
        assert heard(other, 500_000) == b"other" * 100_000
        assert proxy.connections == 2
    assert [thread for thread in proxy.threads if thread.is_alive()] == []


@pytest.mark.parametrize("direction", ["up", "down"])
def test_it_cuts_after_so_many_bytes_and_only_once(echo: int, direction: str) -> None:
    with Proxy(echo) as proxy:
        proxy.cut_after(1000, direction)  # type: ignore[arg-type]
        with closing(called(proxy)) as line:
            line.sendall(b"x" * 3000)

            assert len(heard(line, 3000)) <= 1000
        with closing(called(proxy)) as line:
            line.sendall(b"again")

            assert heard(line, 5) == b"again"
        assert proxy.cuts == 1


@pytest.mark.parametrize("is_heard", [False, True])
def test_it_cuts_at_a_word_before_or_after_the_server_heard_it(is_heard: bool) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as listening, Proxy(listening.getsockname()[1]) as proxy:
        proxy.cut_at(rb"now", heard=is_heard)
        with closing(called(proxy)) as line:
            server, _ = listening.accept()
            line.sendall(b"do it now")

            with closing(server):
                server.settimeout(5)
                told = heard(server, 9)
                if is_heard:
                    server.sendall(b"done")
                answer = heard(line, 4)

    assert told == (b"do it now" if is_heard else b"")
    assert answer == b""


def test_it_refuses_hangs_cuts_and_comes_back_on_the_same_port(echo: int) -> None:
    with Proxy(echo) as proxy, closing(called(proxy)) as old:
        old.sendall(b"first")
        assert heard(old, 5) == b"first"
        proxy.refuse()
        with pytest.raises(ConnectionError):
            called(proxy)
        old.sendall(b"still")
        assert heard(old, 5) == b"still"

        proxy.back()
        proxy.hang()
        with closing(called(proxy)) as silent:
            silent.settimeout(0.1)
            silent.sendall(b"hello?")
            with pytest.raises(TimeoutError):
                silent.recv(1)
            silent.settimeout(5)
            proxy.back()
            assert heard(silent, 6) == b"hello?"

        proxy.cut()
        assert heard(old, 1) == b""


def test_a_slow_line_gives_little_at_a_time_until_it_is_well_again(echo: int) -> None:
    with Proxy(echo) as proxy, closing(called(proxy)) as line:
        proxy.slow(1000)
        line.sendall(b"x" * 10_000)

        assert 0 < len(line.recv(10_000)) < 5000
        proxy.back()
        assert len(heard(line, 5000)) == 5000


def test_something_is_done_once_before_the_server_hears_a_word(echo: int) -> None:
    done: list[str] = []
    with Proxy(echo) as proxy, closing(called(proxy)) as line:
        proxy.do_at(rb"wo.d", lambda: done.append("now"))
        for said in (b"other", b"word", b"word"):
            line.sendall(said)
            assert heard(line, len(said)) == said

    assert (done, proxy.done) == (["now"], 1)
