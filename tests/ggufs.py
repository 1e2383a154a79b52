"""A tiny Llama written as a GGUF file, by llama.cpp's names."""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np

WIDTH, INNER, LAYERS, HEADS, KV_HEADS, ROWS = 32, 64, 2, 4, 2, 120


def shapes(rows: int) -> dict[str, tuple[int, ...]]:
    """Tensor name -> shape, as numpy has it; the head is tied."""
    kv = WIDTH // HEADS * KV_HEADS
    made: dict[str, tuple[int, ...]] = {"token_embd.weight": (rows, WIDTH), "output_norm.weight": (WIDTH,)}
    for i in range(LAYERS):
        made |= {
            f"blk.{i}.attn_q.weight": (WIDTH, WIDTH), f"blk.{i}.attn_k.weight": (kv, WIDTH),
            f"blk.{i}.attn_v.weight": (kv, WIDTH), f"blk.{i}.attn_output.weight": (WIDTH, WIDTH),
            f"blk.{i}.ffn_gate.weight": (INNER, WIDTH), f"blk.{i}.ffn_up.weight": (INNER, WIDTH),
            f"blk.{i}.ffn_down.weight": (WIDTH, INNER), f"blk.{i}.attn_norm.weight": (WIDTH,),
            f"blk.{i}.ffn_norm.weight": (WIDTH,),
        }  # fmt: skip
    return made


def write_gguf(path: Path, *, leave_out: tuple[str, ...] = (), stray: str | None = None) -> Path:
    """Float32 tensors, head tied to the embedding; `leave_out`: names not written, `stray`: one name too many."""
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(LAYERS)
    writer.add_embedding_length(WIDTH)
    writer.add_feed_forward_length(INNER)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_context_length(64)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(ROWS)
    made = shapes(ROWS)
    if stray is not None:
        made[stray] = (WIDTH,)
    drawn = np.random.default_rng(0)
    for name, shape in made.items():
        if name not in leave_out:
            writer.add_tensor(name, drawn.normal(size=shape).astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
