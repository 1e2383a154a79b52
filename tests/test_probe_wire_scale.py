"""WIR07: soft tokens as large as tokens. WIR18: checkpointing that was asked for and is there."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from tests import rigs
from tests.tiny_wires import TinyWire
from tests.wire_checks import GROUND, findings, fired, observed, the
from wirecheck import zoo
from wirecheck.probe_run import run_one
from wirecheck.probes.wire import WIRE_TWIN
from wirecheck.schema import Level, Severity, TrainSpec

REAL = replace(GROUND, level=Level.EXECUTED, models="real weights")

# --- WIR07


class Uncalibrated(TinyWire):
    gain = 100.0

    def prefix(self, batch):
        made = super().prefix(batch)
        return made | {"a": made["a"] * self.gain}


class Fainter(Uncalibrated):
    gain = 0.01


class Fifth(Uncalibrated):
    gain = 1.2


@pytest.mark.parametrize(("kind", "words"), [(Uncalibrated, "1e+02"), (Fainter, "0.01")])
def test_wir07_uncalibrated_prefix(kind, words):
    found = findings(kind, ground=REAL)
    assert fired(found) == {"WIR07"}
    off, sound = found["WIR07"]
    assert off.severity is Severity.WARN
    assert off.claim == f"On the real weights, the soft tokens reach A at {words} times the scale of its embeddings."
    assert sound.severity is Severity.OK


class OfPublishedTables(TinyWire):
    """Its soft tokens are as strong as most published tables, and not as the twins' random ones."""

    def __init__(self, *given):
        super().__init__(*given)
        self.rms = {side: torch.tensor(0.003) for side in self.rms}


def test_wir07_off_the_scale_of_twins_is_a_note_that_says_nothing_of_the_models():
    found = findings(OfPublishedTables)
    assert [finding.severity for finding in found["WIR07"]] == [Severity.NOTE] * 2
    assert fired(found) == {"WIR07"}


def test_wir07_not_on_a_wire_a_fifth_off():
    for finding in findings(Fifth)["WIR07"]:
        assert finding.severity is Severity.OK
    assert observed(findings(Fifth)["WIR07"][0]) == [pytest.approx(1.2, rel=0.01)]


class Stale(TinyWire):
    """The table changes after the wire was fitted to it."""

    def __init__(self, *given):
        super().__init__(*given)
        self.models["b"].model.get_input_embeddings().weight.data.mul_(10)


def test_wir07_table_that_changed_after_the_wire_was_fitted():
    off = findings(Stale)["WIR07"][1]
    assert off.claim == "On the twins, the soft tokens reach B at 0.1 times the scale of its embeddings."


class NoTable(Uncalibrated):
    def __init__(self, *given):
        super().__init__(*given)
        self.models["a"].model.get_input_embeddings().weight.data.zero_()


def test_wir07_table_of_zeros():
    off = findings(NoTable)["WIR07"][0]
    assert (off.severity, observed(off)) == (Severity.NOTE, ["inf"])


class TextOnly(TinyWire):
    """Source and answer as tokens, and a trained loss weight: no soft token at all."""

    def __init__(self, *given):
        super().__init__(*given)
        self.net = nn.Linear(1, 1)

    def loss(self, batch):
        made = {}
        for side, one in self.models.items():
            width = one.model.get_input_embeddings().weight.shape[1]
            inputs = self.sequence(side, batch, torch.zeros(len(batch.sources), 0, width))
            inputs["inputs_embeds"] = inputs["inputs_embeds"] + 0 * self.net(torch.ones(1))
            made[side] = self.side_loss(side, inputs) * self.net(torch.ones(1)).exp()
        return {side: loss.sum() for side, loss in made.items()}


def test_wir07_without_soft_tokens_has_nothing_to_scale():
    found = findings(TextOnly)
    assert [f.severity for f in found["WIR07"]] == [Severity.OK] * 2
    assert found["WIR07"][0].claim.startswith("A is handed the embeddings of tokens only")
    assert fired(found) == set()


def test_wir07_before_and_after_calibration_of_a_shipped_wire():
    for finding in (f for f in run_one(WIRE_TWIN, rigs.bench()).findings if f.code == "WIR07"):
        assert finding.severity is Severity.OK
        before, after = observed(finding)
        assert before == pytest.approx(50, rel=0.05)
        assert after == pytest.approx(1, rel=1e-3)


# --- WIR18


class Checkpointed(TinyWire):
    mode = True

    def loss(self, batch):
        for one in self.models.values():
            with zoo.quiet():
                one.model.gradient_checkpointing_enable({"use_reentrant": False})
            one.model.train(self.mode)
        return super().loss(batch)


class InEvalMode(Checkpointed):
    mode = False


class AdapterOnly(TinyWire):
    def prefix(self, batch):
        prefix = super().prefix
        return dict(zip("ab", checkpoint(lambda: tuple(prefix(batch).values()), use_reentrant=False), strict=True))


ASKED = TrainSpec(dtype="float32", grad_checkpointing=True)


@pytest.mark.parametrize("kind", [TinyWire, InEvalMode, AdapterOnly])
def test_wir18_no_layer_is_run_again(kind):
    found = findings(kind, train=ASKED)
    assert fired(found) == {"WIR18"}
    finding = the(found, "WIR18")
    assert finding.severity is Severity.WARN
    assert finding.claim.endswith("in backward no layer of A and B is run again.")
    assert observed(finding) == [0, 0]


def test_wir18_not_where_layers_are_run_again():
    finding = the(findings(Checkpointed, train=ASKED), "WIR18")
    assert finding.severity is Severity.OK
    assert observed(finding) == [2, 2]


def test_wir18_is_not_asked_where_checkpointing_is_not():
    assert "WIR18" not in findings()
