"""An hour of backlog, read at what the service allows."""

import base64
import concurrent.futures
import os
import time

from measure import Figure
from world import ask, check, wait_for

TITLE = "An hour of backlog"
TEXT = """\
A shard that got 100 records of 100 bytes a second for an hour, 36 MB, and a worker that was away. Our local Kinesis holds them and throttles as the
service does (`--limits aws`: 5 calls and 2 MiB a second). From the first batch that the child has read to the last record; default settings
(`idleTimeBetweenReadsInMillis = 1500`)."""

RECORDS, BYTES = 3600 * 100, 100
SHORT_RECORDS = 60_000
PUT_AT_ONCE = 500
LIMIT_S = 240


def run(world, options):
    count = SHORT_RECORDS if options.short else RECORDS
    took = Figure("seconds", "seconds", {}, digits=1)
    rate = Figure("MB/s of payload", "MB/s", {}, digits=2)
    data = world.dir / "stream"
    fill(world, data, count)
    kinesis, table = world.local("--data", data, "--limits", "aws"), world.table()
    for who in options.contenders("multilangd", "Java"):
        for _ in range(1 if who == "Java" else options.runs):
            with world.forgiving(who):
                seconds = once(world, who, kinesis, table, count)
                took.runs.setdefault(who, []).append(seconds)
                rate.runs.setdefault(who, []).append(count * BYTES / 1e6 / seconds)
                world.say(f"{who}: {seconds:.1f} s")
    return [took, rate]


def once(world, who, kinesis, table, count):
    """Seconds from the first batch to the last record."""
    counts = world.counts()
    process = world.contender(who, kinesis, table, counts, idleTimeBetweenReadsInMillis=1500)

    def all_read():
        check(process.running(), f"{process.name} ended:\n{process.tail()}")
        return counts.sum() >= count

    try:
        wait_for(f"{count} records from {process.name}", LIMIT_S, all_read)
        (child,) = counts.children()
        check(child["records"] == count, f"{process.name} delivered {child['records']} records of {count}")
        return (child["last_ns"] - child["first_ns"]) / 1e9
    finally:
        world.end(process)


def fill(world, data, count):
    """Puts the backlog, without limits, and leaves it on disk."""
    service = world.local("--data", data)
    ask(service.url, "Kinesis_20131202.CreateStream", StreamName="synthetic", ShardCount=1)
    wait_for("the stream", 20, lambda: ask(
        service.url, "Kinesis_20131202.DescribeStreamSummary", StreamName="synthetic")["StreamDescriptionSummary"]["StreamStatus"] == "ACTIVE")

    def put(_):
        records = [{"Data": base64.b64encode(os.urandom(BYTES)).decode(), "PartitionKey": f"key-{n}"} for n in range(PUT_AT_ONCE)]
        check(ask(service.url, "Kinesis_20131202.PutRecords", StreamName="synthetic", Records=records)["FailedRecordCount"] == 0, "puts failed")

    began = time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(4) as at_once:
        list(at_once.map(put, range(count // PUT_AT_ONCE)))
    world.say(f"{count} records put in {time.monotonic() - began:.1f} s")
    service.stop()
    world.end(service)


def tables(figures):
    return [("until an hour's records are read", [f for f in figures if f.unit == "seconds"], [("Java", True)]),
            ("pace", [f for f in figures if f.unit == "MB/s"], [("Java", False)])]
