"""The catalogue of GPUs: what memory a process finds on each. A literal to be read; torch-free."""

from __future__ import annotations

import re
from dataclasses import dataclass
from difflib import get_close_matches

from wirecheck.errors import UsageError
from wirecheck.schema import GpuRequest

GIB = 2**30
MIB = 2**20
RESERVE = 0.03
"""Share of the nominal memory that is set aside where the total a process sees is not known."""


@dataclass(frozen=True, slots=True)
class Gpu:
    """One kind of GPU."""

    name: str
    usable_bytes: int
    """Total the driver gives to processes, before any context."""
    source: str
    """Where that figure is from."""
    also: tuple[str, ...] = ()
    """Other names it goes by."""


def _seen(name: str, gib: float, thread: str, *also: str) -> Gpu:
    return Gpu(name, int(gib * GIB), f"{gib} GiB, total capacity as PyTorch reported it ({thread})", also)


def _nominal(name: str, mib: int, *also: str) -> Gpu:
    source = f"{mib:,} MiB nominal, less a reserve of {RESERVE:.0%}"
    return Gpu(name, int(mib * MIB * (1 - RESERVE)), source, also)


GPUS: tuple[Gpu, ...] = (
    _seen("B200", 178.35, "pytorch/ao#4002", "B200-180GB", "B200-192GB"),
    Gpu("H200", 139 * GIB, "about 139 GiB, as the maintainers' own machine states it", ("H200-141GB",)),
    _seen("H100-94GB", 93.0, "VACE#56", "H100-NVL"),
    _seen("H100-80GB", 79.11, "vllm#27508", "H100", "H100-SXM", "H100-PCIe"),
    _nominal("A100-80GB", 81_920, "A100-SXM4-80GB", "A100-PCIe-80GB"),
    _nominal("A100-40GB", 40_960, "A100-SXM4-40GB", "A100-PCIe-40GB"),
    _seen("L40S", 44.42, "Step-Video-T2V#8", "L40S-48GB"),
    _seen("L40", 44.40, "Qwen3-VL#2097", "L40-48GB"),
    _nominal("A6000", 49_140, "RTX-A6000", "RTX-A6000-48GB", "A6000-48GB"),
    _nominal("RTX-6000-Ada", 49_140, "6000-Ada"),
    _nominal("A40", 46_068, "A40-48GB"),
    _nominal("V100-32GB", 32_768, "V100-SXM2-32GB"),
    _nominal("V100-16GB", 16_384, "V100-SXM2-16GB"),
    _seen("RTX-5090", 31.36, "TrajectoryCrafter#20", "5090"),
    _seen("RTX-4090", 23.52, "SoulX-FlashTalk#5", "4090"),
    _nominal("RTX-3090", 24_576, "3090", "RTX-3090-Ti"),
    _seen("A30", 23.53, "RB-Modulation#5", "A30-24GB"),
    _seen("A10", 21.99, "CogVLM#236", "A10-24GB"),
    _nominal("A10G", 23_028, "A10G-24GB"),
    _seen("L4", 22.03, "evo2#190", "L4-24GB"),
    _nominal("T4", 15_360, "T4-16GB", "Tesla-T4"),
    _nominal("MI300X", 196_608, "MI300X-192GB"),
    _nominal("MI250X", 65_536, "MI250X-64GB"),
)

_PREFIX = re.compile(r"^(nvidia|amd|geforce|tesla|instinct)+")
_COUNT = re.compile(r"^(?P<name>.+?)\s*[x*]\s*(?P<count>\d+)$", re.IGNORECASE)


def find(name: str) -> Gpu:
    """The GPU of that name, whatever its case, dashes or maker's prefix. UsageError with the nearest names."""
    found = _by_name(name)
    if found is None:
        names = [gpu.name for gpu in GPUS]
        sizes = [known for known in names if _key(known).startswith(_key(name))] if _key(name) else []
        near = sizes or get_close_matches(name.upper(), names, n=3, cutoff=0.4)
        step = f"did you mean {', '.join(near)}?" if near else f"the catalogue has {', '.join(names)}"
        raise UsageError(f"no GPU named {name!r} in the catalogue", next_step=step)
    return found


def parse_gpu(text: str) -> GpuRequest:
    """`H100-80GBx4` -> four H100-80GB; without a count, one. Raises UsageError."""
    whole = _by_name(text)
    if whole is not None:
        return GpuRequest(name=whole.name)
    match = _COUNT.match(text.strip())
    if match is None:
        return GpuRequest(name=find(text).name)
    count = int(match["count"][:6])
    if count < 1:
        raise UsageError(f"{text}: the count of GPUs must be at least 1", next_step=f"give {match['name']}x1")
    return GpuRequest(name=find(match["name"]).name, count=count)


def _by_name(name: str) -> Gpu | None:
    key = _key(name)
    return next((gpu for gpu in GPUS if key in {_key(known) for known in (gpu.name, *gpu.also)}), None)


def _key(name: str) -> str:
    return _PREFIX.sub("", re.sub(r"[^a-z0-9]", "", name.lower()))
