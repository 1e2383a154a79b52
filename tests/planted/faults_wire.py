"""Faults of the wire (WIR) and of what is asked of a pair."""

from __future__ import annotations

from tests.planted.cases import Plant
from tests.planted.faults_values import shuffled_tokenizer
from wirecheck.schema import Level, Severity

_PAIR = {"base": "mistral", "beside": "qwen3", "depth": Level.SIMULATED}


def own(code: str, what: str, wire: str, severity: str = "block", **more: object) -> Plant:
    """A wire of the user's own, between two small models."""
    module = "tests.planted.wires:" if ":" not in wire else ""
    return Plant(
        **(
            _PAIR
            | {"code": code, "what": what, "severity": Severity(severity)}
            | {"wire": {"name": module + wire}}
            | more
        )
    )  # type: ignore[arg-type]


def shipped(code: str, what: str, severity: str = "block", depth: Level = Level.INSPECTED, **wire: object) -> Plant:
    """A shipped wire, asked for with sizes that do not fit."""
    return Plant(**(_PAIR | {"code": code, "what": what, "severity": Severity(severity), "depth": depth, "wire": wire}))  # type: ignore[arg-type]


_USE, _STATE = "tests.test_probe_wire_use", "tests.test_probe_wire_use_state"
_LABELS, _ANSWERS, _WORDS = (
    "tests.test_probe_wire_labels",
    "tests.test_probe_wire_answers",
    "tests.test_probe_wire_use_words",
)

WIRE = (
    own("WIR01", "B's soft tokens are three dimensions too narrow", "WrongWidth"),
    own("WIR01", "the loss divides by nothing", "tests.bad_wires:raising"),
    own(
        "WIR01",
        "soft tokens stay float32 beside bfloat16 words",
        "tests.test_probe_wire:Island",
        train={"dtype": "bfloat16"},
    ),
    own("WIR02", "B's adapter is made and never used", "OneSide"),
    own("WIR02", "soft tokens are detached from what is trained", f"{_STATE}:Detached"),
    own("WIR03", "the loss adds nothing times log(0)", "LogOfZero"),
    own("WIR03", "the root of a zero: a sound loss with a gradient of NaN", "InfiniteGradient"),
    own("WIR04", "the models are not frozen", "tests.bad_wires:Thawed"),
    own("WIR05", "the gradient has the wrong sign", f"{_STATE}:Ascends", "warn"),
    own("WIR06", "labels are shifted by the wire and by the model", "tests.bad_wires:ShiftedTwice"),
    own("WIR06", "labels come one position late", "Ahead"),
    own("WIR06", "the loss is taken by hand and never shifted", f"{_LABELS}:Never"),
    own("WIR06", "padding is scored as text", f"{_USE}:ScoresPadding"),
    own("WIR07", "soft tokens are a thousand times as large as words", "Thousandfold", "note"),
    own(
        "WIR07",
        "on the real weights soft tokens are a thousand times as large as words",
        "Thousandfold",
        "warn",
        base="llama",
        beside="qwen",
        depth=Level.EXECUTED,
    ),
    own("WIR08", "the encoder reads its padding as text", f"{_USE}:ReadsPadding", "warn"),
    own("WIR09", "a row is centred on its neighbours", "AcrossRows", "warn"),
    own("WIR09", "rows are summed where a mean was meant", "SumOfRows", "warn"),
    own("WIR10", "what is trained is not in the module", f"{_STATE}:Forgetful"),
    own("WIR11", "the encoder is given the same text for every source", "tests.bad_wires:Deaf"),
    own("WIR11", "the encoder reads how long its source is, and no more", "FirstByte"),
    own("WIR12", "each cached step is fed token 0", "OldCache", "warn"),
    own("WIR12", "generation leaves the anchor out", "tests.test_probe_wire_use_generation:OtherAnchor", "warn"),
    own("WIR14", "the anchor has no BOS where the model has one", "NoBos", "warn"),
    own("WIR14", "two BOS before the anchor", f"{_WORDS}:TwoBos", "warn"),
    own("WIR14", "the anchor ends the turn before the answer", "EndInAnchor", "warn"),
    own(
        "WIR15",
        "the anchor ends in a blank, which belongs to the answer's first token",
        f"{_WORDS}:TrailingSpace",
        "warn",
        base="llama",
        beside="qwen",
    ),
    own("WIR17", "answers in the other tokenizer's ids", "OfTheOther", beside="mistral", change=shuffled_tokenizer),
    own("WIR17", "rows of sources and of answers in another order", f"{_ANSWERS}:Swapped"),
    own("WIR17", "no answer ends in a stop token", "NoStop", "note", train={"answer": 64}),
    own(
        "WIR18",
        "the wire switches checkpointing off again",
        "Uncheckpointed",
        "warn",
        train={"grad_checkpointing": True},
    ),
    own(
        "WIR19",
        "the source is given to A in B's ids",
        "tests.test_readings:Confused",
        beside="mistral",
        change=shuffled_tokenizer,
    ),
    shipped("WIR13", "a latent width that the encoder's heads do not divide", latent_width=65),
    shipped("WIR13", "states of layer 40 of a model with 2", name="resampler", source_layer=40),
    own("WIR16", "the encoder reads eight bytes of its source", "EightBytes", "note"),
)
