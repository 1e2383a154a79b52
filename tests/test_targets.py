"""The tokens a loss asks for, read from its gradient alone; and how they lie to the tokens handed."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional

from wirecheck.wires.alignment import Handed, Shift, shift_of, sightings
from wirecheck.wires.calls import Call
from wirecheck.wires.targets import Asked, asked_rows, read_asked

B, S, V = 2, 5, 40
IGNORED = -100
ENDS = frozenset({39})


def logits(dtype=torch.float32, spread=2.0, vocabulary=V):
    made = spread * torch.randn(B, S, vocabulary, generator=torch.Generator().manual_seed(0))
    return made.to(dtype).requires_grad_()


def read(x_BSV, loss):
    (grad,) = torch.autograd.grad(loss, x_BSV)
    return read_asked(x_BSV.detach(), grad, torch.arange(x_BSV.shape[0] * x_BSV.shape[1]), x_BSV.shape[1])


def labels(vocabulary=V):
    made = torch.randint(vocabulary, (B, S), generator=torch.Generator().manual_seed(1))
    made[0, :2] = made[1, 3:] = IGNORED
    return made


def cross_entropy(x_BSV, labels_BS, **options):
    return functional.cross_entropy(x_BSV.float().flatten(0, 1), labels_BS.flatten(), ignore_index=IGNORED, **options)


def told(asked):
    return dict(zip(asked.at_N.tolist(), asked.token_N.tolist(), strict=True))


def expected(labels_BS):
    return {at: token for at, token in enumerate(labels_BS.flatten().tolist()) if token != IGNORED}


# --- one token asked for


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_targets_of_cross_entropy_are_read(dtype, reduction, smoothing):
    x_BSV = logits(dtype)
    asked = read(x_BSV, cross_entropy(x_BSV, labels(), reduction=reduction, label_smoothing=smoothing))
    assert told(asked) == expected(labels())


@pytest.mark.parametrize("spread", [0.0, 0.01, 8.0])
def test_logits_all_alike_and_logits_sure_of_themselves_are_read(spread):
    x_BSV = logits(spread=spread)
    assert told(read(x_BSV, cross_entropy(x_BSV, labels()))) == expected(labels())


def test_a_wide_vocabulary_in_bfloat16_is_read():
    x_BSV = logits(torch.bfloat16, vocabulary=50_000)
    wide = labels(50_000)
    assert told(read(x_BSV, cross_entropy(x_BSV, wide))) == expected(wide)


def test_a_temperature_and_a_soft_cap_of_the_wires_own_change_nothing():
    x_BSV = logits()
    assert told(read(x_BSV, cross_entropy(30 * torch.tanh(x_BSV / 0.7 / 30), labels()))) == expected(labels())


def test_losses_on_one_forward_add_up_and_rows_may_weigh_differently():
    x_BSV = logits()
    weights = torch.linspace(0.1, 3, B * S).reshape(B, S)
    each = cross_entropy(x_BSV, labels(), reduction="none").view(B, S)
    assert told(read(x_BSV, (weights * each).sum() + each[:, 2].mean())) == expected(labels())


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_the_value_of_the_loss_is_recomputed_whatever_its_mean(reduction):
    x_BSV = logits()
    loss = cross_entropy(x_BSV, labels(), reduction=reduction)
    assert read(x_BSV, loss).value == pytest.approx(float(loss.detach()), rel=1e-5)


def test_a_token_is_also_read_one_position_early():
    x_BSV = logits()
    asked = read(x_BSV, cross_entropy(x_BSV, labels(), reduction="sum"))
    logp_BSV = x_BSV.detach().log_softmax(-1)
    for at, token, early in zip(asked.at_N.tolist(), asked.token_N.tolist(), asked.early_N.tolist(), strict=True):
        row, s = divmod(at, S)
        if s == 0:
            assert math.isnan(early)
        else:
            assert early == pytest.approx(-float(logp_BSV[row, s - 1, token]), rel=1e-5)


def test_a_row_is_asked_where_any_entry_of_its_gradient_is_not_zero():
    grad_BSV = torch.zeros(2, 4, 5)
    grad_BSV[0, 1, 3], grad_BSV[1, 0, 0], grad_BSV[1, 1, 4], grad_BSV[1, 2, 2] = 1e-30, -2.0, torch.nan, -0.0
    assert asked_rows(grad_BSV).tolist() == [1, 4, 5]
    assert asked_rows(grad_BSV.bfloat16()).tolist() == [1, 4, 5]
    assert asked_rows(grad_BSV[:, :0]).tolist() == []


def test_logits_without_a_gradient_are_asked_nothing():
    x_BSV = logits()
    asked = read(x_BSV, 0 * x_BSV.sum())
    assert len(asked.at_N) == 0
    assert asked.value == 0


# --- a distribution asked for


@pytest.mark.parametrize("sure", [1.0, 4.0])
@pytest.mark.parametrize("vocabulary", [V, 20_000])
def test_a_teachers_distribution_is_no_single_token(sure, vocabulary):
    x_BSV = logits(vocabulary=vocabulary)
    teacher = sure * torch.randn(B, S, vocabulary, generator=torch.Generator().manual_seed(7))
    asked = read(x_BSV, functional.kl_div(x_BSV.log_softmax(-1), teacher.softmax(-1), reduction="sum"))
    assert asked.token_N.tolist() == [-1] * (B * S)
    assert asked.value == 0


def test_two_tokens_at_once_are_no_single_token():
    x_BSV = logits()
    asked = read(x_BSV, cross_entropy(x_BSV, labels()) + cross_entropy(x_BSV, labels().roll(1, dims=1)))
    assert -1 in asked.token_N.tolist()
    assert set(told(asked).values()) - {-1} <= set(labels().flatten().tolist())


# --- the shift


TEXT = [[-1, 5, 6, 7, 8, 39, 0, 0], [-1, 5, 9, 10, 11, 12, 13, 39]]
"""A soft token, then text; the first row ends earlier and is padded."""
MASK = [[1, 1, 1, 1, 1, 1, 0, 0], [1] * 8]


def judged(pairs, text=TEXT, mask=MASK):
    """The shift of (row, position, token) triples."""
    size = len(text[0])
    ids, at = torch.tensor(text), torch.tensor([row * size + s for row, s, _ in pairs], dtype=torch.long)
    token = torch.tensor([t for *_, t in pairs], dtype=torch.long)
    ones = torch.ones(len(pairs))
    embeds = torch.zeros(len(text), size, 1)
    call = Call("a", embeds, None, None, embeds, True, at)
    call.asked["loss"] = Asked(at, token, ones, ones, ones)
    return sightings(call, "loss", Handed(ids, torch.tensor(mask).bool(), {}), ENDS)


def by(shift, first=2, text=TEXT, mask=MASK):
    """What labels shifted so ask for on the answer, which begins at `first`."""
    return [
        (row, s - shift, text[row][s])
        for row in range(len(text))
        for s in range(first, len(text[row]))
        if mask[row][s] and s - shift >= 0
    ]


def test_labels_shifted_once_are_aligned():
    assert shift_of(judged(by(1))) is Shift.ONCE


def test_labels_shifted_twice_are_told_also_where_the_answer_follows_the_soft_token():
    assert shift_of(judged(by(2))) is Shift.TWICE
    assert shift_of(judged(by(2, first=1))) is Shift.TWICE


def test_labels_not_shifted_are_told():
    assert shift_of(judged(by(0))) is Shift.UNSHIFTED


def test_a_loss_on_masked_positions_is_padding():
    assert shift_of(judged([*by(1), (0, 5, 0), (0, 6, 0)])) is Shift.PADDING


def test_a_run_of_stop_tokens_is_padding_where_there_is_no_mask():
    text = [[-1, 5, 6, 7, 39, 39, 39, 39], TEXT[1]]
    mask = [[1] * 8] * 2
    assert shift_of(judged(by(1, text=text, mask=mask), text, mask)) is Shift.PADDING


def test_a_stop_token_asked_where_the_row_ends_is_no_padding():
    text, mask = [[-1, 5, 6, 7, 0, 0]], [[1, 1, 1, 1, 0, 0]]
    assert shift_of(judged([(0, 1, 6), (0, 2, 7), (0, 3, 39)], text, mask)) is Shift.ONCE
    assert shift_of(judged([(0, 1, 6), (0, 2, 7), (0, 3, 4)], text, mask)) is Shift.PADDING


def test_labels_on_the_prefix_are_told():
    text = [[-1, -1, -1, 5, 6, 7, 8, 39]]
    mask = [[1] * 8]
    assert shift_of(judged([(0, 0, 3), (0, 1, 3), *by(1, 4, text, mask)], text, mask)) is Shift.SOFT


def test_another_token_is_told():
    assert shift_of(judged([*by(1), (1, 1, 3)])) is Shift.OTHER


def test_tokens_past_the_end_contradict_nothing():
    assert shift_of(judged([(1, 7, 4)])) is Shift.PAST
    assert shift_of(judged([*by(1), (1, 7, 4)])) is Shift.ONCE


def test_a_text_that_repeats_itself_decides_nothing_alone():
    text, mask = [[-1, 4, 4, 4, 4, 4]], [[1] * 6]
    assert shift_of(judged([(0, 1, 4), (0, 2, 4)], text, mask)) is Shift.UNTOLD
    text = [[-1, 4, 4, 4, 4, 7]]
    assert shift_of(judged([(0, 1, 4), (0, 2, 4), (0, 4, 7)], text, mask)) is Shift.ONCE
    assert shift_of(judged([(0, 1, 4), (0, 2, 4), (0, 3, 7)], text, mask)) is Shift.TWICE


def test_text_handed_as_soft_vectors_only_tells_nothing():
    assert shift_of(judged([(0, 1, 4), (0, 2, 5)], [[-1] * 5], [[1] * 5])) is Shift.UNTOLD
    assert shift_of(()) is Shift.UNTOLD
