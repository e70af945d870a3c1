"""A real S3 protocol server on the loopback (moto's), that can be told to fail as real ones do, and that counts.

It runs in a thread. One request is carried out at a time, so that conditional writes are as exclusive as S3's are.
"""

import itertools
import random
import re
import secrets
import threading
import time
import urllib.request
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from moto.server import create_backend_app
from werkzeug.serving import WSGIRequestHandler, make_server

FAULTS = ("500", "SlowDown", "timeout", "lost", "dropped", "truncated")
"""500 and 503, without carrying the request out; carried out, but answered too late, or never; the connection ends
before the request is carried out; half of the answer's body (of one that has a body; else as lost)."""
SECRET = f"secret/{secrets.token_hex(12)}+x"
"""Of the client's credentials: it must never be seen anywhere."""
KEY = f"AKIA{secrets.token_hex(8).upper()}"


@dataclass(frozen=True)
class Request:
    """One that came in.

    Attributes:
        method, path, query, range: of HTTP; the path begins with the bucket.
        fault: what was done to it.
        status: that was answered, or would have been.
    """

    method: str
    path: str
    query: str
    range: str
    fault: str | None
    status: str

    @property
    def kind(self) -> str:
        """GET, PUT, DELETE or HEAD of an object, or LIST."""
        return "LIST" if self.method == "GET" and "list-type" in self.query else self.method


Plan = Callable[[str, str], str | None]
"""From method and path to a fault, or None."""


def every(count: int, faults: Sequence[str] = FAULTS, only: str = "", seed: int = 0) -> Plan:
    """A plan: of so many requests, one, drawn, gets the next fault in turn.

    Args:
        count: of how many.
        faults: in turn.
        only: regular expression that "METHOD path" must contain.
        seed: of the draws.
    """
    draw, turn = random.Random(seed), itertools.cycle(faults)

    def plan(method: str, path: str) -> str | None:
        return next(turn) if re.search(only, f"{method} {path}") and draw.randrange(count) == 0 else None

    return plan


def times(count: int, fault: str, only: str = "") -> Plan:
    """A plan: the first so many requests get a fault."""
    left = iter(range(count))
    return lambda method, path: fault if re.search(only, f"{method} {path}") and next(left, None) is not None else None


def refusing(code: str, status: str = "403 Forbidden", only: str = "") -> Plan:
    """A plan: every request is refused with one of S3's codes."""
    return lambda method, path: f"{status} {code}" if re.search(only, f"{method} {path}") else None


@dataclass
class FlakyS3:
    """The server.

    Attributes:
        late: seconds by which a late answer is late.
        requests: that came in, oldest first.
    """

    late: float = 1.0
    requests: list[Request] = field(default_factory=list)
    _plan: Plan = field(default=lambda method, path: None, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)
    _server: Any = field(default=None, repr=False)

    def start(self) -> None:
        self._app = create_backend_app("s3")
        self._server = make_server("127.0.0.1", 0, self, threaded=True, request_handler=_Quiet)
        threading.Thread(target=self._server.serve_forever, daemon=True, name="s3").start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def environment(self) -> dict[str, str]:
        """What a client's environment must say; nothing of the machine's own."""
        return {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ACCESS_KEY_ID": KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_REGION": "us-east-1",
            "AWS_CONFIG_FILE": "/dev/null",
            "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
            "AWS_EC2_METADATA_DISABLED": "true",
            "STILLROOM_STORE_TIMEOUT": str(self.late * 0.6),
        }

    def bucket(self, name: str) -> str:
        """A new bucket's URL."""
        request = urllib.request.Request(f"{self.url}/{name}", data=b"", method="PUT")
        urllib.request.urlopen(request).read()
        return f"s3://{name}"

    @contextmanager
    def failing(self, plan: Plan) -> Iterator[None]:
        """Meanwhile, requests fail by a plan."""
        before, self._plan = self._plan, plan
        try:
            yield
        finally:
            self._plan = before

    @contextmanager
    def noted(self) -> Iterator[list[Request]]:
        """Requests that come meanwhile."""
        found: list[Request] = []
        start = len(self.requests)
        yield found
        found += self.requests[start:]

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        method, path = environ["REQUEST_METHOD"], environ["PATH_INFO"]
        fault = self._plan(method, path)
        said: list[Any] = []
        body = b""
        if fault == "dropped":
            said = ["dropped", []]
        elif fault is not None and fault not in FAULTS:
            status, _, code = fault.rpartition(" ")
            said, body = [status, [("Content-Type", "application/xml")]], _error(code)
        elif fault in ("500", "SlowDown"):
            status, code = ("500 Error", "InternalError") if fault == "500" else ("503 Slow Down", "SlowDown")
            said, body = [status, [("Content-Type", "application/xml")]], _error(code)
        else:
            with self._lock:
                body = b"".join(self._app(environ, lambda *args: said.extend(args[:2])))
        # One that has no body to be cut.
        fault = "lost" if fault == "truncated" and (len(body) < 2 or method == "HEAD") else fault
        self.requests.append(
            Request(method, path, environ["QUERY_STRING"], environ.get("HTTP_RANGE", ""), fault, said[0])
        )
        if fault in ("dropped", "lost"):
            _hang_up(environ)
        elif fault == "timeout":
            time.sleep(self.late)
        # What was read of the request stays unread where it was not carried out: so the connection cannot go on.
        headers = [item for item in said[1] if item[0].lower() not in ("content-length", "connection")]
        length = {key.lower(): value for key, value in said[1]}.get("content-length", str(len(body)))
        start_response(
            said[0] if fault != "dropped" else "500 x", [*headers, ("Content-Length", length), ("Connection", "close")]
        )
        if fault == "truncated":
            return _half(environ, body)
        return [b"" if method == "HEAD" else body]


def _half(environ: dict[str, Any], body: bytes) -> Iterator[bytes]:
    yield body[: len(body) // 2]
    _hang_up(environ)


def _hang_up(environ: dict[str, Any]) -> None:
    with suppress(OSError):
        environ["werkzeug.socket"].shutdown(2)


def _error(code: str) -> bytes:
    text = f"<Error><Code>{code}</Code><Message>said of {KEY}, {SECRET}</Message><RequestId>1</RequestId></Error>"
    return f'<?xml version="1.0" encoding="UTF-8"?>{text}'.encode()


class _Quiet(WSGIRequestHandler):
    """It says nothing of requests, nor of connections that end."""

    def log(self, *args: Any) -> None:
        pass
