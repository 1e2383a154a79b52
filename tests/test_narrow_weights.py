"""Weights in 8 bits or less whose quantization the config no longer declares (CFG07), and zeros in small models."""

from __future__ import annotations

import json

from tests.benches import LLAMA, config_folder, model_bench, run
from tests.shards import TINY, Shapes, raw, shard
from wirecheck.probes.config import CONFIG
from wirecheck.probes.weights import WEIGHTS
from wirecheck.quantization import narrow_matrices
from wirecheck.safetensors_header import TensorEntry

WEIGHT = "model.layers.0.mlp.up_proj.weight"
NARROW: Shapes = TINY | {WEIGHT: ("F8_E4M3", (8, 4))}
SCALED: Shapes = NARROW | {f"{WEIGHT}_scale_inv": ("F32", (1, 1))}


def check(tmp_path, shapes: Shapes, probe=CONFIG, fill: bytes = b"\x01", **changed):
    """A probe on a small model with these tensors."""
    folder = config_folder(tmp_path, LLAMA, **changed)
    (folder / "model.safetensors").write_bytes(shard(shapes, fill))
    return run(probe, model_bench(folder))


def test_cfg07_fires_on_fp8_codes_whose_declaration_was_stripped(tmp_path):
    output = check(tmp_path, SCALED)
    assert output.severity("CFG07") == "block"
    assert f"1 weight matrices are stored in 8 bits or less ({WEIGHT} is F8_E4M3)" in output.claim("CFG07")
    (finding,) = output.of("CFG07")
    assert finding.evidence[0].source.endswith(f"#{WEIGHT}")
    assert (finding.evidence[0].observed, finding.evidence[0].expected) == ("F8_E4M3", "16 bits or more")
    assert finding.remedy.startswith("Restore `quantization_config`")


def test_cfg07_warns_of_fp8_without_scales(tmp_path):
    folder = config_folder(tmp_path, LLAMA)
    (folder / "a.safetensors").write_bytes(shard(TINY, b"\x01"))
    (folder / "b.safetensors").write_bytes(shard({WEIGHT: NARROW[WEIGHT]}, b"\x01"))
    weight_map = dict.fromkeys(TINY, "a.safetensors") | {WEIGHT: "b.safetensors"}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    (finding,) = run(CONFIG, model_bench(folder)).of("CFG07")
    assert finding.severity == "warn"
    assert finding.claim == (
        f"1 weight matrices are stored in 8 bits or less ({WEIGHT} is F8_E4M3), and config.json declares no "
        "quantization: they have no scale and are read as plain numbers."
    )
    assert (finding.evidence[0].source.partition("@")[0], finding.evidence[0].level) == ("b.safetensors", "inspected")
    assert finding.remedy.startswith("Restore `quantization_config`")


def test_cfg07_silent_on_wide_weights_and_on_narrow_scales(tmp_path):
    assert check(tmp_path / "wide", TINY).severity("CFG07") == "ok"
    scale: Shapes = TINY | {f"{WEIGHT}_scale": ("F8_E4M3", (8, 1))}
    assert check(tmp_path / "scale", scale).severity("CFG07") == "ok"


def test_cfg07_says_no_more_than_the_method_where_it_is_declared(tmp_path):
    declared = {"quant_method": "fp8", "dequantize": True}
    assert check(tmp_path, SCALED, quantization_config=declared).severity("CFG07") == "note"


def test_cfg07_counts_the_narrow_tensors_beside_the_declaration(tmp_path):
    sizes = {"d": ("BF16", 64), "c": ("F8_E4M3", 32), "b": ("F6_E2M3", 24), "a": ("F4", 16)}
    header, at = {}, 0
    for name, (dtype, size) in sizes.items():
        header[name] = {"dtype": dtype, "shape": [8, 4], "data_offsets": [at, at + size]}
        at += size
    folder = config_folder(tmp_path, LLAMA, quantization_config={"quant_method": "fp8"})
    (folder / "model.safetensors").write_bytes(raw(header, b"\x01" * at))
    (finding,) = run(CONFIG, model_bench(folder)).of("CFG07")
    assert finding.severity == "block"
    assert [(one.source, one.observed) for one in finding.evidence[1:]] == [
        ("tensor a", "3 tensors in 8 bits or less"),
    ]
    assert {one.level for one in finding.evidence[1:]} == {"inspected"}


def test_floats_of_less_than_a_byte_are_codes_with_or_without_a_scale():
    entry = TensorEntry("experts.down", "F4", (8, 4), 0, 16)
    assert narrow_matrices({entry.name: entry}) == ((entry,), ())


TINY_MATRICES: Shapes = {f"model.layers.{n}.mlp.up_proj.weight": ("F32", (2, 2 + n)) for n in range(12)}
LONG_BIAS: Shapes = {"model.bias": ("F32", (2**20,))}


def test_wgt14_judges_the_largest_matrices_where_none_is_large(tmp_path):
    output = check(tmp_path, TINY_MATRICES | LONG_BIAS, WEIGHTS)
    assert output.claim("WGT14") == "None of the 8 largest matrices is all zeros."
    (finding,) = output.of("WGT14")
    assert [seen.observed for seen in finding.evidence] == ["8 matrices read, none all zeros"]
    assert check(tmp_path, TINY_MATRICES | LONG_BIAS, WEIGHTS, b"\0").severity("WGT14") == "warn"


def test_wgt14_claims_nothing_where_there_is_no_matrix(tmp_path):
    assert check(tmp_path, LONG_BIAS, WEIGHTS).of("WGT14") == []
