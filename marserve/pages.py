"""What marserve itself answers over HTTP, beside TorchServe: pages at fixed paths. It does not know what is on them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socket import AF_INET, AF_INET6
from socketserver import TCPServer
from types import TracebackType
from typing import NamedTuple, Self

from marserve.errors import MarserveError
from marserve.settings import Address

CLIENT_TIMEOUT = 10.0  # seconds


class Page(NamedTuple):
    status: HTTPStatus
    content_type: str
    body: bytes


class Pages:
    """Listens from the constructor on, answers from `start` on, and is gone after the `with`."""

    def __init__(self, address: Address, pages: Mapping[str, Callable[[], Page]]) -> None:
        """`pages` by path. Raises MarserveError where something else listens there."""
        try:
            self._server = _server(address, pages)
        except OSError as error:
            raise MarserveError(f"cannot listen on {address} ({error.strerror})") from None
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.1,), daemon=True)

    def start(self) -> None:
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._thread.is_alive():
            self._server.shutdown()
        self._server.server_close()


def _server(address: Address, pages: Mapping[str, Callable[[], Page]]) -> ThreadingHTTPServer:
    class Server(ThreadingHTTPServer):
        daemon_threads = True  # a client that hangs does not keep marserve from ending
        block_on_close = False
        address_family = AF_INET6 if ":" in address.host else AF_INET

        def server_bind(self) -> None:
            TCPServer.server_bind(self)  # HTTPServer's would ask the DNS for a name that nothing here needs

        def handle_error(self, request: object, client_address: object) -> None:
            """A client that hangs up is nobody's news, and a traceback on the terminal nobody's help."""

    class Handler(BaseHTTPRequestHandler):
        timeout = CLIENT_TIMEOUT
        server_version = "marserve"
        sys_version = ""

        def do_GET(self) -> None:
            make = pages.get(self.path.partition("?")[0])
            if make is None:
                self.send_error(HTTPStatus.NOT_FOUND, explain=f"There is {' and '.join(pages)}.")
                return
            try:
                page = make()
            except Exception as error:  # what it reads, other processes write
                self.send_error(HTTPStatus.INTERNAL_SERVER_ERROR, explain=type(error).__name__)
                return
            self.send_response(page.status)
            self.send_header("Content-Type", page.content_type)
            self.send_header("Content-Length", str(len(page.body)))
            self.send_header("Cache-Control", "no-store")
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(page.body)

        do_HEAD = do_GET  # noqa: N815

        def log_message(self, *_: object) -> None:
            """Nobody reads a line per scrape."""

    return Server((address.host, address.port), Handler)
