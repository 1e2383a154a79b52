"""The trace against what others measured on an A100: Liger's benchmark of single operations, litgpt's resource tables.

    python benchmarks/vram_rows.py [--litgpt PYTHON] [--write]     prints the page; --write: to docs/vram-rows.md

PYTHON: the interpreter of an environment that has litgpt, with the torch that this project has; without it litgpt's
rows are not run. Needs ../shared. Nothing is fitted.
"""

from __future__ import annotations

import argparse
import csv
import importlib
import inspect
import json
import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812

from wirecheck.vram.attention import Target
from wirecheck.vram.live import Block, Event, Ledger, Tracer, tracing

ROOT = Path(__file__).parents[1]
ROWS = ROOT.parent / "shared" / "ground_truth" / "peaks.csv"
PAGE = ROOT / "docs" / "vram-rows.md"
A100 = Target(capability=(8, 0))
ROUNDS = 3
"""Calls of an operation: from the second on its gradients are there, as in nine of Liger's ten."""
Row = dict[str, str]
Step = Callable[[], object]

# --- Liger: what the benchmark/scripts/benchmark_*.py of that time made and ran for the provider huggingface ----------


def meta(*shape: int, dtype: torch.dtype = torch.bfloat16, trained: bool = True) -> Any:
    """A tensor without data."""
    return torch.empty(shape, dtype=dtype, device="meta", requires_grad=trained)


def cross_entropy(V: int, B: int, T: int) -> Step:  # noqa: N803  # Liger's names, as in all that follow
    """torch's loss on float32 logits."""
    x, target = meta(B * T, V, dtype=torch.float32), meta(B * T, dtype=torch.long, trained=False)
    loss: Any = F.cross_entropy
    return lambda: loss(x, target).backward()


def fused_linear_cross_entropy(BT: int, H: int, V: int, **_: str) -> Step:  # noqa: N803
    """A head and torch's loss on bfloat16 logits; Liger's own head is there too. Both ways, whatever `mode` says."""
    x, target, heads = meta(BT, H), meta(BT, dtype=torch.long, trained=False), (meta(V, H), meta(V, H))
    loss: Any = F.cross_entropy
    return lambda: loss(F.linear(x, heads[0]), target).backward()


def mlp(T: int, hidden_size: int, intermediate_size: int, hidden_act: str, **batch: Any) -> Step:  # noqa: N803
    """LlamaMLP; the batch is called `B` or `bsz`."""
    from transformers import LlamaConfig
    from transformers.models.llama.modeling_llama import LlamaMLP

    config = LlamaConfig(hidden_size=hidden_size, intermediate_size=intermediate_size, hidden_act=hidden_act)
    with torch.device("meta"):
        layer: Any = LlamaMLP(config).to(torch.bfloat16)  # type: ignore[no-untyped-call]
    x = meta(batch["B"] if "B" in batch else batch["bsz"], T, hidden_size)

    def full() -> None:
        y = layer(x)
        y.backward(torch.randn_like(y), retain_graph=True)

    return full


def rms_norm(H: int, M: int, eps: float, **_: str) -> Step:  # noqa: N803
    """LlamaRMSNorm with its weight in float32; Liger's own norm is there too."""
    from transformers.models.llama.modeling_llama import LlamaRMSNorm

    with torch.device("meta"):
        norms = LlamaRMSNorm(H, eps=eps), LlamaRMSNorm(H, eps=eps)
    x, dy = meta(M, H), meta(M, H, trained=False)
    return lambda: norms[0](x).backward(dy, retain_graph=True)


