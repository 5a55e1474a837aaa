"""Time from the start of the program to the first record that a child has read: fresh, after SIGTERM, after kill -9."""

import os
import signal
import time

from measure import Figure
from world import check, wait_for

TITLE = "The first record"
TEXT = """\
From the start of the program until the C child has read the first batch, one worker alone, one shard, default settings
(`failoverTimeMillis = 10000`), the lease table in the same local DynamoDB. *Fresh*: the application has no table yet. *After SIGTERM*: the
worker stopped by itself before. *After kill -9*: it is started again at once, under another worker id, and has to wait until the lease of the
former life has expired."""

FRESH, TERM, KILL = "fresh", "after SIGTERM", "after kill -9"
LIMIT_S = 300


def run(world, options):
    figures = [Figure(what, "seconds", {}, digits=2) for what in (FRESH, TERM, KILL)]
    table = world.table()
    kinesis = world.synthetic(bytes=100, records=100, rate=100)
    for who in options.contenders("multilangd", "Java"):
        for _ in range(1 if who == "Java" else options.runs):
            with world.forgiving(who):
                for figure, seconds in zip(figures, lives(world, who, table, kinesis)):
                    figure.runs.setdefault(who, []).append(seconds)
                    world.say(f"{who}, {figure.what}: {seconds:.2f} s")
    return figures


def lives(world, who, table, kinesis):
    """Three lives of one application."""
    counts = world.counts()
    name = world.fresh("application")
    for end in (signal.SIGTERM, signal.SIGKILL, None):
        # Java's shardSyncIntervalMillis default is a minute, which a fresh application sleeps.
        began = time.time_ns()
        process = world.contender(
            who, kinesis, table, counts, applicationName=name, shardSyncIntervalMillis=60_000, idleTimeBetweenReadsInMillis=1500
        )

        def first():
            check(process.running(), f"{process.name} ended:\n{process.tail()}")
            return counts.first_ns(since_ns=began)

        yield (wait_for("the first record", LIMIT_S, first, every=0.01) - began) / 1e9
        time.sleep(2)  # a lease that was renewed at least once
        if end is not None:
            os.kill(process.pid, end)
            process.wait(60)
        world.end(process)


def tables(figures):
    return [("seconds to the first record", figures, [("Java", True)])]
