"""One check of a wire, planted or sound, as the tests of the wire's probe read it."""

from __future__ import annotations

from typing import Any

from tests import rigs, tiny_wires
from tests.tiny_wires import TinyWire
from wirecheck.probe import Probe
from wirecheck.probe_run import run_one
from wirecheck.probes import wiring
from wirecheck.probes.wire import WIRE_TWIN, check_wire
from wirecheck.probes.wiring import Ground
from wirecheck.schema import Finding, Level, ProbeRun, Severity, TrainSpec, WireSpec

GROUND = Ground(Level.SIMULATED, "twins", "planted step, seed 0")

Found = dict[str, list[Finding]]


def findings(
    kind: type[TinyWire] = TinyWire, pair: Any = None, train: TrainSpec | None = None, ground: Ground = GROUND
) -> Found:
    """Code -> findings of one check of a wire of that kind, in their order."""
    pair = pair or tiny_wires.models()
    found: Found = {}
    with wiring.lent(pair):
        wire = kind(*pair, tiny_wires.settings())
        for item in check_wire(rigs.bench(train=train), wire, pair, ground):
            assert isinstance(item, Finding)
            found.setdefault(item.code, []).append(item)
    return found


def own(kind: type[TinyWire], probe: Probe = WIRE_TWIN, **options: Any) -> ProbeRun:
    """The probe's run on the user's own wire of that kind."""
    spec = WireSpec(name=f"{kind.__module__}:{kind.__qualname__}", latent_length=4, latent_width=64)
    return run_one(probe, rigs.bench(spec, **options))


def the(found: Found, code: str) -> Finding:
    """The only finding of that code."""
    (finding,) = found[code]
    return finding


def fired(found: Found) -> set[str]:
    """Codes with a finding that is not ok."""
    return {code for code, items in found.items() if any(f.severity is not Severity.OK for f in items)}


def observed(finding: Finding) -> list[Any]:
    """What was seen, evidence by evidence."""
    return [evidence.observed for evidence in finding.evidence]
