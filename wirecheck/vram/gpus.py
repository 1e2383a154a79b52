"""The catalogue of GPUs: what memory a process finds on each. A literal to be read; torch-free but for `auto`.

`auto` stands for the GPU of this machine; torch is imported only to read it, inside `machine`.
"""

from __future__ import annotations

import re
import warnings
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Literal, NamedTuple

from wirecheck.errors import UsageError
from wirecheck.schema import GpuRequest

GIB = 2**30
MIB = 2**20
AUTO = "auto"
"""The name that stands for the GPU of this machine."""
MOST_GPUS = 100_000
"""The largest count a request may name: no machine room has more."""
RESERVE = 0.03
"""Share of the nominal memory that is set aside where the total a process sees is not known."""
SAME_SIZE = 0.1
"""How far the memory of a machine's GPU may lie from the catalogue's for it to be called by the same name."""

Maker = Literal["nvidia", "amd"]
Capability = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Gpu:
    """One kind of GPU."""

    name: str
    usable_bytes: int
    """Total the driver gives to processes, before any context: `torch.cuda.mem_get_info()[1]`."""
    source: str
    """Where that figure is from."""
    nominal_bytes: int
    """Total as `nvidia-smi` or `rocm-smi` prints it."""
    capability: Capability
    """As `torch.cuda.get_device_capability` says it: CUDA's, or for AMD (9, 4) on gfx942 and (9, 0) on gfx90a."""
    multiprocessors: int
    """Streaming multiprocessors, on AMD compute units: what the driver takes for a process grows with them."""
    also: tuple[str, ...] = ()
    """Other names it goes by, the driver's own among them."""
    maker: Maker = "nvidia"


class _Chip(NamedTuple):
    mib: int
    """Nominal memory."""
    capability: Capability
    multiprocessors: int
    maker: Maker = "nvidia"


def _seen(name: str, gib: float, thread: str, chip: _Chip, *also: str) -> Gpu:
    return _of(name, int(gib * GIB), f"{gib} GiB, total capacity as PyTorch reported it ({thread})", chip, also)


def _nominal(name: str, chip: _Chip, *also: str) -> Gpu:
    source = f"{chip.mib:,} MiB nominal, less a reserve of {RESERVE:.0%}"
    return _of(name, int(chip.mib * MIB * (1 - RESERVE)), source, chip, also)


def _of(name: str, usable_bytes: int, source: str, chip: _Chip, also: tuple[str, ...]) -> Gpu:
    mib, capability, multiprocessors, maker = chip
    return Gpu(name, usable_bytes, source, mib * MIB, capability, multiprocessors, also, maker)


_H200 = "ai-bot-pro/achatbot, deploy/modal/src/llm/vllm/vlm/skywork_r1v.py"
_RTX_PRO = (
    *("RTX-PRO-6000-Blackwell", "RTX-PRO-6000-96GB", "RTX-PRO-6000-Blackwell-Workstation-Edition"),
    *("RTX-PRO-6000-Blackwell-Server-Edition", "RTX-PRO-6000-Blackwell-Max-Q-Workstation-Edition"),
)
_H100 = ("H100", "H100-SXM", "H100-PCIe", "H100-80GB-HBM3", "H800", "H800-80GB")
_A100 = ("A100-SXM4-80GB", "A100-PCIe-80GB", "A100-80GB-PCIe", "A800-80GB", "A800-SXM4-80GB")
_ADA = "unsloth-zoo#1053, ECC off; 44.43 with it on, MTVCrafter#21"
_MI250X = "llama-install.sh#21, one of its two halves"
_BANNER = "in Ultralytics' banner under torch"
_LISTING = "as _CudaDeviceProperties in public notes"

