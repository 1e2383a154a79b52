"""EMB13: weights that predict plain text better when they are read in another way."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.benches import Output, model_bench, run
from tests.factories import needs_assets
from tests.test_probe_meaning import LLAMA, QWEN, STORIES, WIDE, copied, meaning
from wirecheck import zoo
from wirecheck.other_readings import Comparison, compare
from wirecheck.plain_text import Prediction, predict
from wirecheck.probes.meaning import MEANING
from wirecheck.schema import TrainSpec

GATE_UP = "gate and up projections exchanged"
NORMS = "the two norms of each layer exchanged"


# --- sound models ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("folder", [LLAMA, QWEN], ids=lambda folder: folder.name)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_emb13_silent_on_the_demo_models(folder: Path, dtype: str) -> None:
    out = meaning(folder, TrainSpec(dtype=dtype))
    assert out.severity("EMB13") == "ok"
    assert "no better by any of 9 other ways" in out.claim("EMB13")


@needs_assets
def test_emb13_silent_on_a_model_of_children_s_tales() -> None:
    assert meaning(STORIES).severity("EMB13") == "ok"


def test_the_model_is_left_as_it_was() -> None:
    bench = model_bench(LLAMA, train=WIDE)
    model = bench.weights
    ids = torch.arange(40).view(2, 20)
    with torch.no_grad():
        before = model(input_ids=ids).logits
    parts, held = dict(model.named_modules()), {name: tensor.clone() for name, tensor in model.named_buffers()}
    run(MEANING, bench)
    assert dict(model.named_modules()) == parts
    assert all(torch.equal(held[name], tensor) for name, tensor in model.named_buffers())
    with torch.no_grad():
        assert torch.equal(model(input_ids=ids).logits, before)


def test_the_model_is_left_as_it_was_by_a_forward_that_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = model_bench(LLAMA, train=WIDE)
    prediction = predict(bench.weights, bench.tokenizer, seed=0, quiet=zoo.quiet)
    parts = dict(bench.weights.named_modules())

    def fail(*_: Any) -> Any:
        raise RuntimeError("no room")

    monkeypatch.setattr("wirecheck.other_readings.losses_of", fail)
    with pytest.raises(RuntimeError, match="no room"):
        compare(bench.weights, bench.tokenizer, prediction, quiet=zoo.quiet)
    assert dict(bench.weights.named_modules()) == parts


# --- weights that were changed -----------------------------------------------------------------------------------


def exchanged(model: Any, first: str, second: str) -> None:
    for module in model.modules():
        if hasattr(module, first):
            one, other = getattr(module, first).weight, getattr(module, second).weight
            one.data, other.data = other.data.clone(), one.data.clone()


def paired(model: Any, *, back: bool) -> None:
    """Rows of queries and keys in the order of Meta's files, or once more from there as if these were the library's."""
    size = model.config.head_dim
    split = (size // 2, 2) if back else (2, size // 2)
    for module in model.modules():
        for part in ("q_proj", "k_proj"):
            if hasattr(module, part):
                weight = getattr(module, part).weight
                heads = weight.data.unflatten(0, (-1, *split)).transpose(1, 2)
                weight.data = heads.reshape(weight.shape).clone()


def scaled(model: Any, by: float) -> None:
    model.get_input_embeddings().weight.data *= model.config.hidden_size**by


CHANGES: dict[str, Callable[[Any], None]] = {
    GATE_UP: lambda model: exchanged(model, "gate_proj", "up_proj"),
    NORMS: lambda model: exchanged(model, "input_layernorm", "post_attention_layernorm"),
    "queries and keys taken from pairs to halves": lambda model: paired(model, back=False),
    "queries and keys taken from halves to pairs": lambda model: paired(model, back=True),
    "embeddings times the root of the hidden size": lambda model: scaled(model, -0.5),
    "embeddings divided by the root of the hidden size": lambda model: scaled(model, 0.5),
}


def changed(change: Callable[[Any], None]) -> Output:
    bench = model_bench(LLAMA, train=WIDE)
    change(bench.weights)
    return run(MEANING, bench)


@pytest.mark.parametrize("reading", CHANGES)
def test_emb13_weights_in_another_layout(reading: str) -> None:
    out = changed(CHANGES[reading])
    assert out.severity("EMB13") == "warn"
    assert f"better with {reading}:" in out.claim("EMB13")
    first, known = out.of("EMB13")[0].evidence
    assert f"with {reading}" in first.observed
    assert f"with {reading}" in known.observed


def test_emb13_where_the_loss_alone_says_nothing() -> None:
    """What EMB11 cannot see: the model still knows its passage, and would know it three times as well."""
    out = changed(CHANGES[GATE_UP])
    assert out.severity("EMB11") == "ok"
    assert out.severity("EMB13") == "warn"


# --- a config that is another's ----------------------------------------------------------------------------------


@pytest.mark.parametrize("folder", [LLAMA, QWEN], ids=lambda folder: folder.name)
def test_emb13_another_rotary_base(tmp_path: Path, folder: Path) -> None:
    rope = {"rope_type": "default", "rope_theta": 1e6}
    out = meaning(copied(folder, tmp_path / "m", rope_theta=1e6, rope_parameters=rope))
    assert out.severity("EMB13") == "warn"
    assert "better with a rotary base of 10,000:" in out.claim("EMB13")


@needs_assets
def test_emb13_another_activation(tmp_path: Path) -> None:
    out = meaning(copied(STORIES, tmp_path / "m", hidden_act="relu"))
    assert out.severity("EMB13") == "warn"
    assert "better with silu as its activation:" in out.claim("EMB13")


@pytest.mark.parametrize("name", ["gelu_pytorch_tanh", "gelu_new", "gelu_fast", "gelu"])
def test_an_approximation_of_the_own_activation_is_no_other_reading(tmp_path: Path, name: str) -> None:
    observed = meaning(copied(LLAMA, tmp_path / "m", hidden_act=name)).of("EMB13")[0].evidence[0].observed
    assert "silu as its activation" in observed
    assert "relu as its activation" in observed
    assert "gelu" not in observed


def test_neighbours_of_activations_are_left_alone() -> None:
    bench = model_bench(LLAMA, train=WIDE)
    others = {"pooled": torch.nn.MultiheadAttention(8, 2), "gated": torch.nn.GLU(), "learnt": torch.nn.PReLU()}
    for name, module in others.items():
        bench.weights.add_module(name, module)
    assert run(MEANING, bench).severity("EMB13") == "ok"


# --- what is compared --------------------------------------------------------------------------------------------


class Letters:
    bos_token_id = None

    def encode(self, text: str, **_: Any) -> list[int]:
        return [ord(c) % 96 for c in text]


def test_a_class_of_other_names_is_tried_in_what_it_has() -> None:
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    model: Any = GPT2LMHeadModel(GPT2Config(vocab_size=96, n_embd=16, n_layer=1, n_head=2, n_positions=64)).eval()
    prediction = predict(model, Letters(), seed=0, quiet=zoo.quiet)  # type: ignore[arg-type]
    compared = compare(model, Letters(), prediction, quiet=zoo.quiet)  # type: ignore[arg-type]
    assert set(compared.others) == {
        *("silu as its activation", "relu as its activation"),
        *("embeddings times the root of the hidden size", "embeddings divided by the root of the hidden size"),
    }
    assert compared.better is None


def test_a_loss_that_is_no_number_is_compared_with_nothing() -> None:
    bench = model_bench(LLAMA, train=WIDE)
    bench.weights.model.norm.weight.data.fill_(math.nan)
    assert run(MEANING, bench).of("EMB13") == []


def comparison(**fields: Any) -> Comparison:
    base = {"own": 1.0, "others": {"a": 0.7, "b": 2.0}, "known": ("x", "y"), "own_known": 1.0, "other_known": 0.7}
    return Comparison(**(base | fields))


def test_better_is_what_is_a_fifth_better_on_all_that_is_known() -> None:
    assert comparison().better == "a"
    assert comparison(other_known=0.79).better == "a"
    assert comparison(other_known=0.81).better is None
    assert comparison(known=()).better is None


def test_a_text_known_by_heart_is_not_told_apart_by_a_fifth_of_nothing() -> None:
    assert comparison(own_known=0.1, other_known=0.06).better is None
    assert comparison(own_known=0.2, other_known=0.1).better == "a"


def test_a_reading_whose_loss_is_no_number_is_the_worst() -> None:
    assert comparison(others={"a": math.nan, "b": 2.0}).nearest == "b"
    assert comparison(others={"b": 2.0, "a": math.nan}).nearest == "b"
    assert comparison(others={}).nearest is None


def test_a_reading_must_be_better_on_all_that_the_model_knows(monkeypatch: pytest.MonkeyPatch) -> None:
    """On one passage by luck, on three not: the second look holds."""
    bench = model_bench(LLAMA, train=WIDE)
    prediction = predict(bench.weights, bench.tokenizer, seed=0, quiet=zoo.quiet)
    best = prediction.best
    others = [name for name in prediction.losses if name != best][:2]
    losses = prediction.losses | {best: 1.0} | dict.fromkeys(others, 2.0)
    known = Prediction(losses, prediction.shuffled, prediction.num_rows, prediction.num_tokens)
    asked: list[int] = []

    def losses_of(_model: Any, rows: list[list[int]]) -> tuple[list[float], int]:
        asked.append(len(rows))
        return ([0.5] if len(rows) == 1 else [0.5, 3.0, 3.0]), 1024

    monkeypatch.setattr("wirecheck.other_readings.losses_of", losses_of)
    compared = compare(bench.weights, bench.tokenizer, known, quiet=zoo.quiet)
    assert asked == [*[1] * len(compared.others), 3]
    assert set(compared.known) == {best, *others}
    assert (compared.own_known, compared.better) == (pytest.approx(5 / 3), None)
