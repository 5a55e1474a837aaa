"""Asking the daemon to store how far a shard has been processed."""

from __future__ import annotations

import random
import threading
import time
from typing import Callable, NamedTuple, Optional, Union, overload

from .errors import CheckpointError, DaemonGone, ProtocolError, checkpoint_error
from .pipe import Pipe
from .records import Record

_WORTH_ANOTHER_TRY = ("ThrottlingException", "KinesisClientLibDependencyException")


class Retry(NamedTuple):
    """How long to insist when the lease table throttles or fails.

    The delay doubles up to `delay_max` and is shortened by up to half at random. The defaults insist for at least a
    minute and at most 2.2 minutes: longer than a table takes to scale, shorter than an operator's patience.
    """

    tries_max: int = 20
    #: Seconds before the second try.
    delay_first: float = 0.1
    #: Seconds; short enough that a worker which is told to stop is not held up.
    delay_max: float = 10.0

    def delay(self, tries: int, chance: float) -> Optional[float]:
        """Seconds to wait after the given number of failed tries; None to give up. `chance` is in [0, 1)."""
        if tries >= self.tries_max:
            return None
        return min(self.delay_max, self.delay_first * 2.0 ** (tries - 1)) * (1 - chance / 2)


class Checkpointer:
    """Stores positions of one shard. May be used from any thread while one of the callbacks it is given to runs."""

    def __init__(
        self,
        pipe: Pipe,
        retry: Retry = Retry(),
        sleep: Callable[[float], None] = time.sleep,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._pipe = pipe
        self._retry = retry
        self._sleep = sleep
        self._chance = chance
        self._lock = threading.Lock()  # one request at a time, and none after the callback has returned
        self._is_open = False
        self._stored = 0

    @overload
    def checkpoint(self, position: Optional[Record] = None) -> None: ...
    @overload
    def checkpoint(self, position: str, sub_sequence_number: Optional[int] = None) -> None: ...
    def checkpoint(
        self, position: Union[Record, str, None] = None, sub_sequence_number: Optional[int] = None
    ) -> None:
        """Marks as processed everything delivered so far, or everything up to a record (or its sequence number).

        Returns once it is stored. A throttling or failing lease table is asked again for a while (see `Retry`).
        Raises `ShutdownError` if the lease is gone, `ThrottlingError` after the last try, else `CheckpointError`.
        """
        if isinstance(position, Record):
            sub_sequence_number = position.sub_sequence_number
            position = position.sequence_number
        with self._lock:
            tries = 0
            while True:
                error = self._ask(position, sub_sequence_number)
                tries += 1
                if error is None:
                    self._stored += 1
                    return
                delay = self._retry.delay(tries, self._chance()) if error in _WORTH_ANOTHER_TRY else None
                if delay is None:
                    raise checkpoint_error(error, "everything delivered" if position is None else position)
                self._sleep(delay)

    def _ask(self, sequence_number: Optional[str], sub_sequence_number: Optional[int]) -> Optional[str]:
        if not self._is_open:
            raise CheckpointError(
                "InvalidStateException",
                "checkpoints are possible only while process_records, shutdown_requested or shard_ended runs",
            )
        self._pipe.send(
            {
                "action": "checkpoint",
                "sequenceNumber": sequence_number,
                "subSequenceNumber": sub_sequence_number,
            }
        )
        reply = self._pipe.receive()
        if reply is None:
            raise DaemonGone()
        if reply.get("action") != "checkpoint":
            raise ProtocolError(f"the daemon answered a checkpoint with {reply.get('action')!r}")
        error: Optional[str] = reply.get("error")
        return error

    def _open(self) -> None:
        with self._lock:
            self._is_open = True
            self._stored = 0

    def _close(self) -> int:
        """Waits for a checkpoint under way. Returns how many were stored since `_open`."""
        with self._lock:
            self._is_open = False
            return self._stored
