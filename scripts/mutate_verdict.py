"""Mutate the verdict by hand: each line below is a plausible mistake, and the tests must catch every one.

They are those that no operator makes (a part forgotten, a key cut short, one severity of two): what operators make is
tried by `scripts/mutation.py`.

    python scripts/mutate_verdict.py

Works on copies in a temporary folder; prints each mutant that lives and exits 1 when one does. Only a test that ran and
failed kills: a mutant that does not apply, or with which the tests cannot start, is an error, and the exit is 2.

Starting takes longer than the tests do. So this process imports the libraries once and is forked for every mutant; the
package and its tests are imported from the copy, by the fork: before it no process here has imported them.
"""

from __future__ import annotations

import importlib
import os
import shutil
import sys
import tempfile
import traceback
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import Phase, settings

ROOT = Path(__file__).parents[1]

TESTS = "tests/test_verdict.py"
LIBRARIES = ("hypothesis", "jsonschema", "numpy", "pydantic", "pytest", "typer")
"""What the tests and the package import that takes long, and is not mutated."""

VERDICT, SCHEMA = "wirecheck/verdict.py", "wirecheck/schema.py"
MUTANTS = (
    (VERDICT, "strength.rank >= policy.required.rank", "strength.rank <= policy.required.rank"),
    (VERDICT, "if strength is not None and strength", "if strength is None or strength"),
    (VERDICT, "lowest_gap = min(", "lowest_gap = max("),
    (VERDICT, "default=len(LADDER)", "default=0"),
    (VERDICT, "return max(reached", "return min(reached"),
    (VERDICT, "held = {level for part in parts for level in part.levels}", "held = set(LADDER)"),
    (VERDICT, "for part in parts for level in part.levels", "for part in parts[:1] for level in part.levels"),
    (VERDICT, "for part in parts for question, _ in part.gaps", "for part in parts[:1] for question, _ in part.gaps"),
    (VERDICT, "(run.probe, run.subject) == (question.probe, question.subject)", "run.probe == question.probe"),
    (VERDICT, "(run.probe, run.subject) == (question.probe, question.subject)", "run.subject == question.subject"),
    (VERDICT, "run.gap(question.level)", "run.gap(run.level)"),
    (VERDICT, "return reasons[0] if reasons else None", "return reasons[0] if len(reasons) == len(own) else None"),
    (VERDICT, "if blockers:", "if blockers and strength is not None:"),
    (VERDICT, "(Severity.BLOCK, Severity.WARN) if policy.strict", "(Severity.WARN,) if policy.strict"),
    (VERDICT, "if finding.severity in (Severity.BLOCK, Severity.WARN)", "if finding.severity is Severity.BLOCK"),
    (VERDICT, "if one.severity in deciding and (one.code", "if (one.code"),
    (VERDICT, "and (one.code, one.subject) not in accepted", "and not accepted"),
    (VERDICT, "and (one.code, one.subject) not in accepted", ""),
    (
        VERDICT,
        "and (one.code, one.subject) not in accepted",
        "and one.code not in {code for code, _ in accepted}",
    ),
    (VERDICT, "(settled, *_taken(parts, policy))", "(settled,)"),
    (
        VERDICT,
        "for run in runs\n            for finding",
        'for run in runs\n            if run.kind == "ran"\n            for finding',
    ),
    (VERDICT, "if severity is Severity.WARN else", "if severity is Severity.BLOCK else"),
    (VERDICT, "in sorted(found)", "in found"),
    (SCHEMA, 'if not self.findings:\n            return "ran', 'if False:\n            return "ran'),
    (SCHEMA, "if f.level.rank < level.rank)", "if f.level.rank <= level.rank)"),
    (SCHEMA, "if f.level.rank < level.rank)", "if f.level.rank > level.rank)"),
    (SCHEMA, "return max((e.level for e in self.evidence)", "return min((e.level for e in self.evidence)"),
    (SCHEMA, "and self.level is Level.DECLARED", "and self.level is Level.MEASURED"),
)


LIVES, KILLED = pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED
ERROR = 70
"""How a fork ends that says nothing about its mutant; no exit status of pytest."""


