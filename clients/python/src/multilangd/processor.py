"""What an application implements."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Callable, NamedTuple, Optional

from .checkpointer import Checkpointer
from .records import Records


class Shard(NamedTuple):
    """The shard that this process works on, and where it starts."""

    shard_id: str
    #: The last checkpoint: digits, or ``TRIM_HORIZON``, ``LATEST``, ``AT_TIMESTAMP``. Records follow after it.
    sequence_number: Optional[str]
    sub_sequence_number: Optional[int]


class Processor(ABC):
    """Processes one shard, from getting its lease to losing it or reaching its end.

    The callbacks are called one at a time, from the thread that called `run`. An exception out of any of them ends
    the process with a traceback; the daemon then has the records since the last checkpoint delivered again.
    """

    def initialize(self, shard: Shard) -> None:
        """Called once, first. May take as long as it needs."""

    @abstractmethod
    def process_records(self, records: Records, checkpointer: Checkpointer) -> None:
        """Called with each batch, in order. `checkpointer.checkpoint()` marks everything so far as done."""

    def lease_lost(self) -> None:
        """Called when another worker has the shard. Let go of what belongs to it; checkpoints are over."""

    def shard_ended(self, checkpointer: Checkpointer) -> None:
        """Called when the last record of a closed shard has been processed.

        The shards that follow it (after a split or merge) start only once this has been checkpointed, so the default
        does that. Override it to finish what is buffered, and then call `checkpointer.checkpoint()` yourself.
        """
        checkpointer.checkpoint()

    def shutdown_requested(self, checkpointer: Checkpointer) -> None:
        """Called when the worker stops or hands the shard over: the last chance to checkpoint before `lease_lost`.

        The default does nothing: what was not checkpointed is delivered again to the next worker.
        """


class FunctionProcessor(Processor):
    """A function called with each batch, which is checkpointed once the function returns."""

    def __init__(self, function: Callable[[Records], object]) -> None:
        self._function = function

    def process_records(self, records: Records, checkpointer: Checkpointer) -> None:
        self._function(records)
        if records:
            checkpointer.checkpoint()
