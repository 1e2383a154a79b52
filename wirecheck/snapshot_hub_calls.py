"""Calls to the hub's client with a deadline, bounded retries, and every error of theirs turned into one of ours."""

from __future__ import annotations

import errno
import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, wait
from contextvars import copy_context
from functools import partial
from importlib import import_module
from typing import TypeVar

from huggingface_hub import errors as hub_errors

from wirecheck import deadline
from wirecheck.errors import (
    CouldNotCheck,
    HubUnreachable,
    ModelGated,
    ModelNotFound,
    OfflineNotCached,
    OutputNotWritten,
)
from wirecheck.snapshot_hub_guard import guard, told

T = TypeVar("T")

ATTEMPTS = 3
SLOW_ATTEMPTS = 5
"""Of a call to a hub that is busy: it says when to come again, or nothing for as long as the client waits.

Such a wait is a pause already, and the one after it short; with the client's own 10 s that is most of a minute."""
MAX_WAIT_S = 10.0
"""A server that asks for a longer pause (Retry-After) is waited for this long, and then given up."""
WORKERS = 8

_TRANSPORT: type[Exception] = hub_errors.HTTPError  # type: ignore[attr-defined]  # httpx's, which the client builds on
_TIMEOUT: type[Exception] = import_module(_TRANSPORT.__module__.partition(".")[0]).TimeoutException
_PASSING = (408, 429, 500, 502, 503, 504)
_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOTDIR)
_FOREIGN = (_TRANSPORT, OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError)
"""What the client raises when the hub, a proxy or a portal answers with something else than it should."""


_POOL_CLOSED = (RuntimeError, AttributeError)
"""What a request ends with when another thread's failed connection made the client close the shared pool."""
_LOGIN = "set HF_TOKEN to the token of an account that may read it"


class AnswerCutShort(Exception):
    """The hub sent fewer bytes than it was asked for."""


def start(call: Callable[[], T]) -> Future[T]:
    """The call, on a thread that never keeps the process from ending."""
    future: Future[T] = Future()
    context = copy_context()

    def run() -> None:
        try:
            future.set_result(context.run(call))
        except BaseException as error:  # noqa: BLE001  # carried to whoever waits for the result
            future.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return future


def together(calls: Sequence[Callable[[], T]]) -> list[T]:
    """Every call's result, in order, at most `WORKERS` at a time; after an error no further call begins."""
    places, ended = threading.Semaphore(WORKERS), threading.Event()

    def placed(call: Callable[[], T]) -> Callable[[], T | None]:
        def run() -> T | None:
            try:
                return None if ended.is_set() else call()
            except BaseException:
                ended.set()
                raise
            finally:
                places.release()

        return run

    futures = []
    for call in calls:  # a place first, then a thread: never more threads than places
        places.acquire()
        futures.append(start(placed(call)))
    try:
        return [future.result() for future in futures]  # type: ignore[misc]  # None only beside an error
    except Exception:
        # What still runs shares the client's one connection pool with whoever asks next, so its end is waited for.
        wait(futures)
        raise
    finally:
        ended.set()


def ask(call: Callable[[], T], *, repo: str, what: str, deadline_s: float, page: str) -> T:
    """The call's result; passing failures are tried again, until `deadline` says stop. Raises CouldNotCheck's children.

    `what` names what was asked for (a file, the list of files); `page` is the repository's page.
    """
    for attempt in range(1, SLOW_ATTEMPTS + 1):
        left_s = deadline.left_s()
        if left_s == 0:
            raise HubUnreachable(f"{repo}: no time was left for {what}", next_step="run it again, or allow more time")
        patience_s = deadline_s if left_s is None else min(deadline_s, left_s)
        future = start(partial(_guarded, call))
        try:
            return future.result(timeout=patience_s)
        except (*_FOREIGN, AnswerCutShort) as error:
            if isinstance(error, TimeoutError) and not future.done():
                raise HubUnreachable(
                    f"{repo}: {what} did not arrive within {patience_s:.0f} s", next_step="try again later"
                ) from None
            pause_s, left_s = _pause(error, attempt), deadline.left_s()
            if pause_s is None or (left_s is not None and pause_s >= left_s):
                raise translate(error, repo=repo, what=what, page=page) from error
            time.sleep(pause_s)
    raise AssertionError("the last attempt returns or raises")


