"""The trace against published measurements: LoRA steps on a T4, in float16 and on 4-bit weights (`peaks.csv`).

    python benchmarks/vram_accuracy.py [--write]     prints the table; --write puts it into docs/vram-accuracy.md

Nothing is fitted: no constant of wirecheck comes from these rows' allocated or reserved bytes. (The context of a T4 is
from the same author's readings, so process bytes are not scored.) Needs ../shared; rows left out are counted, with why.
"""

from __future__ import annotations

import argparse
import csv
import re
import sys
import time
from pathlib import Path

import torch
from torch import Tensor, nn

from wirecheck import zoo
from wirecheck.vram.allocator import replay
from wirecheck.vram.attention import Target
from wirecheck.vram.gpus import find
from wirecheck.vram.live import Tracer, tracing
from wirecheck.vram.overheads import overheads
from wirecheck.vram.quantized import FourBit, Scheme, quantize

ROOT = Path(__file__).parents[1]
SHARED = ROOT.parent / "shared"
PAGE = ROOT / "docs" / "vram-accuracy.md"
CONFIGS = {
    "TinyLlama/TinyLlama-1.1B-Chat-v1.0": "TinyLlama__TinyLlama-1.1B-Chat-v1.0",
    "HuggingFaceTB/SmolLM2-135M": "HuggingFaceTB__SmolLM2-135M-Instruct",
    "Qwen/Qwen2.5-1.5B-Instruct": "Qwen__Qwen2.5-1.5B-Instruct",
}
"""Model -> the recorded config of the same shape."""
_SMOL = {"vocab_size": 49152, "tie_word_embeddings": True, "max_position_embeddings": 8192}
SHAPES: dict[str, dict[str, object]] = {
    "HuggingFaceTB/SmolLM2-360M": _SMOL
    | {"hidden_size": 960, "intermediate_size": 2560, "num_hidden_layers": 32}
    | {"num_attention_heads": 15, "num_key_value_heads": 5},
    "HuggingFaceTB/SmolLM2-1.7B": _SMOL
    | {"hidden_size": 2048, "intermediate_size": 8192, "num_hidden_layers": 24}
    | {"num_attention_heads": 32, "num_key_value_heads": 32},
}
"""Model -> what its publisher says of it, where no config is recorded; of type llama."""
RANK, TARGETS = 32, ("q_proj", "k_proj", "v_proj", "o_proj")
T4 = Target(capability=(7, 5))


class Lora(nn.Module):
    """y = W x + B A x, A and B in float32 as peft keeps them beside float16 weights."""

    def __init__(self, base: nn.Linear) -> None:
        super().__init__()
        self.base = base
        self.down = nn.Linear(base.in_features, RANK, bias=False, device="meta")
        self.up = nn.Linear(RANK, base.out_features, bias=False, device="meta")

    def forward(self, x: Tensor) -> Tensor:
        """As peft's `Linear.forward` without dropout."""
        result = self.base(x)
        if isinstance(self.base, FourBit):
            result = result.clone()  # as peft does for 4-bit layers alone
        dtype = result.dtype
        result = result + self.up(self.down(x.to(self.down.weight.dtype))) * 2.0
        return result.to(dtype)


def prepared(model: nn.Module) -> None:
    """4-bit linear layers, all else in float32: transformers' loader, then peft's `prepare_model_for_kbit_training`."""
    quantize(model, Scheme("4-bit", compute=torch.float16))
    for parameter in model.parameters():
        if parameter.dtype is torch.float16:
            parameter.data = parameter.data.float()


def traced(model_name: str, batch: int, length: int, attention: str, *, four_bits: bool) -> tuple[int, int, int]:
    """Peak allocated and reserved bytes of two steps; the latter too with addresses of segments that go up."""
    auto = zoo.transformers_library().AutoConfig
    if model_name in CONFIGS:
        place = SHARED / "assets" / "snapshots" / CONFIGS[model_name]
        config = auto.from_pretrained(place, local_files_only=True)
    else:
        config = auto.for_model("llama", **SHAPES[model_name])
    config._attn_implementation = attention
    model = zoo.still(zoo.build(config, device="meta", dtype=torch.float16))
    if four_bits:
        prepared(model)
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if name in TARGETS and isinstance(child, nn.Linear):
                setattr(parent, name, Lora(child))
    with zoo.quiet():
        model.gradient_checkpointing_enable({"use_reentrant": False})
        model.enable_input_require_grads()
        model.train()
    trained = [p for p in model.parameters() if p.requires_grad]
    update = torch.optim.AdamW(trained, foreach=True)
    tracer = Tracer(T4)
    tracer.hold([*model.parameters(), *model.buffers()], "weights")

    def step() -> None:
        ids = torch.ones(batch, length, dtype=torch.long).to("meta")
        output = model(input_ids=ids, labels=ids, use_cache=False)
        output.loss.backward()  # the output, logits and all, is held until the step ends
        update.step()
        update.zero_grad(set_to_none=True)

    with tracing(tracer), zoo.quiet():
        step()
        step()
    beside = overheads(find("T4")).workspace_bytes
    held, other = (replay(tracer.ledger.events, ascending=up) for up in (False, True))
    return held.block_bytes + beside, held.reserved_bytes + beside, other.reserved_bytes + beside


def rows() -> tuple[list[dict[str, str]], dict[str, int]]:
    """The rows that are predicted, and how many were left out for which reason."""
    kept, left = [], dict[str, int]()
    with (SHARED / "ground_truth" / "peaks.csv").open(encoding="utf-8") as file:
        for row in csv.DictReader(file):
            why = left_out(row)
            if why:
                left[why] = left.get(why, 0) + 1
            else:
                kept.append(row)
    return kept, left


