"""A small whole Llama as one GGUF file: tensors, vocabulary, chat template; and each part of it to be left out."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from tokenizers import pre_tokenizers

from tests.ggufs import HEADS, INNER, KV_HEADS, LAYERS, WIDTH, shapes
from tests.tokenizer_factory import CHATML, SPECIALS


def _tokens() -> list[str]:
    # transformers adds <|endoftext|> as the unknown token to a vocabulary that lacks it.
    return [*sorted(pre_tokenizers.ByteLevel.alphabet()), *SPECIALS, "<|endoftext|>", "ab"]


def write(
    path: Path,
    *,
    leave_out: tuple[str, ...] = (),
    more: Mapping[str, tuple[int, ...]] | None = None,
    tokens: bool = True,
    layers: int = LAYERS,
    heads: int = HEADS,
    bos: int = 256,
    eos: int = 258,
    template: str | None = CHATML,
    note: str | None = None,
) -> Path:
    """The file; `more` adds tensors or gives them another shape."""
    path.unlink(missing_ok=True)
    writer = gguf.GGUFWriter(path, "llama")
    for add, value in (
        (writer.add_block_count, layers), (writer.add_embedding_length, WIDTH),
        (writer.add_feed_forward_length, INNER), (writer.add_head_count, heads),
        (writer.add_head_count_kv, KV_HEADS), (writer.add_context_length, 512), (writer.add_layer_norm_rms_eps, 1e-5),
        (writer.add_rope_freq_base, 10000.0), (writer.add_vocab_size, len(_tokens())),
    ):  # fmt: skip
        _set(add, value)
    if note is not None:
        writer.add_description(note)
    if tokens:
        _vocabulary(writer, bos, eos, template)
    drawn = np.random.default_rng(0)
    for name, shape in (shapes(len(_tokens())) | dict(more or {})).items():
        if name not in leave_out:
            writer.add_tensor(name, (drawn.normal(size=shape) / 8).astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _set(add: Any, value: Any) -> None:
    add(value)


def _vocabulary(writer: gguf.GGUFWriter, bos: int, eos: int, template: str | None) -> None:
    words = _tokens()
    special = int(gguf.TokenType.CONTROL)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(words)
    writer.add_token_types([special if word in SPECIALS else int(gguf.TokenType.NORMAL) for word in words])
    writer.add_token_merges(["a b"])
    writer.add_bos_token_id(bos)
    writer.add_eos_token_id(eos)
    writer.add_pad_token_id(259)
    if template is not None:
        writer.add_chat_template(template)
