from __future__ import annotations

import subprocess
import sys

import pytest

from wirecheck.schema import WireSpec
from wirecheck.wires import WIRES, pair_count, parameter_count
from wirecheck.wires.sizes import Sizes, misfit, receiving, sending, source_layer

LLAMA_1B, MISTRAL = Sizes(2048, 16), Sizes(4096, 32)


def resampler(**options) -> WireSpec:
    return WireSpec(name="resampler", latent_length=8, **options)


@pytest.mark.parametrize(
    "spec",
    [
        WireSpec(),
        resampler(),
        resampler(source_layer=16),
        resampler(source_layer=20, direction="b-to-a"),
        WireSpec(name="sentence-query"),
        WireSpec(name="mine:factory", latent_width=100),
    ],
)
def test_what_fits_is_silent(spec):
    assert misfit(spec, LLAMA_1B, MISTRAL) == ()


@pytest.mark.parametrize("layer", [17, 20, 31])
def test_a_layer_past_the_depth_is_told_with_the_depth(layer):
    (found,) = misfit(resampler(source_layer=layer), LLAMA_1B, MISTRAL)
    assert found.claim == f"The resampler is to read layer {layer} of model A, which has 16 layers."
    assert (found.observed, found.expected) == (layer, "at most 16")
    assert "at most 16" in found.remedy
    assert "(11)" in found.remedy


def test_both_senders_are_looked_at():
    found = misfit(resampler(source_layer=33), LLAMA_1B, MISTRAL)
    assert [f.claim.split(" of ")[1][:7] for f in found] == ["model A", "model B"]


def test_a_latent_width_that_the_heads_do_not_divide():
    (found,) = misfit(WireSpec(latent_width=100), LLAMA_1B, MISTRAL)
    assert found.claim == "The latent width, 100, is not divisible by the 8 heads of the bytes encoder."
    assert found.remedy == "Set `latent_width` to 96 or 104."
    (found,) = misfit(WireSpec(latent_width=5), LLAMA_1B, MISTRAL)
    assert found.remedy == "Set `latent_width` to 8."


def test_a_receivers_width_that_the_heads_do_not_divide():
    odd = Sizes(4100, 32)
    (found,) = misfit(resampler(), LLAMA_1B, odd)
    assert found.claim == "The width of model B, 4100, is not divisible by the 8 heads of the resampler towards B."
    assert misfit(resampler(direction="b-to-a"), LLAMA_1B, odd) == ()


def test_a_sentence_encoders_width_that_the_heads_do_not_divide(tmp_path):
    (tmp_path / "config.json").write_text('{"hidden_size": 300}', encoding="utf-8")
    (found,) = misfit(WireSpec(name="sentence-query", sentence_encoder=str(tmp_path)), LLAMA_1B, MISTRAL)
    assert found.claim.startswith("The sentence encoder's width, 300, is not divisible by the 8 heads")


def test_private_slots_of_a_resampler_are_told_to_be_none():
    (found,) = misfit(resampler(private_length=2), LLAMA_1B, MISTRAL)
    assert found.claim == "The resampler has no private slots, and 2 are asked for."


@pytest.mark.parametrize(("layers", "read"), [(16, 11), (28, 19), (32, 21)])
def test_two_thirds_of_the_depth_are_read_if_nothing_is_said(layers, read):
    assert source_layer(resampler(), layers) == read
    assert source_layer(resampler(source_layer=3), layers) == 3


def test_directions():
    assert (receiving(resampler()), sending(resampler())) == (("a", "b"), ("a", "b"))
    assert (receiving(resampler(direction="a-to-b")), sending(resampler(direction="a-to-b"))) == (("b",), ("a",))
    assert (receiving(WireSpec()), sending(WireSpec())) == (("a", "b"), ())


def test_one_direction_is_counted_once():
    both, one = pair_count(resampler(), 2048, 4096), pair_count(resampler(direction="a-to-b"), 2048, 4096)
    assert one == (0, 0, both.adapter_b)
    assert round(one.total / 1e6, 1) == 545.5
    assert both.adapter_a == parameter_count(resampler(), 2048, 4096).adapter


def test_a_pairs_count_is_the_encoder_once_and_each_adapter():
    one, other = parameter_count(WireSpec(), 2048), parameter_count(WireSpec(), 4096)
    assert pair_count(WireSpec(), 2048, 4096) == (one.encoder, one.adapter, other.adapter)


@pytest.mark.parametrize("name", ["bytes", "resampler"])
def test_counting_and_fitting_load_no_torch(name):
    code = (
        "import sys, wirecheck.wires as w; from wirecheck.wires.sizes import misfit, Sizes;"
        f"spec = w.WireSpec(name={name!r}); w.pair_count(spec, 4096, 2048); misfit(spec, Sizes(64, 2), Sizes(64, 2));"
        "sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_every_wire_says_what_it_does():
    assert [name for name, wire in WIRES.items() if not wire.sentence] == []
