"""Chat templates are programs of strangers: they are rendered in a forked child, under bounds, and never here.

What the child runs is the tokenizer's own `apply_chat_template`, so that what is seen is transformers' behaviour; this
module imports nothing of it. A child that breaks a bound is killed, and that is a result; that this machine ended it is
none.
"""

from __future__ import annotations

import contextlib
import faulthandler
import gc
import json
import os
import random
import re
import select
import signal
import sys
import time
import traceback
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, tzinfo
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, Literal

from wirecheck.child_process import OWN_DEATHS, die_with_parent, let_go, quiet_fork
from wirecheck.errors import CannotRun

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Bound = Literal["sandbox", "CPU time", "memory", "output", "recursion", "size", "death"]
Stopped = Literal["output", "wall clock"]

_RENDERER = "transformers.utils.chat_template_utils"
_TEMPLATE_FILE = ("<template>", "<unknown>")
"""The file names under which jinja runs a template that came as a string."""
_MAX_MESSAGE = 200
_POLL_S = 0.5
_OUT_OF_MEMORY = 3
"""Exit status of a child that met its memory bound outside of a template."""
_CHUNK = 1 << 16


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What one model's templates may take, all chats together; the text of each chat for itself."""

    cpu_s: int = 5
    wall_s: float = 60.0
    memory_bytes: int = 512 * 1024**2
    """Beside what the process already had; enforced where the platform counts address space (Linux)."""
    output_chars: int = 200_000


LIMITS = Limits()


@dataclass(frozen=True, kw_only=True)
class Chat:
    """One rendering asked for."""

    name: str
    turns: tuple[tuple[str, str], ...]
    """(role, content)."""
    add_generation_prompt: bool = False
    template: str | None = None
    """The name of one of several templates; None for the one used by default."""
    now: datetime = datetime(2024, 7, 26, 12, 0, 0)  # noqa: DTZ001  # a template sees local time
    """What the clock says to the template."""
    tokenize: bool = False
    """Whether `apply_chat_template(tokenize=True)` is asked as well."""


@dataclass(frozen=True)
class Rendered:
    """The template made this text, and these ids where they were asked for."""

    text: str
    ids: tuple[int, ...] | None = None


@dataclass(frozen=True)
class Refused:
    """The template raised: what, and on which of its lines."""

    type: str
    message: str
    line: int | None


@dataclass(frozen=True)
class Hostile:
    """The template broke a bound, and which."""

    bound: Bound
    message: str


Outcome = Rendered | Refused | Hostile


def render(
    tokenizer: PreTrainedTokenizerBase, chats: Sequence[Chat], limits: Limits | None = None
) -> dict[str, Outcome]:
    """Every chat's outcome by its name, in order; chats after one whose child had to be killed are absent.

    Raises CannotRun on a platform without fork, and where this machine and not the template ended the rendering: past
    the wall clock with CPU time to spare, by a signal from outside, by a fault of the child itself.
    """
    if not hasattr(os, "fork"):
        raise CannotRun("a chat template is rendered in a forked child, which this platform does not have")
    limits = limits or LIMITS
    reader, writer = os.pipe()
    with quiet_fork():
        pid = os.fork()
        if pid == 0:
            _child(tokenizer, chats, limits, writer)
    os.close(writer)
    answer, stopped = bytearray(), None
    try:
        stopped = _listen(reader, answer, limits, len(chats))
    finally:
        os.close(reader)
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        _, status = os.waitpid(pid, 0)
    outcomes = _answered(bytes(answer), chats)
    if len(outcomes) < len(chats) and not any(isinstance(outcome, Hostile) for outcome in outcomes.values()):
        if stopped == "wall clock":
            raise CannotRun(
                f"a chat was still being rendered after {limits.wall_s:g} s, with less than {limits.cpu_s} s of CPU "
                "time used: this machine is too busy to tell"
            )
        broken = stopped or _bound_of(status)
        outcomes[chats[len(outcomes)].name] = Hostile(broken, _why(broken, limits))
    return outcomes


# ---------------------------------------------------------------------------------------------- in this process


def _listen(reader: int, answer: bytearray, limits: Limits, num_chats: int) -> Stopped | None:
    """Collects the child's lines until it closes the pipe; why it has to be stopped, where it has to."""
    deadline = time.monotonic() + limits.wall_s
    most = (num_chats + 1) * (limits.output_chars * 16 + _CHUNK)
    while (left := deadline - time.monotonic()) > 0:
        if not select.select([reader], [], [], min(left, _POLL_S))[0]:
            continue
        chunk = os.read(reader, _CHUNK)
        if not chunk:
            return None
        answer += chunk
        if len(answer) > most:
            return "output"
    return "wall clock"


def _bound_of(status: int) -> Bound:
    """The bound that a child broke which gave less than an answer. Raises CannotRun where it broke none."""
    if os.WIFEXITED(status):
        match os.WEXITSTATUS(status):
            case 0:
                return "death"  # what it wrote is no answer
            case code if code == _OUT_OF_MEMORY:
                return "memory"
            case code:
                raise CannotRun(f"the process that renders chat templates failed, with exit status {code}")
    name = signal.Signals(os.WTERMSIG(status)).name
    if name == "SIGXCPU":
        return "CPU time"
    if name in OWN_DEATHS:
        return "death"
    raise CannotRun(f"the process that renders chat templates was ended from outside, by {name}")


def _answered(answer: bytes, chats: Sequence[Chat]) -> dict[str, Outcome]:
    """The outcomes that the child wrote down, up to the first that is none."""
    outcomes: dict[str, Outcome] = {}
    for chat, line in zip(chats, answer.split(b"\n"), strict=False):
        try:
            outcomes[chat.name] = _read(line)
        except (ValueError, KeyError, TypeError):
            break
    return outcomes


