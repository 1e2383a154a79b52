"""Coverage-guided fuzzing of the readers of strangers' bytes: `python scripts/fuzz.py TARGET --seconds 600`.

Needs atheris (`pip install '.[dev,fuzz]'`; CPython on Linux). Every run adds a line to tests/fuzz/log.jsonl, from which
`--page` writes docs/fuzz.md; an input that breaks the contract of tests/fuzz/contract.py is left in the work folder, to
be mended, told in tests/fuzz/mended.toml and kept in tests/fuzz/regressions. `--keep TARGET` takes over the corpus.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import mmap
import os
import platform
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from tests.fuzz.contract import MOST_BYTES, Breach, Watch, confine, held  # noqa: E402 - a script; none of wirecheck

if TYPE_CHECKING:
    from tests.fuzz.targets import Target

WORK = ROOT / "build" / "fuzz"
LOG = ROOT / "tests" / "fuzz" / "log.jsonl"
_PACKAGES = ("wirecheck", "atheris", "transformers", "tokenizers", "jinja2", "gguf", "pydantic")
_STATUS = re.compile(r"cov: (\d+) ft: (\d+) corp: (\d+)/")
_DONE = re.compile(r"Done (\d+) runs in (\d+) second")
_STAT = re.compile(r"stat::(\w+):\s+(\d+)")
_TELL_EVERY = 50
_ARTIFACT = ("crash-", "timeout-", "oom-")
_AT_WORK, _HEAD_BYTES = "at-work", 8
_HOPELESS = 5
"""Ends in a row within seconds after which a target is given up."""
_MOST_CPU_S = 20
"""Processor time after which the kernel ends the process: a native library's loop, which the contract's timer, being
Python's, cannot interrupt."""
_NO_CLOCK_S = 86400
"""What libFuzzer, and atheris beside it, may wait for one input: never met. Theirs go by the clock, which on a busy
machine says little; and 0 is no "never" to atheris, which then ends the process, with status 77, at whatever input is
under way when a second has gone by."""
_MOST_LATE_S = 300
"""By the clock, after a process should have ended: it is killed, and what it was reading is a reader that waits."""


# --- in the process that fuzzes ----------------------------------------------------------------------------------


class _Account:
    """What one process saw, kept on disk, since libFuzzer ends the process and nothing of it returns."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.endings: Counter[str] = Counter()
        (place / "findings").mkdir(parents=True, exist_ok=True)

    def saw(self, ending: str) -> None:
        self.endings[ending] += 1
        if sum(self.endings.values()) % _TELL_EVERY == 0:
            self.tell()

    def broke(self, breach: Breach, data: bytes) -> None:
        """The smallest input of every kind of breach is kept."""
        self.endings["BREACH"] += 1
        slug = re.sub(r"\W+", "-", breach.kind)[:60] + "-" + hashlib.sha256(breach.kind.encode()).hexdigest()[:6]
        kept = self.place / "findings" / slug
        if not kept.is_file() or kept.stat().st_size > len(data):
            kept.write_bytes(data)
            kept.with_name(slug + ".why").write_text(str(breach) + "\n", encoding="utf-8", errors="backslashreplace")
        self.tell()

    def tell(self) -> None:
        told = self.place / f"endings-{os.getpid()}.json"
        told.write_text(json.dumps(self.endings), encoding="utf-8")


class _AtWork:
    """The input under way, in a file that outlives the process, and a bound on its processor time."""

    def __init__(self, path: Path) -> None:
        with path.open("w+b") as file:
            file.truncate(_HEAD_BYTES + MOST_BYTES)
            self.held = mmap.mmap(file.fileno(), 0)

    def on(self, data: bytes) -> None:
        self.held[: _HEAD_BYTES + len(data)] = len(data).to_bytes(_HEAD_BYTES, "little") + data
        _bound_cpu(int(time.process_time()) + _MOST_CPU_S)

    def off(self) -> None:
        """Between two inputs the fuzzer's own work takes what it takes."""
        _bound_cpu(resource.RLIM_INFINITY)


def _bound_cpu(most: int) -> None:
    hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
    resource.setrlimit(resource.RLIMIT_CPU, (hard if most == resource.RLIM_INFINITY else most, hard))


