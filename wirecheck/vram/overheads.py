"""What a process takes on a GPU beside the tensors a trace sees: tables with their sources. Torch-free, nothing fitted.

The context, with the kernels loaded into it, lies outside PyTorch's allocator: it is process minus reserved. The
workspaces of cuBLAS lie inside: they count in `torch.cuda.max_memory_allocated`, and a trace on meta tensors has none.
Left out: NCCL (544 to 688 MiB for each group on an A100, NVIDIA/nccl#964), other processes, a desktop.
"""

from __future__ import annotations

from dataclasses import dataclass

from wirecheck.vram.gpus import MIB, Capability, Gpu

LARGE_MAJORS = range(9, 13)
"""Major compute capabilities, Hopper to Blackwell, whose default is LARGE_WORKSPACE."""
THREADS = 2
"""Threads of a training step that multiply matrices: the forward's, and autograd's own for the device."""
SMALL_WORKSPACE = 2 * 4096 * 1024 + 8 * 16 * 1024
"""`:4096:2:16:8`, PyTorch's default before Hopper: 8,519,680 bytes."""
LARGE_WORKSPACE = 32 * MIB
"""PyTorch's default on Hopper and Blackwell, and on AMD but for the newest."""
CDNA3_WORKSPACE = 128 * MIB
"""PyTorch's default on gfx942 and gfx950."""
HIPBLASLT_WORKSPACE = 76 * MIB
"""PyTorch's default for hipBLASLt, which shares no workspace with hipBLAS."""


@dataclass(frozen=True, slots=True)
class Overheads:
    """What one process of a training step takes on one GPU beside its tensors."""

    context_bytes: int
    """The context and the kernels of the step, each loaded as it is first used. Outside the allocator."""
    context_span: tuple[int, int]
    """Between what `context_bytes` may come out: drivers, builds of torch and the kernels used differ."""
    workspace_bytes: int
    """Workspaces of the matrix libraries. Inside the allocator: a part of what it says it allocated."""
    sources: tuple[str, ...]
    """Where the figures are from."""


@dataclass(frozen=True, slots=True)
class _Rate:
    low: float
    typical: float
    high: float
    """MiB for each multiprocessor."""
    source: str


_SWEPT = "after matrix products and empty_cache (mikebains41-debug/ai-gpu-energy-optimizer-), the live workspace in it"

CONTEXT_MIB: dict[Capability, _Rate] = {
    (6, 0): _Rate(2.9, 3.6, 5.0, "none found for Pascal: taken as Volta's"),
    (7, 0): _Rate(2.9, 3.6, 5.0, "V100: 300 to 400 MB with every kernel loaded (pytorch#20532); typical as on a T4"),
    (7, 5): _Rate(2.9, 3.5, 4.4, "T4: 141 MiB after LoRA steps, total less free less reserved (Anassbzdd/fitcheck)"),
    (8, 0): _Rate(3.5, 4.0, 4.7, f"A100: 382 MiB before any matrix product, 455 {_SWEPT}"),
    (8, 6): _Rate(2.9, 3.6, 4.7, "none found for GA10x: taken as Ada's"),
    (8, 9): _Rate(2.9, 3.6, 4.7, "bare: RTX 6000 Ada 426 MiB (unsloth-zoo#1053), RTX 4060 Ti 107 (llama.cpp#23604)"),
    (9, 0): _Rate(3.6, 4.5, 5.2, f"H100: 625 MiB, H200: 629 {_SWEPT}"),
    (10, 0): _Rate(4.1, 4.7, 5.4, f"B200: 612 MiB bare (unsloth#8669), 716 {_SWEPT}"),
    (12, 0): _Rate(2.9, 3.5, 4.4, "RTX PRO 6000: 555 MiB bare (llama.cpp#23604), 665 at work in public notes"),
}
"""CUDA compute capability -> MiB of context for each multiprocessor, kernels loaded lazily (torch's default).

The driver sets memory aside for each multiprocessor, so cards of one architecture differ by their number of them. Bare
is before any kernel. A step's kernels added 53 MiB on the A100 and 84 on the B200, once the workspace is taken off (a
segment of 20 MiB, on Hopper of 32). The T4's figure is from the notes of rows that score tensors, none the process.
"""
AMD_CONTEXT_MIB = (300, 600, 1200)
"""Low, typical, high. Assumed: no measurement on an Instinct was found."""
_AMD_SOURCE = "context: assumed; 600 MiB is what public notes on a Radeon Pro W6800 allow a HIP process"
_POOL = "aten/src/ATen/cuda/CublasHandlePool.cpp"


def overheads(gpu: Gpu) -> Overheads:
    """What a training step's process takes on that GPU beside its tensors, with the sources."""
    return Overheads(
        context_bytes=context_bytes(gpu),
        context_span=context_span(gpu),
        workspace_bytes=THREADS * (cublas_workspace_bytes(gpu) + lt_workspace_bytes(gpu)),
        sources=(
            _AMD_SOURCE if gpu.maker == "amd" else f"context: {_rate(gpu).source}; lazy loading, pytorch#86509",
            f"workspace: parseChosenWorkspaceSize in PyTorch's {_POOL}; on Blackwell since pytorch#175344",
            f"{THREADS} workspaces: one for each handle and stream, and a handle for each thread ({_POOL})",
        ),
    )


def context_bytes(gpu: Gpu) -> int:
    """Typical size of the context with the kernels of a training step: process minus reserved."""
    return _context(gpu)[1]


def context_span(gpu: Gpu) -> tuple[int, int]:
    """Between what the size of the context may come out."""
    low, _, high = _context(gpu)
    return low, high


def cublas_workspace_bytes(gpu: Gpu) -> int:
    """PyTorch's default workspace for one handle of cuBLAS (hipBLAS) on one stream, where the environment sets none.

    Kept as long as the process. PyTorch's main of late 2026 takes one for each call and gives it back (#194311).
    """
    if gpu.maker == "amd":
        return CDNA3_WORKSPACE if gpu.capability in {(9, 4), (9, 5)} else LARGE_WORKSPACE
    return LARGE_WORKSPACE if gpu.capability[0] in LARGE_MAJORS else SMALL_WORKSPACE


def lt_workspace_bytes(gpu: Gpu) -> int:
    """What the Lt library (products with a bias) keeps for one handle and stream beside that.

    cuBLASLt shares cuBLAS's workspace since pytorch#168175 of January 2026, and had 1 MiB of its own before.
    hipBLASLt has its own (pytorch#139300; 80 MiB since pytorch#197201).
    """
    return HIPBLASLT_WORKSPACE if gpu.maker == "amd" else 0


def _context(gpu: Gpu) -> tuple[int, int, int]:
    if gpu.maker == "amd":
        low, typical, high = AMD_CONTEXT_MIB
        return low * MIB, typical * MIB, high * MIB
    rate = _rate(gpu)
    low, typical, high = (int(each * gpu.multiprocessors * MIB) for each in (rate.low, rate.typical, rate.high))
    return low, typical, high


def _rate(gpu: Gpu) -> _Rate:
    """The architecture's; for one that is not in the table, that of the nearest below it, or of the oldest."""
    return CONTEXT_MIB[max((known for known in CONTEXT_MIB if known <= gpu.capability), default=min(CONTEXT_MIB))]
