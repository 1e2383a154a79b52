"""The two built-in models: small, complete, trained, and of two families."""

from __future__ import annotations

import json
import logging
import math
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from wirecheck.demo import demo_folders

LLAMA, QWEN = demo_folders()
BOTH = pytest.mark.parametrize("folder", [LLAMA, QWEN], ids=lambda folder: folder.name)
TEXTS = (
    "Hello, world!",
    "  two  spaces,\ttabs\r\nand\n\n\nlines  ",
    "Zażółć gęślą jaźń. 今天下雨。こんにちは नमस्ते مرحبا Ω≈ç√",
    "def f(x):\n    return {'a': [1, 22, 333, 4444]}  # 🐈‍⬛🙂",
    "\x00\x7f\u200b\ufeff",
)
TURNS = [
    {"role": "system", "content": "Answer in one short sentence."},
    {"role": "user", "content": "What does a frog eat?"},
    {"role": "assistant", "content": "It eats insects."},
]


def read_json(folder: Path, name: str) -> dict[str, Any]:
    return json.loads((folder / name).read_text(encoding="utf-8"))


def tokenizer_of(folder: Path) -> PreTrainedTokenizerBase:
    return AutoTokenizer.from_pretrained(folder, local_files_only=True)


@cache
def model_of(folder: Path) -> PreTrainedModel:
    return AutoModelForCausalLM.from_pretrained(folder, local_files_only=True, dtype=torch.float32)


def test_both_folders_take_at_most_five_megabytes() -> None:
    sizes = [path.stat().st_size for path in LLAMA.parent.rglob("*") if path.is_file()]
    assert 1_000_000 < sum(sizes) <= 5_000_000


@BOTH
def test_the_loss_on_the_corpus_is_far_below_that_of_guessing(folder: Path) -> None:
    sample = (folder.parent / "corpus.txt").read_text(encoding="utf-8")[:2000]
    ids = torch.tensor([tokenizer_of(folder).encode(sample)])
    with torch.no_grad():
        out = model_of(folder)(input_ids=ids, labels=ids)
    assert out.loss.item() < math.log(out.logits.shape[-1]) / 4


@BOTH
def test_nothing_is_logged_or_left_over_while_loading(
    folder: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger("transformers"), "propagate", True)
    tokenizer_of(folder)
    _, info = AutoModelForCausalLM.from_pretrained(folder, local_files_only=True, output_loading_info=True)
    assert not any(info.values())
    assert caplog.text == ""


@BOTH
@pytest.mark.parametrize("text", TEXTS)
def test_any_text_survives_the_tokenizer(folder: Path, text: str) -> None:
    tokenizer = tokenizer_of(folder)
    assert tokenizer.decode(tokenizer.encode(text, add_special_tokens=False)) == text


@BOTH
def test_each_special_token_is_one_id_with_a_row(folder: Path) -> None:
    tokenizer = tokenizer_of(folder)
    rows = model_of(folder).get_input_embeddings().weight.shape[0]
    declared = read_json(folder, "tokenizer_config.json")["added_tokens_decoder"]
    assert len(declared) >= 3
    for index, token in declared.items():
        assert tokenizer.encode(token["content"], add_special_tokens=False) == [int(index)]
        assert int(index) < rows
    assert len(tokenizer) <= rows


@BOTH
def test_the_template_renders_every_role_and_is_extended_by_a_turn(folder: Path) -> None:
    tokenizer = tokenizer_of(folder)
    whole = tokenizer.apply_chat_template(TURNS, tokenize=False)
    prompt = tokenizer.apply_chat_template(TURNS[:2], tokenize=False, add_generation_prompt=True)
    assert all(turn["content"] in whole for turn in TURNS)
    assert whole.startswith(prompt)
    ids = tokenizer.apply_chat_template(TURNS, tokenize=True, return_dict=False)
    assert ids == tokenizer.encode(whole, add_special_tokens=False)


@BOTH
def test_the_turn_end_is_the_one_stop_everywhere(folder: Path) -> None:
    tokenizer = tokenizer_of(folder)
    stops = {read_json(folder, name)["eos_token_id"] for name in ("config.json", "generation_config.json")}
    assert stops == {tokenizer.eos_token_id}
    after = tokenizer.apply_chat_template(TURNS, tokenize=False).split(TURNS[-1]["content"])[1]
    assert after.strip() == tokenizer.eos_token


def test_the_two_differ_as_real_families_do() -> None:
    a, b = read_json(LLAMA, "config.json"), read_json(QWEN, "config.json")
    for key in ("architectures", "hidden_size", "num_hidden_layers", "vocab_size", "tie_word_embeddings", "dtype"):
        assert a[key] != b[key], key
    for config in (a, b):
        assert config["num_key_value_heads"] < config["num_attention_heads"]
    llama, qwen = tokenizer_of(LLAMA), tokenizer_of(QWEN)
    assert llama.encode("a")[0] == llama.bos_token_id
    assert llama.apply_chat_template(TURNS, tokenize=False).startswith(llama.bos_token)
    assert llama.pad_token is None
    assert qwen.bos_token is None
    assert qwen.pad_token not in (None, qwen.eos_token)
    assert len(qwen) < b["vocab_size"]


def test_every_tensor_of_the_sharded_model_is_where_its_index_says() -> None:
    index = read_json(LLAMA, "model.safetensors.index.json")["weight_map"]
    assert len(set(index.values())) == 2
    for shard in set(index.values()):
        with safe_open(LLAMA / shard, framework="pt") as file:
            assert set(file.keys()) == {name for name, place in index.items() if place == shard}


def test_the_templates_are_kept_in_both_places_the_hub_uses() -> None:
    assert "chat_template" in read_json(LLAMA, "tokenizer_config.json")
    assert not (LLAMA / "chat_template.jinja").exists()
    assert "chat_template" not in read_json(QWEN, "tokenizer_config.json")
    assert (QWEN / "chat_template.jinja").is_file()
