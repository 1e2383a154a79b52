"""The command line: text to objects, call, objects to text, exit. No policy here."""

from __future__ import annotations

import os
import signal
import sys
import tempfile
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, NoReturn, TextIO, cast

import typer

from wirecheck import __version__
from wirecheck.cli_options import (
    Baseline,
    GateReport,
    Json,
    Model,
    ReportOfTables,
    of_fit,
    of_matrix,
    of_result,
    shared,
)
from wirecheck.cli_streams import (
    INTERRUPTED,
    Tolerant,
    exit_code_of,
    heeded_signals,
    is_interruption,
    is_refusal,
)
from wirecheck.errors import CouldNotCheck, WirecheckError

app = typer.Typer(
    name="wirecheck",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"wirecheck {__version__}")
        raise typer.Exit


@app.callback()
def common(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print it.")] = False,
) -> None:
    """Prove that two language models can be wired together before GPU hours are spent.

    Exit codes: 0 compatible, 1 incompatible, 3 unproven, 2 usage, 4 could not check, 5 a bug of ours.
    """


@app.command()
@shared
def pair(a: Model, b: Model, **options: Any) -> None:
    """Check that A and B can be wired: every probe on each, then the wire through both."""
    from wirecheck.cli_check import check_command

    raise typer.Exit(check_command("pair", [a, b], options))


@app.command()
@shared
def model(a: Model, **options: Any) -> None:
    """Check one model: config, weights, tokenizer, template, inputs_embeds."""
    from wirecheck.cli_check import check_command

    raise typer.Exit(check_command("model", [a], options))


@app.command()
@of_fit
def fit(a: Model, b: Model, **options: Any) -> None:
    """Find the largest batch, and the longest context, that GPUs hold of the pair's step.

    Every answer is traced, as the step is asked for, with --grad-checkpointing, with one model at a time, with both.
    Exits 0 when every GPU has an answer, 1 when none of them holds the step in any way, 3 when it could not be traced.
    """
    from wirecheck.cli_fit import fit_command

    raise typer.Exit(fit_command([a, b], options))


@app.command()
@of_matrix
def matrix(
    models: Annotated[list[str] | None, typer.Argument(metavar="MODEL", help="Two or more models.")] = None,
    **options: Any,
) -> None:
    """Judge every pair of many models: each is probed once, and of a pair only what needs both is run.

    Ctrl-C keeps what is finished, and a second run goes on there. Exits 0 when every pair is judged, whatever the
    verdicts; 4 when a model could not be read (the other pairs are judged all the same).
    """
    from wirecheck.cli_matrix import matrix_command

    raise typer.Exit(matrix_command(models or [], options))


@app.command()
def cache(clear: Annotated[bool, typer.Option("--clear", help="Take it all away.")] = False) -> None:
    """Say what earlier gates and matrices left in the cache folder, or clear it."""
    from wirecheck.cli_matrix import cache_command

    raise typer.Exit(cache_command(clear=clear))


@app.command()
def gate(
    file: Annotated[Path, typer.Argument(help="What must hold.", show_default=True)] = Path("wirecheck.toml"),
    *,
    json: Json = None,
    report: GateReport = None,
    baseline: Baseline = None,
    offline: Annotated[bool, typer.Option("--offline", help="Use the cache only.")] = False,
    fresh: Annotated[bool, typer.Option("--fresh", help="Run everything, whatever an earlier gate found.")] = False,
    locked: Annotated[bool, typer.Option("--locked", help="Refuse what is not as in the lock beside FILE.")] = False,
    prove_offline: Annotated[
        bool, typer.Option("--prove-offline", help="Load everything once more where sockets are refused.")
    ] = False,
    print_env: Annotated[
        bool, typer.Option("--print-env", help="Run nothing: print the variables to run the locked job under.")
    ] = False,
) -> None:
    """Say whether all that a wirecheck.toml asks for holds: in front of a job, or in CI.

    Exits 0 only when every pair is compatible; 1 when one is not, 4 when one could not be checked, 3 when one is not
    proven. What is unchanged since an earlier gate, to the byte, is not run again. In GitHub Actions it makes
    annotations and a step summary.
    """
    if print_env:
        from wirecheck.cli_lock import print_env as variables

        raise typer.Exit(variables(file))
    from wirecheck.cli_gate import gate_command

    options = {"json": json, "report": report, "baseline": baseline, "offline": offline, "fresh": fresh}
    options |= {"locked": locked, "prove_offline": prove_offline}
    raise typer.Exit(gate_command(file, options))