_INSTRUMENTED = (
    *("wirecheck", "jinja2", "gguf", "tomllib", "junitparser", "transformers.utils.chat_template_utils"),
    *("transformers.configuration_utils", "transformers.modeling_rope_utils"),
)
"""Packages whose branches guide the fuzzer: they must not have been imported before."""


def _inside(name: str, place: Path, seconds: int) -> None:
    """Fuzz until the time is up. Does not return."""
    import atheris

    sys.dont_write_bytecode = True
    folder = Path(tempfile.mkdtemp(prefix="fuzz-"))
    corpus = place / "corpus"
    begins = tuple(path.read_bytes() for path in sorted(corpus.iterdir()))
    with atheris.instrument_imports(include=list(_INSTRUMENTED)):
        from tests.fuzz.targets import target

        one = target(name)
        _warm(one, folder, begins)
    from tests.fuzz.mutators import Mutator

    watch, account = Watch(), _Account(place)
    mutator, at_work = Mutator(one.shape, begins), _AtWork(place / _AT_WORK)

    def test(data: bytes) -> None:
        _emptied(folder)
        one.place(data, folder)
        at_work.on(data)
        try:
            account.saw(held(lambda: one.read(data, folder), one.errors, one.bounds, watch, exact=False))
        except Breach as breach:
            account.broke(breach, data)
        finally:
            at_work.off()

    def change(data: bytes, most: int, seed: int) -> bytes:
        return mutator.change(data, most, seed, atheris.Mutate)

    flags = [
        f"-max_total_time={seconds}",
        f"-max_len={MOST_BYTES}",
        f"-timeout={_NO_CLOCK_S}",
        "-print_final_stats=1",
        "-rss_limit_mb=6000",
    ]
    atheris.Setup([sys.argv[0], str(corpus), f"-artifact_prefix={place}/", *flags], test, custom_mutator=change)
    confine(one.bounds)
    atheris.Fuzz()


def _warm(one: Target, folder: Path, begins: tuple[bytes, ...]) -> None:
    """Import what reading imports, so that no input is blamed for it."""
    for data in begins[:50]:
        _emptied(folder)
        one.place(data, folder)
        try:
            one.read(data, folder)
        except Exception:  # noqa: BLE001, S112 - read again, under the contract, as the corpus is loaded
            continue


def _emptied(folder: Path) -> None:
    for path in folder.iterdir():
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()


# --- around it ---------------------------------------------------------------------------------------------------


def fuzz(one: Target, seconds: int, work: Path) -> dict[str, Any]:
    """Fuzz in processes of their own until the time is up; what was measured."""
    from tests.fuzz.seeds import seeds

    place = work / one.name
    corpus = place / "corpus"
    corpus.mkdir(parents=True, exist_ok=True)
    for stale in (*place.glob("endings-*.json"), *place.glob("findings/*"), *_artifacts(place)):
        stale.unlink()
    for data in seeds(one.name):
        (corpus / hashlib.sha1(data, usedforsecurity=False).hexdigest()).write_bytes(data[:MOST_BYTES])
    begin, begun, stats, short = time.monotonic(), datetime.now(UTC), Counter[str](), 0
    last, ends = (0, 0, 0), Counter[str]()
    while (left := seconds - int(time.monotonic() - begin)) > 1 and short < _HOPELESS:
        since = time.monotonic()
        status, told = _one_process(one, place, left)
        for name, value in _STAT.findall(told):
            if name == "number_of_executed_units":
                stats["executions"] += int(value)
            if name == "peak_rss_mb":
                stats["peak_mb"] = max(stats["peak_mb"], int(value))
        stats["fuzzed_s"] += sum(int(spent) for _, spent in _DONE.findall(told))
        found = _STATUS.findall(told)
        last = max(last, tuple(map(int, found[-1]))) if found else last
        if status:  # libFuzzer told no figures: the wall clock, with the start of the process
            stats["ended_s"] += int(time.monotonic() - since)
            ends[str(status)] += 1
            short = short + 1 if time.monotonic() - since < 10 else 0  # noqa: PLR2004
    endings = _endings(place)
    return {
        "target": one.name,
        "began": begun.strftime("%Y-%m-%dT%H:%MZ"),
        "seconds": round(time.monotonic() - begin),
        "fuzzed_s": stats["fuzzed_s"] + stats["ended_s"],
        "executions": max(stats["executions"], sum(endings.values())),
        "edges": last[0],
        "features": last[1],
        "corpus": last[2],
        "peak_mb": stats["peak_mb"],
        "endings": dict(endings),
        "process_ends": dict(ends),
        "findings": sorted(p.name for p in (place / "findings").glob("*") if p.suffix != ".why"),
        "artifacts": [path.name for path in _artifacts(place)],
        "versions": _versions(),
        "commit": _commit(),
    }


