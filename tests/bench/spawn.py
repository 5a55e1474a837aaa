"""A hundred children started at once: how long another shard waits."""

import time

from measure import Figure
from world import ask_table, wait_for

TITLE = "A hundred children at once"
TEXT = """\
One shard is read every 200 ms and gets 100 records a second; then the table gets a hundred more leases without owner. The longest time between two
batches of the first shard in the ten seconds before, and in the time until every new shard's child has been started and for two seconds more;
and how long it took, from the moment when the leases were there until the last child read its first batch."""

MORE, QUIET_S, AFTER_S = 100, 10, 2


def run(world, options):
    before = Figure("before, longest gap (ms)", "ms", {})
    during = Figure("while 100 children start, longest gap (ms)", "ms", {})
    until = Figure("until all 100 read (s)", "s", {}, digits=1)
    table = world.table()
    for who in options.contenders("multilangd", "Java"):
        for _ in range(1 if who == "Java" else options.runs):
            with world.forgiving(who):
                for figure, value in zip((before, during, until), once(world, who, table)):
                    figure.runs.setdefault(who, []).append(value)
                world.say(f"{who}: {before.runs[who][-1]:.0f} ms before, {during.runs[who][-1]:.0f} ms meanwhile, {until.runs[who][-1]:.1f} s")
    return [before, during, until]


def once(world, who, table):
    """The longest gap before, the longest one meanwhile (ms), and the seconds until all read."""
    kinesis = world.synthetic(shards=1 + MORE, listed=1, bytes=100, records=10_000, rate=100)
    counts = world.counts()
    process = world.contender(who, kinesis, table, counts)
    try:
        world.wait_for_records(process, counts)
        time.sleep(5)  # it has settled
        (first,) = counts.children()
        counts.forget_gaps()
        time.sleep(QUIET_S)
        before = gap_ms(counts, first)
        add_leases(table, process.application)
        added_ns = time.time_ns()
        counts.forget_gaps()

        def all_read():
            return sum(child["batches"] > 0 for child in counts.children()) >= 1 + MORE

        wait_for("a batch of every shard", 240, all_read)
        time.sleep(AFTER_S)
        return before, gap_ms(counts, first), (max(child["first_ns"] for child in counts.children()) - added_ns) / 1e9
    finally:
        world.end(process)
        world.end(kinesis)


def gap_ms(counts, of):
    return next(child["gap_ns"] for child in counts.children() if child["pid"] == of["pid"]) / 1e6


def add_leases(table, application):
    """Leases as a shard sync makes them. Their hash ranges overlap the first one's, as a parent's and its child's do."""
    width = 2**128 // MORE
    for n in range(MORE):
        numbers = {"leaseCounter": 0, "checkpointSubSequenceNumber": 0, "ownerSwitchesSinceCheckpoint": 0}
        texts = {
            "leaseKey": f"shardId-{n + 1:012}", "checkpoint": "TRIM_HORIZON", "startingHashKey": str(width * n),
            "endingHashKey": str(width * (n + 1) - 1),
        }
        item = {key: {"N": str(value)} for key, value in numbers.items()} | {key: {"S": value} for key, value in texts.items()}
        ask_table(table, "PutItem", TableName=application, Item=item)


def tables(figures):
    return [("one shard, while 100 children are started", figures, [("Java", True)])]
