"""What the shipped wires share: terms, schedules, options, checkpointing, decoding, and how they leave the models."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from transformers import MambaConfig, MambaForCausalLM

from tests import rigs, tiny_wires
from tests.shipped_wires import gradients, made, sentence_folder
from wirecheck import zoo
from wirecheck.errors import CannotRun
from wirecheck.wires import WIRES, pair_count
from wirecheck.wires.contract import Batch, Generates, HasBackward, HasPrefix
from wirecheck.wires.receiver import Receiver
from wirecheck.wires.recompute import recomputing
from wirecheck.wires.samples import SAMPLES, TWO_SOURCES
from wirecheck.wires.watch import observe

ALL_LOSSES = ("answer", "first-k", "kd")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return str(sentence_folder(tmp_path_factory.mktemp("sentence")))


@pytest.fixture(params=list(WIRES))
def named(request, folder):
    """Each shipped wire's name and what it must be told."""
    return request.param, {"sentence_encoder": folder}


# --- the contract


def test_a_wire_keeps_the_contract_and_freezes_its_models(named):
    name, options = named
    wire, pair = made(name, **options)
    assert isinstance(wire, HasPrefix)
    assert isinstance(wire, Generates)
    assert not isinstance(wire, HasBackward)
    assert not any(p.requires_grad for one in pair for p in one.model.parameters())
    theirs = {id(p) for one in pair for p in one.model.parameters()}
    assert not theirs & {id(p) for p in wire.module.parameters()}
    assert {name.split(".")[0] for name, _ in wire.module.named_parameters()} <= {"encoder", "adapter_a", "adapter_b"}


def test_every_tensor_of_the_module_gets_a_gradient_and_none_outside_it(named):
    name, options = named
    wire, pair = made(name, **options)
    seen = observe(wire, pair, SAMPLES)
    assert set(seen.losses) == {"a", "b"}
    assert seen.strays == ()
    assert [n for n, p in wire.module.named_parameters() if p.grad is None or not p.grad.any()] == []
    assert all(p.grad is None for one in pair for p in one.model.parameters())


def test_the_arithmetic_is_the_module_with_every_option(named):
    name, options = named
    options |= {"hidden_multiple": 3, "metadata": False, "resampler_depth": 3}
    if name != "resampler":
        options["private_length"] = 2
    wire, pair = made(name, **options)
    widths = [one.model.config.hidden_size for one in pair]
    count = pair_count(wire.settings.wire, *widths)
    assert count.total == sum(p.numel() for p in wire.module.parameters())
    parts = dict(wire.module.named_children())
    assert count.adapter_b == sum(p.numel() for p in parts["adapter_b"].parameters())


def test_prefixes_are_float32_and_at_the_scale_of_each_table(named):
    name, options = named
    wire, pair = made(name, **options)
    for side, prefix in wire.prefix(SAMPLES).items():
        table = {one.side: one.model.get_input_embeddings().weight for one in pair}[side]
        assert prefix.dtype == torch.float32
        assert prefix.shape == (3, 4, table.shape[1])
        rms = table[: len(wire.receivers[side].tokenizer)].square().mean().sqrt().item()
        assert prefix.detach().square().mean().sqrt().item() == pytest.approx(rms, rel=1e-3)
        before = wire.uncalibrated(SAMPLES)[side].detach().square().mean().sqrt().item()
        assert before == pytest.approx(1, rel=1e-3) if name != "resampler" else before > 0.3


def test_two_sources_give_two_prefixes_and_a_row_knows_nothing_of_its_neighbours(named):
    name, options = named
    wire, _ = made(name, **options)
    both = wire.prefix(Batch(TWO_SOURCES, ("x", "y")))
    beside_longer = wire.prefix(Batch((TWO_SOURCES[0], SAMPLES.sources[0]), ("x", "y")))
    for side, prefix in both.items():
        size = prefix.detach().square().mean().sqrt()
        assert (prefix[0] - prefix[1]).detach().abs().max() > 0.01 * size
        torch.testing.assert_close(prefix[0], beside_longer[side][0], rtol=1e-3, atol=1e-6)


def test_one_start_by_one_seed(named):
    name, options = named
    torch.manual_seed(1)
    one = made(name, **options)[0].module.state_dict()
    torch.manual_seed(2)
    again, other = (made(name, seed=seed, **options)[0].module.state_dict() for seed in (0, 7))
    assert all(torch.equal(one[key], again[key]) for key in one)
    assert any(not torch.equal(one[key], other[key]) for key in one)