@app.command()
def fetch(
    file: Annotated[Path, typer.Argument(help="What must hold.", show_default=True)] = Path("wirecheck.toml"),
    locked: Annotated[bool, typer.Option("--locked", help="Fetch what is locked.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would come, and download no weights.")] = False,
) -> None:
    """Download what the gate and the job read of the hub's models: metadata and weights, nothing else.

    Room is made sure of first; a run that was cut off goes on where it stopped; a file counts only with the digest that
    the hub lists. Exits 0 when all of it is there, 4 when not.
    """
    from wirecheck.cli_fetch import fetch_command

    raise typer.Exit(fetch_command(file, {"locked": locked, "dry_run": dry_run}))


@app.command()
def lock(
    file: Annotated[Path, typer.Argument(help="What must hold.", show_default=True)] = Path("wirecheck.toml"),
    *,
    check: Annotated[bool, typer.Option("--check", help="Write nothing: say what has moved since.")] = False,
    verify: Annotated[
        bool, typer.Option("--verify", help="Write nothing, read no model: say whether the lock is of that file.")
    ] = False,
    gate: Annotated[bool, typer.Option("--gate/--no-gate", help="Whether the gate is run on what is locked.")] = True,
    json: Annotated[
        str | None, typer.Option(metavar="PATH|-", help="With --check: write what moved as JSON; - is stdout.")
    ] = None,
    offline: Annotated[bool, typer.Option("--offline", help="Use the cache only.")] = False,
) -> None:
    """Pin what the models of a wirecheck.toml are, to the byte, and the versions of the packages: wirecheck.lock.

    Exits 0 when the lock is written, whatever the gate says of it. With --check: 0 where nothing has moved that
    matters, 3 where something has, 4 where a model could not be read. With --verify: 0 where the lock is of the models
    that the file names, 2 where not.
    """
    from wirecheck.cli_lock import check_command, lock_command, verify_command

    if verify:
        raise typer.Exit(verify_command(file))

    options = {"gate": gate, "json": json, "offline": offline}
    raise typer.Exit(check_command(file, options) if check else lock_command(file, options))


@app.command()
def init(
    models: Annotated[list[str] | None, typer.Argument(metavar="MODEL", help="Models to begin with.")] = None,
    file: Annotated[Path, typer.Option(help="Where it is written.")] = Path("wirecheck.toml"),
) -> None:
    """Write a commented wirecheck.toml for `wirecheck gate`."""
    from wirecheck.cli_gate import init_command

    raise typer.Exit(init_command(models or [], file))


@app.command()
def architectures(
    types: Annotated[list[str] | None, typer.Argument(metavar="TYPE", help="model_type; all by default.")] = None,
    json: Json = None,
    report: ReportOfTables = None,
    jobs: Annotated[int | None, typer.Option(min=1, help="Types at a time.", show_default="one per CPU")] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Use no row of an earlier run.")] = False,
) -> None:
    """Ask every causal LM class of the installed transformers what it does with inputs_embeds.

    Each is run in a process of its own, as a tiny random twin of its default config. Finished rows are kept in the
    user's cache folder: an interrupted run goes on where it was. Exits 0 when every type has a row.
    """
    from wirecheck.cli_architectures import architectures_command

    raise typer.Exit(architectures_command(types or [], json, report or [], jobs=jobs, fresh=fresh))


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Folder for the models, the result and its reports.")] = Path(
        "wirecheck-demo"
    ),
) -> None:
    """Run the whole of `pair` on two small built-in models, with real weights and no network."""
    from wirecheck.cli_check import demo_command

    raise typer.Exit(demo_command(out))


@app.command()
def explain(
    code: Annotated[str, typer.Argument(help="A finding code such as TOK06, or a family such as TOK.")],
) -> None:
    """Explain one finding code, or list a family."""
    from wirecheck.cli_output import say
    from wirecheck.cli_texts import explanation

    say(explanation(code) + "\n")


@app.command()
@of_result
def report(
    file: Annotated[Path, typer.Argument(help="A result made with --json.")],
    **options: Any,
) -> None:
    """Render a result again: in the terminal, or as files. Exits as the check did."""
    from wirecheck.cli_report import report_command

    raise typer.Exit(report_command(file, options))


