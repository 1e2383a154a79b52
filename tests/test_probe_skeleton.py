"""The class-fit probe: names and shapes on file against the class that reads them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.factories import needs_assets, seed_snapshot
from tests.ggufs import write_gguf
from wirecheck import zoo_kernels
from wirecheck.class_fit import Fit, Misshapen, packed
from wirecheck.errors import CannotRun
from wirecheck.probe import ModelBench
from wirecheck.probes.skeleton import SKELETON
from wirecheck.safetensors_header import TensorEntry
from wirecheck.schema import Fact, Finding, Level, Policy, Scalar, Severity, TrainSpec, WireSpec
from wirecheck.snapshot import parse_ref, take

Tensors = dict[str, torch.Tensor]

SIZES: dict[str, Any] = {
    "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "vocab_size": 120, "head_dim": 16,
}  # fmt: skip
LLAMA = {**SIZES, "model_type": "llama", "tie_word_embeddings": False}
MIXTRAL = {**LLAMA, "model_type": "mixtral", "num_local_experts": 4, "num_experts_per_tok": 2}
FALCON = {
    "model_type": "falcon",
    "hidden_size": 32,
    "num_attention_heads": 4,
    "num_hidden_layers": 2,
    "vocab_size": 120,
}
GPT2 = {"model_type": "gpt2", "n_embd": 32, "n_head": 4, "n_layer": 2, "n_positions": 64, "vocab_size": 120}


def saved(path: Path, fields: dict[str, Any], change: Callable[[Tensors], Any] | None = None) -> Path:
    """A tiny model as `save_pretrained` writes it (with the hub's names), its tensors changed on request."""
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(AutoConfig.for_model(**fields)).save_pretrained(path)
    tensors = load_file(path / "model.safetensors")
    if change is not None:
        change(tensors)
    save_file(tensors, path / "model.safetensors")
    return path


def bench(path: Path) -> ModelBench:
    asked: dict[str, Any] = {"wire": WireSpec(), "train": TrainSpec(), "policy": Policy(), "seed": 0}
    return ModelBench(**asked, side="a", snapshot=take(parse_ref(str(path))))


def run(path: Path) -> tuple[dict[str, Finding], dict[str, Scalar]]:
    yielded = list(SKELETON.run(bench(path)))
    findings = {f.code: f for f in yielded if isinstance(f, Finding)}
    assert all(f.level.rank >= Level.INSPECTED.rank for f in findings.values())
    return findings, {f.key: f.value for f in yielded if isinstance(f, Fact)}


def severities(path: Path) -> dict[str, Severity]:
    return {code: finding.severity for code, finding in run(path)[0].items()}


SOUND = {"WGT05": Severity.OK, "WGT06": Severity.OK, "WGT07": Severity.OK}


@needs_assets
@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("meta-llama__Llama-3.1-8B-Instruct", (4096, 32, 32, 8, 128, 128256, 131072, False)),
        ("meta-llama__Llama-3.2-1B-Instruct", (2048, 16, 32, 8, 64, 128256, 131072, True)),
        ("meta-llama__Llama-3.2-3B-Instruct", (3072, 28, 24, 8, 128, 128256, 131072, True)),
        ("Qwen__Qwen2.5-7B-Instruct", (3584, 28, 28, 4, 128, 152064, 32768, False)),
        ("Qwen__Qwen2.5-1.5B-Instruct", (1536, 28, 12, 2, 128, 151936, 32768, True)),
        ("mistralai__Mistral-7B-Instruct-v0.3", (4096, 32, 32, 8, 128, 32768, 32768, False)),
    ],
)
def test_real_headers_fit_their_class(tmp_path: Path, name: str, expected: tuple[Scalar, ...]) -> None:
    path = seed_snapshot(name, tmp_path)
    keys = ("hidden_size", "num_layers", "num_heads", "num_kv_heads", "head_dim", "vocab_size", "max_positions", "tied")
    findings, facts = run(path)
    assert {code: finding.severity for code, finding in findings.items()} == SOUND
    assert tuple(facts[key] for key in keys) == expected


