"""`wirecheck doctor`, where all is sound and where not: lines, JSON, exit code; packages, torch, the accelerator."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import ValidationError

from tests.looks import one, tool
from wirecheck import cli_doctor, doctor, doctor_limits, doctor_packages, doctor_torch
from wirecheck.doctor_torch import Told, accelerator, allocator
from wirecheck.machine_records import MachineCheck, MachineReport, bad, good


@pytest.fixture
def quiet_machine(tmp_path, monkeypatch):
    """Caches of its own, no hub, no file in the working folder."""
    from huggingface_hub import constants

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no-token"))
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setenv("WIRECHECK_CACHE", str(tmp_path / "own"))
    for name in doctor_torch.ALLOCATOR_NAMES:
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def distribution(folder: Path, name: str, version: str, *requires: str) -> None:
    """An installed package, as far as its metadata go."""
    (folder / f"{name}-{version}.dist-info").mkdir(parents=True)
    lines = [
        "Metadata-Version: 2.1",
        f"Name: {name}",
        f"Version: {version}",
        *(f"Requires-Dist: {r}" for r in requires),
    ]
    (folder / f"{name}-{version}.dist-info" / "METADATA").write_text("\n".join(lines) + "\n")


# --- the whole ---------------------------------------------------------------------------------------------------


def test_a_sound_machine_is_exit_0_and_the_json_says_the_same(quiet_machine, run):
    target = quiet_machine / "out" / "doctor.json"
    code, out, _ = run("doctor", "--offline", "--json", target)
    report = MachineReport.model_validate_json(target.read_text())
    assert (code, report.sound) == (0, True)
    assert {"python", "torch", "memory", "cpu", "hub cache", "wirecheck cache", "slurm"} <= {
        c.name for c in report.checks
    }
    assert [line.split()[0] for line in out.splitlines()] == ["ok"] * len(report.checks)
    code, alone, _ = run("doctor", "--offline", "--json", "-")
    told = json.loads(alone)
    assert (code, list(told)) == (0, ["schema_version", "sound", "checks"])
    assert set(told["checks"][0]) == {"name", "sound", "seen", "mend"}


def test_what_is_not_sound_is_exit_4_with_what_mends_it(quiet_machine, run, monkeypatch):
    (quiet_machine / "file").write_text("")
    monkeypatch.setenv("WIRECHECK_CACHE", str(quiet_machine / "file" / "cache"))
    code, out, _ = run("doctor", "--offline")
    (line,) = [line for line in out.splitlines() if line.startswith("MEND")]
    assert code == 4
    assert "is a file, not a folder" in line
    assert "-> export WIRECHECK_CACHE=" in line


def test_a_look_that_raises_is_a_line_and_the_others_go_on(quiet_machine, monkeypatch):
    def broken() -> None:
        raise ZeroDivisionError("by zero\nand more")

    monkeypatch.setattr(doctor_limits, "memory", broken)
    report = doctor.examine(offline=True)
    assert one(report.checks, "memory") == bad(
        "memory", "could not be looked at: ZeroDivisionError: by zero", "mend that, then ask again"
    )
    assert one(report.checks, "cpu").sound


def test_a_record_says_what_mends_it_or_is_sound():
    with pytest.raises(ValidationError, match="not sound, without"):
        MachineCheck(name="x", sound=False, seen="y")
    with pytest.raises(ValidationError, match="sound, with"):
        MachineCheck(name="x", sound=True, seen="y", mend="z")
    with pytest.raises(ValidationError, match="the checks say otherwise"):
        MachineReport(sound=True, checks=(bad("x", "y", "z"),))


def test_a_terminal_is_not_told_control_characters():
    shown = cli_doctor.lines(MachineReport.of([good("a\x1b[2J", "b\nc"), bad("d", "e", "f\x07")]))
    assert shown.count("\n") == 2
    assert "\x1b" not in shown
    assert "\x07" not in shown


def test_torch_is_not_loaded_by_the_command_itself(quiet_machine):
    words = "import sys; from wirecheck import doctor; doctor.examine(offline=True); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", words], check=False).returncode == 0


@pytest.mark.parametrize("words", [["nowhere.toml"], ["bad.toml"]])
def test_a_file_that_is_none_is_a_usage_error(quiet_machine, run, words):
    (quiet_machine / "bad.toml").write_text("[models.a]\nidd = 'x'\n")
    code, out, err = run("doctor", *words)
    assert (code, out) == (2, "")
    assert words[0] in err


def test_the_file_beside_is_read_without_being_named(quiet_machine, run):
    (quiet_machine / "wirecheck.toml").write_text("[models.lost]\nid = './nowhere'\n")
    code, out, _ = run("doctor", "--offline")
    assert code == 4
    assert "there is no folder ./nowhere" in next(line for line in out.splitlines() if line.split()[1] == "lost")


# --- packages ----------------------------------------------------------------------------------------------------


def test_what_is_installed_here_is_as_asked_for():
    checks = [*doctor_packages.python(), *doctor_packages.packages()]
    assert [check.name for check in checks if not check.sound] == []
    assert "asked for: >=2.6" in one(checks, "torch").seen


def test_a_package_that_is_too_old_is_told_with_the_command(tmp_path, monkeypatch):
    distribution(tmp_path, "safetensors", "0.1")
    monkeypatch.syspath_prepend(tmp_path)
    found = one(doctor_packages.packages(), "safetensors")
    assert (found.sound, found.mend) == (False, "pip install 'safetensors>=0.6'")
    assert found.seen.startswith("0.1 is installed")


def test_a_dependency_of_a_dependency_that_is_missing_or_has_no_version_is_told(tmp_path, monkeypatch):
    distribution(tmp_path, "jinja2", "3.9", "no-such-package-of-ours>=2", "odd", "other; python_version < '3'")
    distribution(tmp_path, "odd", "not.a.version")
    monkeypatch.syspath_prepend(tmp_path)
    unmet = [check for check in doctor_packages.packages() if not check.sound]
    assert {check.mend for check in unmet} == {"pip install 'no-such-package-of-ours>=2'", "pip install odd"}
    assert all(check.seen.startswith("jinja2 3.9 asks for") for check in unmet)


def test_a_python_that_is_too_old_is_told(monkeypatch):
    monkeypatch.setattr(doctor_packages.platform, "python_version", lambda: "3.9.1")
    (found,) = doctor_packages.python()
    assert (found.sound, found.seen) == (False, "3.9.1, and >=3.11 is asked for")


# --- torch, the accelerator, the allocator -----------------------------------------------------------------------


def told(**changes) -> Told:
    plain = {"version": "2.9.0", "cuda": None, "hip": None, "kind": None, "devices": (), "failed": None, "warnings": ()}
    return Told(**plain | {"observable": True, "setting": "", "refused": None, "knows_options": True} | changes)


def test_torch_is_asked_in_a_process_of_its_own():
    found = doctor_torch.ask_torch(os.environ)
    assert found.version.startswith("2.")


@pytest.mark.parametrize(
    ("code", "said"),
    [("raise ImportError('libcudart.so.13: not found')", "libcudart"), ("import os; os.abort()", "signal 6")],
)
def test_a_torch_that_does_not_import_is_not_sound(tmp_path, monkeypatch, code, said):
    (tmp_path / "torch.py").write_text(code)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    (found,) = doctor_torch.torch_and_accelerator()
    assert (found.name, found.sound, found.mend) == ("torch import", False, "pip install --force-reinstall torch")
    assert said in found.seen


def test_a_driver_is_seen_where_its_tool_lists_a_gpu(tmp_path, monkeypatch):
    monkeypatch.setattr(doctor_torch, "NVIDIA", tmp_path / "nvidia0")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    assert doctor_torch.driver() is None
    tool(tmp_path / "bin", "nvidia-smi", "echo 'NVIDIA-SMI has failed'; exit 9")
    assert doctor_torch.driver() is None
    tool(tmp_path / "bin", "nvidia-smi", "echo 'GPU 0: NVIDIA L4 (UUID: x)'")
    assert doctor_torch.driver() == "nvidia-smi lists 1 GPU"
    (tmp_path / "nvidia0").touch()
    assert doctor_torch.driver() == f"{tmp_path / 'nvidia0'} is there"


def test_a_cpu_build_beside_a_driver_is_not_sound():
    assert accelerator(told(), None, {}).sound
    found = accelerator(told(), "a driver", {})
    assert (found.sound, "CPU build" in found.seen, "CUDA builds" in found.mend) == (False, True, True)
    assert accelerator(told(), "a driver", {"CUDA_VISIBLE_DEVICES": ""}).sound
    assert not accelerator(told(), "a driver", {"CUDA_VISIBLE_DEVICES": "0"}).sound


def test_a_cuda_build_that_sees_no_gpu_says_why():
    old = told(cuda="13.0", warnings=("The NVIDIA driver on your system is too old",))
    found = accelerator(old, "a driver", {"SLURM_JOB_ID": "7"})
    assert not found.sound
    assert "too old" in found.seen
    assert found.mend.startswith("ask the job for a GPU")


def test_an_accelerator_is_sound_when_it_computes():
    there = {"cuda": "13.0", "kind": "cuda", "devices": ("NVIDIA L4", "NVIDIA L4")}
    assert accelerator(told(**there), "a driver", {}) == good("accelerator", "2 x NVIDIA L4, which computes")
    broken = accelerator(told(**there, failed="no kernel image"), "a driver", {})
    assert (broken.sound, "no kernel image" in broken.seen) == (False, True)


@pytest.mark.parametrize(
    ("setting", "sound", "said"),
    [
        ({}, True, "reads PYTORCH_ALLOC_CONF"),
        ({"PYTORCH_ALLOC_CONF": "expandable_segments:True"}, True, "and parsed"),
        ({"PYTORCH_CUDA_ALLOC_CONF": "max_split_size_mb:128"}, True, "and parsed"),
        ({"PYTORCH_ALLOC_CONF": "expandable_segments=True"}, False, "refuses it"),
        ({"PYTORCH_ALLOC_CONF": "max_split_size_mb:10"}, False, "too small"),
        (
            {"PYTORCH_ALLOC_CONF": "expandable_segments:True", "PYTORCH_CUDA_ALLOC_CONF": "max_split_size_mb:128"},
            False,
            "they differ",
        ),
    ],
)
def test_the_allocators_setting_is_parsed_by_the_installed_torch(setting, sound, said):
    environment = {k: v for k, v in os.environ.items() if k not in doctor_torch.ALLOCATOR_NAMES} | setting
    seen = doctor_torch.ask_torch(environment)
    if not seen.observable:
        pytest.skip(f"torch {seen.version} does not tell its allocator's setting")
    found = allocator(seen, environment)
    assert (found.sound, said in found.seen) == (sound, True)


def test_what_torch_does_not_tell_is_not_claimed():
    silent = told(observable=False, setting=None)
    found = allocator(silent, {"PYTORCH_ALLOC_CONF": "x:y"})
    assert (found.sound, "nothing could be observed" in found.seen) == (True, True)
    unread = allocator(told(setting=""), {"PYTORCH_ALLOC_CONF": "expandable_segments:True"})
    assert (unread.sound, "reads nothing instead" in unread.seen) == (False, True)
    lax = allocator(told(setting="a:b", knows_options=False), {"PYTORCH_ALLOC_CONF": "a:b"})
    assert "misspelt" in lax.seen
