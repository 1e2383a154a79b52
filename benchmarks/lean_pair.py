"""A pair far larger than memory, checked to `executed`: peak anonymous memory, seconds per probe, the verdict.

Two snapshots of random bfloat16 weights in the shapes of Llama-3.1-8B and Qwen2.5-7B, 31 GB of them, are written,
checked with `wirecheck pair` in a process of its own, and removed. Linux only: /proc tells the memory of a process
from the pages of files it has mapped.

python benchmarks/lean_pair.py [--layers N] [--folder DIR] [--keep] [-- OPTIONS OF wirecheck pair]
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import re
import shutil
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stopwatch import ROOT, VERDICTS

sys.path.insert(0, str(ROOT))

UNPACK = ROOT.parent / "shared" / "assets" / "unpack.py"
SIZES: dict[str, dict[str, Any]] = {
    "meta-llama__Llama-3.1-8B-Instruct": {
        "model_type": "llama",
        "hidden_size": 4096,
        "intermediate_size": 14336,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "vocab_size": 128256,
        "max_position_embeddings": 131072,
        "rope_parameters": {"rope_type": "default", "rope_theta": 500000.0},
        "tie_word_embeddings": False,
    },
    "Qwen__Qwen2.5-7B-Instruct": {
        "model_type": "qwen2",
        "hidden_size": 3584,
        "intermediate_size": 18944,
        "num_hidden_layers": 28,
        "num_attention_heads": 28,
        "num_key_value_heads": 4,
        "vocab_size": 152064,
        "max_position_embeddings": 32768,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1000000.0},
        "tie_word_embeddings": False,
    },
}
"""What config.json says where no recorded one is beside this checkout."""
TARGET_BYTES = 4 * 2**30
SHARD_BYTES = 5 * 10**9
BLOCK = 32_000_000
"""Values drawn at a time."""
SCALE = 0.02
"""Deviation of every matrix and bias, as the families are initialised; norms are ones."""
ROOM = 2 * 10**9
"""Disk kept free beside the weights."""
EVERY_S = 0.2
GIB = 2**30


# --- the snapshots -----------------------------------------------------------------------------------------------


def write_config(name: str, folder: Path, layers: int | None) -> None:
    """config.json and tokenizer: the recorded ones where they are beside this checkout, else made ones."""
    if UNPACK.is_file():
        subprocess.run([sys.executable, UNPACK, name, folder], check=True, capture_output=True)
        for path in (*folder.glob("*.safetensors"), *folder.glob("*.index.json")):
            path.unlink()  # holes of the true size
        config = json.loads((folder / "config.json").read_text())
    else:
        from tests.rigs import tokenizer

        folder.mkdir(parents=True)
        tokenizer(bos=name.startswith("meta")).save_pretrained(folder)
        config = {**SIZES[name], "dtype": "bfloat16"}
    if layers is not None:
        config["num_hidden_layers"] = layers
        config.pop("max_window_layers", None)
    (folder / "config.json").write_text(json.dumps(config, indent=2))


def tensor_shapes(folder: Path) -> dict[str, tuple[int, ...]]:
    """Every tensor of the class that config.json asks for, by the name it has on file."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(folder, local_files_only=True))
    return {name: tuple(p.shape) for name, p in model.named_parameters()}


def write_weights(folder: Path, shapes: dict[str, tuple[int, ...]], seed: int) -> int:
    """Shards and their index. Returns the bytes of all tensors."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    shards: list[dict[str, tuple[int, ...]]] = [{}]
    held = 0
    for name, shape in shapes.items():
        size = 2 * _product(shape)
        if held + size > SHARD_BYTES and shards[-1]:
            shards.append({})
            held = 0
        shards[-1][name] = shape
        held += size
    total, weight_map = 0, {}
    for number, shard in enumerate(shards, 1):
        file = f"model-{number:05d}-of-{len(shards):05d}.safetensors"
        total += write_shard(folder / file, shard, generator)
        weight_map |= dict.fromkeys(shard, file)
    index = {"metadata": {"total_size": total}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return total


def write_shard(path: Path, shapes: dict[str, tuple[int, ...]], generator: Any) -> int:
    """One safetensors file of bfloat16 tensors, never held in memory. Returns the bytes of its tensors."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    at = 0
    for name, shape in shapes.items():
        end = at + 2 * _product(shape)
        header[name] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [at, end]}
        at = end
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as out:
        out.write(struct.pack("<Q", len(text)) + text)
        for name, shape in shapes.items():
            for block in blocks(name, _product(shape), generator):
                out.write(block)
    return at


def blocks(name: str, count: int, generator: Any) -> Iterator[bytes]:
    """`count` values of a tensor, some at a time: ones for a norm, else N(0, SCALE)."""
    import torch

    is_norm = "norm" in name
    for start in range(0, count, BLOCK):
        number = min(BLOCK, count - start)
        drawn = torch.ones(number) if is_norm else torch.randn(number, generator=generator) * SCALE
        yield drawn.bfloat16().view(torch.int16).numpy().tobytes()


def _product(shape: tuple[int, ...]) -> int:
    count = 1
    for size in shape:
        count *= size
    return count


# --- the check ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Sample:
    """The memory of the check and of the processes it started, at one moment."""

    at_s: float
    anonymous_bytes: int
    file_bytes: int


def watch(process: subprocess.Popen[bytes]) -> list[Sample]:
    """Samples until the process ends."""
    begin = time.perf_counter()
    samples = []
    while process.poll() is None:
        held = [_resident(pid) for pid in family(process.pid)]
        anonymous, of_files = (sum(one[kind] for one in held) for kind in (0, 1))
        samples.append(Sample(time.perf_counter() - begin, anonymous, of_files))
        time.sleep(EVERY_S)
    return samples


