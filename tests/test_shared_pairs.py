"""Pairs that share what was made of their models come to what they come to alone, whatever ran before them."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import combinations

import pytest
import torch

from tests import rigs, tiny_wires
from wirecheck import heap, loan
from wirecheck.demo import demo_folders
from wirecheck.gate_shelf import of_side
from wirecheck.loan import Loan
from wirecheck.probes import wiring
from wirecheck.runner import Check, Request, Silent
from wirecheck.schema import Level, PairResult, Policy, TrainSpec, WireSpec
from wirecheck.snapshot import Snapshot, parse_ref, take
from wirecheck.wires import calls
from wirecheck.wires.samples import SAMPLES
from wirecheck.wires.watch import observe

REQUEST = Request(
    wire=WireSpec(latent_length=4, latent_width=32, max_bytes=64),
    train=TrainSpec(batch=2, context=8, answer=8),
    policy=Policy(required=Level.SIMULATED, depth=Level.SIMULATED),
    seed=0,
    command="wirecheck pair",
)
NAMES = ("one", "two", "three")


@pytest.fixture(scope="module")
def snapshots(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Snapshot]:
    """The two built-in models, and a third of another class."""
    third = rigs.saved_pair(tmp_path_factory.mktemp("pair"))["b"]
    return {name: take(parse_ref(str(path))) for name, path in zip(NAMES, (*demo_folders(), third), strict=True)}


@pytest.fixture(scope="module")
def runs(snapshots):
    found = {}
    for name, one in snapshots.items():
        check = Check(REQUEST, one, one, Silent())
        check.model()
        found[name] = tuple(check.runs)
    return found


def told(result: PairResult) -> dict:
    """The record without its seconds."""
    found = json.loads(result.model_dump_json())
    for run in found["runs"]:
        run["seconds"] = 0
    return found


def checked(snapshots, runs, pair, lent=None, request=REQUEST) -> dict:
    a, b = pair
    known = {"a": runs[a], "b": of_side(runs[b], "b")}
    given = {} if lent is None else {"a": lent[a], "b": lent[b]}
    return told(Check(request, snapshots[a], snapshots[b], Silent(), known=known, lent=given).run())


@pytest.fixture(scope="module")
def alone(snapshots, runs):
    return {pair: checked(snapshots, runs, pair) for pair in combinations(NAMES, 2)}


def test_the_pairs_alone_run_every_probe(alone):
    for found in alone.values():
        kinds = {run["probe"]: run["kind"] for run in found["runs"] if run["level"] == "simulated"}
        assert {"memory", "wire-twin", "wire-use"} <= kinds.keys()
        assert set(kinds.values()) == {"ran"}


@pytest.mark.parametrize("backwards", [False, True], ids=["in order", "backwards"])
def test_a_pair_in_a_tile_is_the_pair_alone(snapshots, runs, alone, backwards):
    lent = {name: Loan() for name in NAMES}
    order = list(combinations(NAMES, 2))[::-1] if backwards else list(combinations(NAMES, 2))
    for pair in (*order, order[0]):  # the first once more, after all the others
        assert checked(snapshots, runs, pair, lent) == alone[pair]


def test_a_pair_whose_models_are_not_known_is_the_pair_alone(snapshots, runs, alone):
    lent = {"a": Loan(), "b": Loan()}
    pair = NAMES[:2]
    for _ in range(2):
        found = told(Check(REQUEST, *(snapshots[name] for name in pair), Silent(), lent=lent).run())
        assert found == alone[pair]


def test_another_wire_between_the_same_models_leaves_nothing_behind(snapshots, runs, alone):
    lent = {name: Loan() for name in NAMES}
    pair = NAMES[:2]
    other = replace(
        REQUEST,
        wire=REQUEST.wire.model_copy(update={"losses": ("answer", "first-k")}),
        train=REQUEST.train.model_copy(update={"grad_checkpointing": True, "dtype": "float32"}),
    )
    assert checked(snapshots, runs, pair, lent, other) == checked(snapshots, runs, pair, None, other)
    assert checked(snapshots, runs, pair, lent) == alone[pair]


# --- what is lent ------------------------------------------------------------------------------------------------


def test_what_is_read_is_made_once_and_what_is_changed_is_a_copy():
    lent, made = Loan(), []

    def make():
        made.append(rigs.llama())
        return made[-1]

    assert lent.read("text", lambda: "x") is lent.read("text", lambda: "y")
    first = lent.copy("twin", make, of=lambda model: model)
    first.requires_grad_(requires_grad=True)
    first.lm_head.weight.data.zero_()
    first.register_forward_hook(lambda *_: None)
    second = lent.copy("twin", make, of=lambda model: model)
    assert len(made) == 1
    assert second is not first
    assert not any(p.requires_grad for p in second.parameters())
    assert torch.equal(second.lm_head.weight, rigs.llama().lm_head.weight)
    assert not second._forward_hooks


def test_a_large_model_is_made_anew(monkeypatch):
    monkeypatch.setattr(loan, "MOST_BYTES", 1000)
    lent, made = Loan(), []
    for _ in range(2):
        lent.copy("twin", lambda: made.append(0) or rigs.llama(), of=lambda model: model)
    assert len(made) == 2


def test_what_cannot_be_made_is_tried_again():
    lent = Loan()
    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            lent.read("tokenizer", lambda: 1 // 0)
    assert lent.read("tokenizer", lambda: 1) == 1


def test_a_cast_twin_has_the_weights_of_the_twin():
    pair = rigs.bench(train=TrainSpec(dtype="bfloat16"))
    models = wiring.wired(pair, wiring.on_twins(pair))
    benches = tuple(replace(one, loan=Loan()) for one in (pair.a, pair.b))
    plain, first, second = (wiring.in_dtype(models, "bfloat16", given) for given in (None, benches, benches))
    for one, *others in zip(plain, first, second, strict=True):
        for name, weight in one.model.state_dict().items():
            assert all(torch.equal(weight, other.model.state_dict()[name]) for other in others), name
    assert first[0].model is not second[0].model


# --- a step's gradient at the logits, read in the one backward pass ----------------------------------------------


def same(left, right) -> bool:
    if left is None or right is None:
        return left is right
    return torch.equal(left.nan_to_num(7.0), right.nan_to_num(7.0))


@pytest.mark.parametrize("kind", [tiny_wires.TinyWire], ids=lambda kind: kind.__name__)
def test_one_backward_tells_what_each_term_by_itself_tells(kind, monkeypatch):
    def step():
        wire, pair = tiny_wires.tiny(kind)
        seen = observe(wire, pair, SAMPLES)
        return seen, {name: p.grad for name, p in wire.module.named_parameters()}

    at_once, gradients = step()
    monkeypatch.setattr(calls, "_owners", lambda *_: None)
    apart, expected = step()
    assert len(at_once.calls) == len(apart.calls) > 0
    for one, other in zip(at_once.calls, apart.calls, strict=True):
        assert one.asked.keys() == other.asked.keys()
        assert same(one.grad_BSV, other.grad_BSV)
        for term, found in one.asked.items():
            assert all(same(value, getattr(other.asked[term], name)) for name, value in vars(found).items())
    assert gradients.keys() == expected.keys()
    assert all(same(gradients[name], grad) for name, grad in expected.items())


class _Doubled(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return 2 * x

    @staticmethod
    def backward(ctx, gradient):
        return 2 * gradient


def test_whose_the_gradient_is():
    x, y = torch.ones(3, requires_grad=True), torch.ones(3, requires_grad=True)
    left, right, idle = x * 2, y * 3, x * 4
    terms = {"a": left.sum(), "b": right.exp().sum()}
    assert calls._owners(terms, [left, right, idle]) == ["a", "b", None]
    assert calls._owners({**terms, "c": left.mean()}, [left, right]) is None
    assert calls._owners({"a": _Doubled.apply(left).sum()}, [left]) is None
    assert calls._owners({"a": x.sum()}, [x]) is None


# --- memory ------------------------------------------------------------------------------------------------------


def test_freed_memory_is_kept_by_one_library_alone(monkeypatch):
    monkeypatch.setattr(heap.platform, "libc_ver", lambda: ("", ""))
    monkeypatch.setattr(heap.ctypes, "CDLL", lambda _: pytest.fail("no library is asked"))
    assert heap.keep_freed() is False
