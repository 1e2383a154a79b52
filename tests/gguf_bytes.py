"""GGUF files byte by byte, so that any of them can be wrong: counts, kinds, lengths, offsets (ggml, docs/gguf.md)."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any

U8, I8, U16, I16, U32, I32, F32, BOOL, STR, ARR, U64, I64, F64 = range(13)
_FORMATS = "BbHhIifB__QqdQ"
TOKENS = ["<unk>", "<s>", "</s>", "a", "b", "▁"]
TENSORS: tuple[tuple[Any, ...], ...] = (
    ("token_embd.weight", (32, 6), 0, 0),
    ("blk.0.attn_norm.weight", (32,), 0, 768),
    ("blk.0.attn_q.weight", (32, 32), 0, 896),
)
"""Name, size by size (the fastest first), ggml's number of the dtype (0: F32), offset."""
DATA = bytes(896 + 4096)


def text(words: str | bytes) -> bytes:
    """A string: its length, then its bytes."""
    content = words.encode() if isinstance(words, str) else words
    return struct.pack("<Q", len(content)) + content


def value(kind: int, held: Any) -> bytes:
    """A value without its kind; of a list `held` is (kind of its items, items); bytes under a list stay as they are."""
    if kind == STR:
        return text(held)
    if kind != ARR:
        return struct.pack(f"<{_FORMATS[kind]}", held)
    if isinstance(held, bytes):
        return held
    item, items = held
    return struct.pack("<IQ", item, len(items)) + b"".join(value(item, one) for one in items)


def pair(key: str | bytes, kind: int, held: Any) -> bytes:
    """A key with its value."""
    return text(key) + struct.pack("<I", kind) + value(kind, held)


def pairs(**changed: tuple[int, Any] | None) -> list[bytes]:
    """The metadata of a small Llama; in a changed key, which may be left out (None), `__` stands for a dot."""
    held: dict[str, tuple[int, Any] | None] = {
        "general.architecture": (STR, "llama"),
        "llama.block_count": (U32, 1),
        "llama.embedding_length": (U32, 32),
        "llama.feed_forward_length": (U32, 64),
        "llama.attention.head_count": (U32, 4),
        "llama.attention.head_count_kv": (U32, 2),
        "llama.context_length": (U32, 128),
        "llama.attention.layer_norm_rms_epsilon": (F32, 1e-5),
        "tokenizer.ggml.model": (STR, "llama"),
        "tokenizer.ggml.tokens": (ARR, (STR, TOKENS)),
        "tokenizer.ggml.scores": (ARR, (F32, [0.0] * 6)),
        "tokenizer.ggml.token_type": (ARR, (I32, [2, 3, 3, 1, 1, 1])),
        "tokenizer.ggml.bos_token_id": (U32, 1),
        "tokenizer.ggml.eos_token_id": (U32, 2),
    }
    held |= {key.replace("__", "."): given for key, given in changed.items()}
    return [pair(key, *given) for key, given in held.items() if given is not None]


def tensor(name: str | bytes, dims: Sequence[int], dtype: int, offset: int) -> bytes:
    """One line of the table of tensors."""
    sizes = struct.pack(f"<I{len(dims)}Q", len(dims), *dims)
    return text(name) + sizes + struct.pack("<IQ", dtype, offset)


def whole(
    metadata: Sequence[bytes] | None = None,
    tensors: Sequence[tuple[Any, ...] | bytes] = TENSORS,
    *,
    counts: tuple[int | None, int | None] = (None, None),
    data: bytes = DATA,
) -> bytes:
    """A file; `counts` are the numbers of tensors and of keys that it says it has, where they are not the true ones."""
    metadata = pairs() if metadata is None else metadata
    table = [one if isinstance(one, bytes) else tensor(*one) for one in tensors]
    said = [true if given is None else given for given, true in zip(counts, (len(table), len(metadata)), strict=True)]
    head = b"GGUF" + struct.pack("<IQQ", 3, *said) + b"".join([*metadata, *table])
    return head + bytes(-len(head) % 32) + data
