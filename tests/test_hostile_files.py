"""Files that would fill the memory, block the reader, or show a stranger what is beside the model."""

from __future__ import annotations

import json
import os
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from wirecheck import zoo
from wirecheck.errors import CouldNotCheck
from wirecheck.readiness import MOST_LAYERS, MOST_VALUES, absurd_size
from wirecheck.snapshot import JsonUnreadable, parse_ref, take
from wirecheck.snapshot_folder import MAX_CONFIG_BYTES


def _snapshot(folder: Path, **fields: Any) -> Any:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))
    return take(parse_ref(str(folder)))


BOMBS: dict[str, tuple[dict[str, Any], str]] = {
    "layers": ({"num_hidden_layers": 10**9}, "num_hidden_layers is 1000000000"),
    "layers below zero": ({"num_hidden_layers": -1}, "num_hidden_layers is -1"),
    "layers as a float": ({"num_hidden_layers": 1e12}, "num_hidden_layers is 1000000000000.0"),
    "not a number": ({"num_hidden_layers": float("nan")}, "num_hidden_layers is nan"),
    "layers of a part": ({"vision_config": {"num_hidden_layers": 10**9}}, "num_hidden_layers is 1000000000"),
    "layers far inside": ({"thinker_config": {"text_config": {"n_layer": 10**9}}}, "n_layer is 1000000000"),
    "layers in a list": ({"parts": [{"num_layers": 10**9}]}, "num_layers is 1000000000"),
    "labels": ({"num_labels": 10**9}, "num_labels is 1000000000"),
    "labels of a part": ({"text_config": {"num_labels": 10**9}}, "num_labels is 1000000000"),
    "repeated layers": (
        {"attention_types": [[["global", "local"], 10**9]]},
        "attention_types repeats a layer 1000000000",
    ),
    "a number past 64 bits": ({"bos_token_id": 2**63}, "bos_token_id has 64 bits"),
    "a number past floats": ({"pretraining_tp": 10**400}, "pretraining_tp has 1329 bits"),
    "a negative one": ({"rope": {"theta": [-(2**64)]}}, "theta has 65 bits"),
    "a long list": ({"layer_types": ["full_attention"] * (MOST_VALUES + 1)}, f"more than {MOST_VALUES} values"),
    "many keys": ({"id2label": {str(i): "x" for i in range(MOST_VALUES + 1)}}, f"more than {MOST_VALUES} values"),
}


@pytest.mark.parametrize(("fields", "words"), BOMBS.values(), ids=BOMBS)
def test_a_config_that_would_fill_the_memory_is_not_given_to_its_class(llama, monkeypatch, fields, words):
    snapshot = _snapshot(llama, **fields)
    monkeypatch.setattr(zoo, "transformers_library", lambda: pytest.fail("the class was asked"))
    for load in (zoo.load_config, zoo.load_tokenizer):
        with pytest.raises(zoo.Withheld) as caught:
            load(snapshot, trust_remote_code=False)
        assert words in caught.value.reason


@pytest.mark.parametrize(
    "fields",
    [
        {"num_hidden_layers": MOST_LAYERS},
        {"bos_token_id": 2**63 - 1},
        {"flag": True, "max_position_embeddings": 2**40, "rope_theta": 1e30},
        {"id2label": {str(i): "x" for i in range(20_000)}},
    ],
)
def test_a_large_config_is_left_to_its_class(llama, fields):
    assert absurd_size(_snapshot(llama, **fields)) is None


def test_a_config_of_megabytes_is_not_read(llama):
    with pytest.raises(JsonUnreadable, match=f"more than the {MAX_CONFIG_BYTES}"):
        _snapshot(llama, padding="x" * MAX_CONFIG_BYTES).read_json("config.json")


@pytest.mark.parametrize("number", ["9" * 5000, "-" + "9" * 5000])
def test_digits_past_pythons_limit_are_no_json(llama, number):
    path = llama / "config.json"
    path.write_text(path.read_text().rstrip().removesuffix("}") + f', "x": {number}}}')
    with pytest.raises(JsonUnreadable, match="not JSON"):
        take(parse_ref(str(llama))).read_json("config.json")


def test_of_a_key_that_stands_twice_the_last_counts_as_in_the_library(llama):
    path = llama / "config.json"
    path.write_text(path.read_text().rstrip().removesuffix("}") + ', "rms_norm_eps": 0.25}')
    snapshot = take(parse_ref(str(llama)))
    assert snapshot.read_json("config.json")["rms_norm_eps"] == 0.25
    assert zoo.load_config(snapshot, trust_remote_code=False).rms_norm_eps == 0.25


METADATA = ("config.json", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "generation_config.json")


@pytest.mark.parametrize("target", ["/dev/zero", "secret"])
@pytest.mark.parametrize("name", [*METADATA, "additional_chat_templates/x.jinja"])
def test_a_link_out_of_the_folder_is_not_followed(llama, tmp_path, name, target):
    (tmp_path / "secret").write_text("SECRET")
    link = llama / name
    link.unlink(missing_ok=True)
    link.parent.mkdir(exist_ok=True)
    link.symlink_to(target if target.startswith("/") else tmp_path / target)
    with pytest.raises(CouldNotCheck, match="leads out of the model's folder and was not read") as caught:
        take(parse_ref(str(llama)))
    assert caught.value.next_step


def test_a_folder_of_templates_that_is_a_link_is_not_followed(llama, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "x.jinja").write_text("SECRET")
    (llama / "additional_chat_templates").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(CouldNotCheck, match="leads out"):
        take(parse_ref(str(llama)))


def test_a_link_within_the_folder_and_a_link_to_the_folder_are_followed(llama, tmp_path):
    (llama / "config.json").rename(llama / "config-7b.json")
    (llama / "config.json").symlink_to("config-7b.json")
    (tmp_path / "mine").symlink_to(llama)
    assert take(parse_ref(str(tmp_path / "mine"))).read_json("config.json")["model_type"] == "llama"


@pytest.mark.parametrize("name", METADATA)
def test_a_pipe_or_a_folder_in_place_of_a_file_blocks_no_loader(llama, name):
    (llama / name).unlink(missing_ok=True)
    os.mkfifo(llama / name)
    snapshot = take(parse_ref(str(llama)))
    needed = name in ("config.json", "tokenizer.json")
    with pytest.raises(zoo.Unloadable) if needed else nullcontext():
        zoo.load_tokenizer(snapshot, trust_remote_code=False)
