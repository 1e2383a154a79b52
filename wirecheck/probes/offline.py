"""HUB05: whether everything of a model loads where there is no network, as a node of a cluster will load it."""

from __future__ import annotations

from collections.abc import Iterator

from wirecheck.errors import CannotRun
from wirecheck.probe import ModelBench, Probe, Yielded
from wirecheck.readiness import require_memory, require_weights
from wirecheck.schema import Evidence, Level, Policy, Severity, WireSpec
from wirecheck.zoo_offline import PARTS, Reload, reload

_NAMED = 3


def _run(bench: ModelBench) -> Iterator[Yielded]:
    snapshot = bench.snapshot
    require_weights(snapshot)
    elements = sum(tensor.num_elements for tensor in snapshot.tensors.values())
    require_memory(elements * (4 if bench.train.dtype == "float32" else 2), bench.train.dtype)
    # A hub's model is loaded by its id, which without the variable is a question to the hub; a folder has nothing to
    # ask, with it or without.
    variable = snapshot.ref.kind == "hub"
    found = _reload(bench, hub_offline=variable)
    if not found.asked and not found.failed:
        how = "with HF_HUB_OFFLINE=1" if variable else "with no variable set"
        claim = f"{', '.join(PARTS)} load where sockets are refused, {how}, and nothing asks the network."
        yield bench.ok("HUB05", claim, *_seen(found, variable))
        return
    helped = None if variable else _reload(bench, hub_offline=True)
    yield _judged(bench, found, helped, variable=variable)


def _reload(bench: ModelBench, *, hub_offline: bool) -> Reload:
    return reload(
        bench.snapshot,
        dtype=bench.train.dtype,
        trust_remote_code=bench.policy.trust_remote_code,
        hub_offline=hub_offline,
    )


def _judged(bench: ModelBench, found: Reload, helped: Reload | None, *, variable: bool) -> Yielded:
    """What does not load at all without a network blocks; what loads, and asks all the same, is warned of."""
    last = helped or found
    evidence = (*_seen(found, variable), *(_seen(helped, True) if helped else ()))
    if last.failed:
        if not last.asked and not found.asked and _fails_anyway(bench):
            raise CannotRun(f"{last.failed[0][0]} does not load, with a network or without: {last.failed[0][1]}")
        part, why = last.failed[0]
        claim = f"{part} does not load where sockets are refused: {why}"
        remedy = "Fetch all of it first (`wirecheck fetch`), and see what the error names."
        return bench.found("HUB05", claim, *evidence, severity=Severity.BLOCK, remedy=remedy)
    hosts = ", ".join(found.asked[:_NAMED])
    if helped is not None and not helped.asked:
        claim = f"Loading asks {hosts}; with HF_HUB_OFFLINE=1 it asks nobody, and all of it loads."
    else:
        claim = f"Loading asks {hosts}, also with HF_HUB_OFFLINE=1; refused, it loads all the same."
    return bench.found("HUB05", claim, *evidence)


def _fails_anyway(bench: ModelBench) -> bool:
    """Whether the files do not load here either, so that the network is not what is lacking."""
    try:
        _ = (bench.config, bench.tokenizer)
    except Exception:  # noqa: BLE001 - the probes of those parts say what it is
        return True
    return False


def _seen(found: Reload, variable: bool) -> Iterator[Evidence]:
    fence = "a network namespace and an audit hook" if found.fence == "namespace" else "an audit hook"
    setting = "HF_HUB_OFFLINE=1" if variable else "HF_HUB_OFFLINE not set"
    source = f"from_pretrained of {', '.join(PARTS)} in a process fenced by {fence}; {setting}"
    observed = f"asked: {', '.join(found.asked) or 'nobody'}; not loaded: " + (
        ", ".join(part for part, _ in found.failed) or "nothing"
    )
    yield Evidence(level=Level.EXECUTED, source=source, observed=observed)


def _asked(_wire: WireSpec, policy: Policy) -> bool:
    return policy.prove_offline


OFFLINE = Probe(
    name="offline",
    question="Does all of it load where there is no network?",
    scope="model",
    level=Level.EXECUTED,
    codes=("HUB05",),
    needs="weights",
    requires=("config", "tokenizer"),
    moot_after=("WGT01", "WGT02", "WGT03", "WGT04", "TOK01", "TOK02", "EMB01"),
    run=_run,
    asked=_asked,
)
