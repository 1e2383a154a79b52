"""Every command that README and the site show is run as it is written, page by page, and ends as the page says.

The built-in models stand in for those that the pages name: as folders, and on a hub of this machine. What cannot be run
here is in `STAND_INS` and `PARSED`, each with what is looked at instead. A command that is in neither, and does not
run, fails.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, chdir
from pathlib import Path

import huggingface_hub
import pytest
import typer
from huggingface_hub import constants
from typer.testing import CliRunner

from tests.hubserver import COMMIT, Hub, many, serving
from tests.site_pages import ROOT, Step, blocks, inline_commands, not_printed, pages, steps
from wirecheck.cli import app
from wirecheck.demo import demo_folders

LLAMA_COMMIT = "0e9e39f249a16976918f6564b8830bc894c89659"
ON_THE_HUB = {
    "meta-llama/Llama-3.2-1B-Instruct": (0, COMMIT),
    "Qwen/Qwen2.5-1.5B-Instruct": (1, COMMIT),
    "meta-llama/Llama-3.1-8B-Instruct": (0, LLAMA_COMMIT),
    "Qwen/Qwen2.5-7B-Instruct": (1, COMMIT),
    "org/a": (0, COMMIT),
    "org/b": (1, COMMIT),
    "org/ours": (1, COMMIT),
}
"""The repositories that the pages name: which built-in model stands there, at which commit."""

EXTRA_IS_THERE = """
import sys, tomllib
from pathlib import Path
asked = sys.argv[-1].partition("[")[2].rstrip("]")
sys.exit(asked not in tomllib.loads(Path(sys.argv[1]).read_text())["project"]["optional-dependencies"])
"""
STAND_INS = {
    "make": f'exec "{shutil.which("make")}" --dry-run --directory "{ROOT}" "$@" > /dev/null',
    "sbatch": 'for last; do :; done; case "$1" in --wrap) exec bash -n -c "$last";; *) exec bash -n "$last";; esac',
    "pip": f'exec "{sys.executable}" -c \'{EXTRA_IS_THERE}\' "{ROOT}/pyproject.toml" "$@"',
    "wirecheck": f'exec "{sys.executable}" -m wirecheck.cli "$@"',
    "python": f'exec "{sys.executable}" "$@"',
}
"""Programs in front of those on the PATH. `make` would install: the target's recipe is made out. There is no cluster
for `sbatch`: bash reads the script. There is no registry for `pip`: the extra is one of pyproject.toml. The last two
are the programs themselves, of this environment."""

TRANSCRIPTS = {
    "docs/doctor.md": "what doctor says of one machine, with planted faults: tests/test_doctor*.py have each"
}
"""Pages that tell of a run in a block of plain text, which is not run, and why."""

PARSED = {
    "wirecheck matrix --from candidates.txt --depth simulated --executor slurm": "no cluster: see tests/test_slurm.py",
    "wirecheck matrix --attach wires-of-may": "goes on with the run above",
    "wirecheck gate --locked --offline --prove-offline": "takes 20 s: tests/test_offline.py loads the same models so",
}
"""How a command begins that is not run, and why: its options are parsed."""


# --- what the pages take for granted -----------------------------------------------------------------------------


def lay(folder: Path, **named: int) -> None:
    """Copies of the built-in models, by those names."""
    for name, which in named.items():
        shutil.copytree(demo_folders()[which], folder / name)


def lower(folder: Path) -> None:
    """A gate's file asks for `inspected`, which takes a second: what the real classes do is run by other tests."""
    file = folder / "wirecheck.toml"
    text = file.read_text()
    assert text.count('require = "simulated"') == 1
    file.write_text(text.replace('require = "simulated"', 'require = "inspected"'))


def for_gate(folder: Path) -> None:
    """The page's own file; the figures that it expects are those of the stand-in."""
    text = blocks("docs/gate.md", "toml")[0].replace("= 128256", "= 1024").replace("= 4096", "= 128")
    (folder / "wirecheck.toml").write_text(text)
    lower(folder)