GPUS: tuple[Gpu, ...] = (
    _seen("B300", 267.7, "sgl-project/sglang#25225", _Chip(275_040, (10, 3), 148), "B300-288GB", "B300-SXM6-AC"),
    _seen("B200", 178.35, "pytorch/ao#4002", _Chip(183_359, (10, 0), 148), "B200-180GB", "B200-192GB"),
    _seen("H200", 139.80, _H200, _Chip(143_771, (9, 0), 132), "H200-141GB", "H200-NVL"),
    _seen("GH200", 94.50, "vllm#9630", _Chip(97_871, (9, 0), 132), "GH200-96GB", "GH200-480GB", "GH200-120GB"),
    _seen("H100-94GB", 93.0, "VACE#56", _Chip(95_830, (9, 0), 132), "H100-NVL"),
    _seen("H100-80GB", 79.11, "vllm#27508", _Chip(81_559, (9, 0), 132), *_H100),
    _seen("H20", 95.00, "DiffSynth-Studio#1238", _Chip(97_871, (9, 0), 78), "H20-96GB"),
    _seen("A100-80GB", 79.14, "Control-GIC#6", _Chip(81_920, (8, 0), 108), *_A100),
    _seen("A100-40GB", 39.39, "bottlerocket#3873", _Chip(40_960, (8, 0), 108), "A100-SXM4-40GB", "A100-PCIe-40GB"),
    _seen("RTX-PRO-6000", 94.97, "llama.cpp#23604", _Chip(97_887, (12, 0), 188), *_RTX_PRO),
    _seen("L40S", 44.42, "Step-Video-T2V#8", _Chip(46_068, (8, 9), 142), "L40S-48GB"),
    _seen("L40", 44.40, "Qwen3-VL#2097", _Chip(46_068, (8, 9), 142), "L40-48GB"),
    _nominal("L20", _Chip(46_068, (8, 9), 92), "L20-48GB"),
    _seen("A6000", 47.53, "ultralytics#19084", _Chip(49_140, (8, 6), 84), "RTX-A6000", "RTX-A6000-48GB", "A6000-48GB"),
    _seen("RTX-6000-Ada", 47.37, _ADA, _Chip(49_140, (8, 9), 142), "6000-Ada", "RTX-6000-Ada-Generation"),
    _seen("A40", 44.35, f"45,416 MiB {_LISTING}", _Chip(46_068, (8, 6), 84), "A40-48GB"),
    _seen("RTX-8000", 47.46, "stable-dreambooth#8", _Chip(49_152, (7, 5), 72), "RTX-8000-48GB"),
    _seen("V100-32GB", 31.74, "ChatGLM-Finetuning#73", _Chip(32_768, (7, 0), 80), "V100-SXM2-32GB", "V100-PCIe-32GB"),
    _seen("V100-16GB", 15.78, "Shift-GCN#34", _Chip(16_384, (7, 0), 80), "V100-SXM2-16GB", "V100-PCIe-16GB"),
    _seen("P100-16GB", 15.88, f"16,269 MiB {_BANNER} 2.11", _Chip(16_384, (6, 0), 56), "P100-PCIe-16GB"),
    _seen("RTX-5090", 31.36, "TrajectoryCrafter#20", _Chip(32_607, (12, 0), 170), "5090"),
    _nominal("RTX-5080", _Chip(16_303, (12, 0), 84), "5080"),
    _seen("RTX-4090", 23.52, "SoulX-FlashTalk#5", _Chip(24_564, (8, 9), 128), "4090"),
    _nominal("RTX-4080", _Chip(16_376, (8, 9), 76), "4080", "RTX-4080-Super"),
    _nominal("RTX-4070-Ti-Super", _Chip(16_376, (8, 9), 66), "4070-Ti-Super"),
    _nominal("RTX-4060-Ti-16GB", _Chip(16_380, (8, 9), 34), "4060-Ti-16GB"),
    _seen("RTX-3090", 23.55, f"24,124 MiB {_BANNER} 2.13", _Chip(24_576, (8, 6), 82), "3090", "RTX-3090-Ti"),
    _seen("RTX-3060-12GB", 11.65, f"11,931 MiB {_LISTING}", _Chip(12_288, (8, 6), 28), "RTX-3060", "3060"),
    _seen("RTX-2080-Ti", 10.57, f"10,825 MiB {_BANNER} 2.6", _Chip(11_264, (7, 5), 68), "2080-Ti"),
    _nominal("RTX-A5000", _Chip(24_564, (8, 6), 64), "A5000", "A5000-24GB"),
    _seen("RTX-A4000", 15.61, "VGGT-Long#6", _Chip(16_376, (8, 6), 48), "A4000"),
    _seen("A30", 23.53, "RB-Modulation#5", _Chip(24_576, (8, 0), 56), "A30-24GB"),
    _seen("A10", 21.99, "CogVLM#236", _Chip(23_028, (8, 6), 72), "A10-24GB"),
    _seen("A10G", 22.05, "22,587 MiB, TorchCodec's tutorial on CUDA decoding", _Chip(23_028, (8, 6), 80), "A10G-24GB"),
    _seen("L4", 22.03, "evo2#190", _Chip(23_034, (8, 9), 58), "L4-24GB"),
    _seen("T4", 14.56, "CatVTON#133", _Chip(15_360, (7, 5), 40), "T4-16GB", "Tesla-T4"),
    _seen("MI300X", 191.98, "ROCm#4203", _Chip(196_592, (9, 4), 304, "amd"), "MI300X-192GB"),
    _nominal("MI325X", _Chip(262_128, (9, 4), 304, "amd"), "MI325X-256GB"),
    _seen("MI250X", 63.98, _MI250X, _Chip(65_520, (9, 0), 110, "amd"), "MI250X-64GB", "MI250", "MI250X-MI250"),
    _nominal("MI210", _Chip(65_520, (9, 0), 104, "amd"), "MI210-64GB"),
)

