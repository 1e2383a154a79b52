"""Faults of what the weights hold and mean: WGT11, EMB11, EMB13; a config that is another's. On trained models."""

from __future__ import annotations

from typing import Any

from tests.planted.cases import Change, Folder, Tensors, plants
from tests.planted.faults_weights import each
from wirecheck.schema import Level


def _value(value: float) -> Any:
    def changed(tensor: Any) -> Any:
        tensor = tensor.clone()
        tensor.view(-1)[7] = value
        return tensor

    return changed


def _drawn(tensor: Any) -> Any:
    import torch

    generator = torch.Generator().manual_seed(0)
    return (torch.randn(tensor.shape, generator=generator) * tensor.float().std()).to(tensor.dtype)


def _rolled(tensor: Any) -> Any:
    """Every row belongs to the token after it: the table of another tokenizer release."""
    return tensor.roll(1, dims=0)


def _interleaved(tensor: Any) -> Any:
    """Rows of each head of 16 as GGUF and Meta's own files order them: (first, second) halves interleaved."""
    rows, width = tensor.shape
    return tensor.view(rows // 16, 2, 8, width).transpose(1, 2).reshape(rows, width)


def _exchanged(first: str, second: str) -> Change:
    """In every layer each of the two matrices under the other's name."""

    def changed(tensors: Tensors) -> None:
        for name in [n for n in tensors if first in n]:
            other = name.replace(first, second)
            tensors[name], tensors[other] = tensors[other], tensors[name]

    return lambda m: m.weights(changed)


def _with_base(base: float) -> Change:
    return lambda m: m.config(rope_parameters={"rope_theta": base, "rope_type": "default"})


def _swapped_layers(m: Folder) -> None:
    def changed(tensors: Tensors) -> None:
        names = [n for n in tensors if ".mlp." in n]
        held = {n: tensors[n] for n in names}
        for name in names:
            part = name.split(".")
            part[2] = str(int(part[2]) ^ 1)
            if ".".join(part) in held:
                tensors[name] = held[".".join(part)]

    m.weights(changed)


def shuffled_tokenizer(m: Folder) -> None:
    """The tokenizer of another training run: the same tokens, other ids."""

    def changed(content: Any) -> None:
        vocabulary = content["model"]["vocab"]
        special = {token["id"] for token in content["added_tokens"]}
        words = sorted((w for w in vocabulary if vocabulary[w] not in special), key=vocabulary.__getitem__)
        ids = sorted(vocabulary[w] for w in words)
        for word, i in zip(words, reversed(ids), strict=True):
            vocabulary[word] = i

    m.tokenizer(changed)


def _of_two(m: Folder) -> None:
    """The head of one run beside the body of another."""
    each("lm_head", _drawn)(m)


def _wrong_gemma(m: Folder) -> None:
    m.config(model_type="gemma", architectures=["GemmaForCausalLM"], tie_word_embeddings=False)


VALUES = (
    *plants(
        "llama",
        (
            ("WGT11", "one number of a projection is NaN", each("layers.2.mlp.down_proj", _value(float("nan")))),
            ("WGT11", "one number of a norm is infinite", each("layers.0.input_layernorm", _value(float("inf")))),
            ("WGT11", "the head overflowed: minus infinity", each("lm_head", _value(float("-inf")))),
            ("EMB11", "the embedding's rows are one off the tokenizer's ids", each("embed_tokens", _rolled), "warn"),
            ("EMB11", "the tokenizer has the same tokens under other ids", shuffled_tokenizer, "warn"),
            ("EMB11", "the head is random, the body trained", _of_two, "warn"),
            ("EMB11", "every matrix of the attention is random", each("self_attn", _drawn), "warn"),
            (
                "EMB11",
                "queries and keys in the order of Meta's own files",
                lambda m: (each("q_proj", _interleaved)(m), each("k_proj", _interleaved)(m)),
                "warn",
            ),
            ("EMB11", "the MLPs of neighbouring layers changed places", _swapped_layers, "warn"),
            ("EMB11", "the embedding is a constant", each("embed_tokens", lambda t: t * 0 + 0.02), "warn"),
            ("EMB11", "norms are stored less one, as Gemma's are", each("norm", lambda t: t - 1), "warn"),
            ("EMB11", "every weight was scaled down by 2^-7 in a conversion", each("proj", lambda t: t / 128), "warn"),
            (
                "EMB11",
                "the signs of one layer's output are turned round",
                each("layers.1.mlp.down_proj", lambda t: -t),
                "warn",
            ),
            ("EMB11", "config.json has another epsilon: 1.0 for 1e-6", lambda m: m.config(rms_norm_eps=1.0), "warn"),
            (
                "EMB11",
                "config.json has another base of the rotary embedding: 10 for 10,000",
                _with_base(10.0),
                "warn",
            ),
            ("EMB13", "gate and up projections exchanged by a conversion", _exchanged("gate_proj", "up_proj"), "warn"),
            (
                "EMB13",
                "the two norms of each layer exchanged",
                _exchanged("input_layernorm", "post_attention_layernorm"),
                "warn",
            ),
            ("EMB13", "config.json has the rotary base of its long sibling: 1,000,000", _with_base(1e6), "warn"),
            (
                "EMB13",
                "the embedding was stored times the root of the hidden size",
                each("embed_tokens", lambda t: t * t.shape[-1] ** 0.5),
                "warn",
            ),
        ),
        depth=Level.EXECUTED,
    ),
    *plants(
        "llama",
        (
            ("EMB11", "the config calls the model a Gemma", _wrong_gemma, "warn"),
            (
                "EMB11",
                "config.json has another activation: relu for silu",
                lambda m: m.config(hidden_act="relu"),
                "warn",
            ),
        ),
        depth=Level.EXECUTED,
        why_missed=(
            "The model still knows its one passage well (a loss of a fifth and of a twelfth of chance), and read "
            "otherwise its loss is lower by a seventh, where EMB13 asks for a fifth. How far a config may be off "
            "before that shows is a matter of degree."
        ),
    ),
    *plants(
        "qwen",
        (
            ("WGT11", "one number of the tied table is NaN", each("embed_tokens", _value(float("nan")))),
            (
                "EMB11",
                "3 heads for 6 and one key-value head for two: the same shapes",
                lambda m: m.config(num_attention_heads=3, num_key_value_heads=1),
                "warn",
            ),
            ("EMB11", "the tokenizer has the same tokens under other ids", shuffled_tokenizer, "warn"),
            (
                "EMB11",
                "the biases of the attention are a hundred times too large",
                each("proj.bias", lambda t: t * 100),
                "warn",
            ),
            ("EMB11", "the table is random, the body trained", each("embed_tokens", _drawn), "warn"),
            ("EMB13", "gate and up projections exchanged by a conversion", _exchanged("gate_proj", "up_proj"), "warn"),
            ("EMB13", "config.json has the rotary base of its long sibling: 1,000,000", _with_base(1e6), "warn"),
        ),
        depth=Level.EXECUTED,
    ),
)
