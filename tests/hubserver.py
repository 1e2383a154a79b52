"""A small hub on 127.0.0.1: one repository, ranges, LFS on another origin, and faults on request."""

from __future__ import annotations

import hashlib
import json
import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

COMMIT = "c0ffee" * 6 + "beef"


def blob_sha1(content: bytes) -> str:
    """The name git gives these bytes."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


@dataclass
class Fault:
    """What happens in place of an answer, so many times."""

    status: int | None = None
    headers: dict[str, str] = field(default_factory=dict)
    times: int = 10**6
    cut: int | None = None
    """Send only so many bytes of the body, then close."""
    body: bytes | None = None
    """Other bytes than the repository's, with an honest length."""
    ignore_range: bool = False
    reset: bool = False
    """With `cut`: close as a crashed server does (RST), not as one that has ended."""
    drip: tuple[int, float] | None = None
    """Send the body in pieces of so many bytes, with a pause of so many seconds after each."""
    stall_s: float = 0.0
    """Say nothing for so long before the answer."""
    whole: bool = False
    """Only where the file is asked for to its end; a header, which is asked for by range, is served well."""
    sized: int | None = None
    """The length that is told, whatever the body's."""


@dataclass
class Hub:
    """The repository `org/name` and how it is served."""

    files: dict[str, bytes]
    lfs: frozenset[str] = frozenset()
    """Files kept in LFS: answered by a redirect to another origin."""
    faults: dict[str, Fault] = field(default_factory=dict)
    """By file name; `list` is the repository's listing."""
    listed: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Changes to the listing, by file name."""
    commit: str = COMMIT
    """What the branch `main` and the tag `v1` stand for."""
    history: dict[str, dict[str, bytes]] = field(default_factory=dict)
    """Earlier commits and their files."""
    renamed: str | None = None
    """The name it had before: asked by that name, the hub sends the client to the new one."""
    lost: frozenset[str] = frozenset()
    """Revisions and commits that are no longer there."""
    authorized: list[tuple[str, str]] = field(default_factory=list)
    """(host and port, Authorization) of every request that carried one."""
    requests: list[tuple[str, str, str]] = field(default_factory=list)
    """(method, path, Range) of every request but the client's agent list."""
    gated: bool | str | None = None
    """What the listing says of terms; None: nothing."""
    date: str | None = None
    """The `Date` of every answer; None: the right one."""
    url: str = ""
    cdn: str = ""

    def seen(self, word: str, method: str = "GET") -> list[tuple[str, str, str]]:
        """Requests of that method whose path holds the word."""
        return [r for r in self.requests if r[0] == method and word in r[1]]

    def at(self, revision: str) -> tuple[str, dict[str, bytes]]:
        """The commit that a revision stands for, and its files."""
        return (revision, self.history[revision]) if revision in self.history else (self.commit, self.files)

    def listing(self, revision: str = "main") -> dict[str, Any]:
        """The answer of /api/models."""
        siblings = []
        commit, files = self.at(revision)
        for name, content in files.items():
            entry: dict[str, Any] = {"rfilename": name, "size": len(content), "blobId": blob_sha1(content)}
            if name in self.lfs:
                digest = hashlib.sha256(content).hexdigest()
                entry["lfs"] = {"size": len(content), "sha256": digest, "pointerSize": 130}
            siblings.append(entry | self.listed.get(name, {}))
        terms = {} if self.gated is None else {"gated": self.gated}
        return {"id": "org/name", "modelId": "org/name", "sha": commit, "siblings": siblings, **terms}

    def take_fault(self, name: str) -> Fault:
        """The fault that strikes now, counted down; a faultless one where none does."""
        fault = self.faults.get(name)
        if fault is None or fault.times <= 0:
            return Fault()
        fault.times -= 1
        return fault


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub

    def log_message(self, *args: Any) -> None:
        """Says nothing."""

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def _answer(self) -> None:
        path = urlsplit(self.path).path
        if path == "/api/agent-harnesses":
            return self._send(404, {}, b"")
        self.hub.requests.append((self.command, path, self.headers.get("Range", "")))
        if "Authorization" in self.headers:
            self.hub.authorized.append((self.headers["Host"], self.headers["Authorization"]))
        if self.hub.renamed and f"/{self.hub.renamed}/" in f"{path}/":
            there = f"{path}/".replace(f"/{self.hub.renamed}/", "/org/name/").rstrip("/")
            return self._send(307, {"Location": there}, b"")
        return self._route(path.strip("/").split("/"))

    def _route(self, parts: list[str]) -> None:
        if parts[:2] == ["api", "models"]:
            return self._api(parts[2:])
        if parts == ["api", "whoami-v2"]:
            return self._body("whoami", 200, {"Content-Type": "application/json"}, b'{"name": "t"}')
        if parts[0] == "lfs":
            name = "/".join(parts[2:])
            return self._content(name, self.hub.at(parts[1])[1][name], {})
        if parts[:2] != ["org", "name"] or parts[2] != "resolve":
            return self._send(404, {"X-Error-Code": "RepoNotFound"}, b"")
        if parts[3] in self.hub.lost:
            return self._send(404, {"X-Error-Code": "RevisionNotFound"}, b"")
        return self._file(parts[3], "/".join(parts[4:]))

    def _api(self, parts: list[str]) -> None:
        if not parts:
            return self._body("models", 200, {"Content-Type": "application/json"}, b"[]")
        if parts[:2] != ["org", "name"]:
            return self._send(404, {"X-Error-Code": "RepoNotFound"}, b"")
        if parts[2:] == ["auth-check"]:
            return self._auth_check()
        asked = "/".join(parts[3:]) or "main"
        if asked not in (self.hub.commit, "main", "v1", *self.hub.history) or asked in self.hub.lost:
            return self._send(404, {"X-Error-Code": "RevisionNotFound"}, b"")
        listing = json.dumps(self.hub.listing(asked)).encode()
        return self._body("list", 200, {"Content-Type": "application/json"}, listing)

    def _auth_check(self) -> None:
        """Whether the account may read the repository: yes, but for the fault `auth-check`."""
        self._body("auth-check", 200, {}, b"")

    def date_time_string(self, timestamp: float | None = None) -> str:
        """What `send_response` writes as `Date`."""
        return super().date_time_string(timestamp) if self.hub.date is None else self.hub.date

    def _file(self, revision: str, name: str) -> None:
        commit, files = self.hub.at(revision)
        headers = {"X-Repo-Commit": commit}
        if name not in files:
            return self._send(404, {"X-Error-Code": "EntryNotFound"} | headers, b"")
        content = files[name]
        if name not in self.hub.lfs:
            return self._content(name, content, headers | {"ETag": f'"{blob_sha1(content)}"'})
        headers |= {"X-Linked-ETag": f'"{hashlib.sha256(content).hexdigest()}"', "X-Linked-Size": str(len(content))}
        fault = self.hub.faults.get(name)
        if fault is not None and fault.status is not None and fault.times > 0 and not fault.whole:
            return self._content(name, content, {})
        return self._send(302, headers | {"Location": f"{self.hub.cdn}/lfs/{commit}/{name}"}, b"")

    def _content(self, name: str, content: bytes, headers: dict[str, str]) -> None:
        asked = self.headers.get("Range")
        if asked is None or (name in self.hub.faults and self.hub.faults[name].ignore_range):
            return self._body(name, 200, headers, content)
        first, _, last = asked.removeprefix("bytes=").partition("-")
        begin, end = int(first), min(int(last or len(content)) + 1, len(content))
        headers |= {"Content-Range": f"bytes {begin}-{end - 1}/{len(content)}"}
        return self._body(name, 206, headers, content[begin:end])

    def _body(self, name: str, status: int, headers: dict[str, str], body: bytes) -> None:
        spared = name in self.hub.faults and self.hub.faults[name].whole and self._ends_early()
        fault = Fault() if spared else self.hub.take_fault(name)
        time.sleep(fault.stall_s)
        if fault.status is not None:
            return self._send(fault.status, fault.headers, b"")
        return self._send(status, headers | fault.headers, body if fault.body is None else fault.body, fault)

    def _send(self, status: int, headers: dict[str, str], body: bytes, fault: Fault | None = None) -> None:
        fault = fault or Fault()
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(body) if fault.sized is None else fault.sized))
        self.end_headers()
        if self.command == "HEAD":
            return
        for piece in self._pieces(body[: fault.cut], fault):
            self.wfile.write(piece)
        if fault.cut is not None and fault.cut < len(body):
            self.close_connection = True
            if fault.reset:
                self.wfile.flush()
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                self.connection.close()

    def _ends_early(self) -> bool:
        return self.command == "HEAD" or not self.headers.get("Range", "-").endswith("-")

    def _pieces(self, body: bytes, fault: Fault) -> Iterator[bytes]:
        if fault.drip is None:
            yield body
            return
        size, pause_s = fault.drip
        for begin in range(0, len(body), size):
            yield body[begin : begin + size]
            time.sleep(pause_s)


