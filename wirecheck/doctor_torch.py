"""torch, the accelerator and the allocator's setting, as torch itself tells them in a process of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from pydantic import ValidationError

from wirecheck.doctor_torch_child import ALLOCATOR_NAMES, HARMLESS
from wirecheck.machine_records import MachineCheck, bad, good
from wirecheck.record import Record

CHILD = Path(__file__).with_name("doctor_torch_child.py")
LIMIT_S = 180
"""An import of torch from a slow network disk takes a minute."""
SMI_LIMIT_S = 30
NVIDIA = Path("/dev/nvidia0")
_HIDDEN = ("", "-1", "NoDevFiles")
"""Values of CUDA_VISIBLE_DEVICES that show no GPU at all."""
_REINSTALL = "pip install --force-reinstall torch"


class Told(Record):
    """What torch says; see doctor_torch_child."""

    version: str
    cuda: str | None
    hip: str | None
    kind: str | None
    """`cuda`, `mps`, or None where torch can use no accelerator."""
    devices: tuple[str, ...]
    failed: str | None
    """Why the accelerator did not even add."""
    warnings: tuple[str, ...]
    observable: bool
    """Whether this torch tells its allocator's setting."""
    setting: str | None
    refused: str | None
    """Why it does not accept the setting."""
    knows_options: bool
    """Whether it refuses an option that there is not."""


class NotTold(Exception):
    """torch said nothing: it does not import, hangs, or ends its process."""


def torch_and_accelerator() -> Iterator[MachineCheck]:
    """Whether torch imports, whether it uses the GPU that is there, and what it makes of the allocator's setting."""
    try:
        told = ask_torch(os.environ)
    except NotTold as error:
        yield bad("torch import", str(error), _REINSTALL)
        return
    build = f"CUDA {told.cuda}" if told.cuda else f"ROCm {told.hip}" if told.hip else "CPU"
    yield good("torch import", f"torch {told.version} imports; a {build} build")
    yield accelerator(told, driver(), os.environ)
    yield allocator(told, os.environ)


def ask_torch(environment: Mapping[str, str]) -> Told:
    """What torch tells under those environment variables. Raises NotTold."""
    command = [sys.executable, "-P", str(CHILD)]
    try:
        done = subprocess.run(  # noqa: S603 - our own file
            command,
            env=dict(environment),
            capture_output=True,
            text=True,
            errors="replace",
            timeout=LIMIT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise NotTold(f"`import torch` did not end within {LIMIT_S} s") from None
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["without a word"])[-1]
        how = f"signal {-done.returncode}" if done.returncode < 0 else f"exit code {done.returncode}"
        raise NotTold(f"`import torch` ended with {how}: {last[:300]}")
    try:
        return Told.model_validate_json(done.stdout.strip().splitlines()[-1])
    except (ValidationError, IndexError):
        raise NotTold("`import torch` ended without telling anything") from None


# --- the accelerator ---------------------------------------------------------------------------------------------


def driver() -> str | None:
    """What shows that an NVIDIA driver serves a GPU here; None where nothing does."""
    if NVIDIA.exists():
        return f"{NVIDIA} is there"
    found = shutil.which("nvidia-smi")
    if found is None:
        return None
    try:
        done = subprocess.run(  # noqa: S603 - the driver's own tool
            [found, "-L"], capture_output=True, text=True, errors="replace", timeout=SMI_LIMIT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    listed = [line for line in done.stdout.splitlines() if line.startswith("GPU ")]
    return f"nvidia-smi lists {len(listed)} GPU{'s' * (len(listed) != 1)}" if done.returncode == 0 and listed else None


def accelerator(told: Told, driver: str | None, environment: Mapping[str, str]) -> MachineCheck:
    """Whether the GPU that is there is used. No accelerator at all is sound."""
    name = "accelerator"
    if told.kind is not None:
        what = ", ".join(f"{told.devices.count(one)} x {one}" for one in dict.fromkeys(told.devices)) or told.kind
        if told.failed is not None:
            return bad(name, f"{what}, which does not compute: {told.failed}", "free that GPU, or update its driver")
        return good(name, "; ".join((f"{what}, which computes", *told.warnings)))
    if driver is None:
        return good(name, "none: checks run on the CPU, nothing is measured")
    shown = environment.get("CUDA_VISIBLE_DEVICES")
    if shown is not None and shown in _HIDDEN:
        return good(name, f"none: {driver}, and CUDA_VISIBLE_DEVICES={shown!r} hides it")
    if told.cuda is None and told.hip is None:
        seen = f"{driver}, and torch {told.version} is a CPU build that cannot use it"
        return bad(name, seen, f"{_REINSTALL}, from an index that has CUDA builds")
    seen = f"{driver}, and torch {told.version} sees no GPU"
    why = f": {told.warnings[0]}" if told.warnings else ""
    mend = f"update the NVIDIA driver to one for CUDA {told.cuda}, or install a torch built for an older CUDA"
    if "SLURM_JOB_ID" in environment:
        mend = f"ask the job for a GPU (--gres=gpu:1); or {mend}"
    return bad(name, seen + why, mend)


# --- the allocator -----------------------------------------------------------------------------------------------


def allocator(told: Told, environment: Mapping[str, str]) -> MachineCheck:
    """Whether torch reads and accepts what PYTORCH_ALLOC_CONF, or its older names, say."""
    given = {name: environment[name] for name in ALLOCATOR_NAMES if environment.get(name)}
    shown = ", ".join(f"{name}={value}" for name, value in given.items())
    if not told.observable:
        words = f"torch {told.version} does not tell what it reads, so nothing could be observed"
        return good("allocator", f"{shown or 'no setting'}; {words}")
    if told.refused is not None:
        mend = f"unset {' '.join(given)}; or set it right, as in {ALLOCATOR_NAMES[0]}=expandable_segments:True"
        return bad("allocator", f"{shown}: torch {told.version} refuses it: {told.refused}", mend)
    new, old, *_ = ALLOCATOR_NAMES
    if not given:
        read = told.setting == HARMLESS
        words = (
            f"torch {told.version} reads {new}" if read else f"torch {told.version} does not read {new}; {old} it may"
        )
        return good("allocator", f"no setting; {words}")
    return _given(told, given, shown)


def _given(told: Told, given: Mapping[str, str], shown: str) -> MachineCheck:
    """A setting that torch did not refuse."""
    read = [name for name, value in given.items() if value == told.setting]
    if not read:
        words = f"torch {told.version} reads {told.setting or 'nothing'} instead"
        return bad("allocator", f"{shown}: {words}", f"export {ALLOCATOR_NAMES[0]}=…, and unset {' '.join(given)}")
    others = [name for name, value in given.items() if value != told.setting]
    if others:
        words = f"they differ, and torch {told.version} tells that it took {read[0]}"
        return bad("allocator", f"{shown}: {words}", f"unset {' '.join(others)}")
    told_by = "" if told.knows_options else "; this build accepts any name of an option, so a misspelt one is not told"
    return good("allocator", f"{shown}: read by torch {told.version}, and parsed{told_by}")
