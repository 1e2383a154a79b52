"""The zoo: what transformers makes of a snapshot, and the twin that stands for a model."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.factories import SHARED, needs_assets, seed_snapshot
from tests.ggufs import write_gguf
from tests.shards import write_model
from wirecheck import devices, readiness, zoo, zoo_twin, zoo_weights
from wirecheck.errors import CannotRun
from wirecheck.shrink import HEADS, WIDTH, shrink
from wirecheck.snapshot import ModelRef, Snapshot, parse_ref, take

STORIES = SHARED / "assets" / "weights" / "stories260K"
SNAPSHOTS = SHARED / "assets" / "snapshots"

LLAMA: dict[str, Any] = {
    "model_type": "llama", "hidden_size": 256, "intermediate_size": 512, "num_hidden_layers": 8,
    "num_attention_heads": 16, "num_key_value_heads": 4, "head_dim": 16, "vocab_size": 1000,
}  # fmt: skip
GEMMA3: dict[str, Any] = {
    "hidden_size": 320, "intermediate_size": 640, "num_hidden_layers": 8, "num_attention_heads": 4,
    "num_key_value_heads": 1, "head_dim": 80, "vocab_size": 900, "sliding_window": 64,
}  # fmt: skip
FAMILIES: dict[str, dict[str, Any]] = {
    "mistral": {**LLAMA, "model_type": "mistral"},
    "qwen2": {**LLAMA, "model_type": "qwen2", "tie_word_embeddings": True},
    "qwen3": {**LLAMA, "model_type": "qwen3", "head_dim": 32},
    "gemma": {**LLAMA, "model_type": "gemma", "num_key_value_heads": 1},
    "gemma2": {**LLAMA, "model_type": "gemma2", "attn_logit_softcapping": 50.0},
    "gemma3_text": {**GEMMA3, "model_type": "gemma3_text"},
    "gemma3": {"model_type": "gemma3", "text_config": GEMMA3},
    "gpt2": {"model_type": "gpt2", "n_embd": 96, "n_head": 6, "n_layer": 4, "n_positions": 64, "vocab_size": 700},
    "phi3": {**LLAMA, "model_type": "phi3", "pad_token_id": 0, "partial_rotary_factor": 0.5},
    "mixtral": {**LLAMA, "model_type": "mixtral", "num_local_experts": 8, "num_experts_per_tok": 2},
    "smollm3": {**LLAMA, "model_type": "smollm3", "pad_token_id": 0},
    "olmo2": {**LLAMA, "model_type": "olmo2"},
    "falcon": {"model_type": "falcon", "hidden_size": 142, "num_attention_heads": 71, "vocab_size": 700},
    "bloom": {"model_type": "bloom", "hidden_size": 96, "n_head": 6, "n_layer": 4, "vocab_size": 800},
    "granite": {**LLAMA, "model_type": "granite", "embedding_multiplier": 12.0},
    "deepseek_v3": {
        **LLAMA, "model_type": "deepseek_v3", "num_key_value_heads": 16, "n_routed_experts": 64,
        "first_k_dense_replace": 3, "num_experts_per_tok": 8, "moe_intermediate_size": 128,
    },
    "nemotron_h": {**LLAMA, "model_type": "nemotron_h", "hybrid_override_pattern": "M*-M", "num_hidden_layers": 4},
}  # fmt: skip


def folder(tmp_path: Path, config: dict[str, Any], name: str = "model") -> Snapshot:
    """A folder that holds a config and nothing else."""
    path = tmp_path / name
    path.mkdir()
    (path / "config.json").write_text(json.dumps(config))
    return take(parse_ref(str(path)))


def config_of(tmp_path: Path, fields: dict[str, Any]) -> Any:
    return zoo.load_config(folder(tmp_path, fields), trust_remote_code=False)


def test_types_are_those_of_the_imported_mappings() -> None:
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    assert zoo.known_model_types() == set(CONFIG_MAPPING_NAMES)
    assert zoo.causal_model_types() == set(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)
    names = {kind: (n,) if isinstance(n, str) else tuple(n) for kind, n in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.items()}
    assert zoo.architectures_by_type() == names


def test_types_load_neither_torch_nor_transformers() -> None:
    code = (
        "import sys; from wirecheck import zoo; assert 'llama' in zoo.causal_model_types() & zoo.known_model_types();"
        "assert not {'torch', 'transformers'} & set(sys.modules), 'loaded'"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_config_is_the_class_s_own(tmp_path: Path) -> None:
    config = config_of(tmp_path, LLAMA)
    assert (type(config).__name__, config.num_key_value_heads) == ("LlamaConfig", 4)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"model_type": "no-such-model"}, "no-such-model"),
        ({"model_type": "x", "auto_map": {"AutoConfig": "code.Config"}}, "custom code"),
        ({**LLAMA, "num_hidden_layers": 10**9}, "num_hidden_layers is 1000000000"),
        ({"model_type": "gemma3", "text_config": {**GEMMA3, "num_hidden_layers": 10**9}}, "num_hidden_layers"),
        ({**LLAMA, "hidden_size": "wide"}, "hidden_size"),
    ],
)
def test_config_that_cannot_be_read_is_unloadable(tmp_path: Path, fields: dict[str, Any], words: str) -> None:
    with pytest.raises(zoo.Unloadable, match=words) as caught:
        config_of(tmp_path, fields)
    assert "\n" not in str(caught.value)
    assert str(tmp_path) not in str(caught.value)


def test_remote_code_is_neither_run_nor_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    snapshot = folder(tmp_path, {"model_type": "x", "auto_map": {"AutoConfig": "code.Config"}})
    (snapshot.folder / "code.py").write_text("raise SystemExit('ran')")
    monkeypatch.setattr("builtins.input", lambda _: pytest.fail("asked on stdin"))
    with pytest.raises(zoo.Unloadable):
        zoo.load_config(snapshot, trust_remote_code=False)
    with pytest.raises(zoo.Unloadable):
        zoo.load_tokenizer(snapshot, trust_remote_code=False)


@needs_assets
@pytest.mark.parametrize("key", ["attn_implementation", "_attn_implementation", "_experts_implementation"])
@pytest.mark.parametrize("value", ["stranger/kernel", "flash_attention_2"])
def test_kernels_a_config_asks_for_are_not_fetched(tmp_path: Path, key: str, value: str) -> None:
    shutil.copytree(STORIES, tmp_path / "m", copy_function=shutil.copyfile)
    fields = json.loads((STORIES / "config.json").read_text())
    (tmp_path / "m").chmod(0o755)
    (tmp_path / "m" / "config.json").write_text(json.dumps({**fields, key: value}))
    snapshot = take(parse_ref(str(tmp_path / "m")))
    config = zoo.load_config(snapshot, trust_remote_code=False)
    loaded = zoo_weights.load_weights(snapshot, dtype="float16", trust_remote_code=False)
    for model in (zoo.skeleton(config), zoo_twin.twin(config, seed=0).model, loaded):
        assert model.config._attn_implementation == "sdpa"


def test_the_reason_is_told_where_the_first_line_only_announces_it(tmp_path: Path) -> None:
    with pytest.raises(zoo.Unloadable, match="expected float, got str"):
        config_of(tmp_path, {**LLAMA, "rms_norm_eps": "1e-6"})


def test_a_stray_nested_config_is_passed_over(tmp_path: Path) -> None:
    config = config_of(tmp_path, {**LLAMA, "text_config": {"hidden_size": 3}})
    assert type(config).__name__ == "LlamaConfig"


@needs_assets
def test_an_adapter_beside_the_weights_is_not_laid_over_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(STORIES, tmp_path / "m", copy_function=shutil.copyfile)
    (tmp_path / "m").chmod(0o755)
    (tmp_path / "m" / "adapter_config.json").write_text("{}")
    monkeypatch.setattr(zoo_weights, "find_spec", lambda name: name == "peft")
    with pytest.raises(CannotRun, match="adapter_config"):
        zoo_weights.load_weights(take(parse_ref(str(tmp_path / "m"))), dtype="float32", trust_remote_code=False)


def test_tokenizer_that_is_missing_is_unloadable(tmp_path: Path) -> None:
    with pytest.raises(zoo.Unloadable):
        zoo.load_tokenizer(folder(tmp_path, LLAMA), trust_remote_code=False)


@needs_assets
def test_tokenizer_encodes_real_text() -> None:
    tokenizer = zoo.load_tokenizer(take(parse_ref(str(STORIES))), trust_remote_code=False)
    assert tokenizer.decode(tokenizer.encode("Once upon a time"), skip_special_tokens=True) == "Once upon a time"


def test_skeleton_has_the_full_shape_and_no_data(tmp_path: Path) -> None:
    model = zoo.skeleton(config_of(tmp_path, {**LLAMA, "hidden_size": 16384, "head_dim": 1024}))
    assert {p.device.type for p in model.parameters()} == {"meta"}
    assert model.get_input_embeddings().weight.shape == (1000, 16384)


def test_skeleton_of_absurdly_many_experts_is_refused(tmp_path: Path) -> None:
    config = config_of(tmp_path, {**FAMILIES["mixtral"], "num_local_experts": 10**9})
    with pytest.raises(CannotRun, match="1000000000 experts"):
        zoo.skeleton(config)


@pytest.mark.parametrize("name", sorted(FAMILIES))
def test_twin_runs_and_is_frozen(tmp_path: Path, name: str) -> None:
    config = config_of(tmp_path, FAMILIES[name])
    text = zoo.text_config(config)
    model = zoo_twin.twin(config, seed=0).model
    parameters = list(model.parameters())
    assert {p.dtype for p in parameters} == {torch.float32}
    assert not any(p.requires_grad for p in parameters)
    assert not model.training
    assert sum(p.numel() for p in parameters) < 3_000_000
    assert model.get_input_embeddings().weight.shape[0] == text.vocab_size
    assert type(model).__name__ in zoo.architectures_by_type()[config.model_type]
    with torch.no_grad():
        logits = model(input_ids=torch.arange(8)[None] + 5).logits
    assert torch.isfinite(logits).all()
    assert logits.std() > 0.05


@pytest.mark.parametrize(
    ("name", "fields", "expected"),
    [
        ("gqa", LLAMA, {"num_attention_heads": 4, "num_key_value_heads": 2}),
        ("mha", {**LLAMA, "num_key_value_heads": 16}, {"num_key_value_heads": 4}),
        ("mqa", {**LLAMA, "num_key_value_heads": 1}, {"num_key_value_heads": 1}),
        ("few heads", {**LLAMA, "num_attention_heads": 2, "num_key_value_heads": 1}, {"num_attention_heads": 2}),
        ("wide heads", {**LLAMA, "head_dim": 32}, {"head_dim": 24}),
        ("tying", {**LLAMA, "tie_word_embeddings": True}, {"tie_word_embeddings": True}),
        ("top-k", {**LLAMA, "num_local_experts": 64, "num_experts_per_tok": 8}, {"num_experts_per_tok": 8}),
        ("experts", {**LLAMA, "num_local_experts": 64, "num_experts_per_tok": 8}, {"num_local_experts": 16}),
        ("groups", {"n_routed_experts": 256, "n_group": 8, "num_experts_per_tok": 8}, {"n_routed_experts": 16}),
        ("window", {**LLAMA, "sliding_window": 4096}, {"sliding_window": 4096}),
        ("dropout", {**LLAMA, "attention_dropout": 0.1}, {"attention_dropout": 0.0}),
        ("dropout of GPT-2", {**LLAMA, "embd_pdrop": 0.1}, {"embd_pdrop": 0.0}),
        ("token ids", {**LLAMA, "pad_token_id": 5000}, {"pad_token_id": 999}),
        ("quantised", {**LLAMA, "quantization_config": {"quant_method": "fp8"}}, {"quantization_config": None}),
    ],
)  # fmt: skip
def test_shrink_keeps_what_decides(name: str, fields: dict[str, Any], expected: dict[str, Any]) -> None:
    small = shrink(fields).fields
    assert {key: small.get(key) for key in expected} == expected


def test_shrink_keeps_one_layer_of_each_kind() -> None:
    kinds = ["sliding"] * 5 + ["full"] + ["sliding"] * 5 + ["full"]
    small = shrink({**LLAMA, "num_hidden_layers": 12, "layer_types": kinds, "mlp_only_layers": [0]}).fields
    assert small["num_hidden_layers"] == 3
    assert small["layer_types"] == ["sliding", "sliding", "full"]
    assert small["mlp_only_layers"] == [0]


def test_shrink_keeps_two_layers_where_all_are_alike() -> None:
    assert shrink(LLAMA).fields["num_hidden_layers"] == 2


def test_shrink_keeps_overrides_of_single_layers() -> None:
    fields = {**LLAMA, "per_layer_config": {"05": {"head_dim": 32, "num_key_value_heads": 2}}}
    small = shrink(fields).fields
    assert small["num_hidden_layers"] == 2
    assert small["per_layer_config"] == {"1": {"head_dim": 32, "num_key_value_heads": 2}}


def test_shrink_fits_rotary_lists_to_the_head() -> None:
    rope = {
        "rope_type": "longrope",
        "short_factor": [1.0] * 48,
        "long_factor": [2.0] * 48,
        "mrope_section": [16, 24, 24],
    }
    small = shrink({**LLAMA, "rope_parameters": rope}).fields["rope_parameters"]
    assert (len(small["short_factor"]), len(small["long_factor"]), sum(small["mrope_section"])) == (8, 8, 8)
    assert small["rope_type"] == "longrope"


def test_shrink_says_what_it_did() -> None:
    done = shrink({**LLAMA, "sliding_window": 64})
    assert {"attention GQA", "vocab_size 1000", "sliding_window 64"} <= set(done.kept)
    assert {f"hidden_size 256 -> {WIDTH}", f"num_attention_heads 16 -> {HEADS}"} <= set(done.changed)
    assert not any(line.startswith("vocab_size") for line in done.changed)


def test_shrink_cuts_a_vocabulary_no_machine_holds() -> None:
    done = shrink({**LLAMA, "vocab_size": 10**12})
    assert done.fields["vocab_size"] * WIDTH * 4 <= 300_000_000
    assert any(line.startswith("vocab_size 1000000000000 -> ") for line in done.changed)


def test_twin_is_the_same_for_a_seed_and_leaves_torch_s_state(tmp_path: Path) -> None:
    config = config_of(tmp_path, LLAMA)
    before = torch.get_rng_state()
    first, second, other = (zoo_twin.twin(config, seed=seed).model.state_dict() for seed in (3, 3, 4))
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not torch.equal(first["lm_head.weight"], other["lm_head.weight"])


def test_twin_has_no_closed_path(tmp_path: Path) -> None:
    model = zoo_twin.twin(config_of(tmp_path, {**FAMILIES["qwen2"]}), seed=0).model
    constant = [n for n, p in model.named_parameters() if bool((p == p.flatten()[0]).all())]
    assert constant == []


def test_twin_that_cannot_be_built_says_why(tmp_path: Path) -> None:
    config = config_of(tmp_path, {**LLAMA, "hidden_act": "no-such-activation"})
    with pytest.raises(CannotRun, match="no-such-activation"):
        zoo_twin.twin(config, seed=0)


@needs_assets
@pytest.mark.parametrize("path", sorted(p.name for p in SNAPSHOTS.glob("*")) if SNAPSHOTS.is_dir() else [])
def test_twin_of_every_recorded_model_that_has_a_class(path: str) -> None:
    try:
        config = zoo.load_config(take(parse_ref(str(SNAPSHOTS / path))), trust_remote_code=False)
    except zoo.Unloadable:
        assert path.startswith(("internlm", "microsoft__phi-2", "moonshotai", "tiiuae"))  # these need remote code
        return
    text, twin = zoo.text_config(config), zoo_twin.twin(config, seed=0)
    assert twin.model.get_input_embeddings().weight.shape[0] == text.vocab_size
    small = zoo.text_config(twin.model.config)
    assert set(getattr(small, "layer_types", None) or ()) == set(getattr(text, "layer_types", None) or ())


@needs_assets
def test_weights_of_a_real_model_are_loaded_frozen() -> None:
    model = zoo_weights.load_weights(take(parse_ref(str(STORIES))), dtype="bfloat16", trust_remote_code=False)
    assert {p.dtype for p in model.parameters()} == {torch.bfloat16}
    assert not any(p.requires_grad for p in model.parameters())
    assert not model.training


@needs_assets
def test_weights_full_of_zeros_are_not_loaded(tmp_path: Path) -> None:
    snapshot = take(parse_ref(str(seed_snapshot("meta-llama__Llama-3.2-1B-Instruct", tmp_path))))
    with pytest.raises(CannotRun, match="large tensors are all zeros"):
        zoo_weights.load_weights(snapshot, dtype="bfloat16", trust_remote_code=False)


def test_weights_that_do_not_fit_say_how_much_is_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "free_bytes", lambda _device: 3 * 2**30)
    with pytest.raises(CannotRun, match="need 16 GiB of memory in float16, and 3 GiB are free"):
        readiness.require_memory(16 * 2**30, "float16")
    readiness.require_memory(2 * 2**30, "float16")


def test_weights_that_are_missing_truncated_or_pickled_are_refused(tmp_path: Path) -> None:
    (tmp_path / "cut").mkdir()
    cut = write_model(tmp_path / "cut") / "model.safetensors"
    cut.write_bytes(cut.read_bytes()[:-3])
    with pytest.raises(CannotRun, match="is truncated"):
        zoo_weights.load_weights(take(parse_ref(str(tmp_path / "cut"))), dtype="float32", trust_remote_code=False)
    pickled = folder(tmp_path, LLAMA, "pickled")
    (pickled.folder / "pytorch_model.bin").write_bytes(b"\x80\x04.")
    with pytest.raises(CannotRun, match="never unpickled"):
        zoo_weights.load_weights(take(parse_ref(str(pickled.folder))), dtype="float32", trust_remote_code=False)


def test_weights_still_on_the_hub_name_the_command(tmp_path: Path) -> None:
    from dataclasses import replace

    held = take(parse_ref(str(write_model(tmp_path / "model"))))
    away = replace(
        held, ref=ModelRef("org/name", "hub", "org/name"), weights=tuple(replace(f, path=None) for f in held.weights)
    )
    with pytest.raises(CannotRun, match="`hf download org/name`"):
        zoo_weights.load_weights(away, dtype="float32", trust_remote_code=False)


def test_gguf_is_read_unpacked_and_in_silence(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    import gguf

    path = write_gguf(tmp_path / "tiny.gguf")
    snapshot = take(parse_ref(str(path)))
    config = zoo.load_config(snapshot, trust_remote_code=False)
    assert (type(config).__name__, config.hidden_size, config.tie_word_embeddings) == ("LlamaConfig", 32, True)
    model = zoo_weights.load_weights(snapshot, dtype="float32", trust_remote_code=False)
    held = next(t for t in gguf.GGUFReader(path).tensors if t.name == "token_embd.weight")
    table = torch.from_numpy(held.data.copy()).view(120, 32)
    assert torch.equal(model.get_input_embeddings().weight, table)
    assert torch.equal(model.get_output_embeddings().weight, table)
    assert capfd.readouterr() == ("", "")


def test_loading_writes_nothing_on_the_terminal(tmp_path: Path) -> None:
    # settings the library warns of on stderr
    rope = {"factor": 1.0, "low_freq_factor": 1.0, "high_freq_factor": 1.0, "original_max_position_embeddings": 64}
    path = folder(tmp_path, {**LLAMA, "rope_scaling": {"rope_type": "llama3", **rope}})
    code = (
        "import sys; from wirecheck import zoo, zoo_twin; from wirecheck.snapshot import parse_ref, take;"
        "c = zoo.load_config(take(parse_ref(sys.argv[1])), trust_remote_code=False); zoo_twin.twin(c, seed=0)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path.folder)], check=True, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("", "")
