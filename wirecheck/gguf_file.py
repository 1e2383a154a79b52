"""One GGUF file through the `gguf` package: its table of tensors, and a config.json made from its metadata.

Key names are llama.cpp's (https://github.com/ggml-org/ggml, docs/gguf.md); the made config holds what the file says.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from gguf import GGUFReader
from gguf.constants import GGML_QUANT_SIZES, GGUFEndian, GGUFValueType

from wirecheck.safetensors_header import TensorEntry, is_lfs_pointer
from wirecheck.weight_files import WeightFile, lfs_pointer

KEPT_ARRAY_ITEMS = 4096
"""Longer lists (vocabularies, merges) are passed over: nothing here reads them."""
MOST_TEXTS = 2**24
"""Texts of one list that are walked over: a sparse file holds more without a byte on disk."""
MOST_KEYS, MOST_TENSORS = 10_000, 100_000
"""Real files have some hundreds of either; the reader makes a dozen objects of each, in a tenth of a millisecond."""
_ARRAY_HEAD_BYTES, _LENGTH_BYTES = 12, 8
_UNREADABLE = (ValueError, KeyError, IndexError, TypeError, ArithmeticError, RecursionError, MemoryError)
"""What GGUFReader raises on bytes that are no GGUF."""
_HEAD_BYTES = 1024**2

_MODEL_TYPES = {
    "llama": ("llama", "LlamaForCausalLM"),
    "mistral": ("mistral", "MistralForCausalLM"),
    "qwen2": ("qwen2", "Qwen2ForCausalLM"),
    "qwen2moe": ("qwen2_moe", "Qwen2MoeForCausalLM"),
    "qwen3": ("qwen3", "Qwen3ForCausalLM"),
    "qwen3moe": ("qwen3_moe", "Qwen3MoeForCausalLM"),
    "gemma": ("gemma", "GemmaForCausalLM"),
    "gemma2": ("gemma2", "Gemma2ForCausalLM"),
    "gemma3": ("gemma3_text", "Gemma3ForCausalLM"),
    "gpt2": ("gpt2", "GPT2LMHeadModel"),
    "phi3": ("phi3", "Phi3ForCausalLM"),
    "falcon": ("falcon", "FalconForCausalLM"),
    "stablelm": ("stablelm", "StableLmForCausalLM"),
    "starcoder2": ("starcoder2", "Starcoder2ForCausalLM"),
    "lfm2": ("lfm2", "Lfm2ForCausalLM"),
}
"""GGUF's general.architecture -> transformers' (model_type, class)."""
_CONFIG_KEYS = {
    "num_hidden_layers": "block_count",
    "hidden_size": "embedding_length",
    "intermediate_size": "feed_forward_length",
    "num_attention_heads": "attention.head_count",
    "num_key_value_heads": "attention.head_count_kv",
    "head_dim": "attention.key_length",
    "max_position_embeddings": "context_length",
    "rms_norm_eps": "attention.layer_norm_rms_epsilon",
    "layer_norm_eps": "attention.layer_norm_epsilon",
    "rope_theta": "rope.freq_base",
    "sliding_window": "attention.sliding_window",
    "attn_logit_softcapping": "attn_logit_softcapping",
    "final_logit_softcapping": "final_logit_softcapping",
    "num_experts": "expert_count",
    "num_experts_per_tok": "expert_used_count",
}
"""transformers' config key -> GGUF's, which stands after the architecture and a dot."""
_TOKEN_KEYS = {
    "bos_token_id": "tokenizer.ggml.bos_token_id",
    "eos_token_id": "tokenizer.ggml.eos_token_id",
    "pad_token_id": "tokenizer.ggml.padding_token_id",
}
_EMBEDDING, _HEAD = "token_embd.weight", "output.weight"


@dataclass(frozen=True)
class GgufContent:
    """What one GGUF file holds."""

    commit: str
    weights: WeightFile
    config: dict[str, Any] | None = None
    """As transformers would name it; None where the file is not readable."""
    origins: dict[str, str] = field(default_factory=dict)
    """Config key -> the GGUF metadata key or tensor it was read from."""


class _PastEnd(ValueError):
    """The file ends before the bytes its own header declares."""


class _Reader(GGUFReader):
    """GGUFReader reads past the end as nothing and believes any length: here both are errors."""

    def _get(self, offset: int, dtype: npt.DTypeLike, count: int = 1, override_order: Any = None) -> npt.NDArray[Any]:
        end = int(offset) + np.dtype(dtype).itemsize * int(count)
        if end > self.data.size:
            raise _PastEnd(f"needs {end} bytes, the file has {self.data.size}")
        return super()._get(int(offset), dtype, int(count), override_order)

    def _build_fields(self, offs: int, count: int) -> int:
        return int(super()._build_fields(offs, _at_most(int(count), MOST_KEYS, "keys")))

    def _build_tensor_info(self, offs: int, count: int) -> Any:
        return super()._build_tensor_info(offs, _at_most(int(count), MOST_TENSORS, "tensors"))

    def _get_field_parts(self, orig_offs: int, raw_type: int) -> Any:
        if raw_type != GGUFValueType.ARRAY:
            return super()._get_field_parts(orig_offs, raw_type)
        item = GGUFValueType(int(self._get(orig_offs, np.uint32)[0]))
        count = int(self._get(orig_offs + 4, np.uint64)[0])
        if count <= KEPT_ARRAY_ITEMS:
            return super()._get_field_parts(orig_offs, raw_type)
        # A vocabulary: walked over, not kept, which takes seconds off a large one.
        first = int(orig_offs) + _ARRAY_HEAD_BYTES
        return self._past(first, item, count) - int(orig_offs), [], [], [GGUFValueType.ARRAY, item]

    def _past(self, offset: int, item: GGUFValueType, count: int) -> int:
        """The byte after `count` items."""
        if item != GGUFValueType.STRING:
            scalar = self.gguf_scalar_to_np[item]
            return offset + int(self._get(offset, scalar, count).nbytes)
        if count > MOST_TEXTS:
            raise ValueError(f"a list of {count} texts, which no vocabulary has")
        content, size = self.data.data, self.data.size
        order: Literal["little", "big"] = "big" if self.endianess == GGUFEndian.BIG else "little"
        for _ in range(count):
            offset += _LENGTH_BYTES + int.from_bytes(content[offset : offset + _LENGTH_BYTES], order)
            if offset > size:
                raise _PastEnd(f"a list of {count} texts needs {offset} bytes, the file has {size}")
        return offset


def _at_most(count: int, most: int, what: str) -> int:
    if count > most:
        raise ValueError(f"it says that it holds {count} {what}; at most {most} are read")
    return count


def read_gguf(path: Path) -> GgufContent:
    """A GGUF file's tensors and metadata; what is wrong with it stands in `weights.problem`. Raises OSError."""
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(_HEAD_BYTES)
    commit = _digest(path.name, size, head)
    if is_lfs_pointer(head):
        return GgufContent(commit, lfs_pointer(path.name, path, size, "gguf"))
    try:
        if not size:  # which mmap refuses in its own words
            raise _PastEnd("the file is empty")
        with np.errstate(all="raise"):
            return _content(path, size)
    except _PastEnd as error:
        broken = WeightFile(path.name, path, size, "gguf", problem="truncated", detail=str(error))
    except _UNREADABLE as error:
        detail = f"not readable as GGUF: {type(error).__name__}: {error}"
        broken = WeightFile(path.name, path, size, "gguf", problem="malformed", detail=detail)
    return GgufContent(commit, broken)


