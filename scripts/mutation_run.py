"""Whether a test notices a planted mistake.

One process imports the libraries (`mutation_imports`). A fork of it imports the package, collects the tests once and
learns which test runs which line; from then on a mutant of a function is a fork in which that function's code is
replaced and the tests that run it are run, its own line's first, until one fails. What lived there is tried again in a
fork that has imported nothing of the package and reads the mutated source through the import system, and so is all that
stands outside of functions. One kind is not tried a second time: a row of the table of codes, whose fields are replaced
where they are.
"""

from __future__ import annotations

import ast
import importlib.machinery
import json
import os
import re
import resource
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from types import CodeType, FrameType
from typing import Any, NamedTuple

import pytest
from hypothesis import Phase, settings
from mutants import ROOT, Mutant
from mutation_swap import functions, swap, swap_table

KILLED, LIVES, SLOW, NO_TEST, ERROR = "killed", "lives", "timed out", "no test", "error"
LONGEST_S = 20.0
"""Given to a mutant on top of three times what its tests take."""
MOST_BYTES = 24 << 30
"""Of address space: a mutant that allocates without end fails before the machine does."""


class Bearing(NamedTuple):
    """What one run of the sound code showed: the seconds of each test, and which tests run each line of each file."""

    seconds: dict[str, float]
    lines: dict[str, dict[int, list[str]]]

    def is_table(self, file: str) -> bool:
        """Whether no test runs any line of it: it does its work when it is imported."""
        return not self.lines[file]

    def tests(self, mutant: Mutant) -> list[str]:
        """The tests that bear on it: those that run its line first, then those of its function, the quick before."""
        lines = self.lines.get(mutant.file, {})
        own = set(lines.get(mutant.line, ()))
        span = _span(mutant)
        near = {test for line, tests in lines.items() if line in span for test in tests}
        return sorted(own | near, key=lambda test: (test not in own, self.seconds[test]))


def _span(mutant: Mutant) -> range:
    if not mutant.function:
        return range(1, 1 << 20)
    body = ast.parse((ROOT / mutant.file).read_text(encoding="utf-8")).body
    for node in functions(body, mutant.function.split(".")):
        if node.lineno <= mutant.line <= (node.end_lineno or 0) or node.decorator_list:
            return range(node.lineno, (node.end_lineno or 0) + 1)
    return range(mutant.line, mutant.line + 1)


class Session:
    """For pytest: collect once, then do what `work` says with the tests instead of running them."""

    def __init__(self, work: Callable[[pytest.Session], None]) -> None:
        self.work = work

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """In place of pytest's own loop."""
        settings.register_profile(
            "mutants",
            settings(),
            phases=(Phase.explicit, Phase.generate),
            database=None,
            derandomize=True,
            deadline=None,
        )
        settings.load_profile("mutants")
        if session.testsfailed:
            raise session.Interrupted("the tests cannot be collected")
        self.work(session)
        return True


class Failed:
    """For pytest: whether a test failed."""

    failed = ""

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """In its own code or in what was made ready for it."""
        if report.failed:
            self.failed = report.nodeid


def run_until_failure(session: pytest.Session, tests: list[str]) -> str:
    """Run them in this process; the first that failed, or nothing.

    In a folder of its own: pytest empties the one that it was given when the first test asks for a place to write,
    and another fork may be writing there.
    """
    factory = session.config._tmp_path_factory  # type: ignore[attr-defined]
    factory._given_basetemp = factory._given_basetemp.with_name(f"{factory._given_basetemp.name}-{os.getpid()}")
    items = {item.nodeid: item for item in session.items}
    failed = Failed()
    session.config.pluginmanager.register(failed)
    chosen = [items[test] for test in tests if test in items]
    for item, after in zip(chosen, [*chosen[1:], None], strict=True):
        item.config.hook.pytest_runtest_protocol(item=item, nextitem=after)
        if failed.failed:
            break
    return failed.failed


