"""The life of one process: from the daemon's first message to the end of its pipe."""

from __future__ import annotations

import os
import sys
from typing import Any, Callable, Dict, Type, Union

from .checkpointer import Checkpointer, Retry
from .errors import DaemonGone, ProtocolError, ShutdownError
from .pipe import Pipe
from .processor import FunctionProcessor, Processor, Shard
from .records import Record, Records


def run(
    processor: Union[Processor, Type[Processor], Callable[[Records], object]], *, retry: Retry = Retry()
) -> None:
    """Talks to the daemon that started this process until the daemon ends it.

    Takes a `Processor` (an instance or its class), or just a function that is called with each batch of records;
    a batch is checkpointed when the function returns. Exceptions of the processor come out of here: leave them
    alone, so that the process ends with a traceback and the daemon knows.
    """
    if isinstance(processor, type):
        processor = processor()
    if not isinstance(processor, Processor):
        if not callable(processor):
            raise TypeError(f"run() takes a Processor or a function, not {type(processor).__name__}")
        processor = FunctionProcessor(processor)
    if os.isatty(0):
        _say("this program is run by a daemon and reads JSON from it; try: multilangd run --local APP.properties")
    pipe = Pipe.take()
    try:
        _Conversation(pipe, processor, retry).run()
    except DaemonGone:
        pass
    finally:
        pipe.close()


class _Conversation:
    def __init__(self, pipe: Pipe, processor: Processor, retry: Retry) -> None:
        self._pipe = pipe
        self._processor = processor
        self._checkpointer = Checkpointer(pipe, retry)
        self._shard_id = "?"
        self._lease_is_gone = False

    def run(self) -> None:
        while (message := self._pipe.receive()) is not None:
            action = message.get("action")
            if action == "processRecords":
                self._process_records(message)
            elif action == "initialize":
                self._initialize(message)
            elif action == "shutdownRequested":
                self._with_checkpointer(self._processor.shutdown_requested)
            elif action == "shardEnded":
                self._shard_ended()
            elif action == "leaseLost":
                self._call(self._processor.lease_lost)
            else:
                raise ProtocolError(f"the daemon asked for {action!r}, which this client does not know")
            self._pipe.send({"action": "status", "responseFor": action})

    def _initialize(self, message: Dict[str, Any]) -> None:
        self._shard_id = _required(message, "shardId")
        shard = Shard(self._shard_id, message.get("sequenceNumber"), message.get("subSequenceNumber"))
        self._call(self._processor.initialize, shard)

    def _process_records(self, message: Dict[str, Any]) -> None:
        fields = _required(message, "records")
        records = Records([Record(each) for each in fields], message.get("millisBehindLatest"))
        self._with_checkpointer(self._processor.process_records, records)

    def _shard_ended(self) -> None:
        stored = self._with_checkpointer(self._processor.shard_ended)
        if stored == 0 and not self._lease_is_gone:
            _say(
                f"shard_ended returned without a checkpoint: {self._shard_id} is not finished, "
                "and the shards that follow it cannot start"
            )

    def _with_checkpointer(self, callback: Callable[..., None], *args: object) -> int:
        """Returns how many checkpoints the callback got stored."""
        if self._lease_is_gone:
            return 0  # the next worker does this; the processor waits for lease_lost
        self._checkpointer._open()
        try:
            self._call(callback, *args, self._checkpointer)
        except ShutdownError as error:
            self._lease_is_gone = True
            _say(f"{_name(callback)} of {self._shard_id} stopped: {error}")
        finally:
            stored = self._checkpointer._close()
        return stored

    def _call(self, callback: Callable[..., None], *args: object) -> None:
        try:
            callback(*args)
        except ShutdownError:
            raise
        except Exception:
            _say(
                f"{_name(callback)} of {self._shard_id} failed; this process ends, "
                "and what was not checkpointed is delivered again"
            )
            raise


def _required(message: Dict[str, Any], key: str) -> Any:
    try:
        return message[key]
    except KeyError:
        raise ProtocolError(f"the daemon's {message['action']} has no {key!r}") from None


def _name(callback: Callable[..., None]) -> str:
    return getattr(callback, "__name__", "a callback")


def _say(text: str) -> None:
    print(f"multilangd: {text}", file=sys.stderr, flush=True)
