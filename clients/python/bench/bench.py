#!/usr/bin/env python3
"""What a record costs through a pipe: this client beside amazon_kclpy.

    pip download --no-deps --no-binary :all: amazon_kclpy==3.2.0 && tar xf amazon_kclpy-3.2.0.tar.gz
    python3 bench/bench.py amazon_kclpy-3.2.0
"""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Dict, List, NamedTuple

RECORD_BYTES = 1024
BATCH_RECORDS = 1000
BATCHES = 100
#: The best of so many runs: what else the machine did only ever slows a run down.
RUNS = 3

OURS = """
import multilangd
class P(multilangd.Processor):
    def process_records(self, records, checkpointer):
        for record in records:
            record.data, record.partition_key, record.sequence_number
        checkpointer.checkpoint()
multilangd.run(P)
"""

AMAZON = """
from amazon_kclpy import kcl
from amazon_kclpy.v3 import processor
class P(processor.RecordProcessorBase):
    def initialize(self, initialize_input): pass
    def process_records(self, process_records_input):
        for record in process_records_input.records:
            record.binary_data, record.partition_key, record.sequence_number
        process_records_input.checkpointer.checkpoint()
    def lease_lost(self, lease_lost_input): pass
    def shard_ended(self, shard_ended_input): shard_ended_input.checkpointer.checkpoint()
    def shutdown_requested(self, shutdown_requested_input): pass
kcl.KCLProcess(P()).run()
"""


def main() -> None:
    ours = best("multilangd", OURS, Path(__file__).parent.parent / "src")
    if len(sys.argv) > 1:
        amazon = best("amazon_kclpy", AMAZON, Path(sys.argv[1]))
        print(f"multilangd is {ours.rate / amazon.rate:.2f} times as fast, on {ours.cpu / amazon.cpu:.0%} of the CPU")


class Cost(NamedTuple):
    rate: float  # records per second
    cpu: float  # microseconds of the child's CPU time per record: what a busy machine changes least


def best(name: str, source: str, path: Path) -> Cost:
    costs = [measure(source, path) for _ in range(RUNS)]
    cost = Cost(max(each.rate for each in costs), min(each.cpu for each in costs))
    print(f"{name:12} {cost.rate:10,.0f} records/s of {RECORD_BYTES} bytes, {cost.cpu:5.1f} µs of CPU each")
    return cost


def measure(source: str, path: Path) -> Cost:
    child = subprocess.Popen(
        [sys.executable, "-c", source],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(path)},
    )
    assert child.stdin is not None and child.stdout is not None

    def ask(line: bytes, answers: int = 1) -> None:
        assert child.stdin is not None and child.stdout is not None
        child.stdin.write(line)
        child.stdin.flush()
        while answers:
            answers -= bool(child.stdout.readline().strip())

    ask(b'{"action":"initialize","shardId":"s","sequenceNumber":"LATEST","subSequenceNumber":0}\n')
    line = batch()
    reply = b'{"action":"checkpoint","sequenceNumber":null,"subSequenceNumber":null,"error":null}\n'
    start = time.perf_counter()
    for _ in range(BATCHES):
        ask(line)  # answered by the request for a checkpoint
        ask(reply)
    seconds = time.perf_counter() - start
    child.stdin.close()
    _, _, usage = os.wait4(child.pid, 0)
    records = BATCHES * BATCH_RECORDS
    return Cost(records / seconds, (usage.ru_utime + usage.ru_stime) * 1e6 / records)


def batch() -> bytes:
    data = base64.b64encode(os.urandom(RECORD_BYTES)).decode()
    records: List[Dict[str, object]] = [
        {
            "data": data,
            "partitionKey": f"key-{number}",
            "sequenceNumber": str(49590338271490256608559692540925702759324208523137515618 + number),
            "approximateArrivalTimestamp": 1767225600123 + number,
            "subSequenceNumber": 0,
            "action": "record",
        }
        for number in range(BATCH_RECORDS)
    ]
    message = {"action": "processRecords", "records": records, "millisBehindLatest": 0}
    return json.dumps(message, separators=(",", ":")).encode() + b"\n"


main()