def bearing(session: pytest.Session, files: list[str]) -> Bearing:
    """Run every test once, in this process, and note the lines of `files` that each runs."""
    watched = {str(ROOT / file): file for file in files}
    seconds: dict[str, float] = {}
    lines: dict[str, dict[int, list[str]]] = {file: {} for file in files}
    here: set[tuple[str, int]] = set()

    def local(frame: FrameType, event: str, _: Any) -> Any:
        if event == "line":
            here.add((frame.f_code.co_filename, frame.f_lineno))
        return local

    def called(frame: FrameType, _: str, __: Any) -> Any:
        if frame.f_code.co_filename not in watched:
            return None
        here.add((frame.f_code.co_filename, frame.f_lineno))
        return local

    failed = Failed()
    session.config.pluginmanager.register(failed)
    for item, after in zip(session.items, [*session.items[1:], None], strict=True):
        here.clear()
        began = time.perf_counter()
        threading.settrace(called)
        sys.settrace(called)
        item.config.hook.pytest_runtest_protocol(item=item, nextitem=after)
        sys.settrace(None)
        threading.settrace(None)  # type: ignore[arg-type]
        seconds[item.nodeid] = time.perf_counter() - began
        for name, line in here:
            lines[watched[name]].setdefault(line, []).append(item.nodeid)
        if failed.failed:
            raise SystemExit(f"the sound code fails {failed.failed}")
    return Bearing(seconds, lines)


class Pool:
    """Forks, a few at a time; what each ends with is handed to `ended`."""

    def __init__(self, workers: int, ended: Callable[[Mutant, str, str], None]) -> None:
        self.workers, self.ended = workers, ended
        self.running: dict[int, tuple[Mutant, float, Path]] = {}

    def start(self, mutant: Mutant, work: Callable[[], str], longest: float) -> None:
        """Once there is room: `work` in a fork gives what killed the mutant, or nothing."""
        while len(self.running) >= self.workers:
            self.wait()
        told = Path(tempfile.mkstemp(prefix="mutant-")[1])
        if pid := os.fork():
            self.running[pid] = (mutant, time.monotonic() + longest, told)
            return
        try:
            os.setsid()
            resource.setrlimit(resource.RLIMIT_AS, (MOST_BYTES, MOST_BYTES))
            with Path(os.devnull).open("r+b") as null:
                for stream in (0, 1, 2):
                    os.dup2(null.fileno(), stream)
            told.write_text(work() or "-", encoding="utf-8")
        except BaseException as stop:  # noqa: BLE001 - whatever it is, the fork must not go on as its parent would
            told.write_text(f"!{type(stop).__name__}: {stop}"[:300], encoding="utf-8")
        finally:
            os._exit(0)

    def wait(self) -> None:
        """For one to end, or to run past its time."""
        while self.running:
            pid, _ = os.waitpid(-1, os.WNOHANG)
            now = time.monotonic()
            late = [p for p, (_, until, _) in self.running.items() if now > until]
            if pid in self.running:
                mutant, _, told = self.running.pop(pid)
                text = told.read_text(encoding="utf-8")
                told.unlink()
                outcome = {"-": LIVES, "!": ERROR}.get(text[:1], KILLED)
                self.ended(mutant, outcome, text or "the process died")
                return
            if late:
                os.killpg(late[0], signal.SIGKILL)
                os.waitpid(late[0], 0)
                mutant, _, told = self.running.pop(late[0])
                told.unlink()
                self.ended(mutant, SLOW, "")
                return
            time.sleep(0.005)

    def all(self) -> None:
        """Wait for the rest."""
        while self.running:
            self.wait()


def _pytest(files: list[str], work: Callable[[pytest.Session], None], base: str) -> int:
    os.chdir(ROOT)
    sys.path.insert(0, str(ROOT))
    os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    sys.dont_write_bytecode = True
    quiet = ["--assert=plain", "-p", "no:terminal", "-p", "no:cacheprovider", "-o", "addopts="]
    return int(
        pytest.main(
            [*quiet, "-o", "tmp_path_retention_policy=none", f"--basetemp={base}", *files], plugins=[Session(work)]
        )
    )


