"""Servers on 127.0.0.1 that go wrong as they are told, and say what they were asked."""

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread
from typing import Literal, TypeAlias, final

from attrs import define, field

Answer: TypeAlias = int | tuple[int, str] | Literal["stall", "cut", "short", "lose"]
"""A status, one with a body, no answer, a cut connection, a body cut short, or the lost answer of a server behind."""

LONG_AGO = "Thu, 01 Jan 2026 00:00:00 GMT"


@final
@define
class Faults:
    """A server that answers from a script, whose last answer is for all further requests."""

    script: Sequence[Answer]
    behind: int | None = None
    """The port of a server that answers where the script has come to its end."""
    port: int = 0
    asked: list[str] = field(factory=list[str])
    """The method of each request."""
    over: Event = field(factory=Event)

    @contextmanager
    def serving(self) -> Generator["Faults"]:
        faults = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_one_request(self) -> None:
                self.raw_requestline = self.rfile.readline(65537)
                if not self.raw_requestline or not self.parse_request():
                    self.close_connection = True
                    return
                faults.answer(self)

            def log_message(self, format: str, *args: object) -> None:
                pass

        with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
            server.daemon_threads = False
            self.port = server.server_port
            thread = Thread(target=server.serve_forever, args=(0.01,))
            thread.start()
            try:
                yield self
            finally:
                self.over.set()
                server.shutdown()
                thread.join()

    def answer(self, to: BaseHTTPRequestHandler) -> None:
        position = len(self.asked)
        self.asked.append(to.command)
        body = to.rfile.read(int(to.headers.get("Content-Length", 0)))
        if position >= len(self.script) and self.behind is not None:
            self._reply(to, *self._ask_behind(to, body))
            return
        to.close_connection = True
        match self.script[min(position, len(self.script) - 1)]:
            case "stall":
                self.over.wait(300)
            case "cut":
                pass
            case "short":
                self._reply(to, 200, {"ETag": '"0"', "Content-Length": "100", "Last-Modified": LONG_AGO}, b"half")
            case "lose":
                self._ask_behind(to, body)
            case (status, text):
                self._reply(to, status, {"ETag": '"0"'}, text.encode())
            case status:
                self._reply(to, status, {"ETag": '"0"'}, b"")

    def _ask_behind(self, to: BaseHTTPRequestHandler, body: bytes) -> tuple[int, dict[str, str], bytes]:
        assert self.behind is not None
        connection = HTTPConnection("127.0.0.1", self.behind)
        try:
            connection.request(to.command, to.path, body, dict(to.headers.items()))
            response = connection.getresponse()
            return response.status, dict(response.getheaders()), response.read()
        finally:
            connection.close()

    def _reply(self, to: BaseHTTPRequestHandler, status: int, headers: dict[str, str], body: bytes) -> None:
        to.send_response_only(status)
        for name, value in headers.items():
            if name.lower() not in ("content-length", "connection", "transfer-encoding"):
                to.send_header(name, value)
        to.send_header("Content-Length", headers.get("Content-Length", str(len(body))))
        to.send_header("Connection", "close")
        to.close_connection = True
        to.end_headers()
        to.wfile.write(body)
