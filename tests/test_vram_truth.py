"""CPU truth: the traced peak of a step is that of the same step on real tensors, as the CPU's allocator tells it."""

from __future__ import annotations

import gc
import itertools
import math
import warnings

import pytest
import torch
from torch.profiler import ProfilerActivity, profile

from wirecheck import zoo
from wirecheck.vram.attention import Target
from wirecheck.vram.live import Tracer, tracing
from wirecheck.wires.recompute import recomputing

B, P, S = 4, 8, 120
SIZES = {"vocab_size": 2000, "hidden_size": 256, "num_hidden_layers": 2}
HEADS = {"intermediate_size": 512, "num_attention_heads": 8, "num_key_value_heads": 2}
MODELS = {
    "llama": SIZES | HEADS,
    "qwen2": SIZES | HEADS,
    "gemma3_text": SIZES | HEADS | {"head_dim": 32, "sliding_window": 64},
    "gpt2": {"vocab_size": 2000, "n_embd": 256, "n_layer": 2, "n_head": 8},
    "mixtral": SIZES | HEADS | {"num_local_experts": 4},
    "mamba": SIZES | {"state_size": 8},
}
RNG_STATE = 5056
"""Bytes of the host's random state that each checkpointed layer keeps: on the CPU it counts, on a GPU it does not."""
WITHIN = 1e-3


def config_of(name: str, attention: str):
    config = zoo.transformers_library().AutoConfig.for_model(name, **MODELS[name])
    if name != "mamba":
        config._attn_implementation = attention
    return config


def two_steps(model, device: str, *, padded: bool, checkpointed: bool):
    """The trained prefix, and what runs two steps and hands back what is still held at their end."""
    prefix = torch.nn.Parameter(torch.zeros(B, P, model.config.hidden_size, device=device))
    update = torch.optim.AdamW([prefix], foreach=False)

    def step():
        update.zero_grad(set_to_none=True)
        ids = torch.arange(B * S).view(B, S).remainder(500).to(device)
        mask = torch.ones(B, P + S, dtype=torch.long)
        if padded:
            mask[1, -20:] = 0
        text = model.get_input_embeddings()(ids)
        embeds = torch.cat((prefix.to(text), text), dim=1)
        labels = torch.cat((ids.new_full((B, P), -100), ids), dim=1)
        given = {"inputs_embeds": embeds, "attention_mask": mask.to(device), "labels": labels, "use_cache": False}
        if checkpointed:
            with recomputing(model):
                out = model(**given)
        else:
            out = model(**given)
        out.loss.backward()
        update.step()
        return out

    return prefix, lambda: [step(), step()][1:]


def real_peak(run) -> int:
    """The most bytes the CPU's allocator held during the run, over what it held before."""
    gc.collect()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
            held = run()
    assert held
    live = most = 0
    changes = [event for event in seen.profiler.kineto_results.events() if event.name() == "[memory]"]
    for change in sorted(changes, key=lambda event: event.start_ns()):
        live += change.nbytes()
        most = max(most, live)
    return most


def traced_peak(model, prefix, run) -> int:
    tracer = Tracer(Target(device="cpu"))
    tracer.hold([*model.parameters(), *model.buffers(), prefix], "before")
    before = sum(block.size for block in tracer.ledger.blocks)
    with tracing(tracer):
        held = run()
    assert held
    return tracer.ledger.peak().bytes - before


def made(name: str, device: str, dtype: torch.dtype, attention: str):
    return zoo.still(zoo.build(config_of(name, attention), device=device, dtype=dtype))


ALL = itertools.product(MODELS, (torch.float32, torch.bfloat16), ("sdpa", "eager"), (False, True), (False, True))
CASES = [
    (name, dtype, attention, checkpointed, padded)
    for name, dtype, attention, checkpointed, padded in ALL
    # A state-space model has no attention, and its mask changes no size.
    if not (name == "mamba" and (attention == "eager" or padded))
]


@pytest.mark.parametrize(("name", "dtype", "attention", "checkpointed", "padded"), CASES)
def test_the_traced_peak_is_the_real_one(name, dtype, attention, checkpointed, padded):
    options = {"padded": padded, "checkpointed": checkpointed}
    real, hollow = made(name, "cpu", dtype, attention), made(name, "meta", dtype, attention)
    with zoo.quiet():
        _, run = two_steps(real, "cpu", **options)
        expected = real_peak(run)
        prefix, run = two_steps(hollow, "meta", **options)
        found = traced_peak(hollow, prefix, run)
    rng = RNG_STATE * len([m for m in real.modules() if type(m).__name__.endswith(("Layer", "Block"))]) * checkpointed
    assert math.isclose(found + rng, expected, rel_tol=WITHIN), (found, expected, found / expected - 1)


NARROW, WIDE = torch.bfloat16, torch.float32
MIXED = {
    "product": lambda x, y: x * y,
    "quotient the other way round": lambda x, y: y / x,
    "comparison": lambda x, y: x < y,
    "in place, of the narrow": lambda x, y: x.mul_(y),
    "in place, of the wide": lambda x, y: y.add_(x),
    "a row on all": lambda x, y: x + y[:1],
    "one narrow row on all": lambda x, y: x[:1] + y,
    "a number": lambda x, _: x * 2.0,
}


@pytest.mark.parametrize("name", MIXED)
def test_what_the_cpu_converts_is_counted(name):
    def run(device: str):
        x, y = (torch.ones(512, 512, dtype=dtype, device=device) for dtype in (NARROW, WIDE))
        return [MIXED[name](x, y)]

    with tracing(tracer := Tracer(Target(device="cpu"))):
        held = run("meta")
    assert held
    assert math.isclose(tracer.ledger.peak().bytes, real_peak(lambda: run("cpu")), rel_tol=WITHIN)


def test_a_step_that_keeps_more_is_not_taken_for_the_same():
    """The comparison can fail: one tensor kept beside the step is seen."""
    real = made("llama", "cpu", torch.float32, "sdpa")
    hollow = made("llama", "meta", torch.float32, "sdpa")
    with zoo.quiet():
        _, run = two_steps(real, "cpu", padded=False, checkpointed=False)
        expected = real_peak(lambda: (torch.zeros(100_000), run()))
        prefix, run = two_steps(hollow, "meta", padded=False, checkpointed=False)
        found = traced_peak(hollow, prefix, run)
    assert not math.isclose(found, expected, rel_tol=WITHIN)
