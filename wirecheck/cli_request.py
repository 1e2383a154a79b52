"""From what the user typed to a Request: options over wirecheck.toml over the defaults."""

from __future__ import annotations

import difflib
import shlex
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from wirecheck.bounded_text import bounded_text
from wirecheck.errors import UsageError
from wirecheck.expectations import KNOWN_KEYS
from wirecheck.runner import Request
from wirecheck.schema import Policy, TrainSpec, WireSpec
from wirecheck.vram.gpus import find, parse_gpu
from wirecheck.wires import WIRES
from wirecheck.wires.own import FORM, check_form

MOST_SEED = 2**32 - 1
"""Probes count on from the seed, and a generator takes 64 bits."""

OPTIONS: dict[str, tuple[str, str]] = {
    "--wire": ("wire", "name"),
    "--latent-length": ("wire", "latent_length"),
    "--latent-width": ("wire", "latent_width"),
    "--sentence-encoder": ("wire", "sentence_encoder"),
    "--source-layer": ("wire", "source_layer"),
    "--batch": ("train", "batch"),
    "--context": ("train", "context"),
    "--answer": ("train", "answer"),
    "--dtype": ("train", "dtype"),
    "--quantize": ("train", "quantize"),
    "--grad-checkpointing": ("train", "grad_checkpointing"),
    "--depth": ("policy", "depth"),
    "--require": ("policy", "required"),
    "--gpu": ("policy", "gpus"),
    "--strict": ("policy", "strict"),
    "--trust-remote-code": ("policy", "trust_remote_code"),
    "--prove-offline": ("policy", "prove_offline"),
    "--device": ("policy", "device"),
}
"""Where each option's value goes: one table for parsing, overriding and printing the command again."""


