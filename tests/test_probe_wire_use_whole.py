"""What of a long source reaches the models (WIR16), and the probe of a wire in use as a whole."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests import benches, rigs
from tests.wire_cases import TinyWire, ask
from wirecheck.probes import wire_use_rows, wiring
from wirecheck.probes.wire_use import WIRE_USE
from wirecheck.schema import Policy
from wirecheck.wires.contract import Batch
from wirecheck.wires.invariance import long_source

# --- WIR16 -------------------------------------------------------------------------------------------------------


def wanting(source_bytes: int | None) -> Any:
    """The bench of a user whose longest source is that long."""
    bench = rigs.bench()
    bench.policy = Policy(source_bytes=source_bytes)
    return bench


def test_wir16_truncated_source_is_a_note() -> None:
    output, _ = ask(wire_use_rows.source)
    assert output.severity("WIR16") == "note"
    claim = "The end of a source of 1024 bytes does not reach the models; that of 512 bytes does."
    assert output.claim("WIR16") == claim


@pytest.mark.parametrize(("source_bytes", "severity"), [(300, "note"), (512, "note"), (600, "warn"), (5000, "warn")])
def test_wir16_against_the_user_s_longest_source(source_bytes: int, severity: str) -> None:
    output, _ = ask(wire_use_rows.source, bench=wanting(source_bytes))
    assert output.severity("WIR16") == severity


def test_wir16_everything_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.tiny_wires.MOST_BYTES", 1 << 20)
    monkeypatch.setattr("wirecheck.wires.invariance._beyond", lambda *_: "")
    output, _ = ask(wire_use_rows.source, bench=wanting(8192))
    assert output.severity("WIR16") == "ok"
    assert output.claim("WIR16") == "The end of a source of 8192 bytes, the longest tried, reaches the models."


def test_wir16_nothing_longer_than_the_positions_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.tiny_wires.MOST_BYTES", 1 << 20)
    output, _ = ask(wire_use_rows.source, bench=wanting(4000))
    assert output.severity("WIR16") == "warn"
    assert (
        "is not shown; that of 1024 bytes does; 2048 bytes are more than the 2048 positions of A hold"
        in output.claim("WIR16")
    )


def test_wir16_a_wire_that_fails_on_long_sources() -> None:
    class Overruns(TinyWire):
        def prefix(self, batch: Batch) -> dict[str, Tensor]:
            if max(len(source.encode()) for source in batch.sources) > 300:
                raise IndexError("sinusoid of 300 positions")
            return super().prefix(batch)

    output, _ = ask(wire_use_rows.source, Overruns, wanting(400))
    assert output.severity("WIR16") == "warn"
    assert "at 400 bytes the step fails" in output.claim("WIR16")


def test_wir16_lengths_are_bytes() -> None:
    for num_bytes in (256, 257, 1000):
        assert len(long_source(num_bytes, "Was it so?").encode()) == num_bytes


# --- the whole probe ---------------------------------------------------------------------------------------------


def on_bench(monkeypatch: pytest.MonkeyPatch, kind: Any) -> Any:
    monkeypatch.setattr(wiring, "factory", lambda _bench: kind)
    return rigs.bench()


def test_the_probe_says_something_of_each_code(monkeypatch: pytest.MonkeyPatch) -> None:
    output = benches.run(WIRE_USE, on_bench(monkeypatch, TinyWire))
    assert output.fired == {"WIR16"}
    assert {finding.code for finding in output.findings} == set(WIRE_USE.codes) - {"WIR02"}


def test_the_probe_leaves_the_models_as_they_were(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = on_bench(monkeypatch, TinyWire)
    before = [p.clone() for p in bench.a.twin.model.parameters()]
    benches.run(WIRE_USE, bench)
    after = list(bench.a.twin.model.parameters())
    assert all(torch.equal(one, two) for one, two in zip(before, after, strict=True))
    assert all(p.grad is None and not p.requires_grad for p in after)


def test_a_wire_that_is_another_at_each_call_is_not_accused(monkeypatch: pytest.MonkeyPatch) -> None:
    class Restless(TinyWire):
        calls = 0

        def prefix(self, batch: Batch) -> dict[str, Tensor]:
            Restless.calls += 1
            return {side: x * (1 + 0.1 * (Restless.calls % 7)) for side, x in super().prefix(batch).items()}

    output, reason = benches.run_short(WIRE_USE, on_bench(monkeypatch, Restless))
    assert output.fired <= {"WIR05"}
    assert {"WIR14", "WIR15"} <= {finding.code for finding in output.findings}
    for what in ("source reaches", "padding and batching", "generation", "saved wire"):
        assert what in reason


def test_dropout_does_not_make_a_wire_restless(monkeypatch: pytest.MonkeyPatch) -> None:
    class Dropping(TinyWire):
        def __init__(self, *args: Any) -> None:
            super().__init__(*args)
            self.net.embed = nn.Sequential(self.net.embed, nn.Dropout(0.5))

    output = benches.run(WIRE_USE, on_bench(monkeypatch, Dropping))
    assert output.fired == {"WIR16"}


def test_wir01_a_wire_that_cannot_take_a_single_row(monkeypatch: pytest.MonkeyPatch) -> None:
    class TwoAtLeast(TinyWire):
        def loss(self, batch: Batch) -> Any:
            if len(batch.sources) == 1:
                raise ValueError("batch statistics of one row")
            return super().loss(batch)

    output = benches.run(WIRE_USE, on_bench(monkeypatch, TwoAtLeast))
    assert output.severity("WIR01") == "block"
    assert "batch statistics of one row" in str(output.of("WIR01")[0].evidence[0].observed)


def test_wir01_a_factory_that_raises(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> Any:
        raise RuntimeError("no such layer")

    output = benches.run(WIRE_USE, on_bench(monkeypatch, broken))
    assert output.severity("WIR01") == "block"


def test_a_wire_of_another_schedule_is_judged_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    class Scheduled(TinyWire):
        def backward(self, batch: Batch) -> dict[str, Tensor]:
            total = sum(TinyWire.loss(self, batch).values())
            (total / 4).backward()
            return {"step": total.detach() / 4}

    output = benches.run(WIRE_USE, on_bench(monkeypatch, Scheduled))
    assert output.fired == {"WIR16"}
