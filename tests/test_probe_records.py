"""What each probe says of itself, which reports print and the order of the run rests on."""

from __future__ import annotations

from pathlib import Path

from wirecheck.probe import Probe
from wirecheck.probes import MODEL_PROBES, PAIR_PROBES, SINGLE_PROBES


def _words(probe: Probe) -> str:
    lists = (",".join(names) or "-" for names in (probe.codes, probe.requires, probe.moot_after))
    return " ".join((probe.name, probe.scope, probe.needs, str(probe.level), *lists))


def test_no_probe_says_otherwise_than_before():
    """Kept beside this file and changed by hand: name, scope, needs, rung, codes, what must have run, what ends it."""
    kept = (Path(__file__).parent / "golden" / "probes.txt").read_text(encoding="utf-8").splitlines()
    assert [_words(probe) for probe in (*MODEL_PROBES, *PAIR_PROBES, *SINGLE_PROBES)] == kept
    assert all(probe.question.endswith("?") for probe in (*MODEL_PROBES, *PAIR_PROBES, *SINGLE_PROBES))