def _pause(error: BaseException, attempt: int) -> float | None:
    """Seconds to wait before the next attempt; None where another one is useless.

    Drawn, so that many who were refused at once do not come again at once.
    """
    most, about_s = ATTEMPTS, None
    if isinstance(error, hub_errors.HfHubHTTPError):
        if error.response.status_code in _PASSING:
            asked = error.response.headers.get("Retry-After", "")
            most = SLOW_ATTEMPTS if asked.isdigit() else ATTEMPTS
            about_s = min(float(asked), MAX_WAIT_S) if asked.isdigit() else 0.5 * 2**attempt
    elif isinstance(error, _TIMEOUT):
        most, about_s = SLOW_ATTEMPTS, 0.5
    elif isinstance(error, (_TRANSPORT, AnswerCutShort, *_POOL_CLOSED)):
        about_s = 0.5 * 2**attempt
    if attempt >= most or _local_entry(error):  # the client has retried that one itself
        return None
    return None if about_s is None else about_s * random.uniform(1.0, 1.5)  # noqa: S311


def _guarded(call: Callable[[], T]) -> T:
    """The call, through a session that is guarded: the client may have made a new one since the last."""
    guard()
    return call()


def _local_entry(error: BaseException) -> bool:
    return isinstance(error, hub_errors.LocalEntryNotFoundError)


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """The error and what it was raised from: the client wraps a plain 403 as "check your connection"."""
    while error is not None:
        yield error
        error = error.__cause__


def translate(error: BaseException, *, repo: str, what: str, page: str) -> CouldNotCheck:
    """One of ours for one of the client's, from the first link of its chain that says something."""
    for link in _chain(error):
        said = _named(link, repo=repo, what=what, page=page)
        if said is not None:
            return said
    return HubUnreachable(
        f"{repo}: {what} could not be read from the hub ({_first_line(error)})",
        next_step="check the connection and HF_ENDPOINT, or use --offline",
    )


def _named(error: BaseException, *, repo: str, what: str, page: str) -> CouldNotCheck | None:
    """Ours for one link; None where it only wraps another. Subclasses stand before their parents."""
    said: CouldNotCheck | None = None
    match error:
        case hub_errors.OfflineModeIsEnabled():
            said = OfflineNotCached(f"{repo}: {what} is not in the cache, and HF_HUB_OFFLINE is set")
        case hub_errors.GatedRepoError():
            step = f"accept its terms on {page}, then {_LOGIN}"
            said = ModelGated(f"{repo} is gated: {what} was refused", next_step=step)
        case hub_errors.RevisionNotFoundError():
            said = ModelNotFound(f"{repo} has no such revision", next_step=f"see the branches and tags on {page}")
        case hub_errors.RepositoryNotFoundError():
            step = f"check the name; if it is private or gated, {_LOGIN}"
            said = ModelNotFound(f"there is no repository {repo}, or it is not open to all", next_step=step)
        case hub_errors.HfHubHTTPError():
            said = _by_status(error.response.status_code, repo=repo, what=what, page=page)
        case hub_errors.HFValidationError():
            said = ModelNotFound(f"{repo} is no repository id", next_step="a repository id reads org/name")
        case OSError() if error.errno in _DISK:
            step = "see HF_HOME: free some space there, or name a folder you can write"
            said = OutputNotWritten(
                f"{repo}: {what} cannot be written to the hub's cache: {error.strerror}", next_step=step
            )
    return said


def _by_status(status: int, *, repo: str, what: str, page: str) -> CouldNotCheck:
    match status:
        case 401 | 403:
            step = f"see whether {page} asks for terms; {_LOGIN}"
            return ModelGated(f"{repo}: {what} was refused with {status}", next_step=step)
        case 404:
            return ModelNotFound(f"{repo}: the hub does not have {what}", next_step=f"check the name on {page}")
        case _:
            return HubUnreachable(f"{repo}: the hub answered {status} for {what}", next_step="try again later")


def _first_line(error: BaseException) -> str:
    text = told(str(error)).strip().splitlines()
    return f"{type(error).__name__}: {text[0]}" if text else type(error).__name__