@pytest.mark.parametrize("fields", [LLAMA, MIXTRAL, FALCON, GPT2], ids=lambda fields: fields["model_type"])
def test_wgt05_06_07_hub_names_are_converted(tmp_path: Path, fields: dict[str, Any]) -> None:
    path = saved(tmp_path / "model", fields)
    names = set(load_file(path / "model.safetensors"))
    assert severities(path) == SOUND
    assert fields is not MIXTRAL or any("block_sparse_moe.experts.3.w2" in name for name in names)


@pytest.mark.parametrize(
    ("fields", "expected", "words"),
    [
        ({}, None, ""),
        ({"attn_implementation": "eager"}, None, ""),
        ({"_attn_implementation": "sdpa"}, None, ""),
        ({"attn_implementation": "flex_attention"}, Severity.OK, "'flex_attention', and LlamaForCausalLM is built"),
        ({"attn_implementation": "org/kernel"}, Severity.WARN, "'org/kernel': code of another repository"),
        ({"_attn_implementation": "org/kernel@v1:f"}, Severity.WARN, "'org/kernel@v1:f': code of another repository"),
        ({"attn_implementation": "flash_attention_2"}, Severity.WARN, "which does not load here"),
        ({"attn_implementation": "no_such_thing"}, Severity.WARN, "no_such_thing"),
        ({"experts_implementation": "no/such"}, Severity.WARN, "the experts_implementation 'no/such', which does not"),
    ],
)
def test_cfg13_an_implementation_that_the_library_does_not_build(tmp_path: Path, fields, expected, words) -> None:
    path = saved(tmp_path / "model", LLAMA)
    config = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps(config | fields))
    finding = run(path)[0].get("CFG13")
    assert (finding.severity if finding else None) == expected
    assert finding is None or words in finding.claim


def test_cfg13_what_a_hub_would_be_asked_for_is_not_tried(tmp_path: Path, monkeypatch) -> None:
    path = saved(tmp_path / "model", LLAMA)
    config = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps(config | {"attn_implementation": "flash_attention_2"}))
    monkeypatch.setattr(zoo_kernels, "find_spec", lambda name: name == "kernels" or None)
    assert "it was not tried here" in run(path)[0]["CFG13"].claim


def test_wgt05_missing_tensor(tmp_path: Path) -> None:
    path = saved(tmp_path / "model", LLAMA, lambda t: t.pop("model.layers.1.mlp.up_proj.weight"))
    finding = run(path)[0]["WGT05"]
    assert finding.severity is Severity.BLOCK
    assert "model.layers.1.mlp.up_proj.weight" in finding.claim


def test_wgt05_missing_head_without_a_tie(tmp_path: Path) -> None:
    assert severities(saved(tmp_path / "model", LLAMA, lambda t: t.pop("lm_head.weight")))["WGT05"] is Severity.BLOCK


def test_wgt05_missing_head_with_a_tie(tmp_path: Path) -> None:
    path = saved(tmp_path / "model", {**LLAMA, "tie_word_embeddings": True})
    assert "lm_head.weight" not in load_file(path / "model.safetensors")
    assert severities(path) == SOUND


def test_wgt05_tied_embedding_kept_as_the_head(tmp_path: Path) -> None:
    def keep_the_head(tensors: Tensors) -> None:
        tensors["lm_head.weight"] = tensors.pop("model.embed_tokens.weight")

    assert severities(saved(tmp_path / "model", {**LLAMA, "tie_word_embeddings": True}, keep_the_head)) == SOUND


def test_wgt05_no_embedding_at_all(tmp_path: Path) -> None:
    path = saved(
        tmp_path / "model", {**LLAMA, "tie_word_embeddings": True}, lambda t: t.pop("model.embed_tokens.weight")
    )
    assert severities(path)["WGT05"] is Severity.BLOCK


def test_wgt05_names_prefixed_for_another_class(tmp_path: Path) -> None:
    def prefix(tensors: Tensors) -> None:
        for name in list(tensors):
            tensors[f"encoder.{name}"] = tensors.pop(name)

    found = severities(saved(tmp_path / "model", LLAMA, prefix))
    assert found == {"WGT05": Severity.BLOCK, "WGT06": Severity.NOTE, "WGT07": Severity.OK}