def rope(num_q_heads: int, num_kv_heads: int, dtype: str, **size: int) -> Step:
    """apply_rotary_pos_emb on one row; transformers made the angles by a product of matrices then."""
    from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

    del dtype
    hidden, length = size.get("hidden_size", size.get("H", 0)), size.get("seq_len", size.get("T", 0))
    width = hidden // num_q_heads
    q, k = (meta(1, length, heads, width).transpose(1, 2) for heads in (num_q_heads, num_kv_heads))
    dq, dk = torch.empty_like(q, requires_grad=False), torch.empty_like(k, requires_grad=False)
    rates, places = meta(1, width // 2, 1, dtype=torch.float32, trained=False), meta(1, length, trained=False)
    angles = (rates @ places[:, None].float()).transpose(1, 2).repeat(1, 1, 2)
    cos, sin = angles.cos().bfloat16(), angles.sin().bfloat16()
    del angles

    def full() -> None:
        rotated = apply_rotary_pos_emb(q, k, cos, sin)
        torch.autograd.grad(rotated, (q, k), (dq, dk), allow_unused=True, retain_graph=True)

    return full


OPERATIONS = {"geglu": mlp, "swiglu": mlp} | {
    one.__name__: one for one in (cross_entropy, fused_linear_cross_entropy, rms_norm, rope)
}


def of_operation(row: Row) -> float:
    """GiB that the operation takes at most, with a workspace of cuBLAS for each thread that has multiplied matrices."""
    from wirecheck.vram.gpus import find
    from wirecheck.vram.overheads import cublas_workspace_bytes

    size, _, rest = row["seq"].partition(" ")
    name, _, value = size.partition("=")
    settings = json.loads(rest.replace(";", ",")) | {name: int(value)}
    tracer = Tracer(A100)
    with tracing(tracer):
        full = OPERATIONS[row["model"].removeprefix("op:")](**settings)
        with tracer.during("measured"):
            for _ in range(ROUNDS):
                full()
    peak = tracer.ledger.peak()
    assert peak.phase == "measured"
    threads = {block.part for block in tracer.ledger.blocks if re.search(r"::(add|b)?mm$", block.op)}
    return (peak.bytes + len(threads) * cublas_workspace_bytes(find("A100-80GB"))) / 2**30


def liger_page(rows: list[Row]) -> Iterator[str]:
    """Each row of the operations that transformers or torch ship."""
    errors = []
    yield "| operation | shape | measured | traced | error |\n|---|---|---|---|---|"
    for row in rows:
        truth, traced = float(row["measured_gib"]), of_operation(row)
        errors.append(traced / truth - 1)
        shape = row["seq"].replace("; ", ", ").replace('"', "").replace("torch.", "")
        name = row["model"].removeprefix("op:")
        yield f"| {name} | {shape} | {truth:.4f} | {traced:.4f} | {errors[-1]:+.1%} |"
    yield from ("", spread_of(errors))


MODELS = {"phi-1.5 1.3 B": "phi-1_5", "StableLM Alpha 3 B": "stablelm-base-alpha-3b", "Falcon 40 B": "falcon-40b"}
MODELS |= {f"Llama 2 {size} B": f"Llama-2-{size}b-hf" for size in (7, 13)}
Case = tuple[str, str, int, int]
"""Method, model, batch, and the length of the longest sample, which the scripts of that time force to be the first."""


def case_of(row: Row) -> Case:
    """From the row's words."""
    method = re.findall(r"with (.*) on 1 GPU", row["notes"])[0].lower().replace(" ", "_")
    return method, MODELS[row["model"]], int(row["batch"]), int(re.findall(r"\d+", row["seq"])[0])


def run_case(method: str, name: str, batch: int, length: int) -> dict[str, Any]:
    """What litgpt's finetune script does: forward, backward, the optimizer's step. In litgpt's interpreter."""
    fabric = importlib.import_module("lightning").Fabric(accelerator="cpu", devices=1, precision="bf16-true")
    loss = importlib.import_module("litgpt.utils").chunked_cross_entropy
    module = importlib.import_module(f"litgpt.{method}")
    script = importlib.import_module(f"litgpt.finetune.{method}")
    defaults = {key: one.default for key, one in inspect.signature(script.setup).parameters.items()}
    torch.set_default_dtype(torch.bfloat16)  # as fabric.init_module
    with torch.device("meta"):
        asked = {key: value for key, value in defaults.items() if key.startswith("lora_")}
        made = module.GPT(module.Config.from_name(name, **asked))
    torch.set_default_dtype(torch.float32)
    getattr(module, f"mark_only_{method}_as_trainable")(made)
    model = fabric.setup_module(made, move_to_device=False)  # whose forward makes the logits float32
    made.max_seq_length = length
    model.train()
    trained, tracer = [p for p in model.parameters() if p.requires_grad], Tracer(A100)
    update = torch.optim.AdamW(trained, foreach=True)
    tracer.hold([*model.parameters(), *model.buffers()], "weights")

    def iteration() -> None:
        ids = torch.ones(batch, length, dtype=torch.long).to("meta")
        *logits, last = model(ids, lm_head_chunk_size=128)
        fabric.backward(loss([*logits, last[..., :-1, :]], ids[..., 1:]))

    with tracing(tracer):
        iteration()
        update.step()
        update.zero_grad()
    return {"trained": sum(p.numel() for p in trained)} | asdict(tracer.ledger)


def child() -> None:
    """In litgpt's interpreter: cases from standard input; its versions and each answer as a line of JSON."""
    print(json.dumps({name: version(name) for name in ("litgpt", "lightning", "torch")}))
    for case in json.load(sys.stdin):
        print(json.dumps(run_case(*case)))


def ask(python: str, cases: list[Case]) -> list[dict[str, Any]]:
    """What litgpt's interpreter says: its versions, then each case. RuntimeError where it cannot."""
    words, env, told = ["-W", "ignore", __file__, "--child"], os.environ | {"PYTHONPATH": str(ROOT)}, json.dumps(cases)
    done = subprocess.run([python, *words], input=told, capture_output=True, text=True, check=False, env=env)
    if done.returncode:
        raise RuntimeError(f"{python} cannot run litgpt: {done.stderr.strip().splitlines()[-1]}")
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


def litgpt_page(rows: list[Row], python: str) -> Iterator[str]:
    """Each row that can be run: its peak beside the measured one, and what wirecheck would say of the GPU."""
    from wirecheck.vram.gpus import find
    from wirecheck.vram.plan import Plan, need_of
    from wirecheck.vram.step import Traced

    gpu, errors, agree, said = find("A100-40GB"), list[float](), 0, Counter[tuple[bool, str]]()
    cases = [case_of(row) for row in rows]
    versions, *answers = ask(python, cases)
    yield f"Run with {', '.join(f'{name} {number}' for name, number in versions.items())}, not with the code of 2023."
    yield "Traced is the first iteration: it forces the longest sample, whose length the tables state.\n"
    yield from ("| method | model | batch x length | measured | traced | error | on the GPU |", "|---" * 7 + "|")
    for row, case, answer in zip(rows, cases, answers, strict=True):
        blocks, events = [Block(**one) for one in answer["blocks"]], [Event(*one) for one in answer["events"]]
        ledger = Ledger(blocks, events)
        need = need_of(Traced(ledger, ledger.peak(), answer["trained"]), gpu)
        says, ran_out = Plan("", gpu, (need,)).outcome, row["measured_gib"].startswith("OOM")
        said[ran_out, says] += 1
        agree += answer["trained"] == int(row["params_trainable"])
        if not ran_out:
            errors.append(need.allocated / 2**30 / float(row["measured_gib"]) - 1)
        truth, error = ("out of memory", "") if ran_out else (row["measured_gib"], f"{errors[-1]:+.1%}")
        method, name, batch, length = case
        yield f"| {method} | {name} | {batch} x {length} | {truth} | {need.allocated / 2**30:.3f} | {error} | {says} |"
    yield from ("", f"- {spread_of(errors)}", f"- Trained scalars are those stated in {agree} of {len(rows)} rows.")
    for ran_out, words in ((True, "ran out of memory"), (False, "ran")):
        parts = [f"{count} {says}" for (out, says), count in sorted(said.items()) if out is ran_out]
        yield f"- wirecheck's answer on the rows that {words}: {', '.join(parts)}."


def spread_of(errors: list[float]) -> str:
    """Mean and worst error."""
    mean = sum(map(abs, errors)) / len(errors)
    return f"{len(errors)} rows, mean absolute error {mean:.1%}, worst {max(errors, key=abs):+.1%}."


def left_out(row: Row) -> str | None:
    """Why a row of these sources is not predicted; None where it is."""
    applies = {
        "torchtune: unpacked and no lengths stated, else compiled (packed rows: flex_attention)": "torchtune"
        in row["source"],
        "Liger: its own Triton kernels, of which a trace of torch sees nothing": row["attn_impl"] == "liger",
        "litgpt: generation, not a training step; the prompt's tokens are not stated": row["params_trainable"] == "0",
        "litgpt: FSDP over several GPUs is not traced": row["grad_ckpt"] == "FSDP",
        "litgpt: 4-bit weights are not traced": "bnb" in row["dtype"],
    }
    return next((why for why, applied in applies.items() if applied), None)


def page(python: str | None) -> Iterator[str]:
    """The lines of the whole page."""
    with ROWS.open(encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if re.search("Liger|litgpt|torchtune", row["source"])]
    kept = [row for row in rows if not left_out(row)]
    yield "# The trace against an A100\n"
    yield "Written by `python benchmarks/vram_rows.py --litgpt PYTHON --write`; GiB. Nothing was fitted to these rows."
    yield from ("", "## Single operations, A100-SXM4-80GB (Liger's benchmark, provider huggingface)", "")
    yield "Made and run as its scripts of that time did, with what they hold beside the operation.\n"
    yield from liger_page([row for row in kept if "Liger" in row["source"]])
    yield from ("", "## litgpt's resource tables, A100-SXM4-40GB", "")
    if python is None:
        yield "Not run: pip install litgpt into an environment of its own, and give its interpreter with --litgpt."
    else:
        yield from litgpt_page([row for row in kept if "litgpt" in row["source"]], python)
    yield from ("", "## Left out", "", "| rows | of them out of memory | why |", "|---|---|---|")
    left = Counter(left_out(row) for row in rows if row not in kept)
    for why, count in left.most_common():
        out = sum(row["measured_gib"].startswith("OOM") for row in rows if left_out(row) == why)
        yield f"| {count} | {out} | {why} |"


def main() -> None:
    """Prints the page, or writes it."""
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--litgpt", metavar="PYTHON")
    asked.add_argument("--write", action="store_true")
    told = asked.parse_args()
    if told.litgpt and not Path(told.litgpt).is_file():
        asked.error(f"there is no interpreter {told.litgpt}")
    elif not ROWS.is_file():
        sys.exit("../shared/ground_truth/peaks.csv is not here: nothing to compare with")
    elif told.write:
        PAGE.write_text("\n".join(page(told.litgpt)) + "\n", encoding="utf-8")
    else:
        print("\n".join(page(told.litgpt)))


if __name__ == "__main__":
    child() if sys.argv[1:] == ["--child"] else main()
