"""Stand-ins for clouds, served from a process of their own: `python -m tests.serving` prints their ports as JSON.

The process ends when its standard input does, so it does not outlive the tests that started it.

| name | what it is |
|---|---|
| `s3` | moto's S3 |
| `careless` | the same objects, but conditions of writes are ignored, as some servers do |
| `gcs` | the same objects under Google's names for headers; it proves what is on the wire, not how Google behaves |
"""

import json
import sys
from collections.abc import Iterable
from functools import partial
from itertools import count
from threading import Lock, Thread
from typing import cast
from urllib.parse import quote
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import WSGIRequestHandler, make_server
from werkzeug.test import run_wsgi_app

_signed = "AWS4-HMAC-SHA256 Credential=x/20260101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=x"
_lock = Lock()
_generations = count(1)


def careless(app: WSGIApplication, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """S3 that ignores the conditions of a write."""
    for condition in ("HTTP_IF_NONE_MATCH", "HTTP_IF_MATCH"):
        environ.pop(condition, None)
    return app(environ, start_response)


def gcs(app: WSGIApplication, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Google's XML interface over S3."""
    for name in [name for name in environ if name.startswith("HTTP_X_GOOG_")]:
        environ[name.replace("HTTP_X_GOOG_", "HTTP_X_AMZ_", 1)] = environ[name]
    environ["HTTP_AUTHORIZATION"] = _signed
    # Google's clients escape more than moto reads.
    target = quote(str(environ["PATH_INFO"])) + (f"?{query}" if (query := environ.get("QUERY_STRING")) else "")
    environ["RAW_URI"] = environ["REQUEST_URI"] = target
    if environ.pop("HTTP_X_GOOG_IF_GENERATION_MATCH", None) == "0":
        environ["HTTP_IF_NONE_MATCH"] = "*"
    with _lock:  # so that of two writers who ask for a new object one is first
        body, status, headers = run_wsgi_app(app, environ, buffered=True)
    answered = [*headers.items(), ("x-goog-generation", str(next(_generations)))]
    start_response(status, answered)
    return body


class _Silent(WSGIRequestHandler):
    protocol_version = "HTTP/1.1"

    def log(self, type: str, message: str, *args: object) -> None:
        pass


def main() -> None:
    s3 = cast("WSGIApplication", DomainDispatcherApplication(create_backend_app))
    apps: dict[str, WSGIApplication] = {"s3": s3, "careless": partial(careless, s3), "gcs": partial(gcs, s3)}
    servers = {
        name: make_server("127.0.0.1", 0, app, threaded=True, request_handler=_Silent) for name, app in apps.items()
    }
    for server in servers.values():
        Thread(target=server.serve_forever, daemon=True).start()
    print(json.dumps({name: server.port for name, server in servers.items()}), flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
