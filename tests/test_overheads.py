"""What a process takes beside its tensors: complete for the catalogue, in order, and as the sources measured it."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import pytest

from wirecheck.vram.gpus import GPUS, MIB, find
from wirecheck.vram.overheads import (
    CONTEXT_MIB,
    THREADS,
    context_bytes,
    context_span,
    cublas_workspace_bytes,
    lt_workspace_bytes,
    overheads,
)

SMALL, LARGE = 8_519_680, 33_554_432
AT_WORK = {
    "T4": 141,
    "A100-80GB": 455 - 20,
    "H100-80GB": 625 - 32,
    "H200": 629 - 32,
    "B200": 716 - 20,
    "RTX-PRO-6000": 665,
}
"""MiB after kernels ran, as the sources measured it, less the allocator's segment of the live workspace."""
BARE = {"A100-80GB": 382, "RTX-6000-Ada": 426, "RTX-4060-Ti-16GB": 107, "B200": 612, "RTX-PRO-6000": 555}
"""MiB before any kernel."""


@pytest.mark.parametrize("gpu", GPUS, ids=lambda gpu: gpu.name)
def test_every_gpu_of_the_catalogue_has_its_overheads(gpu):
    made = overheads(gpu)
    low, high = made.context_span
    assert 64 * MIB < low < made.context_bytes < high < 1_500 * MIB
    assert made.context_bytes + made.workspace_bytes < 0.1 * gpu.usable_bytes
    assert made.workspace_bytes >= THREADS * SMALL
    assert len(made.sources) == 3
    assert all(made.sources)


@pytest.mark.parametrize("gpu", [gpu for gpu in GPUS if gpu.maker == "nvidia"], ids=lambda gpu: gpu.name)
def test_every_architecture_has_a_row_of_its_own(gpu):
    assert gpu.capability in CONTEXT_MIB or gpu.name == "B300"


@pytest.mark.parametrize("capability", CONTEXT_MIB, ids=str)
def test_every_rate_is_in_order_and_sourced(capability):
    rate = CONTEXT_MIB[capability]
    assert 2 < rate.low < rate.typical < rate.high < 6
    assert rate.source


@pytest.mark.parametrize(("name", "mib"), AT_WORK.items())
def test_typical_is_what_was_measured_at_work(name, mib):
    assert context_bytes(find(name)) / MIB == pytest.approx(mib, rel=0.02)


@pytest.mark.parametrize(("name", "mib"), BARE.items())
def test_a_bare_context_is_in_the_span_below_typical(name, mib):
    gpu = find(name)
    assert context_span(gpu)[0] <= mib * MIB < context_bytes(gpu)


@pytest.mark.parametrize(
    ("name", "workspace"),
    [
        *[("P100-16GB", SMALL), ("V100-16GB", SMALL), ("T4", SMALL), ("A100-40GB", SMALL), ("L4", SMALL)],
        *[("H100-80GB", LARGE), ("GH200", LARGE), ("B200", LARGE), ("B300", LARGE), ("RTX-5090", LARGE)],
        *[("MI250X", LARGE), ("MI300X", 4 * LARGE)],
    ],
)
def test_workspaces_are_pytorchs_defaults(name, workspace):
    assert cublas_workspace_bytes(find(name)) == workspace


def test_a_step_has_two_workspaces_and_amd_those_of_hipblaslt_too():
    assert overheads(find("T4")).workspace_bytes == 2 * SMALL
    assert overheads(find("H200")).workspace_bytes == 2 * LARGE
    assert overheads(find("MI300X")).workspace_bytes == 2 * (128 + 76) * MIB
    assert [lt_workspace_bytes(find(name)) for name in ("H200", "MI300X")] == [0, 76 * MIB]


@pytest.mark.parametrize(
    ("capability", "as_of"), [((8, 7), (8, 6)), ((12, 1), (12, 0)), ((13, 0), (12, 0)), ((5, 2), (6, 0))]
)
def test_an_architecture_not_in_the_table_takes_the_nearest_below(capability, as_of):
    gpu = find("L4")
    assert context_bytes(replace(gpu, capability=capability)) == context_bytes(replace(gpu, capability=as_of))


def test_the_context_grows_with_the_chip():
    assert context_bytes(find("H20")) < context_bytes(find("H100-80GB"))
    assert context_bytes(find("L4")) < context_bytes(find("L40S"))


def test_neither_table_needs_torch():
    code = "import sys; from wirecheck.vram.overheads import overheads; from wirecheck.vram.gpus import GPUS; "
    code += "[overheads(gpu) for gpu in GPUS]; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