def family(pid: int) -> list[int]:
    """A process and every process it started, directly or not, that still runs."""
    import psutil

    try:
        return [pid, *(child.pid for child in psutil.Process(pid).children(recursive=True))]
    except psutil.NoSuchProcess:
        return []


def _resident(pid: int) -> tuple[int, int]:
    try:
        text = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0, 0
    found = [re.search(rf"{key}:\s+(\d+) kB", text) for key in ("RssAnon", "RssFile")]
    anonymous, of_files = (1024 * int(one[1]) if one else 0 for one in found)
    return anonymous, of_files


def report(result: dict[str, Any], samples: list[Sample]) -> int:
    """Seconds and peak per probe, the peak of all, the verdict. Returns the peak in bytes."""
    runs = [run for run in result["runs"] if run["seconds"] > 0]
    seconds = [run["seconds"] for run in runs]
    ends = list(itertools.accumulate(seconds))
    offset = samples[-1].at_s - ends[-1]  # what comes before the first probe; what comes after the last is short
    print(f"{'probe':<24} {'of':<5} {'rung':<10} {'ended':<8} {'seconds':>8}  peak RssAnon (approx.)")
    for run, end, lasted in zip(runs, ends, seconds, strict=True):
        during = [s.anonymous_bytes for s in samples if end - lasted <= s.at_s - offset <= end]
        peak = f"{max(during) / GIB:.2f} GiB" if during else ""
        words = f"{run['probe']:<24} {run['subject']:<5} {run['level']:<10} {run['kind']:<8} {lasted:8.1f}  {peak}"
        print(f"{words}  {run.get('reason') or ''}".rstrip())
    peak = max(sample.anonymous_bytes for sample in samples)
    print(f"in all {samples[-1].at_s:.1f} s on {os.cpu_count()} cores, {len(samples)} samples of memory")
    print(f"peak RssAnon {peak / GIB:.2f} GiB of {TARGET_BYTES / GIB:.0f} GiB: {peak / TARGET_BYTES:.2f} x")
    print(
        f"peak RssFile {max(sample.file_bytes for sample in samples) / GIB:.2f} GiB (pages of files, dropped at need)"
    )
    verdict = result["verdict"]
    print(f"verdict: {verdict['outcome']}, strength {verdict['strength']}: {'; '.join(verdict['because'])[:2000]}")
    return peak


def check(folder: Path, options: list[str]) -> int:
    """Run the pair on what lies in `folder`. Returns the exit code: 0 where every executed probe ran, in the target."""
    words = [sys.executable, "-m", "wirecheck.cli", "pair", *(f"./{name}" for name in SIZES), "--device", "cpu"]
    words += ["--depth", "executed", "--require", "executed", "--json", "result.json", *options]
    print(" ".join(["wirecheck", *words[3:]]), flush=True)
    process = subprocess.Popen(words, cwd=folder, env=os.environ | {"PYTHONPATH": str(ROOT)}, stdout=subprocess.DEVNULL)
    try:
        samples = watch(process)
    finally:
        process.kill()
    if process.returncode not in VERDICTS:
        print(f"wirecheck ended with {process.returncode}", file=sys.stderr)
        return 1
    result = json.loads((folder / "result.json").read_text())
    peak = report(result, samples)
    left_out = [run for run in result["runs"] if run["level"] == "executed" and run["kind"] != "ran"]
    return 0 if peak < TARGET_BYTES and not left_out else 1


def main() -> int:
    """Write, check, print, remove."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", type=int, help="layers of each model, for a smaller trial; by default 32 and 28")
    parser.add_argument("--folder", type=Path, help="where to write; by default a new folder for temporary files")
    parser.add_argument("--keep", action="store_true", help="leave the weights there; a folder that has them is reused")
    parser.add_argument("options", nargs="*", help="handed to `wirecheck pair`")
    asked = parser.parse_args()
    if not Path("/proc/self/status").exists():
        parser.error("anonymous memory is read from /proc, which this system does not have")
    folder = asked.folder or Path(tempfile.mkdtemp(prefix="lean_pair_"))
    folder.mkdir(parents=True, exist_ok=True)
    made = [folder / name for name in SIZES if not (folder / name / "model.safetensors.index.json").exists()]
    try:
        return prepare(made, asked.layers) or check(folder, asked.options)
    finally:
        if not asked.keep:
            for name in SIZES:
                shutil.rmtree(folder / name, ignore_errors=True)
            if asked.folder is None:
                shutil.rmtree(folder, ignore_errors=True)


def prepare(folders: list[Path], layers: int | None) -> int:
    """Write the snapshots that are not there yet. Returns 1 where the disk has no room for them."""
    for folder in folders:
        write_config(folder.name, folder, layers)
    shapes = {folder: tensor_shapes(folder) for folder in folders}
    needed = sum(2 * _product(shape) for one in shapes.values() for shape in one.values()) + ROOM
    free = shutil.disk_usage(folders[0]).free if folders else needed
    if free < needed:
        place = folders[0].parent
        print(f"{place} has {free / 1e9:.1f} GB free and {needed / 1e9:.1f} GB are needed: --folder elsewhere")
        return 1
    for seed, (folder, named) in enumerate(shapes.items()):
        begin = time.perf_counter()
        written = write_weights(folder, named, seed)
        print(f"{folder.name}: {written:,} bytes written in {time.perf_counter() - begin:.0f} s", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
