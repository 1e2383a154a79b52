"""The static checks of weights: each code where it fires and where it must not, and the six seed models."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.factories import needs_assets, seed_snapshot
from tests.said import note
from tests.shards import (
    CONFIG,
    POINTER,
    TINY,
    Shapes,
    raw,
    shard,
    table,
    write_gguf,
    write_model,
    write_sharded,
)
from tests.test_snapshot import TENSOR_BYTES
from wirecheck.errors import CannotRun
from wirecheck.probe import ModelBench, Yielded
from wirecheck.probes.weights import WEIGHTS
from wirecheck.schema import Fact, Finding, Level, Pin, Policy, Severity, TrainSpec, WireSpec
from wirecheck.snapshot import ModelRef, Snapshot, parse_ref, take
from wirecheck.weight_files import WeightFile
from wirecheck.zero_fill import LARGE_BYTES

SOUND = "test_facts"
pytestmark = pytest.mark.usefixtures("said")

SHARDS = {
    "model-1-of-2.safetensors": {"model.embed_tokens.weight": ("BF16", (16, 4))},
    "model-2-of-2.safetensors": {"lm_head.weight": ("BF16", (16, 4))},
}
LARGE: Shapes = {
    "model.embed_tokens.weight": ("BF16", (16, 4)),
    "model.layers.0.mlp.up_proj.weight": ("F32", (512, 512)),
    "model.layers.0.bias": ("F32", (LARGE_BYTES,)),
}


def _bench(snapshot: Snapshot, *pins: Pin) -> ModelBench:
    return ModelBench(wire=WireSpec(), train=TrainSpec(), policy=Policy(pins=pins), seed=0, side="a", snapshot=snapshot)


def _yields(source: Path | Snapshot, *pins: Pin) -> list[Yielded]:
    snapshot = take(parse_ref(str(source))) if isinstance(source, Path) else source
    yielded = list(WEIGHTS.run(_bench(snapshot, *pins)))
    note(yielded)
    return yielded


def _findings(source: Path | Snapshot, code: str, *pins: Pin) -> list[Finding]:
    found = [f for f in _yields(source, *pins) if isinstance(f, Finding)]
    assert {f.code for f in found} <= set(WEIGHTS.codes)
    assert all(f.level.rank >= Level.INSPECTED.rank for f in found)
    return [f for f in found if f.code == code]


def _fires(source: Path | Snapshot, code: str, severity: Severity, *words: str) -> Finding:
    [finding] = _findings(source, code)
    assert finding.severity is severity
    for word in words:
        assert word in finding.claim
    return finding


def _holds(source: Path | Snapshot, code: str) -> None:
    found = _findings(source, code)
    assert found
    assert {f.severity for f in found} == {Severity.OK}


def _facts(source: Path | Snapshot) -> dict[str, Any]:
    return {f.key: f.value for f in _yields(source) if isinstance(f, Fact)}


def test_wgt01_no_weights(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    _fires(tmp_path, "WGT01", Severity.BLOCK, "no weights at all")
    write_gguf(tmp_path / "m.gguf")
    assert "m.gguf" in str(_fires(tmp_path, "WGT01", Severity.BLOCK).remedy)


def test_wgt01_a_shard_the_index_names_is_missing(tmp_path):
    folder = write_sharded(tmp_path, SHARDS)
    (folder / "model-2-of-2.safetensors").unlink()
    finding = _fires(folder, "WGT01", Severity.BLOCK, "1 of 2", "model-2-of-2.safetensors")
    assert finding.remedy
    assert "tensor_bytes" not in _facts(folder)


def test_wgt01_every_shard_is_there(tmp_path):
    _holds(write_sharded(tmp_path, SHARDS), "WGT01")


def test_wgt02_truncated(tmp_path):
    folder = write_sharded(tmp_path, SHARDS)
    path = folder / "model-2-of-2.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    _fires(folder, "WGT02", Severity.BLOCK, "1 of 2", "model-2-of-2.safetensors")
    assert _findings(folder, "WGT04") == []


def test_wgt02_whole(tmp_path):
    _holds(write_sharded(tmp_path, SHARDS), "WGT02")


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin"])
def test_wgt03_pointer(tmp_path, name):
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    (tmp_path / name).write_bytes(POINTER)
    _fires(tmp_path, "WGT03", Severity.BLOCK, name)


def test_wgt03_no_pointer(tmp_path):
    _holds(write_model(tmp_path), "WGT03")


def test_wgt04_malformed(tmp_path):
    folder = write_model(tmp_path)
    header, size = table(TINY)
    header["lm_head.weight"]["data_offsets"] = [0, 128]
    (folder / "model.safetensors").write_bytes(raw(header, b"\1" * size))
    finding = _fires(folder, "WGT04", Severity.BLOCK, "model.safetensors")
    assert "lm_head.weight" in str(finding.evidence[0].observed) or "embed" in str(finding.evidence[0].observed)


def test_wgt04_one_tensor_in_two_files(tmp_path):
    twice = {name: {**shapes, "model.x.weight": ("BF16", (2, 2))} for name, shapes in SHARDS.items()}
    _fires(write_sharded(tmp_path, twice), "WGT04", Severity.BLOCK, "model.x.weight")


def test_wgt04_a_broken_index_of_pickles(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    (tmp_path / "pytorch_model.bin.index.json").write_text("[]")
    _fires(tmp_path, "WGT04", Severity.BLOCK, "pytorch_model.bin.index.json")


def test_wgt04_well_formed(tmp_path):
    _holds(write_sharded(tmp_path, SHARDS), "WGT04")


@pytest.mark.parametrize("name", ["model.embed_tokens.weight", "lm_head.weight"])
def test_wgt08_rows_differ(tmp_path, name):
    folder = write_model(tmp_path, {**TINY, name: ("BF16", (15, 4))})
    findings = _findings(folder, "WGT08")
    [block] = [f for f in findings if f.severity is Severity.BLOCK]
    assert "15 rows" in block.claim
    assert block.evidence[0].source.endswith(f"#{name}")
    assert len(findings) == 2


def test_wgt08_rows_agree(tmp_path):
    _holds(write_model(tmp_path), "WGT08")


@pytest.mark.parametrize("key", ["text_config", "llm_config"])
def test_wgt08_the_text_config_decides(tmp_path, key):
    sound = {"vocab_size": 99, key: {"vocab_size": 16}}
    _holds(write_model(tmp_path / "sound", config=sound), "WGT08")
    wrong = {"vocab_size": 16, key: {"vocab_size": 99}}
    findings = _findings(write_model(tmp_path / "wrong", config=wrong), "WGT08")
    assert {f.severity for f in findings} == {Severity.BLOCK}


@pytest.mark.parametrize(
    "shapes",
    [
        {"model.layers.0.attention.output.weight": ("BF16", (9, 4)), "something.else": ("BF16", (4, 4))},
        {"vision_tower.embed_tokens.weight": ("BF16", (9, 4))},
        {"a.embed_tokens.weight": ("BF16", (9, 4)), "b.embed_tokens.weight": ("BF16", (16, 4))},
        *({"model.embed_tokens.weight": (packed, (9, 4))} for packed in ("U8", "I8", "U32", "I32")),
    ],
    ids=["no table", "another tower", "two tables", "packed", "packed in I8", "packed in U32", "packed in I32"],
)
def test_wgt08_unknown_table_no_claim(tmp_path, shapes):
    assert _findings(write_model(tmp_path, shapes), "WGT08") == []


@pytest.mark.parametrize("config", [{}, {"vocab_size": None}, {"vocab_size": True}])
def test_wgt08_no_vocab_size_no_claim(tmp_path, config):
    assert _findings(write_model(tmp_path, config=config), "WGT08") == []


def test_wgt10_pickles_only(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    (tmp_path / "pytorch_model.bin").write_bytes(b"\x80\x04.")
    _fires(tmp_path, "WGT10", Severity.WARN, "pytorch_model.bin")
    assert _findings(tmp_path, "WGT02") == _findings(tmp_path, "WGT04") == []


def test_wgt10_safetensors_and_gguf(tmp_path):
    folder = write_model(tmp_path / "m")
    (folder / "pytorch_model.bin").write_bytes(b"\x80\x04.")
    _holds(folder, "WGT10")
    _holds(write_gguf(tmp_path / "m.gguf"), "WGT10")


def test_wgt12_mixed(tmp_path):
    folder = write_model(tmp_path, {**TINY, "lm_head.weight": ("F32", (16, 4))})
    finding = _fires(folder, "WGT12", Severity.WARN, "F32 57.1%", "BF16 42.9%")
    assert [e.observed for e in finding.evidence] == ["F32", "BF16"]


def test_wgt12_norms_scales_and_buffers_do_not_count(tmp_path):
    extra: Shapes = {
        "model.layers.0.rotary_emb.inv_freq": ("F32", (64, 64)),
        "model.layers.0.mlp.up_proj.weight_scale_inv": ("F32", (64, 64)),
        "model.layers.0.post_attention_layernorm.weight": ("F32", (64, 64)),
        "model.layers.0.attn.masked": ("BOOL", (64, 64)),
    }
    _holds(write_model(tmp_path, {**TINY, **extra}), "WGT12")


def test_wgt12_a_small_router_does_not_count(tmp_path):
    shapes: Shapes = {
        "model.layers.0.mlp.up_proj.weight": ("BF16", (64, 64)),
        "model.layers.0.mlp.gate.weight": ("F32", (2, 8)),
    }
    _holds(write_model(tmp_path, shapes), "WGT12")


def test_wgt12_quantised_mixes_are_a_note(tmp_path):
    config = {**CONFIG, "quantization_config": {"quant_method": "fp8"}}
    _fires(write_model(tmp_path / "m", {**TINY, "lm_head.weight": ("F32", (16, 4))}, config), "WGT12", Severity.NOTE)
    _fires(write_gguf(tmp_path / "m.gguf", head=True), "WGT12", Severity.NOTE, "Q8_0", "F32")


@pytest.mark.parametrize(
    ("dtype", "beside", "fires"), [("I8", "SCB", True), ("F8_E4M3", "weight_scale", True), ("F8_E4M3", "bias", False)]
)
def test_wgt12_codes_and_no_word_on_their_scale(tmp_path, dtype, beside, fires):
    shapes: Shapes = {f"model.layers.0.mlp.up_proj.{name}": (dtype, (8, 4)) for name in ("weight", beside)}
    config = {**CONFIG, "quantization_config": {"quant_method": "fp8"}}
    compressed = {**CONFIG, "compression_config": {"format": "int-quantized"}}
    for name, fields, wanted in (("bare", CONFIG, fires), ("said", config, False), ("compressed", compressed, False)):
        found = _findings(write_model(tmp_path / name, shapes, fields), "WGT12")
        assert (Severity.BLOCK in {f.severity for f in found}) is wanted


def test_wgt12_a_scale_is_of_the_matrix_beside_it_and_a_vector_is_none(tmp_path):
    elsewhere: Shapes = {
        "model.layers.0.mlp.up_proj.weight": ("F8_E4M3", (8, 4)),
        "model.layers.1.mlp.up_proj.weight_scale": ("F32", (1,)),
        "model.scale.0.mlp.weight": ("F8_E4M3", (8, 4)),
    }
    assert Severity.BLOCK not in {f.severity for f in _findings(write_model(tmp_path / "a", elsewhere), "WGT12")}
    vector: Shapes = {**TINY, "model.layers.0.mlp.up_proj.weight": ("I8", (8,))}
    assert Severity.BLOCK not in {f.severity for f in _findings(write_model(tmp_path / "b", vector), "WGT12")}


def _pin(file: str, content: bytes, subject: Any = "a") -> Pin:
    return Pin(subject=subject, file=file, sha256=hashlib.sha256(content).hexdigest())


def test_wgt13_differs(tmp_path):
    folder = write_model(tmp_path)
    [finding] = _findings(folder, "WGT13", _pin("model.safetensors", b"other"))
    assert finding.severity is Severity.BLOCK
    [finding] = _findings(folder, "WGT13", _pin("model-9.safetensors", b"other"))
    assert (finding.severity, "not there" in finding.claim) == (Severity.BLOCK, True)


def test_wgt13_agrees(tmp_path):
    pins = (_pin("model.safetensors", shard(TINY)), _pin("config.json", json.dumps(CONFIG).encode()))
    found = _findings(write_model(tmp_path), "WGT13", *pins)
    assert [f.severity for f in found] == [Severity.OK, Severity.OK]


def test_wgt13_no_pin_of_this_side_no_claim(tmp_path):
    assert _findings(write_model(tmp_path), "WGT13", _pin("model.safetensors", b"other", "b")) == []


def test_wgt13_of_a_file_that_is_not_on_this_disk_is_a_gap(tmp_path):
    file = WeightFile("model.safetensors", None, 100, "safetensors")
    files = ("config.json", "model.safetensors")
    snapshot = Snapshot(ModelRef("o/n", "hub", "o/n"), "0" * 40, tmp_path, files, (file,))
    with pytest.raises(CannotRun, match=r"model\.safetensors"):
        _yields(snapshot, _pin("model.safetensors", b""))


def test_wgt14_zero_filled(tmp_path):
    folder = write_model(tmp_path)
    (folder / "model.safetensors").write_bytes(shard(LARGE, fill=b"\0"))
    _fires(folder, "WGT14", Severity.WARN, "1 of 1 large matrices", "model.layers.0.mlp.up_proj.weight")


@pytest.mark.parametrize("neighbour", ["before", "after"])
def test_wgt14_only_the_tensors_own_bytes_count(tmp_path, neighbour):
    content = bytearray(shard(LARGE, fill=b"\0"))
    folder = write_model(tmp_path)
    (folder / "model.safetensors").write_bytes(content)
    tensor = take(parse_ref(str(folder))).tensors["model.layers.0.mlp.up_proj.weight"]
    content[tensor.begin - 1 if neighbour == "before" else tensor.end] = 1
    (folder / "model.safetensors").write_bytes(content)
    _fires(folder, "WGT14", Severity.WARN)


def test_wgt14_without_hole_seeking_the_answer_is_the_same(tmp_path, monkeypatch):
    folder = write_model(tmp_path)
    (folder / "model.safetensors").write_bytes(shard(LARGE, fill=b"\0"))
    monkeypatch.delattr(os, "SEEK_DATA")
    _fires(folder, "WGT14", Severity.WARN)


def test_wgt14_only_headers_no_claim(tmp_path):
    snapshot = take(parse_ref(str(write_model(tmp_path, LARGE))))
    [file] = snapshot.weights
    remote = WeightFile(file.name, None, file.size_bytes, file.format, file.tensors)
    hub = Snapshot(ModelRef("o/n", "hub", "o/n"), "0" * 40, tmp_path, snapshot.files, (remote,))
    assert _findings(hub, "WGT14") == []
    _holds(hub, "WGT02")


def test_nothing_heavy_is_loaded(tmp_path):
    code = (
        "import sys\nfrom wirecheck.snapshot import parse_ref, take\nfrom wirecheck.probes.weights import WEIGHTS\n"
        "from wirecheck.zero_fill import zero_filled\nzero_filled(take(parse_ref(sys.argv[1])))\n"
        "print([m for m in ('torch', 'transformers', 'huggingface_hub', 'numpy', 'gguf') if m in sys.modules])\n"
    )
    command = [sys.executable, "-c", code, str(write_model(tmp_path))]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip() == "[]"


def test_facts(tmp_path):
    assert _facts(write_model(tmp_path)) == {
        "num_weight_files": 1,
        "tensor_bytes": 2 * (16 * 4 + 8 * 4 + 16 * 4) + 4 * 4,
        "num_tensors": 4,
        "num_parameters": 16 * 4 + 8 * 4 + 16 * 4 + 4,
        "weights_dtype": "BF16",
        "embedding_rows": 16,
        "head_rows": 16,
        "tied": False,
    }


def test_tied_facts(tmp_path):
    headless = {name: entry for name, entry in TINY.items() if name != "lm_head.weight"}
    for name, shapes, flag, tied in (
        ("flag", TINY, True, True),
        ("silent, no head", headless, None, None),
        ("silent, head", TINY, None, None),
        ("contradiction", headless, False, False),
    ):
        config = {"vocab_size": 16} | ({} if flag is None else {"tie_word_embeddings": flag})
        facts = _facts(write_model(tmp_path / name, shapes, config))
        assert facts.get("tied") is tied, name
        assert facts.get("head_rows") == (None if name in ("contradiction", "silent, no head") else 16), name


def test_gguf_facts(tmp_path):
    facts = _facts(write_gguf(tmp_path / "m.gguf"))
    assert facts["tensor_bytes"] == 6 * 34 + 128
    assert (facts["weights_dtype"], facts["embedding_rows"], facts["tied"]) == ("Q8_0", 6, True)


def test_the_text_holds_no_path_of_this_machine(tmp_path):
    folders = [write_model(tmp_path / "a"), write_sharded(tmp_path / "b", SHARDS)]
    (folders[1] / "model-1-of-2.safetensors").write_bytes(b"")
    (folders[1] / "model-2-of-2.safetensors").unlink()
    for folder in folders:
        assert str(tmp_path) not in "".join(item.model_dump_json() for item in _yields(folder))


ROWS = {
    "meta-llama__Llama-3.1-8B-Instruct": (128_256, False),
    "meta-llama__Llama-3.2-1B-Instruct": (128_256, True),
    "meta-llama__Llama-3.2-3B-Instruct": (128_256, True),
    "Qwen__Qwen2.5-7B-Instruct": (152_064, False),
    "Qwen__Qwen2.5-1.5B-Instruct": (151_936, True),
    "mistralai__Mistral-7B-Instruct-v0.3": (32_768, False),
}


@needs_assets
@pytest.mark.parametrize("name", TENSOR_BYTES)
def test_the_seed_models_are_sound_but_for_their_zeros(name, tmp_path):
    folder = seed_snapshot(name, tmp_path)
    findings = [f for f in _yields(folder) if isinstance(f, Finding)]
    assert {f.code for f in findings if f.severity is not Severity.OK} == {"WGT14"}
    assert {f.code for f in findings} == {"WGT01", "WGT02", "WGT03", "WGT04", "WGT08", "WGT10", "WGT12", "WGT14"}
    facts = _facts(folder)
    assert (facts["tensor_bytes"], facts["weights_dtype"]) == (TENSOR_BYTES[name], "BF16")
    assert (facts["embedding_rows"], facts["tied"]) == ROWS[name]
    assert facts["head_rows"] == facts["embedding_rows"]
