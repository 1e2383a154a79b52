"""Twins of wrappers, of three heads, too large to be made; and the repository's code, run where nothing else is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from wirecheck import zoo, zoo_defaults, zoo_twin
from wirecheck.embedding_trial import Trial
from wirecheck.errors import CannotRun
from wirecheck.snapshot import Snapshot, parse_ref, take

TEXT: dict[str, Any] = {
    "hidden_size": 320, "intermediate_size": 640, "num_hidden_layers": 8, "num_attention_heads": 4,
    "num_key_value_heads": 1, "head_dim": 80, "vocab_size": 900, "sliding_window": 64,
}  # fmt: skip
VISION: dict[str, Any] = {
    "hidden_size": 1152, "intermediate_size": 4304, "num_attention_heads": 16, "num_hidden_layers": 27,
    "image_size": 896, "patch_size": 14, "model_type": "siglip_vision_model",
}  # fmt: skip
WRAPPED: dict[str, Any] = {
    "model_type": "gemma3", "text_config": TEXT, "vision_config": VISION, "image_token_index": 890,
}  # fmt: skip
LLAMA: dict[str, Any] = {
    "model_type": "llama", "hidden_size": 96, "intermediate_size": 200, "num_hidden_layers": 2,
    "num_attention_heads": 3, "num_key_value_heads": 3, "vocab_size": 300,
}  # fmt: skip
CODE = """
import sys
from transformers import LlamaConfig, LlamaForCausalLM, LlamaTokenizer
sys.modules["ran_remote_code"] = sys
class Config(LlamaConfig):
    model_type = "{kind}"
class Model(LlamaForCausalLM):
    config_class = Config
"""


def snapshot(tmp_path: Path, fields: dict[str, Any], **files: str) -> Snapshot:
    path = tmp_path / "model"
    path.mkdir()
    (path / "config.json").write_text(json.dumps(fields))
    for name, text in files.items():
        (path / f"{name}.py").write_text(text)
    return take(parse_ref(str(path)))


def config_of(tmp_path: Path, fields: dict[str, Any]) -> Any:
    return zoo.load_config(snapshot(tmp_path, fields), trust_remote_code=False)


def test_twin_of_a_wrapper_is_of_the_class_that_runs(tmp_path: Path) -> None:
    config = config_of(tmp_path, WRAPPED)
    twin = zoo_twin.twin(config, seed=0)
    assert type(twin.model) is type(zoo.skeleton(config))
    assert type(twin.model).__name__ == "Gemma3ForConditionalGeneration"
    small: Any = twin.model.config
    assert (small.vision_config.hidden_size, small.vision_config.num_hidden_layers) == (64, 2)
    assert "hidden_size 320 -> 64" in twin.changed


def test_twin_of_a_wrapper_is_measured_at_the_layers_that_read_text(tmp_path: Path) -> None:
    trial = Trial(zoo_twin.twin(config_of(tmp_path, WRAPPED), seed=0).model, 0, zoo.quiet)
    with torch.no_grad():
        embeds = trial.embed()
        assert trial.first_block_rms(embeds) == pytest.approx(float(embeds.square().mean().sqrt()))


def test_twin_of_a_wrapper_that_runs_as_its_text_model_stays_the_text_model_s(tmp_path: Path) -> None:
    fields = {"model_type": "llama4", "text_config": {"num_hidden_layers": 4, "vocab_size": 600}}
    assert type(zoo_twin.twin(config_of(tmp_path, fields), seed=0).model.config).__name__ == "Llama4TextConfig"


@pytest.mark.parametrize("kv_heads", [3, 1])
@pytest.mark.parametrize("heads", [1, 3, 6, 9])
def test_twin_of_any_number_of_heads(tmp_path: Path, heads: int, kv_heads: int) -> None:
    kv_heads = min(heads, kv_heads)
    fields = {**LLAMA, "hidden_size": 32 * heads, "num_attention_heads": heads, "num_key_value_heads": kv_heads}
    model = zoo_twin.twin(config_of(tmp_path, fields), seed=0).model
    with torch.no_grad():
        assert model(input_ids=torch.arange(6)[None]).logits.isfinite().all()
    assert model.config.hidden_size % model.config.num_attention_heads == 0


@pytest.mark.parametrize(("positions", "made"), [(2_000, True), (200_000, False)])
def test_twin_counts_its_buffers(tmp_path: Path, positions: int, made: bool) -> None:
    fields = {
        "model_type": "gpt_neo", "hidden_size": 96, "num_layers": 2, "num_heads": 3, "vocab_size": 300,
        "attention_types": [[["global", "local"], 1]], "max_position_embeddings": positions,
    }  # fmt: skip
    config = config_of(tmp_path, fields)
    if made:
        assert zoo_twin.twin(config, seed=0).model.config.hidden_size == 48
    else:
        with pytest.raises(CannotRun, match="would still take"):
            zoo_twin.twin(config, seed=0)


def test_code_of_the_repository_does_not_take_the_place_of_a_native_class(tmp_path: Path) -> None:
    names = {"AutoConfig": "code.Config", "AutoModelForCausalLM": "code.Model"}
    tokenizer = {"AutoTokenizer": ["code.Tokenizer", None]}
    refuses = "raise SystemExit('the repository has run')"
    held = snapshot(tmp_path, {**LLAMA, "auto_map": {**names, **tokenizer}}, code=refuses)
    config = zoo.load_config(held, trust_remote_code=True)
    assert type(config).__module__.startswith("transformers.")
    assert type(zoo.skeleton(config)).__module__.startswith("transformers.")
    with pytest.raises(zoo.Unloadable):  # there is no tokenizer in the folder: the native class says so
        zoo.load_tokenizer(held, trust_remote_code=True)


@pytest.mark.parametrize("trusted", [True, False])
def test_code_of_the_repository_runs_with_trust_where_there_is_no_native_class(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trusted: bool
) -> None:
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))
    monkeypatch.syspath_prepend(str(tmp_path / "modules"))
    names = {"AutoConfig": "code.Config", "AutoModelForCausalLM": "code.Model"}
    fields = {**LLAMA, "model_type": "wirecheck-own", "auto_map": names}
    held = snapshot(tmp_path, fields, code=CODE.format(kind="wirecheck-own"))
    if trusted:
        config = zoo.load_config(held, trust_remote_code=True)
        assert type(config).__module__.startswith("transformers_modules.")
        assert type(zoo_twin.twin(config, seed=0).model).__name__ == "Model"
        assert type(zoo.skeleton(config)).__name__ == "Model"
    else:
        with pytest.raises(zoo.Withheld, match="--trust-remote-code"):
            zoo.load_config(held, trust_remote_code=False)


# --- every class -------------------------------------------------------------------------------------------------


def default_of(kind: str) -> Any:
    return zoo_defaults.default_config(kind).config


def test_twin_has_a_small_vocabulary_where_that_is_asked_for() -> None:
    model = zoo_twin.twin(default_of("gemma3"), seed=0, max_rows=64).model
    assert model.get_input_embeddings().weight.shape[0] == 64
    assert model.config.image_token_id == 63


@pytest.mark.parametrize("kind", ["mllama", "emu3"])
def test_a_wrapper_that_is_mapped_to_the_class_of_its_text_part_goes_through_it(kind: str) -> None:
    config = default_of(kind)
    assert zoo.text_config(config).hidden_size == 4096
    twin = zoo_twin.twin(config, seed=0, max_rows=64)
    assert "hidden_size 4096 -> 64" in twin.changed
    assert sum(parameter.numel() for parameter in twin.model.parameters()) < 300_000


def test_ids_have_a_row_in_the_table_and_in_the_head() -> None:
    """Mllama's table ends with eight rows of its images, which its head has not."""
    model = zoo_twin.twin(default_of("mllama"), seed=0, max_rows=16).model
    assert model.get_input_embeddings().weight.shape[0] == 24
    assert int(Trial(model, 0, zoo.quiet).ids_BT.max()) < 16


