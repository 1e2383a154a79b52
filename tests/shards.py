"""Safetensors files and small model folders, written by hand so that every byte can be made wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

WIDTHS = {"F64": 8, "I64": 8, "F32": 4, "I32": 4, "BF16": 2, "F16": 2, "U8": 1, "BOOL": 1}
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 1234\n"

Shapes = dict[str, tuple[str, tuple[int, ...]]]
"""Tensor name -> (dtype, shape)."""

TINY: Shapes = {
    "model.embed_tokens.weight": ("BF16", (16, 4)),
    "model.layers.0.mlp.up_proj.weight": ("BF16", (8, 4)),
    "model.norm.weight": ("F32", (4,)),
    "lm_head.weight": ("BF16", (16, 4)),
}
CONFIG = {"model_type": "llama", "vocab_size": 16, "hidden_size": 4, "tie_word_embeddings": False}


def raw(header: Any, data: bytes = b"") -> bytes:
    """A file with that header, whatever it is (bytes are taken as they are)."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


def table(shapes: Shapes) -> tuple[dict[str, Any], int]:
    """The header of tensors that follow each other, and the bytes they take."""
    header, at = {}, 0
    for name, (dtype, shape) in shapes.items():
        size = WIDTHS[dtype]
        for n in shape:
            size *= n
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [at, at + size]}
        at += size
    return header, at


def shard(shapes: Shapes, fill: bytes = b"\x01") -> bytes:
    """A whole file of tensors, every byte `fill`."""
    header, size = table(shapes)
    return raw(header, fill * size)


def write_model(folder: Path, shapes: Shapes | None = None, config: dict[str, Any] | None = None) -> Path:
    """A folder with a config and one `model.safetensors`."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(CONFIG if config is None else config))
    (folder / "model.safetensors").write_bytes(shard(TINY if shapes is None else shapes))
    return folder


def write_sharded(folder: Path, parts: dict[str, Shapes], config: dict[str, Any] | None = None) -> Path:
    """A folder with a config, shards by name, and their index."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(CONFIG if config is None else config))
    for name, shapes in parts.items():
        (folder / name).write_bytes(shard(shapes))
    weight_map = {tensor: name for name, shapes in parts.items() for tensor in shapes}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    return folder
