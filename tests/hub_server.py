"""A small Hugging Face Hub on the loopback: folders as models, with branches and gated ones, for its client."""

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

__all__ = ["Hub", "serving"]


class Hub:
    """Models, and what was asked for.

    Attributes:
        models: Name and revision to the model's folder.
        gated: Names that answer only to those who accepted their terms.
        asked: Method and path of every request.
        url: Where it listens.
    """

    def __init__(self) -> None:
        self.models: dict[tuple[str, str], Path] = {}
        self.gated: set[str] = set()
        self.asked: list[str] = []
        self.url = ""

    def commit(self, name: str, revision: str) -> str | None:
        """The commit that a branch, or its own commit, stands for."""
        for known, branch in self.models:
            sha = hashlib.sha1(f"{known}@{branch}".encode(), usedforsecurity=False).hexdigest()
            if known == name and revision in (branch, sha):
                return sha
        return None

    def folder(self, name: str, commit: str) -> Path:
        """Where the files of a commit are."""
        return next(self.models[key] for key in self.models if key[0] == name and self.commit(*key) == commit)

    def downloaded(self) -> list[str]:
        """Names of the files that were fetched."""
        return sorted(line.rpartition("/")[2] for line in self.asked if line.startswith("GET") and "/resolve/" in line)


@contextmanager
def serving() -> Iterator[Hub]:
    """A hub that answers until the block ends."""
    hub = Hub()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            hub.asked.append(f"GET {self.path}")
            self._answer()

        def do_HEAD(self) -> None:
            hub.asked.append(f"HEAD {self.path}")
            self._answer()

        def log_message(self, *_: object) -> None:
            pass

        def _answer(self) -> None:
            parts = unquote(urlsplit(self.path).path).strip("/").split("/")
            if parts[:2] == ["api", "models"]:
                return self._describe(parts[2:])
            if "resolve" in parts:
                place = parts.index("resolve")
                return self._file("/".join(parts[:place]), parts[place + 1], "/".join(parts[place + 2 :]))
            return self._refuse(404, "EntryNotFound")

        def _describe(self, parts: list[str]) -> None:
            place = next((parts.index(word) for word in ("revision", "tree") if word in parts), len(parts))
            name, revision = "/".join(parts[:place]), (parts[place + 1 :] or ["main"])[0]
            if (commit := self._found(name, revision)) is None:
                return None
            files = sorted(path for path in hub.folder(name, commit).rglob("*") if path.is_file())
            names = [path.relative_to(hub.folder(name, commit)).as_posix() for path in files]
            if "tree" in parts:
                own = [
                    {"type": "file", "path": path, "size": file.stat().st_size, "oid": _digest(file)}
                    for path, file in zip(names, files, strict=True)
                ]
                return self._send(json.dumps(own).encode(), {"Content-Type": "application/json"})
            facts = {"id": name, "modelId": name, "sha": commit, "siblings": [{"rfilename": path} for path in names]}
            return self._send(json.dumps(facts).encode(), {"Content-Type": "application/json"})

        def _file(self, name: str, revision: str, path: str) -> None:
            if (commit := self._found(name, revision)) is None:
                return None
            file = hub.folder(name, commit) / path
            if not file.is_file():
                return self._refuse(404, "EntryNotFound")
            return self._send(file.read_bytes(), {"ETag": f'"{_digest(file)}"', "X-Repo-Commit": commit})

        def _found(self, name: str, revision: str) -> str | None:
            if name in hub.gated:
                return self._refuse(403, "GatedRepo")
            if not any(known == name for known, _ in hub.models):
                return self._refuse(401, "RepoNotFound")
            commit = hub.commit(name, revision)
            return commit if commit else self._refuse(404, "RevisionNotFound")

        def _refuse(self, status: int, code: str) -> None:
            body = json.dumps({"error": code}).encode()
            self._send(body, {"X-Error-Code": code, "X-Error-Message": code}, status)

        def _send(self, body: bytes, headers: dict[str, str], status: int = 200) -> None:
            self.send_response(status)
            for key, value in {**headers, "Content-Length": str(len(body))}.items():
                self.send_header(key, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _digest(file: Path) -> str:
    return hashlib.sha1(file.read_bytes(), usedforsecurity=False).hexdigest()