class Mutant(NamedTuple):
    """`old` read as `new` in `file`."""

    file: str
    old: str
    new: str

    def __str__(self) -> str:
        return f"{self.file}: {self.old!r} -> {self.new!r}"

    def applied(self) -> str:
        """The text of the file with the mistake in it; an error of this list where `old` does not stand in it once."""
        sound = (ROOT / self.file).read_text(encoding="utf-8")
        if sound.count(self.old) != 1:
            sys.exit(f"ERROR  {self}: what it replaces stands there {sound.count(self.old)} times")
        return sound.replace(self.old, self.new)


class Tests:
    """For pytest: the plain cases before the laws, which take a hundred times as long, and whether a test failed."""

    failed = False

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """The order; and one failing example of a law will do, the smallest is not sought."""
        items.sort(key=lambda item: item.get_closest_marker("hypothesis") is not None)
        settings.register_profile("mutants", settings(), phases=(Phase.explicit, Phase.generate), database=None)
        settings.load_profile("mutants")

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """A test that failed itself, not what was made ready for it."""
        self.failed |= report.when == "call" and report.failed


def tests_in(folder: Path, file: str) -> int:
    """Run the tests in this fork, on the copy in `folder`: pytest's exit status, or ERROR where it proves nothing."""
    os.chdir(folder)
    sys.path.insert(0, str(folder))
    os.environ["PYTHONPATH"] = str(folder)
    sys.dont_write_bytecode = True
    tests = Tests()
    code = pytest.main(["-x", "--assert=plain", "-p", "no:cacheprovider", TESTS], plugins=[tests])
    module = sys.modules.get(file.removesuffix(".py").replace("/", "."))
    if module is None or module.__file__ != str(folder / file):
        print(f"{file}: the tests imported {module}, not the copy")
        return ERROR
    return code if code == LIVES or (code == KILLED and tests.failed) else ERROR


def fork(mutant: Mutant, folder: Path) -> int:
    """The id of a process that runs the tests on a copy with the mutant in it; what it prints is kept in the folder."""
    for part in ("wirecheck", "tests"):
        shutil.copytree(ROOT / part, folder / part, ignore=shutil.ignore_patterns("__pycache__", "demo_models"))
    shutil.copy(ROOT / "pyproject.toml", folder)
    (folder / mutant.file).write_text(mutant.applied(), encoding="utf-8")
    if pid := os.fork():
        return pid
    code = ERROR
    try:
        with (folder / "output").open("w") as output:
            os.dup2(output.fileno(), 1)
            os.dup2(output.fileno(), 2)
        code = tests_in(folder, mutant.file)
    except BaseException:  # noqa: BLE001 - whatever it is, the fork must not go on as its parent would
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        os._exit(code)


def codes(mutants: list[Mutant], folder: Path) -> list[int]:
    """The exit status of each mutant's tests, as many at a time as there are processors."""
    running: dict[int, int] = {}
    ended: dict[int, int] = {}
    for number, mutant in enumerate(mutants):
        running[fork(mutant, folder / str(number))] = number
        while len(running) >= (os.cpu_count() or 1) or (running and number == len(mutants) - 1):
            pid, status = os.wait()
            ended[running.pop(pid)] = os.waitstatus_to_exitcode(status)
    return [ended[number] for number in range(len(mutants))]


def main() -> int:
    """Try the code as it is, then every mutant."""
    for library in LIBRARIES:
        importlib.import_module(library)
    mutants = [Mutant(*mutant) for mutant in MUTANTS]
    sound = Mutant(VERDICT, "import NamedTuple", "import NamedTuple")
    for mutant in (sound, *mutants):
        mutant.applied()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name).resolve()
        first, *found = codes([sound, *mutants], folder)
        if first != LIVES:
            print((folder / "0" / "output").read_text(encoding="utf-8"))
            print("ERROR  the tests do not pass on the code as it is")
            return 2
        for number, (mutant, code) in enumerate(zip(mutants, found, strict=True), 1):
            if code not in (LIVES, KILLED):
                print((folder / str(number) / "output").read_text(encoding="utf-8"))
                print(f"ERROR  {mutant}: no test failed, yet they did not pass")
    for mutant in (mutant for mutant, code in zip(mutants, found, strict=True) if code == LIVES):
        print(f"LIVES  {mutant}")
    print(f"{found.count(KILLED)} of {len(mutants)} mutants killed")
    if set(found) <= {KILLED}:
        return 0
    return 1 if set(found) <= {KILLED, LIVES} else 2


if __name__ == "__main__":
    sys.exit(main())