def _digest(name: str, size: int, head: bytes) -> str:
    total = hashlib.sha256(f"{name}\0{size}\0".encode("utf-8", "surrogateescape"))
    total.update(head)
    return f"sha256:{total.hexdigest()}"


def _content(path: Path, size: int) -> GgufContent:
    reader = _Reader(path)
    tensors = tuple(sorted(map(_entry, reader.tensors), key=lambda entry: (entry.begin, entry.name)))
    for one, after in pairwise(tensors):
        if after.begin < one.end and after.num_bytes:
            raise ValueError(f"{after.name} begins at byte {after.begin}, within {one.name}, which ends at {one.end}")
    weights = WeightFile(path.name, path, size, "gguf", tensors)
    parts = _value(reader, "split.count")
    if isinstance(parts, int) and parts > 1:
        detail = f"it is one of the {parts} parts of a split model: join them with `llama-gguf-split --merge`"
        weights = WeightFile(path.name, path, size, "gguf", tensors, "missing", detail)
    config, origins = _config(reader, {entry.name: entry for entry in tensors})
    commit = _digest(path.name, size, bytes(reader.data[: reader.data_offset]))
    return GgufContent(commit, weights, config, origins)


def _entry(tensor: Any) -> TensorEntry:
    """GGUF writes the fastest dimension first; the shape here is torch's, rows first."""
    shape = tuple(int(n) for n in reversed(tensor.shape.tolist()))
    block, block_bytes = GGML_QUANT_SIZES[tensor.tensor_type]
    begin = int(tensor.data_offset)
    entry = TensorEntry(tensor.name, tensor.tensor_type.name, shape, begin, begin)
    end = begin + entry.num_elements // block * block_bytes
    return TensorEntry(tensor.name, tensor.tensor_type.name, shape, begin, end)


def _value(reader: GGUFReader, key: str) -> Any:
    """A metadata value as plain Python; a per-layer list counts by its largest item; None where the key is absent."""
    found = reader.get_field(key)
    if found is None:
        return None
    value = found.contents()
    if isinstance(value, list):
        return max(value, default=None)
    return float(f"{value:.7g}") if isinstance(value, float) else value  # float32 on file


def _known(pairs: Iterable[tuple[str, str]], reader: GGUFReader) -> Iterable[tuple[str, str, Any]]:
    for key, origin in pairs:
        value = _value(reader, origin)
        if value is not None:
            yield key, origin, value


def _config(reader: GGUFReader, tensors: dict[str, TensorEntry]) -> tuple[dict[str, Any], dict[str, str]]:
    architecture = str(_value(reader, "general.architecture") or "")
    model_type, class_name = _MODEL_TYPES.get(architecture, (architecture, None))
    config: dict[str, Any] = {"model_type": model_type}
    origins = {"model_type": "general.architecture", "architectures": "general.architecture"}
    if class_name:
        config["architectures"] = [class_name]
    named = ((key, f"{architecture}.{origin}") for key, origin in _CONFIG_KEYS.items())
    for key, origin, value in _known([*named, *_TOKEN_KEYS.items()], reader):
        config[key], origins[key] = value, origin
    if _EMBEDDING in tensors:
        config["vocab_size"], origins["vocab_size"] = tensors[_EMBEDDING].shape[0], _EMBEDDING
        config["tie_word_embeddings"] = _HEAD not in tensors
        origins["tie_word_embeddings"] = _HEAD
    return config, origins
