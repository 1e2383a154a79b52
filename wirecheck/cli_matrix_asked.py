"""From the command line of `wirecheck matrix` to what is asked: models by name, the question, limits, files."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from rich.text import Text

from wirecheck.bounded_text import bounded_text
from wirecheck.cli_console import stderr_console
from wirecheck.cli_gate_file import read_file, ref_of
from wirecheck.cli_matrix_slurm import attached, slurm_options
from wirecheck.cli_request import OPTIONS, request
from wirecheck.errors import UsageError
from wirecheck.matrix_asked import Asked, Output
from wirecheck.runner import Request
from wirecheck.views.words import visible

_NAME = 60
"""Characters of a name that a table bears."""


def gone_on_with(run: Path, models: Sequence[str], options: Mapping[str, Any]) -> Asked:
    """What the run in a folder, by its absolute path, was asked, with the files and the cluster's options given now."""
    _no_question(models, options)
    output, before = _output(options, absolute=True), attached(run)
    slurm = slurm_options(options, before.slurm or {})
    given = {key: value for key, value in output if value}
    return before.model_copy(
        update={
            "output": before.output.model_copy(update=given),
            "slurm": None if slurm is None else slurm.as_fields(),
        }
    )


def asked_of(models: Sequence[str], options: Mapping[str, Any]) -> Asked:
    """What the command line asks. Raises UsageError."""
    named = _only(_named(models, options), options["only"] or [], options["against"])
    if len(named) < 2:  # noqa: PLR2004
        raise UsageError("a matrix needs two models at least", next_step="name some, or give a list with --from FILE")
    request, slurm = _request(models, options), slurm_options(options)
    sided = [name for name in ("expectations", "pins", "locked", "accepted") if getattr(request.policy, name)]
    if sided:
        raise UsageError(
            f"{options['config']}: {sided[0]} of [policy] are of one side of one pair, and a matrix has none",
            next_step="leave them out, or name the models and what must hold of them in a file for wirecheck gate",
        )
    return Asked(
        folder=str(Path.cwd()),
        models=named,
        against=_against(named, options["against"]),
        offline=options["offline"],
        fresh=options["fresh"],
        wire=request.wire,
        train=request.train,
        policy=request.policy,
        seed=request.seed,
        command=request.command,
        jobs=options["jobs"],
        model_seconds=options["model_seconds"],
        pair_seconds=options["pair_seconds"],
        memory_bytes=int(options["memory_limit"] * 1e9),
        slurm=None if slurm is None else slurm.as_fields(),
        output=_output(options),
    )


def _no_question(models: Sequence[str], options: Mapping[str, Any]) -> None:
    """Raise UsageError where something is asked beside --attach, which goes on with what was asked."""
    asked = {option: options[option.removeprefix("--").replace("-", "_")] for option in OPTIONS}
    more = ("from_file", "only", "against", "config", "fresh", "run", "jobs", "offline")
    asked |= {f"--{name.removesuffix('_file')}": options[name] for name in more} | {"a model": list(models)}
    usual = {"executor": "local", "model_seconds": 1800.0, "pair_seconds": 900.0, "memory_limit": 8.0, "seed": 0}
    asked |= {f"--{name.replace('_', '-')}": True for name, value in usual.items() if options[name] != value}
    given = next((name for name, value in asked.items() if value not in (None, False, [])), None)
    if given is not None:
        raise UsageError(
            f"--attach goes on with what was asked, and {given} is given beside it",
            next_step="leave it out, or begin another run",
        )


def _output(options: Mapping[str, Any], *, absolute: bool = False) -> Output:
    """Where the files go; `absolute` where the command goes on in another folder."""

    def placed(path: Path | str) -> str:
        return str(Path(path).absolute() if absolute and str(path) != "-" else path)

    return Output(
        json_file=placed(options["json"]) if options["json"] else None,
        report=tuple(placed(path) for path in options["report"] or []),
        reports=placed(options["reports"]) if options["reports"] else None,
        top=options["top"],
    )


def _request(models: Sequence[str], options: Mapping[str, Any]) -> Request:
    asked = {option: options[option.removeprefix("--").replace("-", "_")] for option in OPTIONS}
    words = ["--from", str(options["from_file"])] if options["from_file"] else []
    words += ["--against", options["against"]] if options["against"] else []
    words += [word for pattern in options["only"] or [] for word in ("--only", pattern)] + list(models)
    return request("matrix", words, asked, seed=options["seed"], config=options["config"])


def _named(models: Sequence[str], options: Mapping[str, Any]) -> dict[str, str]:
    """Name -> id or folder: of the models named and listed; where there is none, of the file's own."""
    given = texts(models, options["from_file"])
    config: Path | None = options["config"]
    if given or config is None:
        return names_of(given)
    file, _ = read_file(config)
    unread = ["what is expected of models"] if any(model.expect for model in file.models.values()) else []
    unread += ["[gate]"] if file.gate.model_fields_set else []
    if unread:
        text = f"{config}: {' and '.join(unread)} is read by wirecheck gate, and not here"
        stderr_console().print(Text(visible(text), style="yellow"), soft_wrap=True)
    return {name: ref_of(model, config.parent, None) for name, model in file.models.items()}


def _only(named: Mapping[str, str], patterns: Sequence[str], against: str | None) -> dict[str, str]:
    """Those whose name or id one of the patterns matches, and the one all are held against; all where there is no
    pattern. Raises UsageError.
    """
    for pattern in patterns:
        if not any(_matches(pattern, name, text) for name, text in named.items()):
            raise UsageError(f"--only {pattern}: matches none of the models", next_step=_names(named))
    return {
        name: text
        for name, text in named.items()
        if not patterns or against in (name, text) or any(_matches(pattern, name, text) for pattern in patterns)
    }


def _matches(pattern: str, name: str, text: str) -> bool:
    return fnmatchcase(name, pattern) or fnmatchcase(text, pattern)


def _names(named: Mapping[str, str]) -> str:
    return f"use one of {', '.join(named)}"[:300]


def texts(models: Sequence[str], file: Path | None) -> list[str]:
    """The models named, those of a list last, each once. Raises UsageError."""
    listed: list[str] = []
    if file is not None:
        try:
            content = sys.stdin.read() if str(file) == "-" else bounded_text(file)
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"--from {file}: {error}", next_step="give a file with one model on each line") from None
        lines = (line.partition(" #")[0].strip() for line in content.splitlines())
        listed = [line for line in lines if line and not line.startswith("#")]
    return list(dict.fromkeys([*models, *listed]))


def names_of(given: Sequence[str]) -> dict[str, str]:
    """A short name for each text, no two alike."""
    named: dict[str, str] = {}
    for text in given:
        base = visible(text.rstrip("/").rpartition("/")[2] or text)[:_NAME]
        name, n = base, 2
        while name in named:
            name, n = f"{base}-{n}", n + 1
        named[name] = text
    return named


def _against(named: Mapping[str, str], asked: str | None) -> str | None:
    if asked is None:
        return None
    found = [name for name, text in named.items() if asked in (name, text)]
    if not found:
        raise UsageError(f"--against {asked}: is none of the models", next_step=_names(named))
    return found[0]