def test_wgt06_stray_tensor(tmp_path: Path) -> None:
    path = saved(tmp_path / "model", LLAMA, lambda t: t.update({"model.stray.weight": torch.zeros(3)}))
    finding = run(path)[0]["WGT06"]
    assert finding.severity is Severity.NOTE
    assert [e.source for e in finding.evidence] == ["model.stray.weight"]


def test_wgt06_rotary_buffers_of_old_llamas_are_no_strays(tmp_path: Path) -> None:
    old = {f"model.layers.{i}.self_attn.rotary_emb.inv_freq": torch.ones(8) for i in range(2)}
    assert severities(saved(tmp_path / "model", LLAMA, lambda t: t.update(old))) == SOUND


def test_wgt06_trained_layers_that_the_config_leaves_out(tmp_path: Path) -> None:
    path = saved(tmp_path / "model", LLAMA)
    config = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 1}))
    finding = run(path)[0]["WGT06"]
    assert finding.severity is Severity.WARN
    assert "fewer layers than were trained" in finding.claim


def test_wgt05_claims_nothing_of_pickles(tmp_path: Path) -> None:
    path = saved(tmp_path / "model", LLAMA)
    (path / "model.safetensors").rename(path / "pytorch_model.bin")
    with pytest.raises(CannotRun, match="pickles"):
        run(path)


def test_wgt05_claims_nothing_beside_a_truncated_file() -> None:
    assert "WGT02" in SKELETON.moot_after


def test_wgt07_another_width(tmp_path: Path) -> None:
    path = saved(tmp_path / "model", LLAMA)
    config = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps({**config, "intermediate_size": 80}))
    finding = run(path)[0]["WGT07"]
    assert finding.severity is Severity.BLOCK
    assert finding.claim.startswith("6 tensors are on file not in the shape the config implies")
    assert ("64 x 32", "80 x 32") in {(e.observed, e.expected) for e in finding.evidence}


def test_wgt05_an_expert_is_lost(tmp_path: Path) -> None:
    def lose(tensors: Tensors) -> None:
        for name in [n for n in tensors if "layers.1." in n and "experts.3." in n]:
            del tensors[name]

    findings, _ = run(saved(tmp_path / "model", MIXTRAL, lose))
    finding = findings["WGT05"]
    assert (finding.severity, findings["WGT07"].severity) == (Severity.BLOCK, Severity.OK)
    assert {e.source.split(" of ")[0] for e in finding.evidence} == {"1"}
    assert all("layers.1.mlp.experts" in e.source for e in finding.evidence)


def test_wgt07_an_expert_too_many(tmp_path: Path) -> None:
    """What the files hold beyond the config is no missing tensor."""
    folder = saved(tmp_path / "model", MIXTRAL)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"num_local_experts": config["num_local_experts"] - 1}))
    findings, _ = run(folder)
    assert (findings["WGT05"].severity, findings["WGT07"].severity) == (Severity.OK, Severity.BLOCK)


def test_wgt07_parts_that_cannot_be_joined(tmp_path: Path) -> None:
    def narrow(tensors: Tensors) -> None:
        name = next(n for n in tensors if "layers.0." in n and "experts.2.w2" in n)
        tensors[name] = tensors[name][:, :7].contiguous()

    findings, _ = run(saved(tmp_path / "model", MIXTRAL, narrow))
    assert (findings["WGT05"].severity, findings["WGT07"].severity) == (Severity.OK, Severity.BLOCK)


def quantised(path: Path, method: dict[str, Any]) -> Path:
    config = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps({**config, "quantization_config": method}))
    return path


def test_wgt05_06_07_bitsandbytes_companions_are_no_strays(tmp_path: Path) -> None:
    def pack(tensors: Tensors) -> None:
        for name in [n for n in tensors if "proj.weight" in n]:
            rows = tensors[name].shape[0]
            tensors[name] = tensors[name].to(torch.int8)
            tensors[name.removesuffix("weight") + "SCB"] = torch.ones(rows)

    path = quantised(saved(tmp_path / "model", LLAMA, pack), {"quant_method": "bitsandbytes", "load_in_8bit": True})
    findings, _ = run(path)
    assert {code: f.severity for code, f in findings.items()} == SOUND
    assert "(packed, quantised tensors counted by module)" in findings["WGT05"].claim
    assert "(packed, quantised tensors left out)" in findings["WGT07"].claim


