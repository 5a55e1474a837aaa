"""Whether the daemon's memory stays flat: while few and many shards trickle, and on a backlog that reads in half an hour as much as others in a day."""

import time

from measure import Figure, memory_mb
from world import check

TITLE = "Memory over time"
TEXT = """\
Resident memory of the daemon's process, looked at while it works, all scenes at once; the child asks for a checkpoint after every batch. The
*backlog* reads as much in half an hour as a shard with 1,000 records a second brings in a day. One run."""

#: (what, shards, bytes of a record, records per second and shard (None: a backlog), milliseconds between two reads)
SCENES = [("1 shard, 1,000 records/s", 1, 100, 1000, 1500), ("100 shards, 10 records/s each", 100, 100, 10, 1500),
          ("1,000 shards, 1 record/s each", 1000, 100, 1, 1500), ("backlog, 1 shard, 1 KB", 1, 1024, None, 200)]
SHORT_LOOKS_MIN = [0.25, 0.5]


def looks(minutes):
    """After how many minutes: early ones, while it grows, and six over the whole time."""
    return sorted({1, 5, *(minutes * part // 6 for part in range(1, 7))})


def run(world, options):
    table = world.table()
    running = []
    for what, shards, size, rate, pause in SCENES:
        if options.short and shards == 1000:
            continue
        more = {} if rate is None else {"rate": rate}
        kinesis = world.synthetic(shards=shards, bytes=size, records=10_000, table=table, **more)
        counts = world.counts()
        process = world.contender("multilangd", kinesis, table, counts, checkpoints=True, idleTimeBetweenReadsInMillis=pause)
        world.wait_for_children(process, counts, shards)
        world.wait_for_records(process, counts)
        running.append((what, shards, process, counts))
    began = time.monotonic()
    figures = []
    for minutes in SHORT_LOOKS_MIN if options.short else looks(options.soak_min):
        time.sleep(max(0, began + minutes * 60 - time.monotonic()))
        look = Figure("a minute" if minutes == 1 else f"{minutes} minutes", "memory", {})
        for what, shards, process, counts in running:
            check(process.running(), f"{process.name} ended:\n{process.tail()}")
            check(len(counts.children()) == shards, f"{what}: leases were lost")
            look.runs[what] = [memory_mb(process.pid)]
            world.say(f"{what}, after {look.what}: {look.runs[what][0]:.1f} MB, {counts.sum():,} records in {counts.sum('batches'):,} batches")
        figures.append(look)
    figures.append(Figure("records until then", "records", {what: [counts.sum()] for what, _, _, counts in running}))
    for _, _, process, _ in running:
        world.end(process)
    return figures


def tables(figures):
    return [("MB after", figures, [])]