def for_diff(folder: Path) -> None:
    """Two results of the built-in pair; between them one template was changed."""
    lay(folder, **{"llama-mini": 0, "qwen-mini": 1})
    words = ("pair", "./llama-mini", "./qwen-mini", "--depth", "inspected", "--require", "inspected", "--json")
    for name in ("old.json", "new.json"):
        CliRunner().invoke(app, [*words, name])
        (folder / "qwen-mini" / "chat_template.jinja").write_text("{{ raise_exception('never') }}")


def for_matrix(folder: Path) -> None:
    """A list of candidates, and a file of two models."""
    lay(folder, c=1)
    (folder / "candidates.txt").write_text("org/a\n./c\norg/ours\n")
    file = '[models.{0}]\nid = "{1}"\n'
    named = {"llama-8B": "meta-llama/Llama-3.1-8B-Instruct", "qwen-8B": "./c", "other": "org/a"}
    (folder / "wirecheck.toml").write_text("".join(file.format(*pair) for pair in named.items()))


def for_own_wire(folder: Path) -> None:
    """The page's own wire and file."""
    lay(folder, A=0, B=1)
    wire = blocks("docs/own-wire.md", "python")[0]
    (folder / "my_wire.py").write_text(wire)
    (folder / "my_package").mkdir()
    (folder / "my_package" / "wires.py").write_text(wire)
    (folder / "wirecheck.toml").write_text(blocks("docs/own-wire.md", "toml")[0])


def for_examples(folder: Path) -> None:
    """The example's models, by the names that its page gives them."""
    lay(folder, READER=0, ANSWERER=1)


def for_slurm(folder: Path) -> None:
    """A script of the user's own."""
    (folder / "train.py").write_text("print('trained')\n")


def for_templates(folder: Path) -> None:
    """The page's own template."""
    (folder / "short.md.j2").write_text(blocks("docs/templates.md", "jinja")[0])


def for_report(folder: Path) -> None:
    """What the page says was claimed."""
    (folder / "said.toml").write_text(blocks("docs/how-to/read-a-report.md", "toml")[0])


PREPARED: dict[str, Callable[[Path], None]] = {
    "docs/gate.md": for_gate,
    "docs/diff.md": for_diff,
    "docs/matrix.md": for_matrix,
    "docs/own-wire.md": for_own_wire,
    "docs/templates.md": for_templates,
    "docs/how-to/read-a-report.md": for_report,
    "docs/how-to/gate-in-slurm.md": for_slurm,
    "examples/README.md": for_examples,
}


def environment(folder: Path) -> dict[str, str]:
    """What a command in a process of its own sees: the stand-ins first on the PATH."""
    first = f"{folder / '.bin'}{os.pathsep}{os.environ['PATH']}"
    return os.environ | {"PYTHONPATH": str(ROOT), "PATH": first}


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a hub that has every repository the pages name."""
    files = [{path.name: path.read_bytes() for path in folder.iterdir()} for folder in demo_folders()]
    with ExitStack() as stack:
        hubs = {}
        for name, (which, commit) in ON_THE_HUB.items():
            weights = frozenset(file for file in files[which] if file.endswith(".safetensors"))
            hubs[name] = stack.enter_context(serving(Hub(files[which], weights, commit=commit)))
        yield stack.enter_context(many(hubs))


@pytest.fixture(scope="module")
def caches(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where answers are kept from page to page: what one page's gate ran is not run again for the next."""
    return tmp_path_factory.mktemp("caches")


