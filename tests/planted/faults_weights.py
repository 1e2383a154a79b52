"""Faults of the files of weights: WGT, and what weights mean under a config (EMB11)."""

from __future__ import annotations

import json
from typing import Any

from tests.planted import gguf_models
from tests.planted.cases import Change, Folder, Plant, Tensors, plants
from wirecheck.schema import Pin
from wirecheck.weight_files import sha256_of

INDEX = "model.safetensors.index.json"
ONE, TWO = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"4d" * 32 + b"\nsize 969712\n"


def _cut(m: Folder, size: int = 100) -> None:
    m.put(TWO, (m.path / TWO).read_bytes()[:-size])


def _longer(m: Folder) -> None:
    m.put(TWO, (m.path / TWO).read_bytes() + bytes(16))


def _resumed(m: Folder) -> None:
    """A download resumed from the start of the file."""
    content = (m.path / TWO).read_bytes()
    m.put(TWO, content[: len(content) // 2] + content)


def _half_zero(m: Folder) -> None:
    """Space was set aside for the file, and what was to be written did not come."""
    size = (m.path / TWO).stat().st_size
    m.put(TWO, bytes(size))


def _overlap(header: dict[str, Any]) -> None:
    names = [name for name in header if name != "__metadata__"]
    first, second = sorted(names, key=lambda name: header[name]["data_offsets"])[:2]
    header[second]["data_offsets"] = list(header[first]["data_offsets"])


def _past_the_end(header: dict[str, Any]) -> None:
    last = max((n for n in header if n != "__metadata__"), key=lambda name: header[name]["data_offsets"])
    begin, end = header[last]["data_offsets"]
    header[last]["data_offsets"] = [begin, 2 * end - begin]
    header[last]["shape"][0] *= 2


def _other_shape(header: dict[str, Any]) -> None:
    """A shape that the bytes do not have."""
    name = next(n for n in header if n.endswith("up_proj.weight"))
    header[name]["shape"] = [header[name]["shape"][0] + 1, header[name]["shape"][1]]


def _twice(m: Folder) -> None:
    """One tensor's name appears twice in a header."""
    path = m.path / ONE
    raw = path.read_bytes()
    end = 8 + int.from_bytes(raw[:8], "little")
    text = raw[8:end].decode().strip()
    entry = json.dumps(json.loads(text)["model.embed_tokens.weight"])
    text = text[:-1] + f',"model.embed_tokens.weight":{entry}}}'
    m.put(ONE, len(text).to_bytes(8, "little") + text.encode() + raw[end:])


def _huge_header(m: Folder) -> None:
    path = m.path / ONE
    m.put(ONE, (2**40).to_bytes(8, "little") + path.read_bytes()[8:])


def _index(change: Any) -> Change:
    def changed(m: Folder) -> None:
        index = m.json(INDEX)
        change(index["weight_map"])
        m.put(INDEX, index)

    return changed


def _other_file(weight_map: dict[str, str]) -> None:
    """The index of a checkpoint in three parts, of which there are two."""
    for name in list(weight_map)[-3:]:
        weight_map[name] = "model-00003-of-00003.safetensors"


def _copied(m: Folder) -> None:
    m.put(TWO, (m.path / ONE).read_bytes())


def drop(part: str) -> Change:
    """Leave out every tensor with `part` in its name."""

    def changed(tensors: Tensors) -> None:
        for name in [n for n in tensors if part in n]:
            del tensors[name]

    return lambda m: m.weights(changed)


def rename(old: str, new: str) -> Change:
    """Replace a part of tensor names, in the shards and the index."""

    def changed(m: Folder) -> None:
        def renamed(tensors: Tensors) -> None:
            for name in list(tensors):
                tensors[name.replace(old, new)] = tensors.pop(name)

        m.weights(renamed)
        if (m.path / INDEX).is_file():
            m.put(INDEX, m.text(INDEX).replace(old, new) if old else m.text(INDEX))

    return changed


def prefix(word: str) -> Change:
    """Put a word before every tensor's name, as wrappers do."""

    def changed(m: Folder) -> None:
        def renamed(tensors: Tensors) -> None:
            for name in list(tensors):
                tensors[word + name] = tensors.pop(name)

        m.weights(renamed)
        index = m.json(INDEX)
        index["weight_map"] = {word + name: file for name, file in index["weight_map"].items()}
        m.put(INDEX, index)

    return changed


def each(part: str, change: Any) -> Change:
    """Change every tensor with `part` in its name."""

    def changed(tensors: Tensors) -> None:
        for name in tensors:
            if part in name:
                tensors[name] = change(tensors[name])

    return lambda m: m.weights(changed)


def _poisoned(value: float) -> Any:
    def changed(tensor: Any) -> Any:
        tensor = tensor.clone()
        tensor.view(-1)[7] = value
        return tensor

    return changed


def _to(dtype: str) -> Any:
    import torch

    return lambda tensor: tensor.to(getattr(torch, dtype))


def _some_in_float32(m: Folder) -> None:
    each("mlp", lambda t: t.float())(m)


def _as_codes(m: Folder) -> None:
    """An 8-bit checkpoint whose quantization_config was lost."""
    each("mlp", lambda t: (t * 100).round().char())(m)


def _as_narrow(m: Folder) -> None:
    """An fp8 checkpoint, scales beside the codes, whose quantization_config was lost."""
    import torch

    def changed(tensors: Tensors) -> None:
        for name in [n for n in tensors if "proj.weight" in n]:
            tensors[name] = tensors[name].to(torch.float8_e4m3fn)
            tensors[f"{name}_scale_inv"] = torch.ones(1)

    m.weights(changed)


def _pickled(m: Folder) -> None:
    import torch

    torch.save(m.tensors(), m.path / "pytorch_model.bin")
    m.remove(*(shard.name for shard in m.shards), *([INDEX] if (m.path / INDEX).is_file() else []))


def _adapter_alone(m: Folder) -> None:
    """What LoRA training saves: the adapter, and no model."""
    (m.path / "model.safetensors").rename(m.path / "adapter_model.safetensors")
    m.put("adapter_config.json", {"peft_type": "LORA", "r": 8, "base_model_name_or_path": "org/base"})


def _no_weights(m: Folder) -> None:
    m.remove(ONE, TWO, INDEX)


def _all_pointers(m: Folder) -> None:
    for name in (ONE, TWO):
        m.put(name, POINTER)


def _pickle_pointer(m: Folder) -> None:
    m.remove("model.safetensors")
    m.put("pytorch_model.bin", POINTER)


def _gguf(**options: Any) -> Change:
    return lambda m: gguf_models.write(m.path / "model.gguf", **options)


def _gguf_cut(m: Folder) -> None:
    path = m.path / "model.gguf"
    path.write_bytes(path.read_bytes()[:-4000])


def pins(m: Folder) -> dict[str, Any]:
    """The digests of the sound model's first shard."""
    return {"pins": (Pin(subject="a", file=ONE, sha256=sha256_of(m.path / ONE)),)}


def _one_bit(m: Folder) -> None:
    raw = bytearray((m.path / ONE).read_bytes())
    raw[-1] ^= 1
    m.put(ONE, bytes(raw))


WEIGHTS = (
    *plants(
        "llama",
        (
            ("WGT01", "a shard that the index names is not there", lambda m: m.remove(TWO)),
            ("WGT01", "metadata alone, no weights at all", _no_weights),
            ("WGT01", "the index names a third shard that was never made", _index(_other_file)),
            ("WGT02", "a shard ends 100 bytes early", _cut),
            ("WGT02", "a shard is cut within its header", lambda m: m.put(ONE, (m.path / ONE).read_bytes()[:200])),
            ("WGT02", "a shard is of no bytes", lambda m: m.put(ONE, b"")),
            ("WGT02", "16 bytes stand behind the last tensor", _longer),
            ("WGT02", "a resumed download began again in the middle of the file", _resumed),
            ("WGT03", "both shards are Git LFS pointers", _all_pointers),
            ("WGT03", "one shard of two is a Git LFS pointer", lambda m: m.put(TWO, POINTER)),
            (
                "WGT04",
                "an error page was saved as a shard",
                lambda m: m.put(TWO, b"<!DOCTYPE html><html><body>Access denied</body></html>"),
            ),
            ("WGT04", "a shard of zeros: space set aside, nothing written", _half_zero),
            ("WGT04", "two tensors lie on the same bytes", lambda m: m.header(_overlap)),
            ("WGT04", "a tensor's bytes are not its shape's", lambda m: m.header(_other_shape)),
            ("WGT04", "a name stands twice in a header", _twice),
            ("WGT04", "a header of 2^40 bytes is announced", _huge_header),
            ("WGT02", "a tensor ends past the end of its file", lambda m: m.header(_past_the_end)),
            ("WGT04", "shard 2 is a copy of shard 1, so every name is there twice", _copied),
            ("WGT05", "the last norm was not saved", drop("model.norm")),
            ("WGT05", "the head was not saved, and nothing ties it", drop("lm_head")),
            ("WGT05", "names begin with module., as DataParallel saves them", prefix("module.")),
            ("WGT05", "names begin with _orig_mod., as a compiled model is saved", prefix("_orig_mod.")),
            ("WGT05", "config.json has a layer more than the files", lambda m: m.config(num_hidden_layers=5)),
            (
                "WGT05",
                "LoRA was not merged: weights are named base_layer",
                rename("proj.weight", "proj.base_layer.weight"),
            ),
            ("WGT05", "one layer's key projection is missing", drop("layers.2.self_attn.k_proj")),
            ("WGT06", "config.json has a layer fewer than the files", lambda m: m.config(num_hidden_layers=3), "warn"),
            (
                "WGT06",
                "an unused tower's tensor lies beside the model's",
                lambda m: _with(m, "vision.patch.weight"),
                "note",
            ),
            ("WGT07", "a projection was saved transposed", each("layers.1.mlp.up_proj", lambda t: t.T)),
            ("WGT07", "config.json has another intermediate size", lambda m: m.config(intermediate_size=344)),
            ("WGT07", "config.json has one key-value head per head", lambda m: m.config(num_key_value_heads=8)),
            ("WGT07", "config.json has heads of 32 dimensions, the files of 16", lambda m: m.config(head_dim=32)),
            ("WGT07", "config.json is of a wider model", lambda m: m.config(hidden_size=256, head_dim=32)),
            ("WGT08", "the tables were resized and vocab_size was not", lambda m: m.rows("embed_tokens lm_head", 1032)),
            ("WGT08", "vocab_size was raised and the tables were not", lambda m: m.config(vocab_size=1100)),
            ("WGT08", "the embedding was resized and the head was not", lambda m: m.rows("embed_tokens", 1032)),
            (
                "WGT09",
                "tables and vocab_size were padded to a round number",
                lambda m: (m.rows("embed_tokens lm_head", 1088), m.config(vocab_size=1088)),
                "note",
            ),
            ("WGT10", "the weights are a pickle", _pickled, "warn"),
            ("WGT12", "the MLPs are float32, all else bfloat16", _some_in_float32, "warn"),
            ("WGT12", "8-bit codes, and no quantization_config", _as_codes),
            ("WGT12", "fp8 with its scales, and no quantization_config", _as_narrow),
            (
                "WGT14",
                "the MLPs are zeros, as a placeholder has them",
                each("mlp", lambda t: t.new_zeros(t.shape)),
                "warn",
            ),
            (
                "WGT14",
                "the MLPs were multiplied by zero, so half of them is minus zero",
                each("mlp", lambda t: t * 0),
                "warn",
            ),
        ),
    ),
    *plants(
        "qwen",
        (
            ("WGT01", "a LoRA adapter and no model", _adapter_alone),
            ("WGT03", "the pickle is a Git LFS pointer", _pickle_pointer),
            (
                "WGT05",
                "tied in the files, and config.json unties the head",
                lambda m: m.config(tie_word_embeddings=False),
            ),
            ("WGT05", "the biases of the attention were left out", drop("q_proj.bias")),
            (
                "WGT08",
                "the one table lost its padding rows, and vocab_size kept them",
                lambda m: m.rows("embed_tokens", 1500),
            ),
        ),
    ),
    *plants("gemma", (("WGT05", "the norms of the queries were left out", drop("q_norm")),)),
    *plants(
        "gpt2",
        (
            ("WGT07", "Conv1D weights were saved as a Linear's", each("mlp.c_fc.weight", lambda t: t.T)),
            ("WGT05", "the table of positions was left out", drop("wpe")),
        ),
    ),
    *plants(
        "mistral",
        (
            (
                "WGT02",
                "the one file ends early",
                lambda m: m.put("model.safetensors", (m.path / "model.safetensors").read_bytes()[:-9]),
            ),
        ),
    ),
    *plants(
        "mixtral",
        (
            ("WGT05", "one expert was left out", drop("experts.3.")),
            ("WGT05", "the router was left out", drop("gate.weight")),
            (
                "WGT07",
                "config.json has half the experts, the router says otherwise",
                lambda m: m.config(num_local_experts=2),
            ),
            ("WGT05", "config.json has twice the experts", lambda m: m.config(num_local_experts=8)),
        ),
    ),
    *plants("phi3", (("WGT05", "the fused projection was split by a conversion", rename("qkv_proj", "q_proj")),)),
    *plants("neox", (("WGT05", "the head was left out, by GPT-NeoX's own name", drop("embed_out")),)),
    *plants(
        "falcon",
        (("WGT07", "config.json has many key-value heads, the files have one", lambda m: m.config(multi_query=False)),),
    ),
    *plants("wrapper", (("WGT05", "the wrapper's language model was left out but for its table", drop("layers.1.")),)),
    *plants(
        "gguf",
        (
            ("WGT02", "a GGUF file ends early", _gguf_cut),
            ("WGT05", "a GGUF file lacks a block's norm", _gguf(leave_out=("blk.1.ffn_norm.weight",))),
            ("WGT07", "a GGUF file's projection is too narrow", _gguf(more={"blk.0.ffn_up.weight": (48, 32)})),
            ("WGT05", "a GGUF file announces three blocks and holds two", _gguf(layers=3)),
            (
                "WGT04",
                "a GGUF file's first bytes are not GGUF's",
                lambda m: m.put("model.gguf", b"GGML" + (m.path / "model.gguf").read_bytes()[4:]),
            ),
            ("CFG05", "a GGUF file announces 5 heads for a width of 32", _gguf(heads=5)),
            ("TOK01", "a GGUF file without a vocabulary", _gguf(tokens=False)),
            ("TOK01", "a GGUF file whose stop is no token of its list", _gguf(eos=4000)),
        ),
    ),
    Plant(base="llama", code="WGT13", what="a bit of a pinned shard has turned", change=_one_bit, ask_policy=pins),
    Plant(
        base="llama",
        code="WGT13",
        what="a pinned shard is not there any more",
        change=lambda m: m.remove(ONE),
        ask_policy=pins,
    ),
)


def _with(m: Folder, name: str) -> None:
    import torch

    m.weights(lambda tensors: tensors.__setitem__(name, torch.ones(4, 4)) if "lm_head.weight" in tensors else None)
