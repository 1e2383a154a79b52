"""Safetensors and GGUF files and small model folders, written by hand so that every byte can be made wrong."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import gguf
import numpy as np

WIDTHS = {
    **dict.fromkeys(("F64", "I64", "U64"), 8),
    **dict.fromkeys(("F32", "I32", "U32"), 4),
    **dict.fromkeys(("BF16", "F16", "I16", "U16"), 2),
    **dict.fromkeys(("U8", "BOOL", "I8", "F8_E4M3", "F8_E5M2"), 1),
}
NARROW_BITS = {"F6_E2M3": 6, "F6_E3M2": 6, "F4": 4}
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
        size = math.prod(shape) * (WIDTHS[dtype] * 8 if dtype in WIDTHS else NARROW_BITS[dtype]) // 8
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


def write_gguf(path: Path, *, head: bool = False, tokens: int = 6, split: int | None = None) -> Path:
    """A tiny GGUF Llama: one block, width 32, its matrices in Q8_0, its norm in F32."""
    writer = gguf.GGUFWriter(str(path), "llama")
    for add, value in (
        (writer.add_block_count, 1),
        (writer.add_embedding_length, 32),
        (writer.add_feed_forward_length, 64),
        (writer.add_head_count, 4),
        (writer.add_head_count_kv, 2),
        (writer.add_key_length, 8),
        (writer.add_context_length, 128),
        (writer.add_layer_norm_rms_eps, 1e-5),
        (writer.add_rope_freq_base, 10000.0),
        (writer.add_bos_token_id, 1),
        (writer.add_eos_token_id, 2),
        (writer.add_token_list, [f"t{n}" for n in range(tokens)]),
        (writer.add_token_scores, [0.0] * tokens),
    ):
        add(value)
    if split is not None:
        writer.add_uint16("split.count", split)
    values = np.linspace(-1, 1, 6 * 32, dtype=np.float32).reshape(6, 32)
    packed = gguf.quants.quantize(values, gguf.GGMLQuantizationType.Q8_0)
    writer.add_tensor("token_embd.weight", packed, raw_dtype=gguf.GGMLQuantizationType.Q8_0)
    writer.add_tensor("blk.0.attn_norm.weight", np.ones(32, np.float32))
    if head:
        writer.add_tensor("output.weight", values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