@pytest.fixture
def here(tmp_path: Path, hub: str, caches: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty folder with the examples in it, where the hub is that of this machine."""
    agents = caches / "agents.json"
    agents.write_text('{"standardEnvVars": [], "harnesses": {}}')
    for name, value in {
        "AGENT_HARNESSES_PATH": str(agents),
        "HF_HUB_OFFLINE": False,
        "HF_HUB_CACHE": str(tmp_path / "hub"),
        "HF_TOKEN_PATH": str(tmp_path / "no-token"),
        "ENDPOINT": hub,
        "HUGGINGFACE_CO_URL_TEMPLATE": f"{hub}/{{repo_id}}/resolve/{{revision}}/{{filename}}",
    }.items():
        monkeypatch.setattr(constants, name, value)
    for name in ("HF_TOKEN", "GITHUB_ACTIONS", "GITHUB_STEP_SUMMARY", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {
        "HF_ENDPOINT": hub,
        "HF_HUB_CACHE": str(tmp_path / "hub"),
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "WIRECHECK_CACHE": str(caches / "own"),
        "NO_PROXY": "127.0.0.1",
        "COLUMNS": "100",
    }.items():
        monkeypatch.setenv(name, value)
    shutil.copytree(ROOT / "examples", tmp_path / "examples", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / ".bin").mkdir()
    for name, script in STAND_INS.items():
        (tmp_path / ".bin" / name).write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / ".bin" / name).chmod(0o755)
    huggingface_hub.close_session()
    with chdir(tmp_path):
        yield tmp_path
    huggingface_hub.close_session()


@pytest.fixture
def demo_made(here: Path, caches: Path, run) -> Path:
    """`wirecheck-demo/`, as `make demo` leaves it: made once, copied for every page."""
    made = caches / "wirecheck-demo"
    if not made.exists():
        assert run("demo", "--out", made)[0] == 0
    (here / ".venv" / "bin").mkdir(parents=True)
    (here / ".venv" / "bin" / "activate").touch()  # the stand-ins are on the PATH already
    return Path(shutil.copytree(made, here / "wirecheck-demo"))


# --- the tests ---------------------------------------------------------------------------------------------------

WITH_COMMANDS = [page for page in pages() if steps(page)]


def parse(words: list[str]) -> None:
    """Raises where the command line would refuse them. Nothing is run."""
    group = typer.main.get_command(app)
    group.commands[words[0]].make_context(words[0], words[1:])  # type: ignore[attr-defined]


def in_a_shell(command: str, folder: Path) -> tuple[int, str]:
    """The exit code of bash, and all that was printed."""
    done = subprocess.run(
        ["bash", "-c", command],
        cwd=folder,
        env=environment(folder),
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    return done.returncode, done.stdout + done.stderr


def ended(step: Step, folder: Path, run: Callable[..., tuple[int, str, str]]) -> tuple[int, str]:
    """The exit code of one command of a page, and all that it printed."""
    if any(" ".join(step.command.replace("\\\n", " ").split()).startswith(begin) for begin in PARSED):
        parse(shlex.split(step.command, comments=True)[1:])
        return step.code, ""
    if step.words is None:
        return in_a_shell(step.command, folder)
    if step.words == ["demo"]:
        return 0, ""  # `demo_made` ran it
    code, out, err = run(*step.words)
    return code, out + err


@pytest.mark.parametrize("page", WITH_COMMANDS)
def test_the_commands_of_a_page_do_what_it_says(page: str, here: Path, demo_made: Path, run) -> None:
    PREPARED.get(page, lambda folder: None)(here)
    for step in steps(page):
        code, printed = ended(step, here, run)
        if step.command.startswith("wirecheck init") and page != "docs/tutorial.md":
            lower(here)
        assert code == step.code, f"{page}: {step.command}\n{printed}"
        assert not_printed(step, printed) == [], f"{page}: {step.command}\n{printed}"


def test_what_is_not_run_is_on_a_page() -> None:
    shown = [" ".join(s.command.replace("\\\n", " ").split()) for page in WITH_COMMANDS for s in steps(page)]
    assert [begin for begin in PARSED if not any(command.startswith(begin) for command in shown)] == []


@pytest.mark.parametrize("page", [page for page in pages() if inline_commands(page)])
def test_commands_within_sentences_have_names_and_options_that_exist(page: str) -> None:
    group = typer.main.get_command(app)
    for command in inline_commands(page):
        verb, *words = shlex.split(command.partition("&&")[0])[1:]
        known = {name for option in group.commands[verb].params for name in option.opts}  # type: ignore[attr-defined]
        asked = {word.partition("=")[0] for word in words if word.startswith("--")}
        assert asked <= known | {"--help"}, f"{page}: {command}"


def test_plain_text_holds_no_command_to_copy() -> None:
    told = [page for page in pages() for block in blocks(page, "text", "") if re.search(r"^\$ ", block, re.MULTILINE)]
    assert sorted(set(told)) == sorted(TRANSCRIPTS)
