"""WIR13 on declared sizes: what fires, what does not, and what is left to the user's own wire."""

from __future__ import annotations

import pytest

from tests.benches import config_folder, model_bench, pair_bench, run
from wirecheck.probes.config import CONFIG
from wirecheck.probes.wire_sizes import WIRE_SIZES
from wirecheck.schema import WireSpec


def of_pair(tmp_path, wire: WireSpec, **changed: object):
    benches = [
        model_bench(config_folder(tmp_path / side, **(changed if side == "b" else {})), side=side, wire=wire)
        for side in "ab"
    ]
    facts = [fact for bench in benches for fact in run(CONFIG, bench).facts.values()]
    return run(WIRE_SIZES, pair_bench(*benches, facts=facts))


@pytest.mark.parametrize("wire", [WireSpec(), WireSpec(name="resampler"), WireSpec(name="resampler", source_layer=3)])
def test_wir13_silent_where_every_size_fits(tmp_path, wire):
    assert of_pair(tmp_path, wire).severity("WIR13") == "ok"


def test_wir13_layer_past_the_depth(tmp_path):
    (finding,) = of_pair(tmp_path, WireSpec(name="resampler", source_layer=31, direction="a-to-b")).of("WIR13")
    assert finding.severity == "block"
    assert "layer 31 of model A, which has 3 layers" in finding.claim


def test_wir13_layer_of_the_shallower_model_alone(tmp_path):
    wire = WireSpec(name="resampler", source_layer=3)
    (finding,) = of_pair(tmp_path, wire, num_hidden_layers=2).of("WIR13")
    assert "layer 3 of model B, which has 2 layers" in finding.claim


def test_wir13_latent_width_the_heads_do_not_divide(tmp_path):
    (finding,) = of_pair(tmp_path, WireSpec(latent_width=60)).of("WIR13")
    assert finding.severity == "block"
    assert "60, is not divisible by the 8 heads" in finding.claim


def test_wir13_width_of_a_model_that_the_resampler_cannot_divide(tmp_path):
    changed = {"hidden_size": 60, "num_attention_heads": 2, "num_key_value_heads": 2, "head_dim": 30}
    assert of_pair(tmp_path, WireSpec(name="resampler"), **changed).severity("WIR13") == "block"
    assert of_pair(tmp_path, WireSpec(name="resampler", direction="b-to-a"), **changed).severity("WIR13") == "ok"


def test_wir13_own_wire_is_told_the_sizes(tmp_path):
    output = of_pair(tmp_path, WireSpec(name="mine:factory"))
    assert output.severity("WIR13") == "note"
    assert "widths 64 and 64 and depths 3 and 3" in output.claim("WIR13")
