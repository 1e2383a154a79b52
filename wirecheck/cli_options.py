"""The options that the checking commands share, each declared once."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from wirecheck.schema import Level
from wirecheck.wires import WIRES

RUNGS = ", ".join(Level)

MODEL = "Hub id (org/name, org/name@revision), a folder, or a .gguf file."

Model = Annotated[str, typer.Argument(help=MODEL, show_default=False)]
Json = Annotated[str | None, typer.Option(metavar="PATH|-", help="Write the result as JSON; - is stdout.")]
Report = Annotated[
    list[Path] | None,
    typer.Option(metavar="PATH", help="Write a report: .md, .html, .xml (JUnit) or .sarif. Repeatable."),
]

Claims = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="What an earlier report said, to compare with: a result's JSON, or a .toml of figures.",
    ),
]
Template = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Your own template for the .md and .html reports, or of any other text."),
]
Pictures = Annotated[
    Path | None,
    typer.Option(metavar="FOLDER", help="Write the report's pictures there as SVG; .md reports show them."),
]

REPORTS_OF_TABLES = ".md or .html"
ReportOfTables = Annotated[
    list[Path] | None, typer.Option(metavar="PATH", help=f"Write a report: {REPORTS_OF_TABLES}. Repeatable.")
]
GateReport = Annotated[
    list[Path] | None,
    typer.Option(
        metavar="PATH",
        help="Write a report: .md, .html, .xml (JUnit), .sarif, .codequality.json (GitLab), .badge.svg or .badge.json. "
        "Repeatable.",
    ),
]
Baseline = Annotated[
    Path | None,
    typer.Option(
        metavar="OLD.json",
        help="An earlier gate's --json: tell what is new since. The exit code stays: a known block still blocks, and "
        "taking one upon yourselves is what [[gate.accepted]] is for.",
    ),
]


def _option(kind: Any, words: str, default: Any = None, *names: str, **more: Any) -> tuple[Any, Any]:
    return Annotated[kind, typer.Option(*names, help=words, **more)], default


SHARED: dict[str, tuple[Any, Any]] = {
    "depth": _option(Level | None, f"How far to go: {RUNGS}.", metavar="LEVEL", show_default="executed"),
    "require": _option(Level | None, "Rung the verdict must stand on.", metavar="LEVEL", show_default="simulated"),
    "wire": _option(
        str | None,
        f"A shipped wire ({', '.join(WIRES)}), or your own: a function of your code, which is run.",
        metavar="NAME|package.module:factory",
        show_default="bytes",
    ),
    "latent_length": _option(int | None, "Latent slots M.", show_default="32"),
    "latent_width": _option(int | None, "Width of a slot Z.", show_default="256"),
    "sentence_encoder": _option(
        str | None, "What the wire sentence-query reads with.", metavar="FOLDER", show_default=False
    ),
    "source_layer": _option(
        int | None, "Layer that the wire resampler reads.", metavar="N", show_default="two thirds of the depth"
    ),
    "batch": _option(int | None, "Rows of one step.", show_default="8"),
    "context": _option(int | None, "Text tokens beside the latent.", show_default="64"),
    "answer": _option(int | None, "Answer tokens.", show_default="64"),
    "dtype": _option(str | None, "The frozen models' dtype.", metavar="DTYPE", show_default="bfloat16"),
    "quantize": _option(
        str | None,
        "Linear layers of the frozen models quantized on load, in the memory's trace: nf4, nf4-dq, int8.",
        metavar="KIND",
        show_default="none",
    ),
    "grad_checkpointing": _option(bool, "The models recompute in backward.", False, "--grad-checkpointing"),
    "gpu": _option(list[str] | None, "GPU the step must fit on; auto: this machine's. Repeatable.", metavar="NAME[xN]"),
    "strict": _option(bool, "A warning counts as a block.", False, "--strict"),
    "prove_offline": _option(
        bool, "Load everything once more where sockets are refused; requires executed.", False, "--prove-offline"
    ),
    "trust_remote_code": _option(bool, "Let code of the model's repository run.", False, "--trust-remote-code"),
    "device": _option(str | None, "Where real weights run: cpu, cuda, mps.", metavar="DEVICE", show_default="auto"),
    "offline": _option(bool, "Use the cache only.", False, "--offline"),
    "json": (Json, None),
    "report": (Report, None),
    "seed": _option(int, "Seed of twins, wires and samples.", 0, min=0),
    "config": _option(Path | None, "A wirecheck.toml; options win over it.", metavar="FILE"),
}
"""Each shared option: its annotation and its default (None: not given)."""


SHOWN: dict[str, tuple[Any, Any]] = {
    "json": (Json, None),
    "report": (Report, None),
    "template": (Template, None),
    "pictures": (Pictures, None),
    "claim": (Claims, None),
}
"""What becomes of a result."""
CHECK: dict[str, tuple[Any, Any]] = SHARED | SHOWN
"""The options of `pair` and `model`."""
OF_FIT = (
    *("wire", "latent_length", "latent_width", "sentence_encoder", "source_layer", "batch", "context", "answer"),
    *("dtype", "quantize", "grad_checkpointing", "gpu", "trust_remote_code", "offline", "json", "seed", "config"),
)
"""The shared options that say what is asked of `fit`: those of the step, and where to find the models."""
FIT: dict[str, tuple[Any, Any]] = {name: SHARED[name] for name in OF_FIT} | {
    "gpu": _option(
        list[str] | None,
        "GPU to ask about; auto: this machine's. Repeatable.",
        metavar="NAME[xN]",
        show_default="eight kinds from T4 to H200",
    ),
    "report": (ReportOfTables, None),
    "curve": _option(bool, "The largest batch at more contexts too, up to the models' last.", False, "--curve"),
    "jobs": _option(int | None, "Processes at a time.", min=1, show_default="one per CPU"),
}
"""The options of `fit`."""
MATRIX: dict[str, tuple[Any, Any]] = SHARED | {
    "against": _option(str | None, "Only the pairs of that model.", metavar="MODEL"),
    "only": _option(list[str] | None, "Only models whose name or id matches. Repeatable.", metavar="PATTERN"),
    "top": _option(int | None, "Rank that many of the best pairs.", min=1, show_default="25"),
    "reports": _option(Path | None, "Write a report of each of the best pairs there.", metavar="FOLDER"),
    "from_file": _option(Path | None, "More models, one on each line; - is stdin.", None, "--from", metavar="FILE"),
    "jobs": _option(int | None, "Processes at a time.", min=1, show_default="one per CPU"),
    "model_seconds": _option(float, "Longest that one model's probes may take.", 1800.0, min=1.0),
    "pair_seconds": _option(float, "Longest that one pair's probes may take.", 900.0, min=1.0),
    "memory_limit": _option(float, "Gigabytes that one process may take.", 8.0, min=0.5),
    "fresh": _option(bool, "Run everything, whatever an earlier run found.", False, "--fresh"),
    "executor": _option(str, "Where probes run: local processes, or elements of Slurm's arrays (slurm).", "local"),
    "run": _option(
        Path | None, "Folder of the run that every node sees.", metavar="FOLDER", show_default="in wirecheck-runs/"
    ),
    "attach": _option(Path | None, "Go on with the run in that folder, whoever began it.", metavar="FOLDER"),
    "cancel": _option(bool, "Take the jobs of the run of --attach out of the queue.", False, "--cancel"),
    "slurm_partition": _option(str | None, "Partition.", metavar="NAME", show_default="the cluster's"),
    "slurm_minutes": _option(int | None, "Time limit of an element.", min=1, show_default="60"),
    "slurm_cpus": _option(int | None, "CPUs of an element.", min=1, show_default="1"),
    "slurm_gpus": _option(int | None, "GPUs of an element.", min=0, show_default="0"),
    "slurm_memory": _option(str | None, "Memory of an element: 8G.", metavar="SIZE", show_default="the cluster's"),
    "slurm_array": _option(int | None, "Elements that run at once.", min=1, show_default="100"),
    "slurm_chunk": _option(int | None, "Pieces of work of an element.", min=1, show_default="so that all run"),
    "slurm_option": _option(list[str] | None, "Any other option of sbatch. Repeatable.", metavar="KEY=VALUE"),
    "report": (
        Annotated[
            list[Path] | None,
            typer.Option(metavar="PATH", help="Write a report: .md, .html, .csv, .jsonl or .parquet. Repeatable."),
        ],
        None,
    ),
}
"""The options of `matrix`."""


def shared(command: Callable[..., None]) -> Callable[..., None]:
    """Give `command`, which takes `**options`, the options of a check in the signature that typer reads."""
    return _with(command, CHECK)


def of_result(command: Callable[..., None]) -> Callable[..., None]:
    """Give `command`, which takes `**options`, what becomes of a result."""
    return _with(command, SHOWN)


def of_matrix(command: Callable[..., None]) -> Callable[..., None]:
    """Give `command`, which takes `**options`, the options of `matrix`."""
    return _with(command, MATRIX)


def of_fit(command: Callable[..., None]) -> Callable[..., None]:
    """Give `command`, which takes `**options`, the options of `fit`."""
    return _with(command, FIT)


def _with(command: Callable[..., None], given: dict[str, tuple[Any, Any]]) -> Callable[..., None]:
    written = inspect.signature(command, eval_str=True).parameters.values()
    own = [parameter for parameter in written if parameter.kind is not parameter.VAR_KEYWORD]
    options = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)
        for name, (annotation, default) in given.items()
    ]
    command.__signature__ = inspect.Signature([*own, *options])  # type: ignore[attr-defined]
    return command