def test_a_wire_runs_on_bfloat16_models_with_its_own_parts_in_float32(named):
    name, options = named
    pair = tiny_wires.models(rigs.llama().bfloat16(), rigs.qwen().bfloat16())
    wire, _ = made(name, pair=pair, train={"dtype": "bfloat16"}, **options)
    assert {g.dtype for g in gradients(wire).values()} == {torch.float32}
    assert {prefix.dtype for prefix in wire.prefix(SAMPLES).values()} == {torch.float32}


# --- schedules


@pytest.mark.parametrize("options", [{}, {"private_length": 3}, {"losses": ALL_LOSSES, "first_k": 2}])
def test_both_schedules_give_one_gradient(named, options):
    name, given = named
    if name == "resampler" and "private_length" in options:
        options = {"direction": "a-to-b"}
    joint, _ = made(name, **given, **options)
    in_turn, _ = made(name, train={"resident": "sequential"}, **given, **options)
    assert isinstance(in_turn, HasBackward)
    terms, again = joint.loss(SAMPLES), in_turn.backward(SAMPLES)
    assert {k: v.item() for k, v in terms.items()} == {k: v.item() for k, v in again.items()}
    expected, found = gradients(joint), gradients(in_turn)
    assert set(found) == {n for n, _ in joint.module.named_parameters()}
    for key, grad in expected.items():
        torch.testing.assert_close(found[key], grad, rtol=1e-3, atol=1e-6, msg=key)


def test_a_model_is_done_with_before_the_next_begins():
    wire, (a, b) = made(train={"resident": "sequential"})
    order = []
    for one in (a, b):
        one.model.register_forward_pre_hook(lambda *_, side=one.side: order.append(f"forward {side}"))
        one.model.lm_head.register_full_backward_hook(lambda *_, side=one.side: order.append(f"backward {side}"))
    wire.backward(SAMPLES)
    assert order == ["forward a", "backward a", "forward b", "backward b"]


# --- options


def test_private_slots_are_read_by_one_model_only():
    wire, _ = made(private_length=3)
    with torch.no_grad():
        before = wire.prefix(SAMPLES)
        wire.module["encoder"].pooler.queries_MZ[4:7] += 1  # A's own
        after = wire.prefix(SAMPLES)
    assert [p.shape[1] for p in before.values()] == [7, 7]
    assert not torch.equal(before["a"], after["a"])
    assert torch.equal(before["b"], after["b"])


def test_shared_slots_come_first_in_both():
    wire, _ = made(private_length=2)
    reading = wire.read(SAMPLES)
    z_a, z_b = (wire.reader.towards(side, reading)[0] for side in ("a", "b"))
    assert torch.equal(z_a[:, :4], reading["z"][:, :4])
    assert torch.equal(z_a[:, :4], z_b[:, :4])
    assert torch.equal(z_a[:, 4:], reading["z"][:, 4:6])
    assert torch.equal(z_b[:, 4:], reading["z"][:, 6:8])


def test_without_metadata_an_adapter_is_told_neither_slot_nor_length():
    plain, _ = made(metadata=False)
    adapter = plain.module["adapter_a"]
    z_BMZ = torch.randn(1, 1, 64).expand(1, 4, 64)
    tokens = adapter(z_BMZ, torch.tensor([0.1]))
    assert torch.equal(tokens, adapter(z_BMZ, torch.tensor([0.9])))
    torch.testing.assert_close(tokens[:, 0], tokens[:, 1])
    assert not any("slots" in n or "length" in n for n, _ in plain.module.named_parameters())


def test_colour_off_keeps_the_scale_and_leaves_the_dimensions_alone():
    on, pair = made()
    off, _ = made(colour=False)
    mean = pair[0].model.get_input_embeddings().weight[:258].mean(dim=0)
    coloured, plain = (wire.prefix(SAMPLES)["a"].detach() for wire in (on, off))
    assert plain.square().mean().item() == pytest.approx(coloured.square().mean().item(), rel=1e-3)
    expected = off.uncalibrated(SAMPLES)["a"].detach()
    ratio = plain / expected
    torch.testing.assert_close(ratio[0], ratio[0, 0, 0].expand_as(ratio[0]))
    together = [torch.corrcoef(torch.stack((p.mean(dim=(0, 1)), mean)))[0, 1].item() for p in (coloured, plain)]
    assert together[0] > together[1]


def test_the_hidden_multiple_is_the_width_of_the_hidden_layers():
    wire, _ = made(hidden_multiple=5)
    assert wire.module["adapter_a"].mix.weight.shape == (320, 320)