def _one_process(one: Target, place: Path, seconds: int) -> tuple[int, str]:
    command = [sys.executable, __file__, one.name, str(place), str(seconds), "--inside"]
    environment = os.environ | {"TOKENIZERS_PARALLELISM": "false", "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    with (place / "stderr.txt").open("wb") as told:
        fuzzer = subprocess.Popen(command, env=environment, stdout=told, stderr=subprocess.STDOUT)
        try:
            code = fuzzer.wait(seconds + _MOST_LATE_S)
        except subprocess.TimeoutExpired:
            fuzzer.kill()
            fuzzer.wait()
            code = -signal.SIGXCPU
    if code == -signal.SIGXCPU:
        _keep_at_work(place)
    if code:
        shutil.copy(place / "stderr.txt", place / f"stderr-{fuzzer.pid}.txt")
    return code, (place / "stderr.txt").read_text(encoding="utf-8", errors="replace")


def _keep_at_work(place: Path) -> None:
    """The input on which the time ran out, named as libFuzzer names those of its own limit."""
    told = (place / _AT_WORK).read_bytes()
    data = told[_HEAD_BYTES:][: int.from_bytes(told[:_HEAD_BYTES], "little")]
    (place / f"timeout-{hashlib.sha1(data, usedforsecurity=False).hexdigest()}").write_bytes(data)


def _artifacts(place: Path) -> list[Path]:
    """Inputs on which libFuzzer ended the process."""
    return sorted(path for path in place.iterdir() if path.name.startswith(_ARTIFACT))


def _endings(place: Path) -> Counter[str]:
    total: Counter[str] = Counter()
    for path in place.glob("endings-*.json"):
        total.update(json.loads(path.read_text(encoding="utf-8")))
    return total


def _versions() -> dict[str, str]:
    held_ = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            held_[name] = version(name)
        except PackageNotFoundError:
            continue
    return held_


def _commit() -> str:
    asked = ["git", "-C", str(ROOT), "rev-parse", "--short=12", "HEAD"]
    return subprocess.run(asked, capture_output=True, text=True, check=False).stdout.strip()


def main() -> int:
    """The exit code: 1 where an input broke the contract."""
    if "--inside" in sys.argv:
        _inside(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))
    from tests.fuzz.targets import TARGETS, target

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=", ".join(one.name for one in TARGETS))
    parser.add_argument("--seconds", type=int, default=600)
    parser.add_argument("--work", type=Path, default=WORK)
    parser.add_argument("--no-log", action="store_true", help="write no line of the log")
    parser.add_argument("--keep", action="store_true", help="take a small corpus over into tests/fuzz/corpus")
    parser.add_argument("--page", action="store_true", help="write docs/fuzz.md from the log")
    asked = parser.parse_args()
    if asked.page:
        from tests.fuzz.page import write_page

        write_page()
        return 0
    broken = False
    for name in asked.targets or [one.name for one in TARGETS]:
        if asked.keep:
            from tests.fuzz.keep import keep

            print(keep(target(name), asked.work / name / "corpus"))
            continue
        told = fuzz(target(name), asked.seconds, asked.work)
        print(json.dumps(told))
        if not asked.no_log:
            with LOG.open("a", encoding="utf-8") as log:
                log.write(json.dumps(told) + "\n")
        broken |= bool(told["findings"] or told["artifacts"])
    return int(broken)


if __name__ == "__main__":
    sys.exit(main())
