"""The recorded models of ../shared as a hub on 127.0.0.1, for tools that read nothing else."""

from __future__ import annotations

import json
import os
import re
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import torch

from wirecheck import zoo
from wirecheck.safetensors_header import TensorEntry, parse_header

SNAPSHOTS = Path(__file__).parents[2] / "shared" / "assets" / "snapshots"
COMMIT = "0" * 40


def model_id(model: str) -> str:
    """Its name on the hub."""
    return model.replace("__", "/", 1)


def tensors(model: str) -> dict[str, TensorEntry]:
    """Name -> entry, of all its weight files."""
    heads = [parse_header(head, file_size=None)[0] for head in headers(model).values()]
    return {entry.name: entry for head in heads for entry in head}


@cache
def headers(model: str) -> dict[str, bytes]:
    """Weight file -> its header: as recorded, else of the tensors that the model's class has, in the config's dtype."""
    recorded = sorted((SNAPSHOTS / model / "headers").glob("*.header"))
    if recorded:
        return {path.name.removesuffix(".header"): path.read_bytes() for path in recorded}
    config = zoo.transformers_library().AutoConfig.from_pretrained(SNAPSHOTS / model, local_files_only=True)
    made, table, end = zoo.build(config, device="meta", dtype=config.dtype), dict[str, Any](), 0
    for name, tensor in made.named_parameters():  # a tied head is not named again
        begin, end, dtype = end, end + tensor.nbytes, {torch.bfloat16: "BF16", torch.float16: "F16"}[tensor.dtype]
        table[name] = {"dtype": dtype, "shape": list(tensor.shape), "data_offsets": [begin, end]}
    text = json.dumps(table).encode()
    return {"model.safetensors": len(text).to_bytes(8, "little") + text}


def files(model: str) -> dict[str, bytes]:
    """What the hub has of it; weight files end with their headers, behind which neither tool reads."""
    return {path.name: path.read_bytes() for path in (SNAPSHOTS / model).glob("*.json")} | headers(model)


class Hub(BaseHTTPRequestHandler):
    """The endpoints that both tools call: a model's listing, its tree, and its files."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        """Says nothing."""

    def do_GET(self) -> None:
        """`/api/models/OWNER/NAME[/tree/...]` or `/OWNER/NAME/resolve/REVISION/FILE`."""
        found = re.match(r"/(api/models/)?([^/]+)/([^/]+)(?:/(tree|resolve)/[^/]+/?(.*))?$", urlsplit(self.path).path)
        model = f"{found[2]}__{found[3]}" if found else "none"
        held = files(model) if found and (SNAPSHOTS / model).is_dir() else {}
        if not found or not held:
            return self._send(404, b"")
        if found[4] == "resolve":
            return self._send(200 if found[5] in held else 404, held.get(found[5], b""))
        told: Any = [{"type": "file", "path": name} for name in held]
        if found[4] is None:
            config, siblings = json.loads(held["config.json"]), [{"rfilename": name} for name in held]
            told = {"id": model_id(model), "sha": COMMIT, "config": config, "siblings": siblings}
        return self._send(200, json.dumps(told).encode())

    do_HEAD = do_GET  # noqa: N815  # http.server's own

    def _send(self, status: int, body: bytes) -> None:
        self.send_response(status)
        for name, value in (("Content-Length", len(body)), ("X-Repo-Commit", COMMIT), ("ETag", f'"{hash(body):x}"')):
            self.send_header(name, str(value))
        self.end_headers()
        self.wfile.write(body if self.command == "GET" else b"")


@contextmanager
def hub() -> Iterator[None]:
    """Served until the block ends, to processes that it starts."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with tempfile.TemporaryDirectory() as home:
        os.environ |= {"HF_ENDPOINT": f"http://127.0.0.1:{server.server_port}", "HF_HOME": home}
        yield
    server.shutdown()
