"""The same settings asked of `accelerate estimate-memory` and hf-mem, beside wirecheck's trace and its formula.

    python benchmarks/vram_others.py [--hf-mem PATH] [--write]     prints the page; --write: to docs/vram-others.md

PATH: the command `hf-mem` in an environment of its own. Both tools read a hub: the recorded models of ../shared are
served to them from 127.0.0.1. Every figure comes from running the tool. Needs ../shared.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import cache, partial
from pathlib import Path
from typing import Literal, NamedTuple

import vram_accuracy as accuracy
from recorded_hub import SNAPSHOTS, files, hub, model_id, tensors

from wirecheck import zoo
from wirecheck.schema import TrainSpec, WireSpec
from wirecheck.vram.attention import Target
from wirecheck.vram.formula import MemoryShape, estimate
from wirecheck.vram.shape import read_shape
from wirecheck.vram.step import trace_step
from wirecheck.wires import pair_count

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "vram-others.md"
SIDES: tuple[Literal["a", "b"], ...] = ("a", "b")
ACCELERATE = (str(Path(sys.executable).with_name("accelerate")), "estimate-memory")
HF_MEM = """
import os, sys
from hf_mem.cli import main
client = next(one for name, one in vars(sys.modules["hf_mem.run"]).items() if name.startswith("httpx")).AsyncClient
build = client.build_request
client.build_request = lambda self, method, url, **rest: build(
    self, method, str(url).replace("https://huggingface.co", os.environ["HF_ENDPOINT"]), **rest)
main()
"""
"""hf-mem has the hub's address in its code: it is replaced, nothing else."""
HEAD = """# Beside other tools

Written by `python benchmarks/vram_others.py --hf-mem PATH --write`: GiB, error, seconds. The seconds of accelerate and
hf-mem are of a process for each model, those of trace and formula of a call in a running process. The formula has no
word for LoRA or for eager attention. accelerate is asked for 16 bits, hf-mem for a key-value cache of that batch and
length: neither can be told of a training step.
"""


class Setting(NamedTuple):
    """One step that every tool is asked about."""

    words: str
    models: tuple[str, ...]
    wire: WireSpec
    train: TrainSpec
    row: dict[str, str]
    """Of the measurement; empty for a pair, of which there is none."""

    @property
    def length(self) -> int:
        """Positions of a row."""
        return self.train.sequence_length(self.wire)


Tool = Callable[[Setting], tuple[float, float]]
"""From a setting to GiB and seconds."""


def run(*command: str) -> tuple[str, float]:
    """What it prints, and seconds. RuntimeError with the error it ends with."""
    begun = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        errors = [line for line in done.stderr.splitlines() if "rror" in line]
        raise RuntimeError(errors[-1].replace(str(ROOT.parent), "..").replace(os.environ["HF_ENDPOINT"], "http://hub"))
    return done.stdout, time.perf_counter() - begun


@cache
def accelerate(model: str) -> tuple[float, float, float]:
    """GiB to load it in 16 bits, GiB to train it with Adam, seconds."""
    told, seconds = run(*ACCELERATE, model_id(model), "--library_name", "transformers", "--dtypes", "float16")
    line = next(line for line in told.splitlines() if "float16" in line)
    sizes = [float(n) * 1024.0 ** ("KMGT".index(u) - 2) for n, u in re.findall(r"([\d.]+) ([KMGT])B", line)]
    return sizes[1], sizes[2], seconds


def hf_mem_command(command: str) -> tuple[str, ...]:
    """Up to the model's name."""
    return (str(Path(command).with_name("python")), "-W", "ignore", "-c", HF_MEM, "--model-id")


@cache
def hf_mem(command: str, batch: int, length: int, model: str) -> tuple[float, float]:
    """GiB of weights and of a key-value cache for these rows, and seconds."""
    words = ("--json-output", "--experimental", "--batch-size", str(batch), "--max-model-len", str(length))
    told, seconds = run(*hf_mem_command(command), model_id(model), *words)
    return json.loads(told)["total_memory"] / 2**30, seconds


def tools(command: str | None) -> dict[str, Tool]:
    """Name -> what answers for a setting."""

    def timed(ask: Callable[[Setting], int], setting: Setting) -> tuple[float, float]:
        begun = time.perf_counter()
        return ask(setting) / 2**30, time.perf_counter() - begun

    def of_each(ask: Callable[[str], tuple[float, ...]], setting: Setting, which: int = 0) -> tuple[float, float]:
        told = [ask(model) for model in setting.models]
        return sum(one[which] for one in told), sum(one[-1] for one in told)

    found: dict[str, Tool] = {"trace": partial(timed, trace), "formula": partial(timed, formula)}
    found |= {"accelerate, load": partial(of_each, accelerate)}
    found |= {"accelerate, Adam": partial(of_each, accelerate, which=1)}
    if command:
        found["hf-mem"] = lambda one: of_each(partial(hf_mem, command, one.train.batch, one.length), one)
    return found


def trace(one: Setting) -> int:
    """The traced peak."""
    if one.row:
        return accuracy.traced(one.row["model"], one.train.batch, one.length, attention(one.row))[0]
    auto = zoo.transformers_library().AutoConfig
    a, b = (auto.from_pretrained(SNAPSHOTS / model, local_files_only=True) for model in one.models)
    return trace_step({"a": a, "b": b}, one.wire, one.train, Target()).peak.bytes


