"""A small hub of models on the loopback: files by repository and revision, as `huggingface_hub` asks for them."""

import hashlib
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote


class Hub:
    """Serves files until it is stopped, and counts what it is asked.

    Attributes:
        files: bytes by (repository, revision, path); a repository's revisions are whatever stands here.
        asked: method and path of each request for a file; the client also asks for things of its own.
    """

    def __init__(self) -> None:
        self.files: dict[tuple[str, str, str], bytes] = {}
        self.asked: list[str] = []
        hub = self

        class Handler(BaseHTTPRequestHandler):
            def do_HEAD(self) -> None:
                self._answer(with_body=False)

            def do_GET(self) -> None:
                self._answer(with_body=True)

            def _answer(self, *, with_body: bool) -> None:
                if "/resolve/" in self.path:
                    hub.asked.append(f"{self.command} {self.path}")
                status, headers, body = hub.answer(unquote(self.path))
                self.send_response(status)
                for name, value in {**headers, "Content-Length": str(len(body))}.items():
                    self.send_header(name, value)
                self.end_headers()
                if with_body:
                    self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def put(self, repo: str, path: str, data: bytes, revision: str = "main") -> None:
        """A file of a repository."""
        self.files[repo, revision, path] = data

    def answer(self, path: str) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and body of what is asked for as /ORG/NAME/resolve/REVISION/FILE."""
        parts = path.strip("/").split("/", 4)
        if len(parts) < 5 or parts[2] != "resolve":
            return 404, {}, b""
        repo, revision, file = "/".join(parts[:2]), parts[3], parts[4]
        if repo not in {key[0] for key in self.files}:
            return 404, {"X-Error-Code": "RepoNotFound"}, b""
        if (repo, revision) not in {key[:2] for key in self.files}:
            return 404, {"X-Error-Code": "RevisionNotFound"}, b""
        if (repo, revision, file) not in self.files:
            return 404, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": _commit(self, repo, revision)}, b""
        data = self.files[repo, revision, file]
        headers = {"ETag": f'"{hashlib.sha256(data).hexdigest()}"', "X-Repo-Commit": _commit(self, repo, revision)}
        return 200, headers, data

    def stop(self) -> None:
        """From now on there is no network."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def _commit(hub: Hub, repo: str, revision: str) -> str:
    """Of what a revision holds now."""
    found = hashlib.sha1(usedforsecurity=False)
    for key, data in sorted(hub.files.items()):
        if key[:2] == (repo, revision):
            found.update(key[2].encode() + data)
    return found.hexdigest()