def in_fork(work: Callable[[], object]) -> None:
    """Do it in a fork, and wait for it; SystemExit where it failed."""
    if pid := os.fork():
        if status := os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]):
            raise SystemExit(f"a part of the run ended with {status}")
        return
    code = 1
    try:
        work()
        code = 0
    except BaseException as stop:  # noqa: BLE001 - whatever it is, the fork must not go on as its parent would
        print(f"{type(stop).__name__}: {stop}", file=sys.stderr)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


class Log:
    """One line of JSON for each mutant that has been tried, as it ends."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)

    def __call__(self, mutant: Mutant, outcome: str, by: str) -> None:
        """Keep how one ended, and the test that failed."""
        line = json.dumps({"file": mutant.file, "key": mutant.key, "outcome": outcome, "by": by})
        with self.path.open("a", encoding="utf-8") as log:
            log.write(line + "\n")

    def outcomes(self) -> dict[str, str]:
        """key -> the last outcome."""
        text = self.path.read_text(encoding="utf-8") if self.path.exists() else ""
        return {row["key"]: row["outcome"] for row in map(json.loads, text.splitlines())}


def learn(tests: list[str], files: list[str], to: Path, base: str) -> None:
    """Which test runs which line, written to `to`; in a fork, so that nothing it loads is there afterwards."""
    in_fork(lambda: _pytest(tests, lambda session: to.write_text(json.dumps(bearing(session, files)), "utf-8"), base))


def load(path: Path) -> Bearing:
    """What `learn` wrote."""
    seconds, lines = json.loads(path.read_text(encoding="utf-8"))
    return Bearing(seconds, {file: {int(n): tests for n, tests in rows.items()} for file, rows in lines.items()})


def warm(mutants: list[Mutant], known: Bearing, log: Log, workers: int, base: str) -> None:
    """Try each in a fork of a process that has the tests ready."""
    files = sorted({test.partition("::")[0] for test in known.seconds})

    def work(session: pytest.Session) -> None:
        control(mutants, lambda _: run_until_failure(session, list(known.seconds)), known, workers)
        latest: dict[str, str] = {}

        def ended(mutant: Mutant, outcome: str, by: str) -> None:
            log(mutant, outcome, by)
            latest[mutant.function] = by

        pool = Pool(workers, ended)
        for mutant in mutants:
            tests = known.tests(mutant) if mutant.function else _of_the_row(mutant, known.seconds)
            tests.sort(key=lambda test: test != latest.get(mutant.function))  # what noticed the last of that function
            if tests and (mutant.function or _is_row(mutant)):
                pool.start(mutant, lambda m=mutant, t=tests: _swapped(session, m, t), _longest(known, tests))
        pool.all()

    in_fork(lambda: _pytest(files, work, base))


def control(mutants: list[Mutant], work: Callable[[Mutant], str], known: Bearing, workers: int) -> None:
    """The sound code must live where the mutants are tried: in as many forks at once, with every test."""

    def ended(_: Mutant, outcome: str, by: str) -> None:
        if outcome != LIVES:
            raise SystemExit(f"beside another fork the sound code does not pass: {outcome}, {by}")

    pool = Pool(workers, ended)
    for mutant in mutants[:1] * workers:
        sound = mutant._replace(source=(ROOT / mutant.file).read_text(encoding="utf-8"))
        pool.start(sound, lambda m=sound: work(m), 2 * LONGEST_S + _longest(known, known.seconds))
    pool.all()


def _swapped(session: pytest.Session, mutant: Mutant, tests: list[str]) -> str:
    done = swap(mutant) if mutant.function else swap_table(mutant)
    if isinstance(done, str):
        return done
    return run_until_failure(session, tests) if done else ""


def _is_row(mutant: Mutant) -> bool:
    return bool(re.fullmatch(r"-[A-Z]{3}\d\d", mutant.place.partition("#")[0]))


def _of_the_row(mutant: Mutant, tests: Iterable[str]) -> list[str]:
    """The tests that are not of another row of the table: not those whose parameter is another code or family."""
    row = mutant.place[1:].partition("#")[0]
    return [test for test in tests if "[" not in test or f"[{row}]" in test or f"[{row[:3]}]" in test]


def _longest(known: Bearing, tests: Iterable[str]) -> float:
    return LONGEST_S + 3 * sum(known.seconds[test] for test in tests)


def cold(mutants: list[Mutant], known: Bearing, log: Log, workers: int, base: str) -> None:
    """Try each in a fork that imports the package with the mistake in it."""
    control(mutants, lambda sound: _fresh(sound, list(known.seconds), base), known, workers)
    pool = Pool(workers, log)
    for mutant in mutants:
        # a table is read by tests that run no line of its file: all are asked, the quickest first
        tests = known.tests(mutant) if mutant.function else sorted(known.seconds, key=known.seconds.__getitem__)
        if tests:
            longest = 2 * LONGEST_S + _longest(known, tests)
            pool.start(mutant, lambda m=mutant, t=tests: _fresh(m, t, base), longest)
        else:
            log(mutant, NO_TEST, "")
    pool.all()


def _fresh(mutant: Mutant, tests: list[str], base: str) -> str:
    """What failed, or nothing; a package that cannot be imported, or tests that cannot be collected, have noticed."""
    place = str(ROOT / mutant.file)
    plain = importlib.machinery.SourceFileLoader.get_code

    def get_code(self: importlib.machinery.SourceFileLoader, name: str) -> CodeType | None:
        return compile(mutant.source, place, "exec") if self.path == place else plain(self, name)

    importlib.machinery.SourceFileLoader.get_code = get_code  # type: ignore[method-assign]
    failed: list[str] = ["the tests could not be collected"]

    def work(session: pytest.Session) -> None:
        failed[0] = run_until_failure(session, tests)

    _pytest(sorted({test.partition("::")[0] for test in tests}), work, base + str(os.getpid()))
    return failed[0]


def scratch() -> tempfile.TemporaryDirectory[str]:
    """Where the tests write."""
    return tempfile.TemporaryDirectory(prefix="mutation-", ignore_cleanup_errors=True)


def tried(
    mutants: list[Mutant], tests: list[str], files: list[str], build: Path, workers: int, *, again: bool
) -> dict[str, str]:
    """key -> outcome of every mutant, begun where the last run of the same was broken off."""
    log, first = Log(build / "log.jsonl"), Log(build / "warm.jsonl")
    if again:
        log.path.unlink(missing_ok=True)
        first.path.unlink(missing_ok=True)
    done = log.outcomes() | {key: end for key, end in first.outcomes().items() if end in (KILLED, SLOW)}
    todo = [mutant for mutant in mutants if mutant.key not in done]
    with scratch() as base:
        known = build / "bearing.json"
        if not known.exists():  # it holds for this version of package and tests
            learn(tests, files, known, f"{base}/learn")
        known_lines = load(known)
        warm(todo, known_lines, first, workers, f"{base}/warm")
        ended = first.outcomes()
        for mutant in todo:
            if ended.get(mutant.key) in (KILLED, SLOW):
                log(mutant, ended[mutant.key], "warm")
            elif ended.get(mutant.key) == LIVES and known_lines.is_table(mutant.file) and _is_row(mutant):
                log(mutant, LIVES, "")  # nothing was cached: a fresh import would show the same
        done = log.outcomes()
        left = [mutant for mutant in todo if mutant.key not in done]
        cold(left, known_lines, log, workers, f"{base}/cold")
    return first.outcomes() | log.outcomes()
