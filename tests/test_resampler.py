from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM

from tests import rigs, tiny_wires
from tests.shipped_wires import gradients, made
from wirecheck.schema import WireSpec
from wirecheck.wires import parameter_count
from wirecheck.wires.contract import Batch
from wirecheck.wires.failure import StepFailed
from wirecheck.wires.resampler import Resampler, layer_of
from wirecheck.wires.samples import SAMPLES
from wirecheck.wires.watch import watching


def resampler(S=48, D=64, K=4, depth=2) -> Resampler:
    from wirecheck.wires.initial import initialise

    built = Resampler(S, D, K, torch.tensor(0.01), depth=depth)
    initialise(built, 0)
    return built


# --- sizes


@pytest.mark.parametrize(
    ("sender", "receiver", "millions", "digits"),
    [(4096, 4096, 537.06, 2), (2048, 4096, 545.5, 1), (3072, 1536, 80.3, 1)],
)
def test_the_counts_are_those_of_the_real_wire(sender, receiver, millions, digits):
    spec = WireSpec(name="resampler", latent_length=8)
    count = parameter_count(spec, receiver, sender)
    assert count.encoder == 0
    assert round(count.adapter / 1e6, digits) == millions
    with torch.device("meta"):
        built = Resampler(sender, receiver, 8, torch.empty(()), depth=2)
    assert count.adapter == sum(p.numel() for p in built.parameters())


def test_widths_that_match_need_no_projection():
    assert isinstance(resampler(64, 64).project, nn.Identity)
    assert isinstance(resampler(48, 64).project, nn.Linear)


def test_a_width_that_the_heads_do_not_divide_is_refused():
    with pytest.raises(ValueError, match="width 36 is not divisible by the 8 heads"):
        Resampler(48, 36, 4, torch.tensor(1.0), depth=1)


# --- hidden states to soft tokens


def test_masked_positions_change_nothing():
    built, hidden = resampler(), torch.randn(2, 7, 48)
    mask = torch.tensor([[True] * 7, [True] * 3 + [False] * 4])
    other = torch.where(mask[..., None], hidden, torch.full_like(hidden, 50))
    assert torch.equal(built(hidden, mask), built(other, mask))
    torch.testing.assert_close(built(hidden, mask)[1:], built(hidden[1:, :3], mask[1:, :3]), rtol=1e-4, atol=1e-6)


def test_every_token_has_the_rms_of_the_table_times_the_scalar():
    built, mask = resampler(), torch.ones(2, 5, dtype=torch.bool)
    nn.init.constant_(built.scale, 3)
    rms = built(torch.randn(2, 5, 48), mask).square().mean(dim=-1).sqrt()
    torch.testing.assert_close(rms, torch.full((2, 4), 0.03), rtol=1e-4, atol=0)


def test_the_normaliser_takes_mean_and_deviation_of_real_tokens():
    built, hidden = resampler(), 5 + 3 * torch.randn(4, 50, 48)
    mask = torch.rand(4, 50) > 0.3
    hidden[~mask] = 1000
    built.fit(hidden, mask)
    normal = ((hidden - built.mean_S) / built.std_S)[mask]
    torch.testing.assert_close(normal.mean(dim=0), torch.zeros(48), rtol=0, atol=1e-5)
    torch.testing.assert_close(normal.std(dim=0, correction=0), torch.ones(48))


def test_a_dimension_that_never_moves_stays_finite():
    built = resampler()
    hidden, mask = torch.ones(1, 5, 48), torch.ones(1, 5, dtype=torch.bool)
    built.fit(hidden, mask)
    assert built(hidden, mask).isfinite().all()


# --- the wire


@pytest.mark.parametrize(("direction", "sides"), [("both", {"a", "b"}), ("a-to-b", {"b"}), ("b-to-a", {"a"})])
def test_soft_tokens_go_where_the_direction_says(direction, sides):
    wire, _ = made("resampler", direction=direction)
    assert set(wire.loss(SAMPLES)) == set(wire.prefix(SAMPLES)) == set(wire.generate(SAMPLES, 1)) == sides
    assert {name for name, _ in wire.module.named_children()} == {f"adapter_{side}" for side in sides}
    assert set(gradients(wire)) == {name for name, _ in wire.module.named_parameters()}