class Settings(BaseModel):
    """A wirecheck.toml: three tables, each the record of its name."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    wire: WireSpec = WireSpec()
    """The wire to be trained."""
    train: TrainSpec = TrainSpec()
    """The step, as it will be run."""
    policy: Policy = Policy()
    """What must hold before `compatible` is said."""


def read_config(path: Path) -> dict[str, dict[str, Any]]:
    """The tables of a wirecheck.toml, without those that only a gate reads. Raises UsageError with what is wrong."""
    try:
        tables = tomllib.loads(bounded_text(path))
        return {name: table for name, table in tables.items() if name not in ("models", "gate")}
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror or error}", next_step="name a file that exists") from None
    except (ValueError, RecursionError) as error:  # also a number of thousands of digits, or deep nesting
        raise UsageError(f"{path}: not TOML: {error}", next_step="mend the file, or leave --config out") from None


def request(verb: str, models: Sequence[str], options: Mapping[str, Any], *, seed: int, config: Path | None) -> Request:
    """The request of one command line. `options` maps each option to its value, None where it was not given."""
    if seed > MOST_SEED:
        raise UsageError(f"--seed {seed}: past what a generator takes", next_step=f"give one from 0 to {MOST_SEED}")
    given = {
        option: value for option, value in options.items() if value is not None and value is not False and value != []
    }
    if given.get("--gpu"):
        given["--gpu"] = tuple(parse_gpu(text) for text in given["--gpu"])
    tables = read_config(config) if config else {}
    for option, value in given.items():
        table, key = OPTIONS[option]
        section = tables.setdefault(table, {})
        if isinstance(section, dict):
            section[key] = value
    try:
        settings = Settings.model_validate(tables)
    except ValidationError as error:
        raise UsageError(_first(error, config), next_step=_next_step(error)) from None
    known_wire(settings.wire)
    _one_model_only(verb, settings.policy)
    for expected in settings.policy.expectations:
        if expected.key not in KNOWN_KEYS:
            near = difflib.get_close_matches(expected.key, KNOWN_KEYS, n=1, cutoff=0) or sorted(KNOWN_KEYS)[:1]
            raise UsageError(
                f"expectation {expected.key}: no probe establishes it", next_step=f"did you mean {near[0]}?"
            )
    for gpu in settings.policy.gpus:
        find(gpu.name)
    if settings.policy.prove_offline:
        settings = settings.model_copy(update={"policy": settings.policy.also_offline})
    words = ["wirecheck", verb, *models, *_words(options)]
    words += ["--seed", str(seed)] if seed else []
    words += ["--config", str(config)] if config else []
    return Request(
        wire=settings.wire, train=settings.train, policy=settings.policy, seed=seed, command=shlex.join(words)
    )


def known_wire(wire: WireSpec) -> None:
    """UsageError where the name is no shipped wire's and cannot be that of the user's own. Nothing of it is run."""
    if wire.is_own or "." in wire.name or "/" in wire.name:
        check_form(wire.name)
        return
    if wire.name not in WIRES:
        near = difflib.get_close_matches(wire.name, WIRES, n=1)
        guess = f"did you mean {near[0]}? " if near else ""
        raise UsageError(
            f"--wire {wire.name}: wirecheck ships no wire of that name",
            next_step=f"{guess}use one of {', '.join(WIRES)}, or your own as {FORM}",
        )
    if wire.name == "sentence-query" and wire.sentence_encoder is None:
        raise UsageError(
            "--wire sentence-query: it reads the source with a frozen sentence encoder, and none is named",
            next_step="give its folder: --sentence-encoder FOLDER",
        )
    if wire.options:
        names = ", ".join(name for name, _ in wire.options)
        raise UsageError(
            f"wire.options ({names}): the shipped wire {wire.name} has none; they are for a wire of your own",
            next_step=f'name yours, name = "{FORM}", or leave [wire.options] out',
        )


def _one_model_only(verb: str, policy: Policy) -> None:
    asked = {expected.subject for expected in policy.expectations} | {pin.subject for pin in policy.pins}
    if verb == "model" and "b" in asked:
        raise UsageError(
            "policy: an expectation or a pin speaks of model b, and `wirecheck model` has only a",
            next_step='say subject = "a", or check the pair',
        )


def _words(options: Mapping[str, Any]) -> list[str]:
    words: list[str] = []
    for option, value in options.items():
        if value is True:
            words.append(option)
        elif isinstance(value, list):
            for one in value:
                words += [option, str(one)]
        elif value is not None and value is not False:
            words += [option, str(value)]
    return words


def _first(error: ValidationError, config: Path | None) -> str:
    """The first thing that does not validate, as the user wrote it: option or key, what was given, what is allowed."""
    problem = error.errors()[0]
    place = ".".join(str(part) for part in problem["loc"])
    by_place = {f"{table}.{key}": option for option, (table, key) in OPTIONS.items()}
    given, words = problem["input"], problem["msg"].lower()
    if place.startswith("wire.options."):
        place, words = "wire.options", "each has a name and is a number, a text or true or false"
    elif problem["type"] == "extra_forbidden":
        words = "no such key" if "." in place else "no such table"
    where = f"{config}: {place}" if config else by_place.get(place, place)
    return f"{where}: {words} (given: {str(given)[:80]!r})"


def _next_step(error: ValidationError) -> str:
    """The nearest name where one is not known; else where to read on."""
    problem = error.errors()[0]
    tables = {name: field.annotation for name, field in Settings.model_fields.items()}
    *above, last = map(str, problem["loc"])
    known = tables if not above else getattr(tables.get(above[0]), "model_fields", {}) if len(above) == 1 else {}
    if problem["type"] == "extra_forbidden" and known:
        near = difflib.get_close_matches(last, known, n=1, cutoff=0.5)
        where = f"[{above[0]}] knows" if above else "the tables are"
        return f"did you mean {near[0]}?" if near else f"{where} {', '.join(known)}"
    return "see `wirecheck pair --help` for what is allowed"