@app.command()
def diff(
    old: Annotated[Path, typer.Argument(metavar="OLD.json", help="A result made with --json.", show_default=False)],
    new: Annotated[Path, typer.Argument(metavar="NEW.json", help="Another, of the same command.", show_default=False)],
    json: Json = None,
    report: ReportOfTables = None,
) -> None:
    """Tell what changed between two results, and what differs in what was asked, read and installed.

    Both are of `pair`, of `model` or of `gate`. Exits 1 when the new one is worse, 0 when it is not, 2 when they cannot
    be compared. From better to worse: compatible, not-run, unproven, could-not-check, incompatible; not finished is
    worse than finished; of gates it is worse when any row is worse or gone. What is as bad as before exits 0.
    """
    from wirecheck.cli_diff import diff_command

    raise typer.Exit(diff_command(old, new, {"json": json, "report": report}))


@app.command()
def schema(
    of: Annotated[
        str, typer.Argument(metavar="[result|gate|file|lock|diff|matrix]", help="Of what.", show_default=True)
    ] = "result",
) -> None:
    """Print the JSON schema of a result, a gate's result or its file (for editors), a lock, a diff, a matrix."""
    from wirecheck.cli_output import say
    from wirecheck.cli_texts import schema_of

    say(schema_of(of))


@app.command()
def doctor(
    file: Annotated[
        Path | None,
        typer.Argument(
            help="A wirecheck.toml whose models are looked at, too.", show_default="wirecheck.toml, if there"
        ),
    ] = None,
    json: Json = None,
    offline: Annotated[bool, typer.Option("--offline", help="Ask the hub nothing; use the cache only.")] = False,
) -> None:
    """Look at this machine: packages, torch, GPU, limits, caches, the hub and access to it, Slurm, the file's models.

    A line for each check, with what mends it. Exits 0 when everything is sound, 4 when something is not.
    """
    from wirecheck.cli_doctor import doctor_command

    raise typer.Exit(doctor_command(file, {"json": json, "offline": offline}))


def main() -> None:
    """Entry point: one place catches everything, one line for the user, the full story in a file."""
    sys.stderr = cast("TextIO", Tolerant(sys.stderr))
    # torch's threads wait by spinning, which on a busy or CPU-limited node makes small models ten times slower.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    with heeded_signals() as came:
        try:
            app()
        except WirecheckError as error:
            _say("error", error.message)
            if error.next_step:
                _say("next", error.next_step)
            sys.exit(_code_told(error.exit_code, came))
        except KeyboardInterrupt:
            sys.exit(_code_told(None, came or [signal.SIGINT]))
        except SystemExit as end:
            if is_interruption(end):  # typer ends silently
                _say("error", "interrupted")
            raise SystemExit(_code_told(end.code, came)) from None
        except Exception as error:  # noqa: BLE001 - the last resort: our own bug, told in one line
            if isinstance(error, OSError) and is_refusal(error):
                _say("error", f"{error.filename or 'stdout or a file'}: not written: {error.strerror}")
                _say("next", "free some space, or name folders that can be written: TMPDIR, WIRECHECK_CACHE")
                sys.exit(_code_told(CouldNotCheck.exit_code, came))
            if came:  # code in Rust and C makes another exception of a Ctrl-C
                sys.exit(_code_told(None, came))
            _end_with_a_bug(error)


def _code_told(code: Any, came: Sequence[int]) -> Any:
    """The exit code, and a line where it is an interruption's of which nothing was said."""
    ended = exit_code_of(code, came)
    if code not in (ended, INTERRUPTED):
        _say("error", "interrupted")
    return ended


def _end_with_a_bug(error: Exception) -> NoReturn:
    log = _crash_log()
    where = "follows here, no disk takes it" if log is None else f"is in {log}"
    _say("error", f"a bug of wirecheck: {type(error).__name__}: {error}; the story {where}")
    _say("next", "report it with that file" if log else f"report it with what follows\n{traceback.format_exc()}")
    sys.exit(5)


def _say(head: str, words: str) -> None:
    from rich.text import Text

    from wirecheck.cli_console import stderr_console
    from wirecheck.views.words import visible

    style = "bold red" if head == "error" else "bold"
    stderr_console().print(Text.assemble((f"{head}: ", style), visible(words)), soft_wrap=True)


def _crash_log() -> Path | None:
    """Where the story is; None where no disk takes it."""
    try:
        handle, name = tempfile.mkstemp(prefix="wirecheck-", suffix=".log")
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(f"wirecheck {__version__}, Python {sys.version}\n{sys.argv}\n\n{traceback.format_exc()}")
    except OSError:
        return None
    return Path(name)


if __name__ == "__main__":
    main()