def test_the_sender_is_read_with_its_own_tokenizer_at_the_layer_asked_for_and_without_gradient():
    pair = tiny_wires.models()
    wire, _ = made("resampler", pair=pair, direction="a-to-b", source_layer=1)
    with watching(pair) as calls:
        reading = wire.read(SAMPLES)
    (call,) = calls
    assert (call.side, call.with_grad) == ("a", False)
    for ids, mask, source in zip(call.ids_BS, call.mask_BS, SAMPLES.sources, strict=True):
        assert ids[mask.bool()].tolist() == pair[0].tokenizer.encode(source)
    source = SAMPLES.sources[2]
    alone = torch.tensor([pair[0].tokenizer.encode(source)])
    expected = pair[0].model(alone, output_hidden_states=True).hidden_states[1][0]
    found = reading["hidden_b"][2][reading["mask_b"][2]]
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("layer", [0, 1, 2])
def test_another_layer_is_another_reading(layer):
    wire, _ = made("resampler", source_layer=layer)
    other, _ = made("resampler", source_layer=(layer + 1) % 3)
    assert not torch.equal(wire.read(SAMPLES)["hidden_a"], other.read(SAMPLES)["hidden_a"])


def test_an_empty_source_is_read_as_one_token():
    wire, _ = made("resampler")
    prefix = wire.prefix(Batch(("", "abc"), ("x", "y")))
    assert prefix["a"].isfinite().all()  # B, which sends, has no BOS of its own
    assert prefix["b"].isfinite().all()


def test_a_layer_that_the_model_lacks_fails_in_words():
    pair = tiny_wires.models()
    with pytest.raises(ValueError, match="layer 9 were asked of b, which gives those of layers 0 to 2"):
        made("resampler", pair=pair, source_layer=9)


def test_the_statistics_are_saved_and_not_trained():
    wire, _ = made("resampler")
    state = wire.module.state_dict()
    assert {"adapter_a.mean_S", "adapter_a.std_S", "adapter_b.rms"} <= set(state)
    assert not {"adapter_a.mean_S", "adapter_b.rms"} & {name for name, _ in wire.module.named_parameters()}
    assert state["adapter_a.std_S"].min() > 0


# --- twins


@pytest.mark.parametrize(
    ("asked", "real", "own", "expected"),
    [
        (None, 32, 2, 1),
        (None, 32, 32, 21),
        (20, 32, 2, 1),
        (31, 32, 2, 2),
        (1, 32, 2, 1),
        (0, 32, 2, 0),
        (16, 16, 4, 4),
    ],
)
def test_a_twin_is_read_at_the_same_part_of_its_depth(asked, real, own, expected):
    config = LlamaConfig(
        hidden_size=48, intermediate_size=8, num_hidden_layers=own, num_attention_heads=4, vocab_size=264
    )
    with torch.device("meta"):
        model = LlamaForCausalLM(config)
    one = dataclasses.replace(tiny_wires.models()[0], model=model, num_layers=real)
    assert layer_of(one, WireSpec(name="resampler", source_layer=asked)) == expected


def test_a_twins_width_needs_no_eight_heads_and_a_real_models_does():
    torch.manual_seed(0)
    sizes = {"hidden_size": 36, "intermediate_size": 40, "num_hidden_layers": 1, "num_attention_heads": 2}
    narrow = LlamaForCausalLM(LlamaConfig(**sizes, vocab_size=rigs.VOCABULARY)).eval()
    a, b = tiny_wires.models(narrow)
    with pytest.raises(ValueError, match="width 36 is not divisible"):
        made("resampler", pair=(a, b))
    wire, _ = made("resampler", pair=(dataclasses.replace(a, hidden_size=4096), b))
    assert wire.prefix(SAMPLES)["a"].shape == (3, 4, 36)


def test_a_failure_of_the_sender_is_told_by_its_part():
    wire, (a, _) = made("resampler")
    a.model.forward = lambda **_: 1 / 0
    with pytest.raises(StepFailed, match=r"^model a: ZeroDivisionError"):
        wire.loss(SAMPLES)
