#!/usr/bin/env python3
"""Prints every record of a stream.

    multilangd run --local clients/python/examples/print_records.properties
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parent.parent / "src"))  # not needed once multilangd is installed

from multilangd import Checkpointer, Processor, Records, Shard, run  # noqa: E402


class PrintRecords(Processor):
    def initialize(self, shard: Shard) -> None:
        self.shard_id = shard.shard_id
        print(f"{self.shard_id}  starts after {shard.sequence_number}")

    def process_records(self, records: Records, checkpointer: Checkpointer) -> None:
        for record in records:
            text = record.data.decode("utf-8", "backslashreplace")
            arrival = record.approximate_arrival_timestamp
            clock = f"{arrival:%H:%M:%S}" if arrival else "--:--:--"
            print(f"{self.shard_id}  {clock}  {record.partition_key:<12}  {text}")
        checkpointer.checkpoint()

    def lease_lost(self) -> None:
        print(f"{self.shard_id}  belongs to another worker now")

    def shard_ended(self, checkpointer: Checkpointer) -> None:
        print(f"{self.shard_id}  has ended")
        checkpointer.checkpoint()

    def shutdown_requested(self, checkpointer: Checkpointer) -> None:
        print(f"{self.shard_id}  stops")
        checkpointer.checkpoint()


run(PrintRecords)