def _read(line: bytes) -> Outcome:
    record = json.loads(line)
    match record.pop("kind"):
        case "Rendered":
            ids = record["ids"]
            return Rendered(record["text"], None if ids is None else tuple(int(i) for i in ids))
        case "Refused":
            return Refused(**record)
        case "Hostile":
            return Hostile(**record)
    raise ValueError("not an outcome")


def _why(bound: Bound, limits: Limits) -> str:
    match bound:
        case "CPU time":
            return f"still running after {limits.cpu_s} s of CPU time"
        case "output":
            return f"more than {limits.output_chars:,} characters"
        case "memory":
            return f"more than {limits.memory_bytes // 1024**2:,} MiB"
        case _:
            return "the rendering process died"


# ---------------------------------------------------------------------------------------------- in the child


def _child(tokenizer: PreTrainedTokenizerBase, chats: Sequence[Chat], limits: Limits, writer: int) -> None:
    """Renders, writes one line per chat and leaves without running anything of the parent's."""
    code = 1
    try:
        _confine(limits, writer)
        for chat in chats:
            line = json.dumps(_attempt(tokenizer, chat, limits)).encode() + b"\n"
            while line:
                line = line[os.write(writer, line) :]
        code = 0
    except MemoryError:
        code = _OUT_OF_MEMORY
    except BaseException:  # noqa: BLE001  # the parent's stack is below: nothing may pass
        code = 1
    finally:
        os._exit(code)


def _confine(limits: Limits, writer: int) -> None:
    """No terminal, no open file of the parent's, and the bounds that the kernel keeps."""
    import resource

    die_with_parent()
    gc.disable()  # no finaliser of the parent's objects runs here
    faulthandler.disable()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGXCPU, signal.SIG_DFL)
    null = os.open(os.devnull, os.O_RDWR)
    let_go(null, null, keep=writer)
    bounds = {resource.RLIMIT_FSIZE: 0, resource.RLIMIT_CPU: limits.cpu_s}
    pages = Path("/proc/self/statm")
    if pages.is_file():
        held = int(pages.read_text(encoding="ascii").split()[0]) * resource.getpagesize()
        bounds[resource.RLIMIT_AS] = held + limits.memory_bytes
    for which, most in bounds.items():
        hard = resource.getrlimit(which)[1]  # SIGXCPU comes at the soft limit, hence the hard one stays
        resource.setrlimit(which, (most if hard == resource.RLIM_INFINITY else min(most, hard), hard))


def _attempt(tokenizer: PreTrainedTokenizerBase, chat: Chat, limits: Limits) -> dict[str, Any]:
    try:
        outcome: Outcome = _render(tokenizer, chat, limits)
    except Exception as error:  # noqa: BLE001  # whatever a template raises is its outcome
        outcome = _of_error(error, limits)
    return {"kind": type(outcome).__name__, **asdict(outcome)}


def _of_error(error: Exception, limits: Limits) -> Outcome:
    message = _one_line(error)
    match type(error).__name__:
        case "_TooLong":
            return Hostile("output", _why("output", limits))
        case "MemoryError":
            return Hostile("memory", _why("memory", limits))
        case "RecursionError":
            return Hostile("recursion", "no end of it")
        case "SecurityError":
            return Hostile("sandbox", message)
        case "OverflowError":  # the sandbox's own limit of range(), or a repetition past any address
            return Hostile("size", message)
        case name:
            return Refused(name, message, _line_of(error))


class _TooLong(Exception):
    """The rendered text is longer than the bound."""


def _render(tokenizer: PreTrainedTokenizerBase, chat: Chat, limits: Limits) -> Rendered:
    _set_clock(chat.now)
    random.seed(0)  # what jinja's `random` filter draws from: the same on every run
    messages = [{"role": role, "content": content} for role, content in chat.turns]
    options: dict[str, Any] = {"add_generation_prompt": chat.add_generation_prompt}
    if chat.template is not None:
        options["chat_template"] = chat.template
    text = tokenizer.apply_chat_template(messages, tokenize=False, **options)
    assert isinstance(text, str), type(text)
    if len(text) > limits.output_chars:
        raise _TooLong
    text.encode()  # half of a surrogate pair is no text: it cannot be tokenized, written or shown
    if not chat.tokenize:
        return Rendered(text)
    encoded: Any = tokenizer.apply_chat_template(messages, tokenize=True, return_dict=True, **options)
    return Rendered(text, tuple(int(i) for i in encoded["input_ids"]))


def _set_clock(now: datetime) -> None:
    """What `strftime_now` reads. The child is thrown away: nothing has to be put back."""

    class Clock(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> Clock:
            return cls.fromtimestamp(now.timestamp(), tz)

    renderer = sys.modules.get(_RENDERER)
    if renderer is not None:
        vars(renderer)["datetime"] = Clock


def _line_of(error: Exception) -> int | None:
    """The template's line: jinja gives a syntax error one, and a running template frames with its own file name."""
    line = getattr(error, "lineno", None)
    if isinstance(line, int):
        return line
    frames: list[tuple[FrameType, int]] = list(traceback.walk_tb(error.__traceback__))
    lines = [number for frame, number in frames if frame.f_code.co_filename in _TEMPLATE_FILE]
    return lines[-1] if lines else None


def _one_line(error: Exception) -> str:
    """The message without line breaks and without addresses in memory, which differ from run to run."""
    message = re.sub(r"0x[0-9a-f]{6,}", "0x…", " ".join(str(error).split())) or type(error).__name__
    return message if len(message) <= _MAX_MESSAGE else message[: _MAX_MESSAGE - 1] + "…"
