"""WIR06: the loss the wire trains on is the next-token loss of the answer, shifted once."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from tests import rigs
from tests.test_probe_wire import GROUND, findings, fired, forward
from wirecheck.errors import CannotRun
from wirecheck.probes.wire import check_wire
from wirecheck.schema import Level, Severity
from wirecheck.wires.checks import Alignment, NextTokenLoss
from wirecheck.wires.step import encode, joint_step, soft_tokens


def relabelling(relabel):
    def step(rig):
        z_BMZ = encode(rig)
        losses = {side.name: forward(side, soft_tokens(rig, side, z_BMZ), relabel) for side in rig.sides}
        sum(losses.values()).backward()
        return losses

    return step


def shifted_by_hand(labels):
    return torch.cat((labels[:, 1:], labels.new_full((labels.shape[0], 1), -100)), dim=1)


def test_wir06_labels_shifted_twice():
    found = findings(step=relabelling(shifted_by_hand))
    assert fired(found) == {"WIR06"}
    assert [f.severity for f in found["WIR06"]] == [Severity.BLOCK, Severity.BLOCK]
    assert found["WIR06"][0].claim.endswith("is that of the token after the next: its labels are shifted twice.")


def test_wir06_loss_on_the_padding():
    def padding_labelled(labels):
        return torch.where((labels == -100).cumsum(dim=1) > 20, 0, labels)

    assert fired(findings(step=relabelling(padding_labelled))) == {"WIR06"}


def test_wir06_eos_left_out():
    def eos_left_out(labels):
        return labels.masked_fill(labels == rigs.EOS, -100)

    found = findings(step=relabelling(eos_left_out))
    assert found["WIR06"][0].claim.endswith("is not the next-token loss of its 45 answer tokens.")


def until_skipped(rig, ground):
    """The WIR06 findings of a check that ends as skipped, and its reason."""
    found = []
    with pytest.raises(CannotRun) as skip:
        found += check_wire(rigs.bench(), rig, joint_step, ground)
    assert {item.code for item in found} >= {"WIR02", "WIR07", "WIR11"}, "every other check was made"
    return [item for item in found if item.code == "WIR06"], skip.value.reason


def test_wir06_cannot_be_told_where_all_positions_are_alike():
    model = rigs.llama()
    model.lm_head.weight.zero_()
    rig = rigs.rig(model_a=model)
    (flat, sound), reason = until_skipped(rig, GROUND)
    assert (flat.severity, sound.severity) == (Severity.NOTE, Severity.OK)
    assert reason == "whether the labels are shifted once or twice cannot be told on these models"
    assert flat.claim == "Whether A's labels are aligned cannot be told: shifted once or twice, the loss is the same."
    real = replace(GROUND, level=Level.EXECUTED)
    (flat, _), _ = until_skipped(rig, real)
    assert flat.severity is Severity.WARN


@pytest.mark.parametrize(
    ("loss", "twice", "dtype", "alignment"),
    [
        (5.0, 5.5, torch.float32, Alignment.ONCE),
        (5.00004, 5.5, torch.float32, Alignment.ONCE),
        (5.001, 5.5, torch.float32, Alignment.OTHER),
        (5.5, 5.5, torch.float32, Alignment.TWICE),
        (5.0, 5.00005, torch.float32, Alignment.UNTOLD),
        (5.03, 5.5, torch.bfloat16, Alignment.ONCE),
        (5.03, 5.035, torch.bfloat16, Alignment.UNTOLD),
        (5.04, 5.04, torch.bfloat16, Alignment.TWICE),
        (5.06, 5.5, torch.bfloat16, Alignment.OTHER),
        (5.008, 5.5, torch.float16, Alignment.ONCE),
        (5.02, 5.5, torch.float16, Alignment.OTHER),
    ],
)
def test_wir06_is_told_by_what_rounding_allows(loss, twice, dtype, alignment):
    assert NextTokenLoss(5.0, twice).alignment(loss, dtype) is alignment


def test_wir06_not_on_a_sound_wire():
    for finding in findings(step=relabelling(lambda labels: labels))["WIR06"]:
        assert finding.severity is Severity.OK
        loss, twice = finding.evidence
        assert loss.observed == loss.expected != twice.observed
