"""A model split over GPUs: the map, what is on each GPU, copies between them, layers spread evenly."""

from __future__ import annotations

import pytest
import torch
from accelerate.hooks import attach_align_device_hook_on_blocks

from tests.small_steps import AMPERE, BF16, GIGA, HIDDEN, ONE, OVER, PAIR, TRAIN, WIRE, B, S, small, weights
from wirecheck import zoo, zoo_device_map
from wirecheck.errors import CannotRun
from wirecheck.vram.even import even_layers, layers_of
from wirecheck.vram.live import tracing
from wirecheck.vram.split import CannotPlace, Numbered, PlacedTracer, Spread, device_maps, place_of, spread, untie
from wirecheck.vram.step import trace_step

# --- the map -----------------------------------------------------------------------------------------------------


def test_the_map_is_the_librarys_and_covers_every_weight():
    model = zoo.build(small(), device="meta", dtype=BF16)
    places = zoo_device_map.device_map(model, {0: GIGA, 1: GIGA})
    assert set(places.values()) == {0, 1}
    assert places["model.embed_tokens"] == places["model.layers.0"] == 0
    assert places["model.layers.3"] == places["lm_head"] == 1
    assert None not in {place_of(name, places) for name, _ in (*model.named_parameters(), *model.named_buffers())}


def test_the_second_model_is_given_what_the_first_left():
    models = {side: zoo.build(config, device="meta", dtype=BF16) for side, config in PAIR.items()}
    first = sum(p.nbytes for p in models["a"].parameters())
    room = first * 3 // 2  # of which each GPU has half left for the second
    maps = device_maps(models, Spread(4, room), apart=False)
    held = [0, 0, 0, 0]
    for side, model in models.items():
        for name, tensor in model.named_parameters():
            held[place_of(name, maps[side])] += tensor.nbytes
    assert max(held) <= room
    assert sum(held) == sum(p.nbytes for model in models.values() for p in model.parameters())


def test_a_model_that_does_not_go_in_is_refused():
    model = zoo.build(small(), device="meta", dtype=BF16)
    with pytest.raises(CannotPlace, match=r'model a: device_map="auto" leaves .* to the CPU or the disk'):
        device_maps({"a": model}, Spread(2, 100_000), apart=False)


def test_what_the_library_raises_is_a_reason():
    class Odd:
        _no_split_modules = None

    with pytest.raises(CannotRun, match="transformers finds no device_map for Odd: AttributeError"):
        zoo_device_map.device_map(Odd(), {0: GIGA, 1: GIGA})


def test_a_weight_shared_by_two_gpus_is_there_twice():
    model = zoo.still(zoo.build(small(tie_word_embeddings=True), device="meta", dtype=BF16))
    table = model.get_input_embeddings().weight
    assert model.lm_head.weight is table
    untie(model, {"model": 0, "lm_head": 0})
    assert model.lm_head.weight is table
    untie(model, {"model": 0, "lm_head": 1})
    assert model.lm_head.weight is not table
    assert (model.lm_head.weight.shape, model.lm_head.weight.requires_grad) == (table.shape, False)


# --- the trace of a split ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("configs", [ONE, PAIR], ids=["one", "pair"])
def test_gpus_together_hold_all_weights(configs, checkpointing):
    train = TRAIN.model_copy(update={"grad_checkpointing": checkpointing})
    whole = trace_step(configs, WIRE, train, AMPERE)
    made = trace_step(configs, WIRE, train, AMPERE, over=OVER)
    assert sum(weights(one) for one in made.gpus) == weights(made) == weights(whole)
    assert all(sum(one.peak.parts.values()) == one.peak.bytes for one in made.gpus)
    assert whole.peak.bytes <= sum(one.peak.bytes for one in made.gpus)
    assert max(one.peak.bytes for one in made.gpus) < whole.peak.bytes


