"""Every error wirecheck raises on purpose, each knowing the exit code the CLI ends with.

    WirecheckError                       5   (never raised itself)
    |-- UsageError                       2   a wrong argument or a wirecheck.toml that does not validate
    |-- Interrupted                    130   Ctrl-C
    `-- CouldNotCheck                    4   nothing can be said about the models
        |-- ModelNotFound                    HUB01: repository, folder, file or revision
        |-- ModelGated                       HUB02: terms to accept, or a token to give
        |-- OfflineNotCached                 HUB03: offline, and the cache lacks a file
        |-- HubUnreachable                   the hub answered wrongly, late or not at all
        `-- OutputNotWritten                 a full disk, a read-only folder

Every message is one line: what, where; `next_step` is the command (or action) to try next.
"""

from __future__ import annotations


def printable(text: str) -> str:
    """The text in one line, whatever stands in it: a stranger's names may hold line breaks and control characters."""
    return "".join(one if one.isprintable() else repr(one)[1:-1] for one in text)


def whole_letters(text: str) -> str:
    """The text with every half of a surrogate pair, which no record can hold, spelt out."""
    return text.encode(errors="backslashreplace").decode()


class WirecheckError(Exception):
    """A failure wirecheck foresaw: one line for the user, and what to do next."""

    exit_code = 5

    def __init__(self, message: str, *, next_step: str | None = None) -> None:
        message = printable(message)
        super().__init__(message)
        self.message = message
        self.next_step = None if next_step is None else printable(next_step)


class UsageError(WirecheckError):
    """The request itself is wrong: an option's value, or a config file that does not validate."""

    exit_code = 2


class CouldNotCheck(WirecheckError):
    """The models could not be looked at, so nothing is claimed about them."""

    exit_code = 4


class ModelNotFound(CouldNotCheck):
    """HUB01: no such repository, folder, file or revision."""


class ModelGated(CouldNotCheck):
    """HUB02: the repository answers only to accounts that accepted its terms."""


class OfflineNotCached(CouldNotCheck):
    """HUB03: the network is off, and the cache lacks what is needed."""


class HubUnreachable(CouldNotCheck):
    """The hub answered with an error, too late, or with bytes that are not what it promised."""


class OutputNotWritten(CouldNotCheck):
    """A result could not be written to disk; nothing half-written is left behind."""


class Interrupted(WirecheckError):
    """Ctrl-C in the middle of a check; `partial` is what was established before it."""

    exit_code = 130

    def __init__(self, partial: object) -> None:
        super().__init__("interrupted before the end: nothing is certified")
        self.partial = partial


class CannotRun(Exception):
    """A probe's way of ending as skipped: a condition is missing, and `reason` says which.

    Not a `WirecheckError`: it never reaches the user as a failure, but as the reason of a skipped run.
    """

    def __init__(self, reason: str) -> None:
        reason = whole_letters(reason)
        super().__init__(reason)
        self.reason = reason
