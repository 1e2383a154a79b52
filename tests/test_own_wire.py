"""The user's own wire by name: found or told what is missing, run apart, every fault of it with its own ending."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tests import rigs
from tests.factories import seen
from wirecheck import isolation, probe_run
from wirecheck.errors import CannotRun, UsageError
from wirecheck.probe import PairBench, Yielded
from wirecheck.probes import PAIR_PROBES
from wirecheck.probes.wire import WIRE_TWIN
from wirecheck.schema import Crashed, Finding, Policy, Ran, Severity, Skipped, TrainSpec, WireSpec
from wirecheck.wires.own import check_form, load_factory

ROOT = Path(__file__).parents[1]
SHALLOW = ("--depth", "simulated")
OWN = WireSpec(name="package.module:factory")
OF_WIRES = [probe for probe in PAIR_PROBES if probe.level == "simulated" and probe.asked(OWN, Policy())]


def bench(
    name: str, *, dtype: str = "float32", seconds: int = 60, grad_checkpointing: bool = False, **options: Any
) -> PairBench:
    """The tiny models with that wire between them."""
    if torch.accelerator.is_available():
        pytest.skip("the tiny models reach the wire's process by a fork, and here it is a fresh interpreter")
    spec = rigs.SPEC.model_copy(update={"name": name, "options": tuple(options.items())})
    made = rigs.bench(spec, TrainSpec(dtype=dtype, grad_checkpointing=grad_checkpointing))
    made.policy = Policy(wire_seconds=seconds)
    return made


def fired(name: str, **asked: Any) -> dict[str, Finding]:
    """The blocks and warnings of every probe that runs the wire on twins, by code."""
    runs = [probe_run.run_one(probe, bench(name, **asked)) for probe in OF_WIRES]
    assert not [run for run in runs if isinstance(run, Crashed)]
    bad = (Severity.BLOCK, Severity.WARN)
    return {finding.code: finding for run in runs for finding in run.findings if finding.severity in bad}


def crash(name: str, **asked: Any) -> Crashed:
    """The run of the first probe, which crashed."""
    run = probe_run.run_one(WIRE_TWIN, bench(name, **asked))
    assert isinstance(run, Crashed), run
    return run


# --- sound wires -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "grad_checkpointing"),
    [("tests.bad_wires:SOUND", False), ("examples.own_wire:factory", False), ("examples.own_wire:factory", True)],
)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_sound_wire_passes_every_check(name, grad_checkpointing, dtype, capfd):
    assert fired(name, dtype=dtype, grad_checkpointing=grad_checkpointing) == {}
    assert capfd.readouterr() == ("", "")


def test_the_example_of_the_page_is_complete_and_passes_every_check(tmp_path, monkeypatch):
    page = (ROOT / "docs" / "own-wire.md").read_text(encoding="utf-8")
    (tmp_path / "my_wire.py").write_text(page.split("```python\n")[1].split("```")[0], encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    assert fired("my_wire:factory", dtype="bfloat16") == {}


def test_the_page_names_every_check_of_a_wire_and_no_other():
    page = (ROOT / "docs" / "own-wire.md").read_text(encoding="utf-8")
    listed = set(re.findall(r"^\| (WIR\d\d) \|", page, flags=re.MULTILINE))
    assert listed == {code for probe in OF_WIRES for code in probe.codes}


def test_the_outside_package_knows_nothing_of_wirecheck():
    files = [*(ROOT / "examples" / "outside").glob("*.py")]
    assert len(files) > 2
    assert not [file for file in files if "wirecheck" in file.read_text(encoding="utf-8")]


def test_the_wire_of_the_bench_is_run_apart_and_the_parent_never_imports_it(tmp_path, monkeypatch):
    (tmp_path / "apart.py").write_text("import os\nfrom tests.bad_wires import SOUND as factory\nprint(os.getpid())\n")
    monkeypatch.chdir(tmp_path)
    assert isinstance(probe_run.run_one(WIRE_TWIN, bench("apart:factory")), Ran)
    assert "apart" not in sys.modules


# --- faults ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "code", "words"),
    [
        ("ShiftedTwice", "WIR06", "after the next"),
        ("Thawed", "WIR04", "ask for or hold a gradient"),
        ("Deaf", "WIR11", "Two different sources give the same"),
        ("Forgetful", "WIR10", "does not make it the same wire"),
        ("Stray", "WIR10", "in no module"),
    ],
)
def test_a_planted_fault_is_blocked_by_its_code(name, code, words):
    found = fired(f"tests.bad_wires:{name}")[code]
    assert found.severity is Severity.BLOCK
    assert words in found.claim
    assert found.evidence


def test_wir01_dtypes_that_are_mixed_show_in_the_dtype_of_the_run():
    assert fired("tests.bad_wires:MixedDtypes") == {}
    found = fired("tests.bad_wires:MixedDtypes", dtype="bfloat16")["WIR01"]
    assert found.severity is Severity.BLOCK
    assert "dtype" in str(found.evidence[0].observed)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("raising", "ZeroDivisionError: no tokens in this row"),
        ("descending", "RecursionError"),
        ("refusing", "LookupError: no checkpoint of the encoder"),
        ("nothing", "returned a NoneType, which is no wire: it has no `module` and it has no method `loss`"),
        ("dictionary", "returned a dict, which is no wire"),
        ("hollow", "its `module` is of type list, not a torch.nn.Module"),
        ("alone", "TypeError"),
        ("Wordy", "loss is a str, not a tensor"),
    ],
)
def test_wir01_a_wire_that_raises_or_returns_garbage(name, words, capfd):
    run = probe_run.run_one(WIRE_TWIN, bench(f"tests.bad_wires:{name}"))
    assert isinstance(run, Ran)
    (found,) = [finding for finding in run.findings if finding.severity is Severity.BLOCK]
    assert (found.code, words in str(found.evidence[0].observed)) == ("WIR01", True), found
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("name", "kind", "message", "story"),
    [
        ("exiting", "SystemExit", "the wire called sys.exit(3)", "in loss"),
        ("interrupting", "KeyboardInterrupt", "KeyboardInterrupt", "in _interrupt"),
        ("leaving", "ProcessExited", "exit status 7", ""),
        ("killed", "ProcessKilled", "SIGKILL", ""),
        ("broken", "ProcessKilled", "SIGSEGV", "in loss"),
        ("hanging", "TimeoutError", "1 s", "in loss"),
        ("drowning", "TimeoutError", "1 s", "in _print_for_ever"),
    ],
)
def test_a_wire_that_does_not_come_back_is_a_crash_with_its_own_traceback(name, kind, message, story, capfd):
    seconds = 1 if kind == "TimeoutError" else 60
    error = crash(f"tests.bad_wires:{name}", seconds=seconds).error
    assert (error.type, message in error.message) == (kind, True), error
    assert story in error.traceback
    assert len(error.traceback) < 20_000
    assert capfd.readouterr() == ("", "")


def test_what_a_wire_prints_is_not_seen_and_no_fault(capfd):
    assert isinstance(probe_run.run_one(WIRE_TWIN, bench("tests.bad_wires:chattering")), Ran)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("text", "kind", "story"),
    [
        ("raise OSError('no licence file')", "OSError", "no licence file"),
        ("import sys\nprint('bye')\nsys.exit(9)", "SystemExit", "bye"),
        ("import time\ntime.sleep(600)", "TimeoutError", "fault.py"),
        ("import surely_not_installed", "ModuleNotFoundError", "surely_not_installed"),
        ("def factory(:", "SyntaxError", "fault.py"),
    ],
)
def test_a_module_that_cannot_be_imported_is_a_crash_with_its_own_traceback(text, kind, story, tmp_path, monkeypatch):
    (tmp_path / "fault.py").write_text(f"{text}\n")
    monkeypatch.chdir(tmp_path)
    error = crash("fault:factory", seconds=1 if kind == "TimeoutError" else 60).error
    assert (error.type, story in error.traceback) == (kind, True), error


def test_findings_made_before_the_end_are_kept():
    def first(bench: PairBench) -> Iterator[Yielded]:
        yield bench.ok("WIR01", "It is so.", seen("here", 1))
        sys.exit(1)

    run = probe_run.run_one(replace(WIRE_TWIN, run=first), bench("tests.bad_wires:SOUND"))
    assert isinstance(run, Crashed)
    assert [finding.claim for finding in run.findings] == ["It is so."]


def test_a_name_that_is_not_there_is_a_skip_with_its_reason():
    run = probe_run.run_one(WIRE_TWIN, bench("tests.bad_wires:NUMBER"))
    assert isinstance(run, Skipped)
    assert "NUMBER is of type int" in run.reason


def test_ctrl_c_passes_through_the_runner(monkeypatch):
    def interrupt(*_: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(isolation, "_listen", interrupt)
    with pytest.raises(KeyboardInterrupt):
        probe_run.run_one(WIRE_TWIN, bench("tests.bad_wires:SOUND"))


def test_a_probe_that_reads_files_alone_does_not_run_the_wire(monkeypatch):
    monkeypatch.setattr(probe_run, "isolated", None)
    for probe in PAIR_PROBES:
        if probe.level.rank < WIRE_TWIN.level.rank:
            probe_run._yielded(probe, bench("tests.bad_wires:exiting"))


# --- names -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("tests.bad_wirse:SOUND", "no module bad_wirse in tests; did you mean bad_wires?"),
        ("tests.bad_wires:SOUNDD", "tests.bad_wires has no SOUNDD; did you mean SOUND?"),
        ("tests.bad_wires:TinyWire.los", "has no los; did you mean loss?"),
        ("tests.bad_wires:NUMBER", "NUMBER is of type int: name a function (a, b, settings)"),
        ("surely_not_here.x:factory", "no module surely_not_here in the current folder or in this Python"),
    ],
)
def test_what_is_missing_is_told_with_the_nearest_name(name, said):
    with pytest.raises(CannotRun) as why:
        load_factory(name)
    assert said in why.value.reason
    assert "\n" not in why.value.reason


@pytest.mark.parametrize(
    ("name", "said", "next_step"),
    [
        ("examples/own_wire.py:factory", "named with dots", "--wire examples.own_wire:factory"),
        ("./own_wire.py", "named with dots", "--wire own_wire:factory"),
        ("examples.own_wire:", "not of the form", "--wire examples.own_wire:my_factory"),
        ("examples.own_wire", "not of the form", "--wire examples.own_wire:my_factory"),
        (":factory", "not of the form", "my_package.my_module:my_factory"),
        ("a:b:c", "not of the form", "--wire a:my_factory"),
        ("a b:c", "not of the form", "my_package.my_module:my_factory"),
        ("surely_not_here.x:factory", "no module surely_not_here", "in the folder that holds surely_not_here"),
    ],
)
def test_a_name_that_cannot_be_is_usage(name, said, next_step):
    with pytest.raises(UsageError) as why:
        check_form(name)
    assert said in why.value.message
    assert next_step in why.value.next_step


def test_checking_the_form_runs_nothing_and_leaves_the_path_alone(tmp_path, monkeypatch):
    (tmp_path / "boom").mkdir()
    (tmp_path / "boom" / "__init__.py").write_text("raise SystemExit\n")
    monkeypatch.chdir(tmp_path)
    before = sys.path[:]
    check_form("boom.inner:factory")
    assert sys.path == before
    assert "boom" not in sys.modules


# --- the command line --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[wire]\nlatent_lenght = 3\n", ("wire.latent_lenght: no such key", "did you mean latent_length?")),
        ("[policy]\nwire_second = 3\n", ("policy.wire_second: no such key", "did you mean wire_seconds?")),
        ("[policy]\nzzz = 3\n", ("policy.zzz: no such key", "[policy] knows required, depth")),
        ("[wires]\n", ("wires: no such table", "did you mean wire?")),
        ('[wire]\nname = "x.y:z"\n[wire.options]\nsizes = [1, 2]\n', ("wire.options", "--help")),
        ("[wire.options]\nx = 1\n", ("wire.options (x): the shipped wire bytes has none", "leave [wire.options] out")),
        ('[wire]\nname = "byte"\n', ("ships no wire of that name", "did you mean bytes? use one of bytes")),
        ("[policy]\nwire_seconds = 0\n", ("policy.wire_seconds", "--help")),
        ('[policy]\ndevice = "tpu"\n', ("policy.device", "--help")),
    ],
)
def test_a_wrong_file_is_told_with_the_nearest_name(run, llama, tmp_path, text, told):
    (tmp_path / "w.toml").write_text(text)
    code, out, err = run("model", llama, "--config", tmp_path / "w.toml")
    assert (code, out) == (2, "")
    assert all(words in err for words in told)


def test_an_unknown_wire_names_the_shipped_ones_and_the_form_of_an_own_one(run, llama):
    code, _, err = run("model", llama, "--wire", "teleport")
    assert code == 2
    assert "bytes" in err
    assert "package.module:factory" in err


def test_options_and_limits_of_the_file_reach_the_request(run, llama, tmp_path):
    (tmp_path / "w.toml").write_text(
        '[wire]\nname = "examples.own_wire:factory"\n[wire.options]\nrate = 0.5\nshift_labels = true\nkind = "x"\n'
        '[policy]\nwire_seconds = 7\nsource_bytes = 900\ndevice = "cpu"\n'
    )
    deep = ("--depth", "inspected", "--require", "inspected")
    _, out, _ = run("model", llama, "--config", tmp_path / "w.toml", "--json", "-", *deep)
    result = json.loads(out)
    assert dict(result["wire"]["options"]) == {"rate": 0.5, "shift_labels": True, "kind": "x"}
    assert [result["policy"][key] for key in ("wire_seconds", "source_bytes", "device")] == [7, 900, "cpu"]


def test_the_example_is_compatible_end_to_end_and_its_double_shifted_variant_is_blocked(run, llama, qwen):
    code, out, _ = run("pair", llama, qwen, "--wire", "examples.own_wire:factory", "--json", "-")
    assert (code, json.loads(out)["verdict"]["outcome"]) == (0, "compatible")
    code, out, _ = run("pair", llama, qwen, "--config", "examples/double_shifted.toml", "--json", "-", *SHALLOW)
    runs = json.loads(out)["runs"]
    blocks = {finding["code"] for one in runs for finding in one["findings"] if finding["severity"] == "block"}
    assert (code, blocks) == (1, {"WIR06"})


def test_where_an_accelerator_is_visible_the_models_are_made_again_in_a_fresh_interpreter(
    run, llama, qwen, monkeypatch
):
    monkeypatch.setattr(isolation, "_sees_accelerator", lambda: True)
    monkeypatch.setattr(isolation, "_fork", None)
    words = ("--wire", "examples.own_wire:factory", "--json", "-", *SHALLOW)
    code, out, _ = run("pair", llama, qwen, *words)
    assert (code, json.loads(out)["verdict"]["outcome"]) == (0, "compatible"), out


def test_a_hanging_wire_ends_as_a_crash_in_the_file_and_one_line_on_the_terminal(run, llama, qwen, tmp_path):
    (tmp_path / "w.toml").write_text('[wire]\nname = "tests.bad_wires:hanging"\n[policy]\nwire_seconds = 1\n')
    words = ("--config", tmp_path / "w.toml", *SHALLOW, "--json", tmp_path / "r.json")
    code, out, err = run("pair", llama, qwen, *words)
    assert code == 3
    assert "Traceback" not in out + err
    assert "in loss" not in out + err
    crashed = [one for one in json.loads((tmp_path / "r.json").read_text())["runs"] if one["kind"] == "crashed"]
    assert {one["error"]["type"] for one in crashed} == {"TimeoutError"}
    assert "in loss" in crashed[0]["error"]["traceback"]