def test_a_wrapper_that_lacks_a_package_is_stood_for_by_its_text_model(monkeypatch: pytest.MonkeyPatch) -> None:
    from transformers import Gemma3ForConditionalGeneration

    def lacking(*_: Any) -> None:
        raise ImportError("needs the PIL library. You can install it.")

    monkeypatch.setattr(Gemma3ForConditionalGeneration, "__init__", lacking)
    twin = zoo_twin.twin(default_of("gemma3"), seed=0, max_rows=64)
    assert type(twin.model).__name__ == "Gemma3ForCausalLM"
    assert twin.changed[-1].startswith("the text model Gemma3ForCausalLM in place of its wrapper: a package is missing")


def test_a_wrapper_that_cannot_be_built_for_another_reason_is_not_stood_for(monkeypatch: pytest.MonkeyPatch) -> None:
    from transformers import Gemma3ForConditionalGeneration

    def broken(*_: Any) -> None:
        raise ValueError("planted")

    monkeypatch.setattr(Gemma3ForConditionalGeneration, "__init__", broken)
    with pytest.raises(CannotRun, match="planted"):
        zoo_twin.twin(default_of("gemma3"), seed=0, max_rows=64)


@pytest.mark.parametrize("kind", ["bart", "plbart", "whisper"])
def test_twin_of_an_encoder_decoder_has_a_small_decoder(kind: str) -> None:
    model = zoo_twin.twin(default_of(kind), seed=0, max_rows=64).model
    assert (model.config.decoder_layers, model.config.decoder_attention_heads) == (2, 4)
    assert sum(parameter.numel() for parameter in model.parameters()) < 400_000


@pytest.mark.parametrize("kind", ["blt", "dots3_note_text", "zamba", "hrm_text", "xlstm", "reformer", "lfm2_moe"])
def test_twins_of_the_odd_ones_run(kind: str) -> None:
    model = zoo_twin.twin(default_of(kind), seed=0, max_rows=64).model
    with zoo.quiet(), torch.no_grad():
        assert model(input_ids=torch.arange(8)[None] + 8, use_cache=False).logits.isfinite().all()