def test_weights_are_where_the_map_puts_them():
    made = trace_step(ONE, WIRE, TRAIN, AMPERE, over=OVER)
    model = zoo.build(ONE["a"], device="meta", dtype=BF16)
    expected = [0, 0]
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        expected[place_of(name, made.maps["a"])] += -(-tensor.nbytes // 512) * 512
    assert [weights(one) for one in made.gpus] == expected


def test_the_wire_and_its_optimizer_are_on_the_first_gpu():
    first, second = trace_step(ONE, WIRE, TRAIN, AMPERE, over=OVER).gpus
    assert {"trained parameters", "optimizer states"} <= set(first.peak.parts)
    assert not {"trained parameters", "optimizer states", "activations of the wire"} & set(second.peak.parts)
    assert (first.trained, second.trained) == (trace_step(ONE, WIRE, TRAIN, AMPERE).trained, 0)


def test_the_hidden_states_are_copied_at_the_border_and_their_gradient_back():
    made = trace_step(ONE, WIRE, TRAIN, AMPERE, over=OVER)
    hidden = B * S * HIDDEN * 2

    def copies(gpu: int) -> list[int]:
        numbers = {event.block for event in made.gpus[gpu].ledger.events}
        blocks = [made.ledger.blocks[number] for number in numbers]
        return [block.asked for block in blocks if block.op == f"copy to GPU {gpu}" and block.asked == hidden]

    # Each step: the embeddings to the rotary module there, hidden states to the first layer there; its gradient back.
    steps = 2
    assert len(copies(1)) == 2 * steps
    assert len(copies(0)) == steps


def test_a_trace_on_one_gpu_knows_no_placement():
    made = trace_step(ONE, WIRE, TRAIN, AMPERE)
    assert (dict(made.maps), made.gpus) == ({}, ())
    alone = trace_step(ONE, WIRE, TRAIN, AMPERE, over=Spread(1, GIGA))
    assert sorted(made.ledger.events) == sorted(alone.ledger.events)
    assert made.peak.parts == alone.peak.parts == alone.gpus[0].peak.parts


def test_one_model_after_the_other_over_two_gpus():
    apart = TRAIN.model_copy(update={"resident": "sequential"})
    joint, one_by_one = (trace_step(PAIR, WIRE, train, AMPERE, over=OVER) for train in (TRAIN, apart))
    for both, single in zip(joint.gpus, one_by_one.gpus, strict=True):
        assert single.peak.bytes < both.peak.bytes


@pytest.mark.parametrize("kind", ["llama", "gemma2", "gpt2", "qwen3_moe"])
def test_the_modules_hooked_are_those_accelerate_hooks(kind):
    config = small(kind, num_experts=4, moe_intermediate_size=32)
    model = zoo.build(config, device="meta", dtype=BF16)
    places = zoo_device_map.device_map(model, {0: GIGA, 1: GIGA})
    spread(model, places, PlacedTracer(AMPERE))
    ours = {name for name, module in model.named_modules() if "forward" in module.__dict__}
    theirs = zoo.build(config, device="cpu")
    names = {name: ("cpu", "meta")[gpu] for name, gpu in places.items()}  # GPUs that a machine without any has
    attach_align_device_hook_on_blocks(theirs, {**names, "": "cpu"}, offload=dict.fromkeys(names, False))
    hooks = {name: module._hf_hook for name, module in theirs.named_modules() if hasattr(module, "_hf_hook")}
    assert set(hooks) == ours
    assert {name: hook.execution_device for name, hook in hooks.items() if name} == {
        name: ("cpu", "meta")[place_of(name, places)] for name in ours if name
    }


def test_the_library_may_cut_a_layer_and_torch_refuse_it(monkeypatch):
    build = zoo.build

    def uncaring(*args, **given):
        model = build(*args, **given)
        model._no_split_modules = set()
        return model

    monkeypatch.setattr(zoo, "build", uncaring)
    wide = {"a": small(intermediate_size=4096, num_hidden_layers=2)}
    with pytest.raises(CannotPlace, match=r"LlamaForCausalLM names no module .*tensors on GPU 0 and GPU 1"):
        trace_step(wide, WIRE, TRAIN, AMPERE, over=Spread(3, GIGA))


def test_code_that_asks_where_a_tensor_is_gets_its_gpu():
    tracer = PlacedTracer(AMPERE)
    there, here = (torch.empty(256, device="meta", requires_grad=True) for _ in range(2))
    tracer.hold([there, here], "x")
    tracer.put(there, 1)
    with tracing(tracer), Numbered(tracer):
        assert (here.device.index, there.device.index) == (0, 1)
        assert here.to(here.device) is here
        moved = here.to(there.device, torch.float16)
        made = torch.arange(300, device=there.device)
        ids = torch.ones(3, dtype=torch.long).to(there.device)
        assert {moved.device.index, made.device.index, ids.device.index, here.to(there).device.index} == {1}
        (moved.float() * there).sum().backward()
        assert (here.grad.device.index, there.grad.device.index) == (0, 1)


# --- layers spread evenly ----------------------------------------------------------------------------------------


def test_the_layers_are_the_longest_numbered_list():
    names = ["model.embed", "vision.blocks.0", *(f"model.layers.{n}" for n in (10, 9, 0)), "model.layers.0.mlp", "head"]
    assert layers_of(names) == ["model.layers.0", "model.layers.9", "model.layers.10"]
    assert layers_of(["model", "head"]) == []


def test_layers_move_from_the_fullest_gpu_to_the_emptiest():
    deep = {"a": small(num_hidden_layers=24, vocab_size=8000)}
    auto = trace_step(deep, WIRE, TRAIN, AMPERE, over=Spread(3, GIGA))
    layers = even_layers(auto, 3)
    assert [sum(held) for held in layers] == [24]
    even = trace_step(deep, WIRE, TRAIN, AMPERE, over=Spread(3, GIGA, layers))
    counts = tuple([even.maps["a"][f"model.layers.{n}"] for n in range(24)].count(gpu) for gpu in range(3))
    assert counts == layers[0]
    assert max(one.peak.bytes for one in even.gpus) < max(one.peak.bytes for one in auto.gpus)
    assert weights(even) == weights(auto)
    assert even_layers(even, 3) in {(), layers}


def test_another_number_of_layers_is_refused():
    with pytest.raises(CannotPlace, match="LlamaForCausalLM has 4 layers, not 3"):
        trace_step(ONE, WIRE, TRAIN, AMPERE, over=Spread(2, GIGA, ((2, 1),)))
