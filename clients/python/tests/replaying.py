"""A processor that does what the child of a transcript did. Started by test_transcripts with the transcript's path."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Iterator

sys.path.insert(0, str(Path(__file__).parent.parent))

from tests.transcripts import Turn, turns_of  # noqa: E402

from multilangd import (  # noqa: E402
    CheckpointError,
    Checkpointer,
    Processor,
    Records,
    Retry,
    Shard,
    run,
)


class Replaying(Processor):
    def __init__(self, turns: Iterator[Turn]) -> None:
        self._turns = turns

    def initialize(self, shard: Shard) -> None:
        self._print(next(self._turns))

    def process_records(self, records: Records, checkpointer: Checkpointer) -> None:
        for record in records:
            assert isinstance(record.data, bytes) and record.approximate_arrival_timestamp is not None
        self._checkpoint(checkpointer)

    def lease_lost(self) -> None:
        self._print(next(self._turns))

    def shard_ended(self, checkpointer: Checkpointer) -> None:
        self._checkpoint(checkpointer)

    def shutdown_requested(self, checkpointer: Checkpointer) -> None:
        self._checkpoint(checkpointer)

    def _checkpoint(self, checkpointer: Checkpointer) -> None:
        turn = next(self._turns)
        self._print(turn)
        for request in turn.checkpoints:
            try:
                checkpointer.checkpoint(request["sequenceNumber"], request["subSequenceNumber"])
            except CheckpointError as error:
                print(error)

    def _print(self, turn: Turn) -> None:
        for line in turn.stray:
            print(line)


run(Replaying(iter(turns_of(Path(sys.argv[1]).read_text("utf-8")))), retry=Retry(tries_max=1))
