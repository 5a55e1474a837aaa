"""What client libraries cost: throughput and CPU at 1 KB records, and the round trip of one small batch, ours beside the official ones."""

import base64
import json
import os
import random
import subprocess
import sys

from measure import Figure
from world import JUDGES, REPOSITORY, environment, need_judge

TITLE = "The client libraries"
TEXT = """\
A driver in C (`tests/bench/drive.c`) speaks the daemon's side over two pipes. *Throughput*: batches of 1,000 records of 1 KB; the processor
looks at each record's decoded payload, partition key and sequence number, and checkpoints after each batch. *Round trip*: one record of
100 bytes, until its status has come, without a checkpoint. The official clients are amazon_kclpy 3.2.0 and aws-kcl 2.3.2 (the newest that npm
serves)."""

PY_OURS = """
import sys, multilangd
class P(multilangd.Processor):
    def process_records(self, records, checkpointer):
        for record in records:
            record.data, record.partition_key, record.sequence_number
        if sys.argv[1] == "checkpoint":
            checkpointer.checkpoint()
multilangd.run(P)
"""
PY_OFFICIAL = """
import sys
from amazon_kclpy import kcl
from amazon_kclpy.v3 import processor
class P(processor.RecordProcessorBase):
    def initialize(self, initialize_input): pass
    def process_records(self, process_records_input):
        for record in process_records_input.records:
            record.binary_data, record.partition_key, record.sequence_number
        if sys.argv[1] == "checkpoint":
            process_records_input.checkpointer.checkpoint()
    def lease_lost(self, lease_lost_input): pass
    def shard_ended(self, shard_ended_input): pass
    def shutdown_requested(self, shutdown_requested_input): pass
kcl.KCLProcess(P()).run()
"""
NODE_OURS = """
require(process.env.CLIENT).run({
  async processRecords({ records, checkpointer }) {
    for (const { data, partitionKey, sequenceNumber } of records) data.length;
    if (process.argv[1] === "checkpoint") await checkpointer.checkpoint();
  },
});"""
NODE_OFFICIAL = """
require(process.env.CLIENT)({
  initialize(input, done) { done(); },
  processRecords({ records, checkpointer }, done) {
    for (const { data, partitionKey, sequenceNumber } of records) Buffer.from(data, "base64").length;
    if (process.argv[1] === "checkpoint") checkpointer.checkpoint(() => done());
    else done();
  },
  leaseLost(input, done) { done(); },
  shardEnded(input, done) { done(); },
  shutdownRequested(input, done) { done(); },
}).run();"""

OURS_IN, OFFICIAL_IN = "multilangd", "official"
LANGUAGES = ("Python", "Node")
BATCH_RECORDS, BATCHES, ROUND_TRIPS = 1000, 200, 20_000


def programs():
    """(language, whose) -> (command, environment)."""
    clients = REPOSITORY / "clients"
    return {
        ("Python", OURS_IN): ([sys.executable, "-c", PY_OURS], {"PYTHONPATH": clients / "python/src"}),
        ("Python", OFFICIAL_IN): ([sys.executable, "-c", PY_OFFICIAL], {"PYTHONPATH": JUDGES / "kclpy"}),
        ("Node", OURS_IN): (["node", "-e", NODE_OURS], {"CLIENT": clients / "node/index.cjs"}),
        ("Node", OFFICIAL_IN): (["node", "-e", NODE_OFFICIAL], {"CLIENT": JUDGES / "npm/node_modules/aws-kcl"}),
    }


def run(world, options):
    if not options.short:
        need_judge("kclpy", "npm")
    large, small = world.dir / "large", world.dir / "small"
    large.write_text(batch(BATCH_RECORDS, 1024))
    small.write_text(batch(1, 100))
    rate = {lang: Figure(lang, "records/s", {}) for lang in LANGUAGES}
    cpu = {lang: Figure(lang, "CPU", {}, digits=2) for lang in LANGUAGES}
    trip = {lang: Figure(lang, "round trip", {}, digits=0) for lang in ("C", *LANGUAGES)}
    for _ in range(options.runs):
        for (language, whose), (command, env) in programs().items():
            if whose == OFFICIAL_IN and options.short:
                continue
            seen = drive(world, BATCHES, large, [*command, "checkpoint"], env)
            records = BATCHES * BATCH_RECORDS
            rate[language].runs.setdefault(whose, []).append(records / seen["seconds"])
            cpu[language].runs.setdefault(whose, []).append(seen["cpu"] * 1e6 / records)
            seen = drive(world, ROUND_TRIPS, small, [*command, "no"], env)
            trip[language].runs.setdefault(whose, []).append(seen["median_us"])
        seen = drive(world, ROUND_TRIPS, small, [world.programs / "bench-child"], {})
        trip["C"].runs.setdefault(OURS_IN, []).append(seen["median_us"])
    return [*rate.values(), *cpu.values(), *trip.values()]


def drive(world, batches, line, command, env):
    words = [world.programs / "bench-drive", str(batches), line, *command]
    done = subprocess.run(words, env=environment(PATH=os.environ["PATH"], **env), stdout=subprocess.PIPE, check=True, timeout=300)
    return json.loads(done.stdout)


def batch(count, size):
    """A processRecords line as the daemons write it."""
    dice = random.Random(7)
    records = [
        {
            "action": "record", "data": base64.b64encode(dice.randbytes(size)).decode(), "partitionKey": f"key-{n}",
            "sequenceNumber": str(49590338271490256608559692540925702759324208523137515618 + n), "subSequenceNumber": 0,
            "approximateArrivalTimestamp": 1767225600123 + n,
        }
        for n in range(count)
    ]
    return json.dumps({"action": "processRecords", "records": records, "millisBehindLatest": 0}, separators=(",", ":")) + "\n"


def tables(figures):
    def of(unit):
        return [figure for figure in figures if figure.unit == unit]

    return [
        ("records of 1 KB per second", of("records/s"), [(OFFICIAL_IN, False)]),
        ("microseconds of CPU per record of 1 KB", of("CPU"), [(OFFICIAL_IN, True)]),
        ("microseconds of a round trip, median", of("round trip"), [(OFFICIAL_IN, True)]),
    ]