def formula(one: Setting) -> int:
    """The formula's bytes: of a model's config and its weight files' headers alone."""
    shapes = []
    for side, model in zip(SIDES, one.models, strict=False):
        config = json.loads(files(model)["config.json"])
        made = read_shape(side, config, tensors(model), lambda _: None, one.train.dtype)
        assert isinstance(made, MemoryShape), f"{model} does not declare {made}"
        shapes.append(made)
    if not one.row:
        trained = pair_count(one.wire, *(made.hidden_size for made in shapes)).total
        return estimate(shapes[0], shapes[1], one.wire, one.train, trained).allocated_bytes
    adapted = [e for e in tensors(one.models[0]).values() if e.name.split(".")[-2] in accuracy.TARGETS and e.shape[1:]]
    trained = sum(accuracy.RANK * sum(entry.shape) for entry in adapted)
    return estimate(shapes[0], None, one.wire, one.train, trained).allocated_bytes


def attention(row: dict[str, str]) -> str:
    """As vram_accuracy.py reads it."""
    return "eager" if row["attn_impl"].startswith("eager") else "sdpa"


def measured() -> Iterator[Setting]:
    """The steps on a T4 that vram_accuracy.py predicts."""
    wire = WireSpec(name="none:none", latent_length=1)  # one of the user's own, of which the formula counts nothing
    for row in accuracy.rows()[0]:
        batch, length = int(row["batch"]), int(row["seq"])
        train = TrainSpec(batch=batch, context=length - 2, answer=1, dtype="float16", grad_checkpointing=True)
        words = f"{row['model'].rpartition('/')[2]}, {batch} x {length}, {attention(row)}"
        yield Setting(words, (accuracy.CONFIGS[row["model"]],), wire, train, row)


def pairs() -> Iterator[Setting]:
    """The recorded pairs of reports/, wired and trained as there."""
    for path in sorted((ROOT / "reports").glob("*+*.json")):
        report = json.loads(path.read_text(encoding="utf-8"))
        wire, train = WireSpec.model_validate(report["wire"]), TrainSpec.model_validate(report["train"])
        yield Setting(path.stem, (report["a"]["name"], report["b"]["name"]), wire, train, {})


def table(settings: list[Setting], asked: dict[str, Tool]) -> Iterator[str]:
    """Each setting, what each tool says, how far that is from the truth (else from the trace), and its seconds."""
    yield f"| step | measured | {' | '.join(asked)} |\n|{'---|' * (len(asked) + 2)}"
    errors = {name: list[float]() for name in asked}
    for setting in settings:
        cells, truth = [], float(setting.row.get("measured_gib", 0))
        for name, ask in asked.items():
            try:
                amount, seconds = ask(setting)
            except RuntimeError as why:
                cells.append(f"no answer: {why}")
                continue
            truth = truth or amount  # the trace goes first
            errors[name].append(amount / truth - 1)
            cells.append(f"{amount:.3f}, {errors[name][-1]:+.1%}, {seconds:.2f} s")
        yield f"| {setting.words} | {setting.row.get('measured_gib', '')} | {' | '.join(cells)} |"
    of_all = [f"{sum(map(abs, e)) / len(e):.1%}, worst {max(e, key=abs):+.1%}" if e else "" for e in errors.values()]
    yield f"| mean absolute error | | {' | '.join(of_all)} |"


def refusals(command: str | None) -> Iterator[str]:
    """What the tools say of what they cannot do, and all that can be told to them."""
    one, two = next(pairs()).models
    ours = {"accelerate": ACCELERATE} | ({"hf-mem": hf_mem_command(command)} if command else {})
    asked = {"a local folder": [str(SNAPSHOTS / one)], "two models": [model_id(one), model_id(two)]}
    for name, words in ours.items():
        for what, more in asked.items():
            try:
                yield f"- {name}, {what}: {run(*words, *more)[0]}"
            except RuntimeError as why:
                yield f"- {name}, {what}: `{why}`"
        options = sorted(set(re.findall(r"--[\w-]+", run(*words, model_id(one), "--help")[0])))
        yield f"- {name}: its options are {', '.join(options)}."


def page(command: str | None) -> Iterator[str]:
    """The whole page."""
    asked, settings = tools(command), list(measured())
    made = sorted({m for one in settings for m in one.models if not (SNAPSHOTS / m / "headers").is_dir()})
    yield (
        HEAD
        if command
        else f"{HEAD}\nhf-mem: not installed: pip install hf-mem (elsewhere), and name it with --hf-mem.\n"
    )
    yield f"No header is recorded of {', '.join(map(model_id, made))}: hf-mem is served one made from the class.\n"
    yield "## Steps measured on a Tesla T4 (error against the measured figure)\n"
    yield from table(settings, asked)
    yield "\n## Pairs (error against the trace)\n"
    yield from table(list(pairs()), asked)
    yield from ("\n## What they refuse\n", *refusals(command))


def main() -> None:
    """Prints the page, or writes it."""
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--hf-mem", metavar="PATH")
    asked.add_argument("--write", action="store_true")
    told = asked.parse_args()
    if not SNAPSHOTS.is_dir():
        sys.exit("../shared is not here: nothing to compare with")
    with hub():
        text = "\n".join(page(told.hf_mem)) + "\n"
    if told.write:
        PAGE.write_text(text, encoding="utf-8")
    else:
        print(text, end="")


if __name__ == "__main__":
    main()
