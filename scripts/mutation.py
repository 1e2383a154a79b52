"""stub"""
import sys, time
from pathlib import Path
import mutation_run as run
import pickle, hashlib
from mutants import ROOT, mutants_of as made
def mutants_of(f):
    k=hashlib.sha256((ROOT/f).read_bytes()+(ROOT/'scripts/mutants.py').read_bytes()).hexdigest()[:16]
    at=Path('/tmp/mutcache')/k
    at.parent.mkdir(exist_ok=True)
    if not at.exists():
        ms=made(f); at.write_bytes(pickle.dumps([tuple(m) for m in ms]))
    from mutants import Mutant
    return [Mutant(*m) for m in pickle.loads(at.read_bytes())]


def main():
    out = Path(sys.argv[1]); tests = sys.argv[2].split(","); files = sys.argv[3].split(","); mode = sys.argv[4:] 
    tests=[f"tests/test_{t}.py" for t in tests]
    t=time.time()
    known_at = out / "bearing.json"
    mutants = [m for f in files for m in mutants_of(f)]
    print(len(mutants), "mutants", time.time()-t, flush=True)
    run.prepare()
    log = run.Log(out / "log.jsonl")
    done = log.outcomes()
    if "again" in mode: mutants = [m for m in mutants if done.get(m.key) != run.KILLED]
    else: mutants = [m for m in mutants if m.key not in done]
    with run.scratch() as base:
        if not known_at.exists() or "learn" in mode:
            run.learn(tests, files, known_at, base+"/l")
        print("learnt", time.time()-t, flush=True)
        known = run.load(known_at)
        warmlog = run.Log(out / "warm.jsonl")
        if warmlog.path.exists(): warmlog.path.unlink()
        always = {"wirecheck/codes/": ["tests/test_codes.py"]}
        run.warm([m for m in mutants if not m.file.startswith("wirecheck/codes/")], known, warmlog, 2, base+"/w")
        print("warm", time.time()-t, flush=True)
        w = warmlog.outcomes()
        for m in mutants:
            if w.get(m.key) in (run.KILLED, run.SLOW): log(m, w[m.key], "")
        left = [m for m in mutants if w.get(m.key) not in (run.KILLED, run.SLOW)]
        print(len(left), "cold", flush=True)
        run.cold(left, known, log, 2, base+"/c", always)
    done = log.outcomes()
    from collections import Counter
    for f in files:
        print(f, Counter(done.get(m.key) for m in mutants if m.file==f))
    print(time.time()-t)
main()
