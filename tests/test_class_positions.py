"""CFG08 from the limit of the class, where config.json declares none; and counts in the evidence of class-fit."""

from __future__ import annotations

import json

from tests.benches import model_bench, run
from tests.test_probe_skeleton import GPT2, LLAMA, saved
from wirecheck.probes.config import CONFIG
from wirecheck.probes.skeleton import SKELETON
from wirecheck.schema import TrainSpec


def without(tmp_path, fields, key, change=None):
    """A tiny saved model with one key left out of its config.json."""
    folder = saved(tmp_path, fields, change)
    config = json.loads((folder / "config.json").read_text())
    del config[key]
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def test_cfg08_fires_past_the_default_of_the_class(tmp_path):
    folder = without(tmp_path, GPT2 | {"n_positions": 1024}, "n_positions")
    long = model_bench(folder, train=TrainSpec(context=5000))
    assert run(CONFIG, long).severity("CFG08") == "note"
    output = run(SKELETON, long)
    assert output.severity("CFG08") == "block"
    assert output.claim("CFG08").endswith("the model has 1,024.")
    assert output.of("CFG08")[0].evidence[0].source.startswith("GPT2LMHeadModel(config.json@")


def test_cfg08_silent_within_the_default_and_left_to_config_where_it_is_declared(tmp_path):
    folder = without(tmp_path / "silent", GPT2 | {"n_positions": 1024}, "n_positions")
    assert run(SKELETON, model_bench(folder)).severity("CFG08") == "ok"
    declared = saved(tmp_path / "declared", LLAMA)
    assert run(SKELETON, model_bench(declared, train=TrainSpec(context=5000))).of("CFG08") == []


def test_evidence_counts_what_was_matched(tmp_path):
    output = run(SKELETON, model_bench(saved(tmp_path, LLAMA, lambda tensors: tensors.pop("model.norm.weight"))))
    (names,), (shapes,) = output.of("WGT06"), output.of("WGT07")
    assert names.severity == shapes.severity == "ok"
    assert names.evidence[0].observed == names.evidence[0].expected - 1
    assert shapes.evidence[0].observed == shapes.evidence[0].expected - 1