_PREFIX = re.compile(r"^(nvidia|amd|geforce|tesla|quadro|instinct)+")
_COUNT = re.compile(r"^(?P<name>.+?)\s*[x*]\s*(?P<count>\d+)$", re.IGNORECASE)


def find(name: str) -> Gpu:
    """The GPU of that name, whatever its case, dashes or maker's prefix; for `auto`, this machine's.

    UsageError with the nearest names, or where `auto` finds no GPU.
    """
    if _key(name) == AUTO:
        return machine()[0]
    found = _by_name(name)
    if found is None:
        names = [gpu.name for gpu in GPUS]
        sizes = [known for known in names if _key(known).startswith(_key(name))] if _key(name) else []
        near = sizes or get_close_matches(name.upper(), names, n=3, cutoff=0.4)
        step = f"did you mean {', '.join(near)}?" if near else f"the catalogue has {', '.join(names)}"
        raise UsageError(f"no GPU named {_shown(name)!r} in the catalogue", next_step=step)
    return found


def parse_gpu(text: str) -> GpuRequest:
    """`H100-80GBx4` -> four H100-80GB; without a count, one. `auto` -> as many as this machine has. UsageError."""
    if _key(text) == AUTO:
        return GpuRequest(name=AUTO, count=machine()[1])
    whole = _by_name(text)
    if whole is not None:
        return GpuRequest(name=whole.name)
    match = _COUNT.match(text.strip())
    if match is None:
        return GpuRequest(name=find(text).name)
    found = find(match["name"])
    name = AUTO if _key(match["name"]) == AUTO else found.name
    return GpuRequest(name=name, count=_count(name, match["count"]))


def machine() -> tuple[Gpu, int]:
    """The first GPU torch sees on this machine, and how many there are of that kind.

    Read from the device's properties, which makes no CUDA context. UsageError where torch sees none.
    """
    try:
        import torch

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a driver too old for this build of torch is told by a warning
            count = torch.cuda.device_count() if torch.cuda.is_available() else 0
            there = [torch.cuda.get_device_properties(index) for index in range(count)]
        is_amd = torch.version.hip is not None
    except (ImportError, RuntimeError) as error:
        raise _no_device(str(error).partition("\n")[0]) from None
    if not there:
        raise _no_device("PyTorch sees no CUDA device on this machine")
    first = there[0]
    known = _by_name(first.name)
    if known is not None and abs(first.total_memory / known.usable_bytes - 1) > SAME_SIZE:
        known = None  # a card of that name with other memory, or a slice of it
    gpu = Gpu(
        name=known.name if known else str(first.name),
        usable_bytes=int(first.total_memory),
        source="read on this machine",
        nominal_bytes=known.nominal_bytes if known else int(first.total_memory),
        capability=(int(first.major), int(first.minor)),
        multiprocessors=int(first.multi_processor_count),
        maker="amd" if is_amd else "nvidia",
    )
    return gpu, sum((other.name, other.total_memory) == (first.name, first.total_memory) for other in there)


def _no_device(why: str) -> UsageError:
    return UsageError(f"--gpu auto: {why}", next_step="name the GPU instead, for example --gpu H100-80GB")


def _count(name: str, digits: str) -> int:
    """The number, between 1 and MOST_GPUS. Looked at as text first: Python reads no more than 4,300 digits."""
    if len(digits.lstrip("0")) > len(str(MOST_GPUS)) or int(digits[-len(str(MOST_GPUS)) :]) > MOST_GPUS:
        raise UsageError(
            f"{name}x{_shown(digits)}: more than {MOST_GPUS:,} GPUs", next_step=f"give a count, for example {name}x8"
        )
    count = int(digits[-len(str(MOST_GPUS)) :])
    if count < 1:
        raise UsageError(f"{name}x0: the count of GPUs must be at least 1", next_step=f"give {name}x1")
    return count


def _shown(text: str, most: int = 40) -> str:
    return text if len(text) <= most else f"{text[:most]}..."


def _by_name(name: str) -> Gpu | None:
    key = _key(name)
    return next((gpu for gpu in GPUS if key in {_key(known) for known in (gpu.name, *gpu.also)}), None)


def _key(name: str) -> str:
    return _PREFIX.sub("", re.sub(r"[^a-z0-9]", "", name.lower()))