@pytest.mark.parametrize(
    ("losses", "names"),
    [
        (("answer",), {"a", "b"}),
        (("kd",), {"a.kd", "b.kd"}),
        (("answer", "first-k"), {"a.answer", "a.first-k", "b.answer", "b.first-k"}),
    ],
)
def test_terms_are_named_by_side_and_where_needed_by_loss(losses, names):
    assert set(made(losses=losses)[0].loss(SAMPLES)) == names


def test_answers_are_cut_to_what_the_run_trains_on():
    wire, _ = made(train={"answer": 3})
    tokens = wire.receivers["a"].answers(SAMPLES)
    assert tokens.ids_BL.shape == (3, 3)
    assert tokens.ids_BL[:, 2].tolist() == [rigs.EOS] * 3


def test_a_tokenizer_that_makes_nothing_of_plain_text_ends_the_check():
    pair = tiny_wires.models()
    pair[1].tokenizer.encode = lambda *_args, **_options: []
    with pytest.raises(CannotRun, match="makes no tokens of plain text"):
        made(pair=pair)


# --- checkpointing


class Noted:
    """How often each layer of a model runs while backward does."""

    def __init__(self, model: nn.Module) -> None:
        self.count = 0
        for layer in model.model.layers:
            layer.mlp.register_forward_pre_hook(self.note)

    def note(self, *_):
        self.count += 1


@pytest.mark.parametrize("resident", ["joint", "sequential"])
def test_checkpointing_runs_layers_again_and_changes_no_gradient(named, resident):
    name, options = named
    plain, pair = made(name, train={"resident": resident}, losses=ALL_LOSSES, first_k=2, **options)
    train = {"grad_checkpointing": True, "resident": resident}
    again, other = made(name, train=train, losses=ALL_LOSSES, first_k=2, **options)
    once, twice = Noted(pair[1].model), Noted(other[1].model)
    expected, found = gradients(plain), gradients(again)
    forwards = (1 + 2 * 2) * 2  # of two layers each
    assert twice.count == once.count + forwards
    assert set(found) == set(expected)
    for key, grad in expected.items():
        torch.testing.assert_close(found[key], grad, rtol=1e-4, atol=1e-7, msg=key)


def test_the_adapter_too_is_run_again():
    wire, _ = made(train={"grad_checkpointing": True})
    calls = []
    wire.module["adapter_a"].norm.register_forward_hook(lambda *_: calls.append(1))
    gradients(wire)
    assert len(calls) == 2


def test_checkpointing_leaves_the_models_as_they_were():
    wire, (a, _) = made(train={"grad_checkpointing": True})
    before = {module: dict(module._forward_hooks) for module in a.model.modules()}
    for _ in range(2):
        gradients(wire)
    assert not any(module.training for module in a.model.modules())
    assert not any(getattr(module, "gradient_checkpointing", False) for module in a.model.modules())
    assert {module: dict(module._forward_hooks) for module in a.model.modules()} == before


def test_dropout_is_at_zero_while_it_trains_and_comes_back():
    model = rigs.llama()
    model.config.attention_dropout = 0.5
    model.model.layers[0].self_attn.attention_dropout = 0.5
    model.model.layers[0].mlp.act_fn = nn.Sequential(nn.SiLU(), nn.Dropout(0.5))
    drops = model.model.layers[0]
    with recomputing(model):
        assert model.model.layers[0].training
        assert (drops.self_attn.attention_dropout, drops.mlp.act_fn[1].p, model.config.attention_dropout) == (0, 0, 0)
    assert not model.training
    assert (drops.self_attn.attention_dropout, drops.mlp.act_fn[1].p, model.config.attention_dropout) == (0.5, 0.5, 0.5)


# --- decoding


def test_cached_decoding_is_what_whole_forwards_choose(named):
    name, options = named
    wire, _ = made(name, **options)
    found = wire.generate(SAMPLES, 5)
    for side, prefix in wire.prefix(SAMPLES).items():
        assert [len(row) for row in found[side]] == [5, 5, 5]
        assert found[side] == by_whole_forwards(wire.receivers[side], prefix, 5)


@torch.no_grad()
def by_whole_forwards(receiver: Receiver, prefix_BMD: torch.Tensor, count: int) -> list[list[int]]:
    embed = receiver.model.get_input_embeddings()
    rows = []
    for prefix_MD in prefix_BMD:
        ids: list[int] = []
        for _ in range(count):
            text = embed(torch.tensor([*receiver.anchor, *ids]))
            logits = receiver.model(inputs_embeds=torch.cat((prefix_MD, text))[None], use_cache=False).logits
            ids.append(int(logits[0, -1].argmax()))
        rows.append(ids)
    return rows


