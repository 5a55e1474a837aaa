"""A processor for the unmodified amazon_kclpy that counts: `kclpy_counter.py 1|2|3`, the number being the processor interface.

Appends one line for each record and each ending to a file of its own in $COUNT_DIR. PYTHONPATH must hold the client.
"""

import os
import sys

from amazon_kclpy import kcl
from amazon_kclpy.v2 import processor as v2
from amazon_kclpy.v3 import processor as v3

OUT = open(os.path.join(os.environ["COUNT_DIR"], f"{os.getpid()}.txt"), "a", buffering=1, encoding="utf-8")


def note(*words):
    OUT.write(" ".join(str(w) for w in words) + "\n")


def note_records(shard, records):
    for r in records:
        note("record", shard, r.sequence_number, r.sub_sequence_number, r.binary_data.hex(), r.partition_key)


class V1(kcl.RecordProcessorBase):
    def initialize(self, shard_id):
        self.shard = shard_id
        note("initialize", shard_id)

    def process_records(self, records, checkpointer):
        note_records(self.shard, records)
        checkpointer.checkpoint()

    def shutdown(self, checkpointer, reason):
        note("shutdown", self.shard, reason)
        if reason == "TERMINATE":
            checkpointer.checkpoint()

    def shutdown_requested(self, checkpointer):
        note("shutdown_requested", self.shard)
        checkpointer.checkpoint()


class V2(v2.RecordProcessorBase):
    def initialize(self, initialize_input):
        self.shard = initialize_input.shard_id
        note("initialize", self.shard, initialize_input.sequence_number, initialize_input.sub_sequence_number)

    def process_records(self, process_records_input):
        note_records(self.shard, process_records_input.records)
        last = process_records_input.records[-1]
        process_records_input.checkpointer.checkpoint(last.sequence_number, last.sub_sequence_number)

    def shutdown(self, shutdown_input):
        note("shutdown", self.shard, shutdown_input.reason)
        if shutdown_input.reason == "TERMINATE":
            shutdown_input.checkpointer.checkpoint()

    def shutdown_requested(self, shutdown_requested_input):
        note("shutdown_requested", self.shard)
        shutdown_requested_input.checkpointer.checkpoint()


class V3(v3.RecordProcessorBase):
    def initialize(self, initialize_input):
        self.shard = initialize_input.shard_id
        note("initialize", self.shard, initialize_input.sequence_number, initialize_input.sub_sequence_number)

    def process_records(self, process_records_input):
        note_records(self.shard, process_records_input.records)
        print("a stray print of a careless user")
        process_records_input.checkpointer.checkpoint()

    def lease_lost(self, lease_lost_input):
        note("lease_lost", self.shard)

    def shard_ended(self, shard_ended_input):
        note("shard_ended", self.shard)
        shard_ended_input.checkpointer.checkpoint()

    def shutdown_requested(self, shutdown_requested_input):
        note("shutdown_requested", self.shard)
        shutdown_requested_input.checkpointer.checkpoint()


if __name__ == "__main__":
    kcl.KCLProcess({"1": V1, "2": V2, "3": V3}[sys.argv[1]]()).run()
