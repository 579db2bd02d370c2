"""Every error that oodwatch raises on purpose. The message says what, where and the cure."""

import re

# Up to the last @ of the word: a password may hold anything, and too much masked does no harm.
_PASSWORD = re.compile(r"(://[^:/?#@\s]*):\S+@")


def masked(text: str) -> str:
    """The text with every password in it (as in scheme://user:password@host) replaced by ***."""
    return _PASSWORD.sub(r"\1:***@", text)


class OodwatchError(Exception):
    """Root of all errors that a user can answer; printed as one line.

    `exit_code` is what the command ends with: 1 some inputs failed, 2 usage or bad input,
    3 refused on merit, 4 environment (retrying later may help).
    """

    exit_code = 2


class UsageError(OodwatchError):
    """A flag, a setting or a file that a person gave is wrong."""


class PackageError(OodwatchError):
    """A model package cannot be made or loaded."""


class RefusedError(OodwatchError):
    """The request was understood and refused on its merit, as a calibration set that is too small."""

    exit_code = 3


class EnvironmentFault(OodwatchError):
    """The log, the database, the disk or the device does not answer; trying again may help."""

    exit_code = 4


class StuckThread(EnvironmentFault):
    """A thread does not come back, perhaps from native code; nothing may wait for it, not even the exit."""


class InconsistentLog(OodwatchError):
    """The log and the database contradict each other; going on could lose or mix records."""

    exit_code = 3


class ModelFailure(OodwatchError):
    """The model fails on most images: the fault is not in the records."""

    exit_code = 3


class RejectedRecord(OodwatchError):
    """One record cannot be scored: it becomes a dead letter and its neighbours are unaffected."""

    def __init__(self, stage: str, reason: str, message: str) -> None:
        super().__init__(message)
        self.stage = stage
        self.reason = reason  # a value of `records.Reason`
