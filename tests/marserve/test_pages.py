"""A few pages at fixed paths, whatever clients do."""

from __future__ import annotations

import socket
import threading
from http import HTTPStatus

import httpx
import pytest

from marserve.errors import MarserveError
from marserve.pages import Page, Pages
from marserve.settings import Address, free_loopback


def good() -> Page:
    return Page(HTTPStatus.OK, "text/plain", b"good\n")


def bad() -> Page:
    return Page(HTTPStatus.SERVICE_UNAVAILABLE, "application/json", b"{}")


def broken() -> Page:
    raise RuntimeError("broken")


PAGES = {"/good": good, "/bad": bad, "/broken": broken}


def test_a_page_is_what_its_function_says() -> None:
    address = free_loopback()
    with Pages(address, PAGES) as pages:
        pages.start()
        reply = httpx.get(f"{address.url}/good?name=all")
        assert (reply.status_code, reply.text, reply.headers["content-type"]) == (200, "good\n", "text/plain")
        assert reply.headers["cache-control"] == "no-store"
        head = httpx.head(f"{address.url}/bad")
        assert (head.status_code, head.content, head.headers["content-length"]) == (503, b"", "2")


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/", 404),
        ("GET", "/good/", 404),
        ("GET", "/../good", 404),
        ("HEAD", "/x", 404),
        ("POST", "/good", 501),
        ("GET", "/broken", 500),
    ],
)
def test_nothing_else_is_there(method: str, path: str, status: int, capfd: pytest.CaptureFixture[str]) -> None:
    address = free_loopback()
    with Pages(address, PAGES) as pages:
        pages.start()
        with socket.create_connection((address.host, address.port)) as client:
            client.sendall(f"{method} {path} HTTP/1.0\r\n\r\n".encode())
            assert client.recv(100).split()[1] == str(status).encode()
    assert capfd.readouterr() == ("", "")


def test_a_client_that_hangs_does_not_keep_it_from_ending(capfd: pytest.CaptureFixture[str]) -> None:
    address = free_loopback()
    with socket.socket() as silent, socket.socket() as rude:
        with Pages(address, PAGES) as pages:
            pages.start()
            for client in (silent, rude):
                client.connect((address.host, address.port))
            rude.sendall(b"GET /good HTTP/1.0\r\n\r\n")
            rude.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            rude.close()
            assert httpx.get(f"{address.url}/good").status_code == 200  # meanwhile
        with pytest.raises(httpx.ConnectError):
            httpx.get(f"{address.url}/good")
    assert capfd.readouterr() == ("", "")


def test_it_ends_though_it_never_started() -> None:
    before = threading.active_count()
    with Pages(free_loopback(), PAGES):
        pass
    assert threading.active_count() == before


def test_a_taken_port_is_named() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = Address("127.0.0.1", taken.getsockname()[1])
        with pytest.raises(MarserveError, match=f"cannot listen on {address} "):
            Pages(address, PAGES)
