"""A template rendered in this very process, where a fuzzer sees jinja's branches; the child's bounds are kept here.

What could hold up C code past any timer goes to the forked child, as the product does with all of them.
"""

from __future__ import annotations

import re
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

from tests.fuzz.contract import Breach
from wirecheck import templating
from wirecheck.probes.chats import CHATS
from wirecheck.snapshot import Snapshot

_HERE_S = 0.5
"""CPU time of one template here: its loops are stopped, as the child's are by the kernel."""
_HEAVY = re.compile(r"\*\*|\d{5}|urlize|wordwrap|lipsum")
"""Powers, large numbers, and filters whose C code or regular expressions no timer stops."""
_SMALL = templating.Limits(cpu_s=1, output_chars=20_000)


class _Stopped(Exception):
    """The timer's: raised inside of the template."""


@cache
def tokenizer() -> Any:
    """A sound one."""
    from transformers import PreTrainedTokenizerFast

    from tests.tokenizer_factory import byte_level

    core = byte_level(front=["<s>"])
    return PreTrainedTokenizerFast(tokenizer_object=core, bos_token="<s>", eos_token="<|im_end|>", pad_token="<pad>")


def render_here(snapshot: Snapshot) -> str:
    """How the template's chats end. Raises Breach where an outcome is none of the documented ones."""
    try:
        source = snapshot.read_text("chat_template.jinja")
    except ValueError:
        return "unreadable"
    sound = tokenizer()
    sound.chat_template = source
    if _HEAVY.search(source):
        outcomes = templating.render(sound, CHATS[:3], _SMALL)
        return ",".join(type(one).__name__ for one in outcomes.values())
    endings = []
    for chat in CHATS[:3]:
        with _stopping():
            made = templating._attempt(sound, chat, _SMALL)
        if made["kind"] not in ("Rendered", "Refused", "Hostile"):
            raise Breach("no outcome", str(made)[:200])
        if made["kind"] != "Rendered" and "\n" in made["message"]:
            raise Breach("an outcome of two lines", made["message"])
        endings.append(made["kind"])
    return ",".join(endings)


@contextmanager
def _stopping() -> Iterator[None]:
    def ring(_signal: int, _frame: object) -> None:
        raise _Stopped("the template's time is up")

    before = signal.signal(signal.SIGPROF, ring)
    signal.setitimer(signal.ITIMER_PROF, _HERE_S)
    try:
        yield
    except _Stopped:
        return  # it came between two templates, or passed through one: the child would have been killed
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)
