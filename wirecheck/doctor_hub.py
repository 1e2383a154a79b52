"""The hub as this machine and this account see it: a token, an answer, the time, and each listed model's terms."""

from __future__ import annotations

from collections.abc import Iterator

from wirecheck.errors import CouldNotCheck
from wirecheck.machine_records import MachineCheck, bad, good
from wirecheck.snapshot import parse_ref

MOST_SKEW_S = 300
"""Certificates and signed addresses are refused from some minutes on."""


def token(*, offline: bool) -> Iterator[MachineCheck]:
    """Whether there is a token, and the hub takes it. None is sound: most models are open to all."""
    from wirecheck.snapshot_hub import token_present

    if not token_present():
        yield good("hub access", "no token: gated models refuse")
        return
    if offline:
        yield good("hub access", "a token is set; offline, so it is not tried")
        return
    from wirecheck import snapshot_hub_access

    try:
        taken = snapshot_hub_access.token_taken()
    except CouldNotCheck:  # the line of the hub itself says why
        taken = None
    if taken is False:
        yield bad("hub access", "a token is set, and the hub refuses it", "hf auth login, or set HF_TOKEN anew")
    else:
        yield good(
            "hub access", "a token is set" + (", and the hub takes it" if taken else "; the hub does not judge it")
        )


def reach_and_clock(*, offline: bool) -> Iterator[MachineCheck]:
    """Whether the hub answers, and how far this machine's clock is from the hub's."""
    if offline:
        yield good("hub", "not asked: offline")
        return
    from wirecheck import snapshot_hub_access

    try:
        answer = snapshot_hub_access.clock()
    except CouldNotCheck as error:
        yield bad("hub", error.message, error.next_step or "check the connection, HTTPS_PROXY and HF_ENDPOINT")
        return
    seen = f"{snapshot_hub_access.endpoint()} answers ({answer.status})"
    if not answer.is_hub:
        mend = "see whether a login page or a proxy stands in between; check HF_ENDPOINT"
        yield bad("hub", f"{seen}, and not as a hub does", mend)
        return
    yield good("hub", seen)
    if answer.ahead_s is None:
        yield good("clock", "not compared: the hub's answer tells no time")
        return
    seen = f"{abs(answer.ahead_s):.0f} s {'ahead of' if answer.ahead_s > 0 else 'behind'} the hub's"
    if abs(answer.ahead_s) > MOST_SKEW_S:
        yield bad("clock", seen, "timedatectl set-ntp true, or tell the machine's admins")
    else:
        yield good("clock", seen)


def access(name: str, text: str, *, offline: bool) -> Iterator[MachineCheck]:
    """Whether a listed model of the hub is gated, and whether this account may read it; nothing for other models."""
    ref = parse_ref(text)
    if ref.kind != "hub":
        return
    line = f"{name}: access"
    if offline:
        yield good(line, f"{ref.name}: not asked: offline")
        return
    from wirecheck import snapshot_hub_access

    try:
        snapshot_hub_access.require_access(ref.name)
        gated = snapshot_hub_access.gating(ref.name)
    except CouldNotCheck as error:
        yield bad(line, error.message, error.next_step or "try again later")
        return
    terms = {"no": "not gated", None: "gated or not, the hub does not tell"}.get(gated, f"gated ({gated})")
    yield good(line, f"{ref.name}: {terms}; this account may read it")
