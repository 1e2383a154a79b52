"""The sound models that faults are planted in: the two of the demo, and small ones of other families made here.

The demo models are trained, so what their weights mean can be asked; the others are random and asked up to `simulated`.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests import tokenizer_factory
from wirecheck.demo import demo_folders

BASES = ("llama", "qwen", "gemma", "gpt2", "mistral", "qwen3", "mixtral", "phi3", "neox", "falcon", "wrapper", "gguf")
TRAINED = ("llama", "qwen")
_SIZES = {
    "vocab_size": tokenizer_factory.VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "bos_token_id": tokenizer_factory.BOS,
    "eos_token_id": tokenizer_factory.END,
    "pad_token_id": tokenizer_factory.PAD,
}


def _configs() -> dict[str, Callable[[], Any]]:
    import transformers as t

    old = {key: value for key, value in _SIZES.items() if key != "num_key_value_heads"}
    gemma = _SIZES | {"head_dim": 8, "layer_types": ["sliding_attention", "full_attention"], "sliding_window": 64}
    gpt2 = {
        **{key: _SIZES[key] for key in ("vocab_size", "bos_token_id", "eos_token_id", "pad_token_id")},
        "n_embd": 32,
        "n_head": 4,
        "n_layer": 2,
        "n_positions": 512,
        "tie_word_embeddings": True,
    }
    return {
        "gemma": lambda: t.Gemma3ForCausalLM(t.Gemma3TextConfig(**gemma)),
        "gpt2": lambda: t.GPT2LMHeadModel(t.GPT2Config(**gpt2)),
        "mistral": lambda: t.MistralForCausalLM(t.MistralConfig(**_SIZES, sliding_window=128)),
        "qwen3": lambda: t.Qwen3ForCausalLM(t.Qwen3Config(**_SIZES, head_dim=16, tie_word_embeddings=True)),
        "mixtral": lambda: t.MixtralForCausalLM(
            t.MixtralConfig(**_SIZES, num_local_experts=4, num_experts_per_tok=2, tie_word_embeddings=False)
        ),
        "phi3": lambda: t.Phi3ForCausalLM(t.Phi3Config(**_SIZES, tie_word_embeddings=False)),
        "neox": lambda: t.GPTNeoXForCausalLM(t.GPTNeoXConfig(**old, tie_word_embeddings=False)),
        "falcon": lambda: t.FalconForCausalLM(t.FalconConfig(**old, multi_query=True, tie_word_embeddings=True)),
        "wrapper": _wrapper,
    }


def _wrapper() -> Any:
    import transformers as t

    text = _SIZES | {"head_dim": 8, "layer_types": ["sliding_attention", "full_attention"], "sliding_window": 64}
    vision = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = t.Gemma3Config(
        text_config=text, vision_config=vision | {"image_size": 28, "patch_size": 14}, mm_tokens_per_image=4,
        image_token_index=250, boi_token_index=248, eoi_token_index=249, eos_token_id=_SIZES["eos_token_id"],
    )  # fmt: skip
    model = t.Gemma3ForConditionalGeneration(config)
    for name, tensor in model.named_parameters():
        if name.endswith("mm_input_projection_weight"):
            tensor.data.normal_()  # zeros at birth, which a trained model's are not
    return model


def make_bases(root: Path) -> dict[str, Path]:
    """Every base in a folder of its own under `root`."""
    import torch

    made = {}
    for name, source in zip(TRAINED, demo_folders(), strict=True):
        made[name] = root / name
        shutil.copytree(source, made[name])
    for seed, (name, build) in enumerate(_configs().items()):
        torch.manual_seed(seed)
        made[name] = root / name
        build().save_pretrained(made[name])
        declared = json.loads((made[name] / "config.json").read_text(encoding="utf-8"))
        tokenizer_factory.save(made[name])
        (made[name] / "config.json").write_text(json.dumps(declared, indent=2), encoding="utf-8")
    made["gguf"] = root / "gguf"
    _gguf(made["gguf"])
    return made


def _gguf(folder: Path) -> None:
    from tests.planted.gguf_models import write

    folder.mkdir()
    write(folder / "model.gguf")
