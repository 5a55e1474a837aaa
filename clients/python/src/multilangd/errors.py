"""What can go wrong between a processor and its daemon: one class per reaction."""

from __future__ import annotations

from typing import Optional

_MEANINGS = {
    "ShutdownException": "this process no longer holds the lease of its shard",
    "ThrottlingException": "the lease table is throttling",
    "KinesisClientLibDependencyException": "the lease table could not be written",
    "InvalidStateException": "checkpoints are not possible now, or the lease table is missing",
    "IllegalArgumentException": "not a position between the last checkpoint and the last delivered record",
}


class CheckpointError(Exception):
    """A checkpoint was refused, and asking again would not help. Nothing was stored."""

    #: The daemon's name for the reason, such as ``"InvalidStateException"``.
    error: str

    def __init__(self, error: str, detail: Optional[str] = None) -> None:
        meaning = detail or _MEANINGS.get(error, "the daemon could not store the checkpoint")
        super().__init__(f"{error}: {meaning}")
        self.error = error


class ShutdownError(CheckpointError):
    """The lease is gone: stop working on this shard, another worker continues it.

    Need not be caught. Left alone it ends the callback, and of this shard the processor is only told ``lease_lost``.
    """


class ThrottlingError(CheckpointError):
    """The lease table was still throttling or failing after the last of the tries (see `Retry`)."""


class ProtocolError(Exception):
    """The daemon said something that this client does not understand."""


class DaemonGone(SystemExit):
    """The daemon closed the pipe while a callback was waiting for it. Leads to a quiet exit with code 0."""

    def __init__(self) -> None:
        super().__init__(0)


def checkpoint_error(error: str, position: str) -> CheckpointError:
    """The exception for the daemon's error name, after the last try."""
    meaning = _MEANINGS.get(error, "the daemon could not store the checkpoint")
    kind = {
        "ShutdownException": ShutdownError,
        "ThrottlingException": ThrottlingError,
        "KinesisClientLibDependencyException": ThrottlingError,
    }.get(error, CheckpointError)
    return kind(error, f"{meaning} (asked for {position})")