def test_wgt05_gptq_names_its_weights_otherwise(tmp_path: Path) -> None:
    def pack(tensors: Tensors) -> None:
        for name in [n for n in tensors if "proj.weight" in n]:
            del tensors[name]
            for part in ("qweight", "qzeros", "scales", "g_idx"):
                tensors[name.removesuffix("weight") + part] = torch.ones(4, 4)

    whole = quantised(saved(tmp_path / "whole", LLAMA, pack), {"quant_method": "gptq", "bits": 4})
    assert severities(whole) == SOUND
    holed = saved(tmp_path / "holed", LLAMA, lambda t: (pack(t), t.pop("model.norm.weight")))
    assert severities(quantised(holed, {"quant_method": "gptq", "bits": 4}))["WGT05"] is Severity.BLOCK


def test_wgt05_packed_experts_stand_for_their_parameter() -> None:
    def entry(name: str, dtype: str) -> TensorEntry:
        return TensorEntry(name, dtype, (2, 2), 0, 4)

    plain = Fit(
        class_name="GptOssForCausalLM",
        num_expected=9,
        missing=("model.layers.0.mlp.experts.gate_up_proj", "model.norm.weight"),
        unexpected=("model.layers.0.mlp.experts.gate_up_proj_blocks", "vision.weight"),
        misshapen=(Misshapen("a.weight", "1", "2"), Misshapen("b.weight", "1", "2")),
    )
    tensors = {"a.weight": entry("a.weight", "U8"), "b.weight": entry("b.weight", "BF16")}
    fit = packed(plain, tensors, {"model", "model.layers", "model.layers.0", "model.layers.0.mlp.experts"})
    assert fit.missing == ("model.norm.weight",)
    assert fit.unexpected == ("vision.weight",)
    assert [m.name for m in fit.misshapen] == ["b.weight"]


def test_model_without_a_class_is_skipped(tmp_path: Path) -> None:
    path = saved(tmp_path / "model", LLAMA)
    (path / "config.json").write_text(json.dumps({"model_type": "no-such-model"}))
    with pytest.raises(CannotRun, match="no-such-model"):
        list(SKELETON.run(bench(path)))


def test_facts_are_those_the_class_resolves(tmp_path: Path) -> None:
    fields = {key: value for key, value in LLAMA.items() if key not in ("head_dim", "num_key_value_heads")}
    path = saved(tmp_path / "model", {**fields, "max_position_embeddings": 77})
    assert run(path)[1] == {
        "architecture": "LlamaForCausalLM", "hidden_size": 32, "num_layers": 2, "num_heads": 4, "num_kv_heads": 4,
        "head_dim": 8, "vocab_size": 120, "max_positions": 77, "tied": False,
    }  # fmt: skip
    falcon = run(saved(tmp_path / "falcon", {**FALCON, "multi_query": True}))[1]
    assert (falcon["num_kv_heads"], falcon["tied"]) == (1, True)
    assert run(saved(tmp_path / "gpt2", GPT2))[1]["max_positions"] == 64


def test_wgt05_06_07_gguf_names_are_translated(tmp_path: Path) -> None:
    assert severities(write_gguf(tmp_path / "tiny.gguf")) == SOUND


def test_wgt05_gguf_without_a_tensor(tmp_path: Path) -> None:
    finding = run(write_gguf(tmp_path / "tiny.gguf", leave_out=("blk.1.ffn_up.weight",)))[0]["WGT05"]
    assert finding.severity is Severity.BLOCK
    assert "model.layers.1.mlp.up_proj.weight" in finding.claim


def test_wgt06_gguf_with_a_stray_tensor(tmp_path: Path) -> None:
    assert severities(write_gguf(tmp_path / "tiny.gguf", stray="blk.0.stray.weight"))["WGT06"] is Severity.NOTE
