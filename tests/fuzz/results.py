"""Results read back from a file, shown in every form there is."""

from __future__ import annotations

from contextlib import suppress
from functools import cache
from pathlib import Path

from rich.console import Console

from tests import factories, gates
from wirecheck import baseline, cli_diff, difference
from wirecheck.cli_claims import claims_of
from wirecheck.cli_gate import read_gate_result
from wirecheck.cli_gate import shown as gate_shown
from wirecheck.cli_gate_faces import FACES as GATE_FACES
from wirecheck.cli_output import exit_code, read_result, to_json
from wirecheck.cli_reports import FACES
from wirecheck.errors import UsageError
from wirecheck.gate_records import GateResult
from wirecheck.schema import PairResult
from wirecheck.views.console import show
from wirecheck.views.pictures_result import of_result
from wirecheck.views.whereabouts import Whereabouts

NOWHERE = Whereabouts("wirecheck.toml", lambda _: None)


@cache
def _sound() -> PairResult:
    return factories.pair_result()


@cache
def _sound_gate() -> GateResult:
    return gates.gate(gates.row(gates.ran(gates.warning())))


def faces_of(path: Path) -> None:
    """Everything that is made of a result from a file. Raises UsageError."""
    result = read_result(path)
    again = to_json(result)
    assert PairResult.model_validate_json(again) == result
    for render in FACES.values():
        render(result).encode("utf-8")
    list(of_result(result))
    _on_terminal(result)
    exit_code(result)
    for other in (result, _sound()):
        with suppress(UsageError):  # it may speak of other models
            claims_of(path, other)
    cli_diff.read(path)
    for old, new in ((result, result), (result, _sound()), (_sound(), result)):
        if difference.kind_of(old) == difference.kind_of(new):
            found = difference.compare(old, new, ("old.json", "new.json"))
            for face in cli_diff.FACES.values():
                face(found).encode("utf-8")
            cli_diff.shown(found)
            to_json(found).encode("utf-8")


def gate_faces_of(path: Path) -> None:
    """Everything that is made of a gate's result from a file, also as a baseline. Raises UsageError."""
    found = read_gate_result(path)
    assert GateResult.model_validate_json(to_json(found)) == found
    for then in (None, found, _sound_gate()):
        since = None if then is None else baseline.compare(found, then, "gate.json")
        for render in GATE_FACES.values():
            render(found, NOWHERE, since).encode("utf-8")
        gate_shown(found, since)
    baseline.compare(_sound_gate(), found, "gate.json")


def _on_terminal(result: PairResult) -> None:
    terminal = Console(highlight=False, width=100)
    with terminal.capture():
        show(result, terminal)
