"""One step watched from outside: the calls of the models, what is asked of them, and what a wire may not return."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from tests import rigs, tiny_wires
from tests.tiny_wires import TinyWire, tiny
from wirecheck.wires.failure import StepFailed
from wirecheck.wires.samples import SAMPLES
from wirecheck.wires.watch import handed_ids, observe, watching


def seen(kind=TinyWire, **options):
    wire, pair = tiny(kind)
    return observe(wire, pair, SAMPLES, **options)


def asked(observation):
    """(side, term) -> (place, token) pairs, of all calls together."""
    found = {}
    for call in observation.calls:
        for term, one in call.asked.items():
            found.setdefault((call.side, term), []).extend(zip(one.at_N.tolist(), one.token_N.tolist(), strict=True))
    return {key: sorted(pairs) for key, pairs in found.items()}


PLAIN = asked(seen())


class ByHand(TinyWire):
    """The loss is taken outside of the model, from its logits."""

    def logits(self, side, inputs):
        return self.models[side].model(**inputs, use_cache=False).logits

    def side_loss(self, side, inputs):
        labels = inputs.pop("labels")
        return self.cross_entropy(self.logits(side, inputs)[:, :-1], labels[:, 1:])

    def cross_entropy(self, logits, labels):
        return functional.cross_entropy(logits.flatten(0, 1).float(), labels.flatten())


class KeptLogits(ByHand):
    def side_loss(self, side, inputs):
        labels = inputs.pop("labels")[:, 10:]
        out = self.models[side].model(**inputs, use_cache=False, logits_to_keep=labels.shape[1])
        assert out.logits.shape[1] == labels.shape[1]
        return self.cross_entropy(out.logits[:, :-1], labels[:, 1:])


class ChosenLogits(ByHand):
    def side_loss(self, side, inputs):
        labels = inputs.pop("labels")
        chosen = torch.arange(9, labels.shape[1] - 1)
        out = self.models[side].model(**inputs, use_cache=False, logits_to_keep=chosen)
        return self.cross_entropy(out.logits, labels[:, chosen + 1])


class BodyAndHead(ByHand):
    def logits(self, side, inputs):
        model = self.models[side].model
        return model.lm_head(model.model(**inputs, use_cache=False).last_hidden_state)


class Chunked(ByHand):
    """The head runs on one part of the sequence after another, each under a checkpoint."""

    reentrant = False

    def side_loss(self, side, inputs):
        labels, model = inputs.pop("labels"), self.models[side].model
        hidden = model.model(**inputs, use_cache=False).last_hidden_state[:, :-1].flatten(0, 1)
        pairs = zip(hidden.split(7), labels[:, 1:].flatten().split(7), strict=True)

        def part(x, y):
            return functional.cross_entropy(model.lm_head(x).float(), y, reduction="sum")

        parts = [checkpoint(part, x, y, use_reentrant=self.reentrant) for x, y in pairs]
        return sum(parts) / (labels[:, 1:] >= 0).sum()


class ChunkedReentrant(Chunked):
    reentrant = True


@pytest.mark.parametrize("kind", [ByHand, KeptLogits, ChosenLogits, BodyAndHead, Chunked])
def test_what_is_asked_is_the_same_however_the_loss_is_taken(kind):
    assert asked(seen(kind)) == PLAIN


def test_a_loss_under_a_reentrant_checkpoint_is_read_as_a_whole():
    found = asked(seen(ChunkedReentrant))
    assert {side: pairs for (side, _), pairs in found.items()} == {side: pairs for (side, _), pairs in PLAIN.items()}
    assert {term for _, term in found} == {""}


class OwnBackward(TinyWire):
    def backward(self, batch):
        losses = self.loss(batch)
        for loss in losses.values():
            loss.backward(retain_graph=True)
        return {name: loss.detach() for name, loss in losses.items()}


def test_a_wire_with_its_own_backward_is_read_while_it_runs():
    observation = seen(OwnBackward)
    assert asked(observation) == {(side, ""): pairs for (side, _), pairs in PLAIN.items()}
    assert observation.loss == pytest.approx(seen().loss)


class TwoTerms(ByHand):
    """Cross-entropy and a distribution asked for, on one forward."""

    def loss(self, batch):
        terms = {}
        for side, prefix in self.prefix(batch).items():
            inputs = self.sequence(side, batch, prefix)
            labels = inputs.pop("labels")
            logits = self.logits(side, inputs)
            terms[f"{side}.ce"] = self.cross_entropy(logits[:, :-1], labels[:, 1:])
            flat = torch.full_like(logits, 1 / logits.shape[-1])
            terms[f"{side}.kd"] = functional.kl_div(logits.log_softmax(-1), flat, reduction="batchmean")
        return terms


def test_each_term_is_read_by_itself():
    found = asked(seen(TwoTerms))
    assert {key: pairs for key, pairs in found.items() if key[1].endswith("ce")} == {
        (side, f"{side}.ce"): pairs for (side, _), pairs in PLAIN.items()
    }
    assert {token for key, pairs in found.items() if key[1].endswith("kd") for _, token in pairs} == {-1}


def test_the_gradient_in_the_module_is_the_steps_own():
    wire, pair = tiny()
    observe(wire, pair, SAMPLES)
    watched = {name: p.grad.clone() for name, p in wire.module.named_parameters()}
    wire.module.zero_grad()
    sum(wire.loss(SAMPLES).values()).backward()
    for name, p in wire.module.named_parameters():
        torch.testing.assert_close(watched[name], p.grad, msg=name)


def test_logits_and_their_gradient_are_kept_where_asked_and_let_go_where_not():
    kept, let_go = seen(), seen(keep_logits=False)
    for call in kept.calls:
        assert call.grad_BSV.shape == call.logits_BSV.shape == (3, call.embeds_BSD.shape[1], rigs.VOCABULARY)
        assert call.grad_BSV.abs().sum() > 0
    assert all(call.logits_BSV.numel() == 0 and call.grad_BSV is None for call in let_go.calls)
    assert asked(let_go) == asked(kept)


def test_no_hook_is_left_behind():
    wire, pair = tiny(BodyAndHead)
    observe(wire, pair, SAMPLES)
    for one in pair:
        for module in one.model.modules():
            assert not module._forward_hooks
            assert not module._forward_pre_hooks


def test_a_forward_that_raises_leaves_the_next_one_noted():
    _, pair = tiny()
    model = pair[0].model
    with watching(pair) as calls:
        with pytest.raises(IndexError):
            model(input_ids=torch.tensor([[10**6]]))
        model(input_ids=torch.tensor([[1, 2]]))
    assert [call.side for call in calls] == ["a"]


def test_a_teacher_without_gradients_is_noted_as_such():
    class Teacher(TinyWire):
        def loss(self, batch):
            with torch.no_grad():
                self.models["a"].model(input_ids=torch.tensor([[1, 2, 3]]))
            return super().loss(batch)

    observation = seen(Teacher)
    assert [(call.side, call.with_grad) for call in observation.calls] == [("a", False), ("a", True), ("b", True)]
    assert observation.calls[0].ids_BS.tolist() == [[1, 2, 3]]
    assert len(observation.of("a")) == 1


def test_dropout_draws_from_the_seed_and_leaves_the_generator():
    class Dropping(TinyWire):
        def prefix(self, batch):
            return {side: functional.dropout(x, 0.5) for side, x in super().prefix(batch).items()}

    torch.manual_seed(3)
    state = torch.get_rng_state()
    assert seen(Dropping, seed=1).loss == seen(Dropping, seed=1).loss != seen(Dropping, seed=2).loss
    wire, pair = tiny(Dropping)
    torch.set_rng_state(state)
    observe(wire, pair, SAMPLES)
    assert torch.equal(torch.get_rng_state(), state)


def test_a_tensor_outside_of_the_module_is_a_stray():
    class Forgetful(TinyWire):
        def __init__(self, *given):
            super().__init__(*given)
            self.gain = torch.ones(2, 1, requires_grad=True)
            self.shift = nn.Parameter(torch.zeros(()))

        def prefix(self, batch):
            return {side: x * self.gain.mean() + self.shift for side, x in super().prefix(batch).items()}

    assert seen(Forgetful).strays == ("parameter of shape scalar", "tensor of shape 2 x 1")
    assert seen().strays == ()


# --- what a wire may not return


def returning(value):
    class Odd(TinyWire):
        def loss(self, batch):
            return value(super().loss(batch)) if callable(value) else value

    return Odd


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (3.5, "loss is a float, not a tensor"),
        (None, "loss is a NoneType, not a tensor"),
        ({}, "no term was returned"),
        ({"a": 1.0}, "a is a float, not a tensor"),
        (lambda terms: {"a": terms["a"].detach()}, r"a has shape \[\] and requires_grad False"),
        (lambda terms: {"a": terms["a"].repeat(3)}, r"a has shape \[3\] and requires_grad True"),
    ],
)
def test_a_loss_that_is_no_differentiable_scalar_is_refused(value, message):
    with pytest.raises(StepFailed, match=message):
        seen(returning(value))


def test_a_single_tensor_is_the_term_loss():
    observation = seen(returning(lambda terms: sum(terms.values())))
    assert list(observation.losses) == ["loss"]
    assert observation.loss == pytest.approx(seen().loss)


def test_a_module_that_is_none_is_refused():
    class Listed(TinyWire):
        @property
        def module(self):
            return [self.net]

    with pytest.raises(StepFailed, match="the wire's `module` is a list, not a torch module"):
        seen(Listed)


# --- tokens by their vectors


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_tokens_are_told_by_their_vectors_and_soft_ones_by_none(dtype, monkeypatch):
    monkeypatch.setattr("wirecheck.wires.watch.ROWS_AT_ONCE", 100)
    one = tiny_wires.models(rigs.llama().to(dtype))[0]
    ids = torch.tensor([[5, 200, 263], [0, 5, 7]])
    with torch.no_grad():
        embeds = one.model.get_input_embeddings()(ids)
    embeds[1, 2] += 0.01
    assert handed_ids(one, embeds).tolist() == [[5, 200, 263], [0, 5, -1]]


def test_equal_rows_are_told_by_the_first():
    one = tiny_wires.models()[0]
    table = one.model.get_input_embeddings().weight.data
    table[9] = table[3]
    assert handed_ids(one, table[None, [9, 3]]).tolist() == [[3, 3]]


@pytest.mark.parametrize("rows", [50, 10_000], ids=["fewer than are read at once", "more"])
def test_tokens_are_told_as_by_comparing_every_vector_with_every_row(rows):
    one = tiny_wires.models(rigs.llama(vocabulary=rows))[0]
    table = one.model.get_input_embeddings().weight.detach()
    generator = torch.Generator().manual_seed(0)
    chosen = torch.randint(0, len(table), (12,), generator=generator)
    near = table[chosen] * (1 + 2e-6 * torch.randn(12, table.shape[1], generator=generator))
    far = table[chosen] * (1 + 4e-5 * torch.randn(12, table.shape[1], generator=generator))
    odd = torch.full((3, table.shape[1]), torch.nan)
    odd[1], odd[2] = torch.inf, 0.0
    given = torch.cat((near, odd, far, 100 * torch.randn(5, table.shape[1], generator=generator)))
    equal = given[:, None].isclose(table[None], rtol=1e-5).all(dim=-1)
    expected = torch.where(equal.any(dim=1), equal.int().argmax(dim=1), -1)
    assert handed_ids(one, given[None])[0].tolist() == expected.tolist()
    assert expected[:12].tolist() == chosen.tolist()


def test_vectors_of_which_no_number_is_told_are_no_tokens():
    one = tiny()[1][0]
    width = one.model.get_input_embeddings().weight.shape[1]
    assert handed_ids(one, torch.full((2, 3, width), torch.nan)).tolist() == [[-1] * 3] * 2
