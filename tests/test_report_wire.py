"""The report's words on the wire: the shipped ones, by their parts; one's own, as what it is."""

from __future__ import annotations

import pytest

from tests.factories import pair_result
from wirecheck.schema import PairResult, WireSpec
from wirecheck.views import wire
from wirecheck.views.markdown import render


def with_wire(**asked: object) -> PairResult:
    return PairResult.model_validate(dict(pair_result()) | {"wire": WireSpec.model_validate(asked)})


@pytest.mark.parametrize(
    ("asked", "said", "parts"),
    [
        ({}, "sources of at most 512 bytes", ["encoder", "adapter A", "adapter B"]),
        ({"private_length": 4}, "32 shared and 4 private", ["encoder", "adapter A", "adapter B"]),
        ({"name": "sentence-query"}, "a frozen sentence encoder", ["encoder", "adapter A", "adapter B"]),
        ({"name": "resampler", "source_layer": 7}, "hidden states at layer 7", ["adapter A", "adapter B"]),
        ({"name": "mine:factory"}, "your own", ["own wire"]),
    ],
)
def test_the_wire_is_described_by_its_kind(asked, said, parts):
    result = with_wire(**asked)
    assert said in wire.sentence(result)
    assert [part.name for part in wire.parts(result)] == parts
    text = render(result)
    assert said in text
    assert all(f"| {name} |" in text for name in parts)


def test_private_slots_are_in_the_sizes():
    made = {part.name: part.made for part in wire.parts(with_wire(private_length=4))}
    assert made["encoder"] == "36 x 256"
    assert made["adapter A"].startswith("36 x ")


def test_what_no_probe_counted_is_said():
    assert {part.parameters for part in wire.parts(with_wire(name="mine:factory"))} == {wire.NOT_ESTABLISHED}