def test_a_row_ends_with_its_eos_and_the_others_go_on():
    wire, (a, _) = made()
    free = wire.generate(SAMPLES, 6)["a"]
    stop = free[0][2]
    wire.receivers["a"].tokenizer.eos_token = a.tokenizer.convert_ids_to_tokens(stop)
    ended = wire.generate(SAMPLES, 6)["a"]
    assert ended == [row[: row.index(stop) + 1] if stop in row else row for row in free]
    assert len(ended[0]) <= 3
    assert len(free[0]) == 6


def test_every_step_of_decoding_is_given_the_whole_mask_and_its_position():
    wire, (a, _) = made()
    given = []
    a.model.register_forward_pre_hook(lambda _m, _args, kwargs: given.append(kwargs), with_kwargs=True)
    wire.generate(SAMPLES, 3)
    start = 4 + len(wire.receivers["a"].anchor)
    assert [kwargs["attention_mask"].shape[1] for kwargs in given] == [start, start + 1, start + 2]
    assert [kwargs["position_ids"][0].tolist() for kwargs in given] == [list(range(start)), [start], [start + 1]]


def test_a_class_without_a_cache_reads_the_row_again():
    wire, (a, _) = made()
    expected, forward = wire.generate(SAMPLES, 4)["a"], a.model.forward

    def cacheless(**kwargs):
        output = forward(**kwargs)
        output.past_key_values = None
        return output

    a.model.forward = cacheless
    assert wire.generate(SAMPLES, 4)["a"] == expected


def test_a_state_space_model_is_given_no_mask_beside_its_cache():
    config = MambaConfig(hidden_size=48, state_size=4, num_hidden_layers=2, vocab_size=rigs.VOCABULARY)
    torch.manual_seed(0)
    with zoo.quiet():
        mamba = MambaForCausalLM(config).eval()
        for weight in mamba.parameters():
            weight.data.add_(torch.randn_like(weight) * 0.2)
        wire, _ = made(pair=tiny_wires.models(mamba))
        found = wire.generate(SAMPLES, 5)["a"]
        assert found == by_whole_forwards(wire.receivers["a"], wire.prefix(SAMPLES)["a"], 5)
    assert len({tuple(row) for row in found}) > 1


# --- the sequence


def test_the_sequence_is_prefix_anchor_answer():
    wire, (a, _) = made()
    one = wire.receivers["a"]
    answers = one.answers(SAMPLES)
    B, L, A = 3, answers.ids_BL.shape[1], len(one.anchor)
    prefix_BMD = torch.randn(B, 4, 48, dtype=torch.float64)
    embeds, mask, labels = one.sequence(prefix_BMD, answers)
    embed = a.model.get_input_embeddings()
    assert embeds.shape == (B, 4 + A + L, 48)
    assert embeds.dtype == torch.float32
    assert torch.equal(embeds[:, :4], prefix_BMD.float())
    assert torch.equal(embeds[1, 4 : 4 + A], embed(torch.tensor(one.anchor)))
    assert torch.equal(embeds[:, 4 + A :], embed(answers.ids_BL))
    assert (labels[:, : 4 + A] == -100).all()
    assert torch.equal(labels[:, 4 + A :], torch.where(answers.mask_BL, answers.ids_BL, -100))
    assert torch.equal(mask.sum(dim=1), 4 + A + answers.mask_BL.sum(dim=1))
    assert not mask[:, 4 + A :][~answers.mask_BL].any()


def test_more_padding_changes_no_loss(named):
    name, options = named
    wire, _ = made(name, **options, losses=ALL_LOSSES, first_k=3)
    alone = Batch(SAMPLES.sources[:1], SAMPLES.answers[:1])
    two = Batch((alone.sources[0], alone.sources[0] + " " + SAMPLES.sources[1]), (alone.answers[0], "a" * 40))
    rows = [wire.loss(Batch((s,), (y,))) for s, y in zip(*two, strict=True)]
    both = wire.loss(two)
    for side, receiver in wire.receivers.items():
        for term, most in (("answer", 99), ("first-k", 3), ("kd", 3)):
            weights = receiver.answers(two).mask_BL.sum(dim=1).clamp_max(most).tolist()
            key = f"{side}.{term}"
            mean = sum(w * row[key].item() for w, row in zip(weights, rows, strict=True)) / sum(weights)
            assert both[key].item() == pytest.approx(mean, rel=1e-4)
