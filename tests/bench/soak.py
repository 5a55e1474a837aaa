"""Whether the daemon's memory stays flat: half an hour of many shards, and of one that reads in it as much as others in a day."""

import time

from measure import Figure, memory_mb
from world import check

TITLE = "Memory over time"
TEXT = """\
Resident memory of the daemon's process, looked at while it works; the child asks for a checkpoint after every batch. *Backlog* reads as much in half
an hour as a shard with 1,000 records a second brings in a day; *100 shards* make as many calls as one shard makes in more than a day. One run."""

#: (what, shards, bytes of a record, records per second and shard (None: a backlog), milliseconds between two reads)
SCENES = [("100 shards, 10 records/s each", 100, 100, 10, 1500), ("backlog, 1 shard, 1 KB", 1, 1024, None, 200)]
LOOKS_MIN = [1, 5, 10, 15, 20, 25, 30]
SHORT_LOOKS_MIN = [0.25, 0.5]


def run(world, options):
    table = world.table()
    running = []
    for what, shards, size, rate, pause in SCENES:
        more = {} if rate is None else {"rate": rate}
        kinesis = world.synthetic(shards=shards, bytes=size, records=10_000, table=table, **more)
        counts = world.counts()
        process = world.contender("multilangd", kinesis, table, counts, checkpoints=True, idleTimeBetweenReadsInMillis=pause)
        world.wait_for_children(process, counts, shards)
        world.wait_for_records(process, counts)
        running.append((what, shards, process, counts))
    began = time.monotonic()
    figures = []
    for minutes in SHORT_LOOKS_MIN if options.short else LOOKS_MIN:
        time.sleep(max(0, began + minutes * 60 - time.monotonic()))
        for what, shards, process, counts in running:
            check(process.running(), f"{process.name} ended:\n{process.tail()}")
            check(len(counts.children()) == shards, f"{what}: leases were lost")
            seen = memory_mb(process.pid)
            row = f"after {minutes} minutes" if minutes != 1 else "after a minute"
            figures.append(Figure(row, what, {"multilangd": [seen]}))
            world.say(f"{what}, {row}: {seen:.1f} MB, {counts.sum():,} records in {counts.sum('batches'):,} batches")
    for what, _, process, counts in running:
        figures.append(Figure("records", what, {"multilangd": [counts.sum()]}))
        world.end(process)
    return figures


def tables(figures):
    scenes = dict.fromkeys(figure.unit for figure in figures)
    return [(f"{scene}: MB", [figure for figure in figures if figure.unit == scene], []) for scene in scenes]
