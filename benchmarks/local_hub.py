"""A hub of folders on this machine, which speaks as much of the Hugging Face hub's API as downloads need.

For tests, and for measuring a first start: `HF_ENDPOINT` is its `url`. It keeps a log of what was asked, and can be
made to fail in the hub's own ways.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
from functools import lru_cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

COMMIT = "0123456789" * 4
LARGE = 1 << 20  # bytes from which a file is kept as the hub keeps weights: known by its SHA-256
_BLOCK = 1 << 20


class LocalHub(ThreadingHTTPServer):
    """Serves folders as repositories {"owner/name": folder}, each at one commit, on a free port of this machine.

    gated: repositories whose owner must be asked first. cuts: {file: bytes} after which a connection is cut, once.
    log: [(method, file, first byte asked for)] of files, in the order in which they were asked for.
    """

    daemon_threads = True

    def __init__(self, repositories: dict[str, Path]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.repositories = repositories
        self.gated = set[str]()
        self.cuts = dict[str, int]()
        self.log = list[tuple[str, str, int]]()
        self.sent = 0  # bytes of files
        self.url = f"http://127.0.0.1:{self.server_port}"

    def __enter__(self) -> LocalHub:
        threading.Thread(target=self.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()

    def files(self, repository: str) -> dict[str, dict[str, Any]]:
        """{name: what the hub's tree says of the file}."""
        root, entries = self.repositories[repository], dict[str, dict[str, Any]]()
        for path in sorted(path for path in root.rglob("*") if path.is_file()):
            name, size = path.relative_to(root).as_posix(), path.stat().st_size
            digest = _digest(path, size, path.stat().st_mtime_ns)
            entries[name] = {"type": "file", "path": name, "size": size, "oid": digest[:40]}
            if size >= LARGE or name.endswith(".safetensors"):
                entries[name]["lfs"] = {"oid": digest, "size": size, "pointerSize": 134}
        return entries


@lru_cache
def _digest(path: Path, size: int, changed: int) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


class _Handler(BaseHTTPRequestHandler):
    server: LocalHub
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._answer(True)

    def do_HEAD(self) -> None:
        self._answer(False)

    def do_POST(self) -> None:
        body = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
        path = unquote(urlsplit(self.path).path)
        if match := re.fullmatch(r"/api/models/([^/]+/[^/]+)/paths-info/([^/]+)", path):
            entries = self.server.files(match[1])
            self._json([entries[name] for name in body["paths"] if name in entries])

    def _answer(self, whole: bool) -> None:
        path = unquote(urlsplit(self.path).path)
        match = re.fullmatch(r"/(?:api/models/)?([^/]+/[^/]+)(?:/(revision|tree|resolve)/([^/]+)(?:/(.+))?)?", path)
        if match is None or match[1] not in self.server.repositories:
            self._fail(404, "RepoNotFound")
        elif match[3] not in (None, "main", COMMIT):
            self._fail(404, "RevisionNotFound")
        elif match[2] == "resolve":
            self._file(match[1], match[4], whole)
        elif match[2] == "tree":
            self._json(list(self.server.files(match[1]).values()))
        else:
            names = [{"rfilename": name} for name in self.server.files(match[1])]
            self._json({"id": match[1], "modelId": match[1], "sha": COMMIT, "siblings": names, "tags": []})

    def _file(self, repository: str, name: str, whole: bool) -> None:
        if repository in self.server.gated:
            return self._fail(403, "GatedRepo")
        if (entry := self.server.files(repository).get(name)) is None:
            return self._fail(404, "EntryNotFound")
        begin = re.match(r"bytes=(\d+)-", self.headers.get("Range", ""))
        start = int(begin[1]) if begin else 0
        self.server.log.append((self.command, name, start))
        self.send_response(206 if begin else 200)
        self.send_header("ETag", f'"{entry.get("lfs", entry)["oid"]}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(entry["size"] - start))
        if begin:
            self.send_header("Content-Range", f"bytes {start}-{entry['size'] - 1}/{entry['size']}")
        self.end_headers()
        if whole:
            self._send(self.server.repositories[repository] / name, start, self.server.cuts.pop(name, None))
        return None

    def _send(self, path: Path, start: int, cut: int | None) -> None:
        with path.open("rb") as file:
            file.seek(start)
            while block := file.read(_BLOCK if cut is None else min(_BLOCK, cut)):
                self.wfile.write(block)
                self.server.sent += len(block)
                if cut is not None and (cut := cut - len(block)) <= 0:
                    self.close_connection = True
                    return

    def _json(self, values: Any) -> None:
        data = json.dumps(values).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _fail(self, status: int, code: str) -> None:
        self.send_response(status)
        self.send_header("X-Error-Code", code)
        self.send_header("X-Error-Message", code)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing on stderr."""
