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
    """Prints to stdout, which is harmless: it goes to stderr, and the daemon shows it with the shard in front."""

    def initialize(self, shard: Shard) -> None:
        print(f"starts after {shard.sequence_number}")

    def process_records(self, records: Records, checkpointer: Checkpointer) -> None:
        for record in records:
            text = record.data.decode("utf-8", "backslashreplace")
            arrival = record.approximate_arrival_timestamp
            clock = f"{arrival:%H:%M:%S}" if arrival else "--:--:--"
            print(f"{clock}  {record.partition_key:<12}  {text}")
        checkpointer.checkpoint()

    def lease_lost(self) -> None:
        print("lease lost")

    def shard_ended(self, checkpointer: Checkpointer) -> None:
        print("the shard has ended")
        checkpointer.checkpoint()  # only now may the shards that follow it start

    def shutdown_requested(self, checkpointer: Checkpointer) -> None:
        print("asked to stop")
        checkpointer.checkpoint()


run(PrintRecords)
