"""Mutate the verdict by hand: each line below is a plausible mistake, and the tests must catch every one.

    python scripts/mutate_verdict.py

Works on copies in a temporary folder; prints each mutant and exits 1 when one lives.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).parents[1]

VERDICT, SCHEMA = "wirecheck/verdict.py", "wirecheck/schema.py"
MUTANTS = (
    (VERDICT, "strength.rank >= policy.required.rank", "strength.rank > policy.required.rank"),
    (VERDICT, "strength.rank >= policy.required.rank", "strength.rank <= policy.required.rank"),
    (VERDICT, "if strength is not None and strength", "if strength is None or strength"),
    (VERDICT, "if question.level.rank <= policy.required.rank", "if question.level.rank < policy.required.rank"),
    (VERDICT, "if question.level.rank <= policy.required.rank", "if True"),
    (VERDICT, "level.rank < lowest_gap", "level.rank <= lowest_gap"),
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
    (VERDICT, 'return "not run"', "return None"),
    (VERDICT, "if blockers:", "if blockers and strength is not None:"),
    (VERDICT, "if policy.strict else (Severity.BLOCK,)", "if policy.strict else (Severity.WARN,)"),
    (VERDICT, "(Severity.BLOCK, Severity.WARN) if policy.strict", "(Severity.WARN,) if policy.strict"),
    (VERDICT, "if finding.severity in (Severity.BLOCK, Severity.WARN)", "if finding.severity is Severity.BLOCK"),
    (VERDICT, "if one.severity in deciding and (one.code", "if (one.code"),
    (VERDICT, "and (one.code, one.subject) not in accepted", "and (one.code, one.subject) in accepted"),
    (VERDICT, "and (one.code, one.subject) not in accepted", "and not accepted"),
    (VERDICT, "and (one.code, one.subject) not in accepted", ""),
    (
        VERDICT,
        "and (one.code, one.subject) not in accepted",
        "and one.code not in {code for code, _ in accepted}",
    ),
    (VERDICT, "        if (one.code, one.subject) in deciding", "        if (one.code, one.subject) not in deciding"),
    (VERDICT, "        if (one.code, one.subject) in deciding", "        if True"),
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


def survives(mutant: tuple[str, str, str]) -> bool:
    """Whether the tests stay green with `old` read as `new` in `file`, in a copy of the tree."""
    file, old, new = mutant
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for part in ("wirecheck", "tests"):
            shutil.copytree(ROOT / part, folder / part, ignore=shutil.ignore_patterns("__pycache__", "demo_models"))
        shutil.copy(ROOT / "pyproject.toml", folder)
        target = folder / file
        sound = target.read_text()
        assert sound.count(old) == 1, f"{file}: {old!r} stands {sound.count(old)} times"
        target.write_text(sound.replace(old, new))
        command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "tests/test_verdict.py"]
        environment = os.environ | {"PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1"}
        return subprocess.run(command, cwd=folder, env=environment, capture_output=True, check=False).returncode == 0


def main() -> int:
    """Try every mutant, and none, on copies of the tree, as many at a time as there are processors."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        sound, *results = pool.map(survives, [(VERDICT, "import NamedTuple", "import NamedTuple"), *MUTANTS])
    assert sound, "the tests do not pass on the code as it is"
    living = [mutant for mutant, lives in zip(MUTANTS, results, strict=True) if lives]
    for file, old, new in living:
        print(f"LIVES  {file}: {old!r} -> {new!r}")
    print(f"{len(MUTANTS) - len(living)} of {len(MUTANTS)} mutants killed")
    return 1 if living else 0


if __name__ == "__main__":
    sys.exit(main())
