"""kcl-rs as a contender: its worker with a processor that only counts, into a file as child.c does. Arguments: URL, application, directory."""

import mmap
import os
import struct
import sys
import time

import kcl_rs

url, application, directory = sys.argv[1:]
FIRST, LAST, BATCHES, RECORDS = 1, 2, 5, 6  # places in struct counts


class Counting(kcl_rs.RecordProcessorBase):
    so_far = 0

    def initialize(self, _):
        Counting.so_far += 1
        path = os.path.join(directory, f"{os.getpid()}{Counting.so_far:04}")
        with open(path, "w+b") as file:
            file.write(struct.pack("=8Q", time.time_ns(), *[0] * 7))
            file.flush()
            self.counts = mmap.mmap(file.fileno(), 64)

    def process_records(self, given):
        number = list(struct.unpack("=8Q", self.counts[:64]))
        now = time.time_ns()
        number[FIRST] = number[FIRST] or now
        number[LAST] = now
        number[BATCHES] += 1
        number[RECORDS] += len(given.records)
        self.counts[:64] = struct.pack("=8Q", *number)

    def lease_lost(self, _):
        pass

    def shard_ended(self, given):
        given.checkpointer.checkpoint()

    def shutdown_requested(self, _):
        pass


kcl_rs.Scheduler(
    stream_name="synthetic", application_name=application, record_processor_factory=Counting, worker_identifier="one", region="us-east-1",
    endpoint_url=url, access_key_id="local", secret_access_key="local", initial_position="TRIM_HORIZON", retrieval_mode="POLLING",
    idle_time_between_reads_millis=200, shard_sync_interval_millis=1000,
).run()