def left_out(row: dict[str, str]) -> str | None:
    """Why a row is not predicted; None where it is."""
    source = row["source"]
    for name, why in {
        "Qwen README": "Qwen (1) is remote code under DeepSpeed; the tool that read the figure is not stated",
        "litgpt": "litgpt's own model code, lengths given as a bound only; 13 are in [vram-rows](vram-rows.md)",
        "torchtune": "torchtune's own model code, compiled",
        "Liger": "single operations, not steps; 32 are in [vram-rows](vram-rows.md)",
    }.items():
        if name in source:
            return why
    if row["model"] not in CONFIGS | SHAPES:
        return "no config of that model is recorded here, and no shape"
    if "repeat" in row["notes"]:
        return "a repeat of another row"
    return None


Errors = dict[str, list[float]]


def table() -> str:
    """The whole page."""
    kept, left = rows()
    begun = time.perf_counter()
    pages = [
        _rows([row for row in kept if ("nf4" in row["dtype"]) == four_bits], four_bits=four_bits)
        for four_bits in (False, True)
    ]
    print(f"{len(kept)} rows in {time.perf_counter() - begun:.1f} s", file=sys.stderr)
    (whole, plain), (packed, narrow) = pages
    return "\n".join(
        [
            "# Accuracy of the memory trace",
            "",
            "Written by `python benchmarks/vram_accuracy.py --write`. LoRA (rank 32 on q, k, v, o), AdamW, with",
            "checkpointing, on a Tesla T4, measured by the makers of fitcheck-llm; GiB. Their loop is published",
            "(`scripts/measure.py` of Anassbzdd/fitcheck) and was repeated: the model's output is held until the step",
            "ends, there is no dropout and no mask. Allocated is torch's `max_memory_allocated`, which counts whole",
            "blocks. No constant was fitted to these rows. One rule was told from those in float16, and is in no",
            "source: of two free blocks of one size the allocator takes the one whose segment was got last, as if",
            "the driver's addresses went down. It moves no allocated figure; for it the reserved ones of float16 are",
            "no test of their own. No row says that it ran out of memory; such rows are in [vram-rows](vram-rows.md).",
            "",
            "## float16 weights",
            "",
            *_summary(plain),
            "",
            *whole,
            "",
            "## 4-bit weights",
            "",
            "nf4 by bitsandbytes, computed in float16, all else in float32 as peft prepares it. What such layers hold",
            "and make is from bitsandbytes' source; these rows were compared once that was written, and changed",
            "nothing in it. What loading leaves behind in the allocator is not replayed (the layers are quantized one",
            "by one on the GPU): reserved figures of one setting differ by up to 7 % between the makers' own runs. The",
            "worst reserved row is over, by one segment that the replay finds no room for in those it has.",
            "",
            *_summary(narrow),
            "",
            *packed,
            "",
            "## Left out",
            "",
            "| rows | why |",
            "|---|---|",
            *(f"| {count} | {why} |" for why, count in sorted(left.items(), key=lambda pair: -pair[1])),
            "",
        ]
    )


def _rows(kept: list[dict[str, str]], *, four_bits: bool) -> tuple[list[str], Errors]:
    """The table of those rows, and the errors: allocated, reserved, and reserved were addresses to go up."""
    lines = [
        "| model | batch x length | attention | allocated | traced | error | reserved | replayed | error |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    errors: Errors = {"allocated": [], "reserved": [], "upwards": []}
    for row in kept:
        attention = "eager" if row["attn_impl"].startswith("eager") else "sdpa"
        made = traced(row["model"], int(row["batch"]), int(row["seq"]), attention, four_bits=four_bits)
        peak, reserved, other = (one / 2**30 for one in made)
        truth = float(row["measured_gib"])
        found = re.search(r"peak_reserved_mib=(\d+)", row["notes"])
        assert found is not None, row
        held = int(found[1]) / 1024
        for name, error in zip(errors, (peak / truth, reserved / held, other / held), strict=True):
            errors[name].append(error - 1)
        name = row["model"].rpartition("/")[2]
        lines.append(
            f"| {name} | {row['batch']} x {row['seq']} | {attention} | {truth:.3f} | {peak:.3f} | "
            f"{peak / truth - 1:+.1%} | {held:.3f} | {reserved:.3f} | {reserved / held - 1:+.1%} |"
        )
    return lines, errors


def _summary(errors: Errors) -> list[str]:
    said = {
        name: f"mean absolute error {sum(map(abs, e)) / len(e):.1%}, from {min(e):+.1%} to {max(e):+.1%}"
        for name, e in errors.items()
    }
    count = len(errors["allocated"])
    return [
        f"- Allocated: {count} rows, {said['allocated']}.",
        f"- Reserved: {count} rows, {said['reserved']}. (Were addresses to go up: {said['upwards']}.)",
    ]


def main() -> int:
    """Prints the page, or writes it."""
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("--write", action="store_true")
    write = asked.parse_args().write
    if not (SHARED / "ground_truth" / "peaks.csv").is_file():
        print("../shared/ground_truth/peaks.csv is not here: nothing to compare with", file=sys.stderr)
        return 1
    page = table()
    if write:
        PAGE.write_text(page, encoding="utf-8")
    else:
        print(page)
    return 0


if __name__ == "__main__":
    sys.exit(main())