class _Server(ThreadingHTTPServer):
    request_queue_size = 512  # else the system resets connections when many come at once
    daemon_threads = True
    block_on_close = False

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hung up is none of the server's business."""


@contextmanager
def many(hubs: dict[str, Hub]) -> Iterator[str]:
    """The address of one hub that has each of those, which are served already, under its name `org/model`."""

    class Front(_Handler):
        hub = Hub({})

        def _answer(self) -> None:
            for name, hub in hubs.items():
                if f"/{name}/" in f"{urlsplit(self.path).path}/":
                    self.hub, self.path = hub, self.path.replace(f"/{name}", "/org/name", 1)
            super()._answer()

    server = _Server(("127.0.0.1", 0), Front)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def serving(hub: Hub) -> Iterator[Hub]:
    """The hub and its LFS store, each on a port of its own, until the block ends."""
    handler = type("Handler", (_Handler,), {"hub": hub})
    servers = [_Server(("127.0.0.1", 0), handler) for _ in range(2)]
    hub.url, hub.cdn = (f"http://127.0.0.1:{server.server_port}" for server in servers)
    threads = [threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True) for server in servers]
    for thread in threads:
        thread.start()
    try:
        yield hub
    finally:
        for server, thread in zip(servers, threads, strict=True):
            server.shutdown()
            server.server_close()
            thread.join()
