"""What the lease table is asked, per shard and hour: counted between the daemon and the table, idle and busy."""

import json
import time
import urllib.request

from measure import Figure
from world import check

TITLE = "What the lease table costs"
TEXT = """\
Requests, and read and write units as DynamoDB bills them on demand, counted by what passes every call on to the table, over the time after every
shard has its child, and given per shard and hour. *Idle*: no records. *Busy*: 10 records a second and shard, and a child that asks for
a checkpoint after every batch, once per read (`idleTimeBetweenReadsInMillis = 1500`). What a worker does for itself (lock, metrics, scans)
is in it, shared by its shards."""

SCENES = [("1 shard, idle", 1, 0), ("1 shard, busy", 1, 10), ("20 shards, idle", 20, 0), ("20 shards, busy", 20, 10)]
SETTLE_S, LOOK_S = 10, 60
SHORT_LOOK_S = 30
WRITES = ("PutItem", "UpdateItem", "DeleteItem", "TransactWriteItems", "BatchWriteItem")


def run(world, options):
    figures = {}
    table = world.table()
    for what, shards, rate in SCENES:
        for who in options.contenders("multilangd", "Java"):
            seen = {}
            with world.forgiving(who):
                seen = once(world, who, table, shards, rate, SHORT_LOOK_S if options.short else LOOK_S)
            world.say(f"{what}, {who}: " + ", ".join(f"{unit} {value:.1f}" for unit, value in seen.items()))
            for unit, value in seen.items():
                figures.setdefault((unit, what), Figure(what, unit, {})).runs.setdefault(who, []).append(value)
    return list(figures.values())


def once(world, who, table, shards, rate, look_s):
    kinesis = world.synthetic(shards=shards, bytes=100, records=10_000, rate=rate, table=table)
    counts = world.counts()
    process = world.contender(who, kinesis, kinesis.url, counts, checkpoints=True, idleTimeBetweenReadsInMillis=1500)
    try:
        world.wait_for_children(process, counts, shards)
        time.sleep(SETTLE_S)
        before, began = asked(kinesis), time.monotonic()
        time.sleep(look_s)
        after, hours = asked(kinesis), (time.monotonic() - began) / 3600
        check(len(counts.children()) == shards, f"{process.name} lost leases")
        spent = {op: {what: cost[what] - before.get(op, {}).get(what, 0) for what in cost} for op, cost in after.items()}
        per = 1 / shards / hours
        return {
            "requests": sum(cost["calls"] for cost in spent.values()) * per,
            "read units": sum(cost["units"] for op, cost in spent.items() if op not in WRITES) * per,
            "write units": sum(cost["units"] for op, cost in spent.items() if op in WRITES) * per,
        }
    finally:
        world.end(process)
        world.end(kinesis)


def asked(kinesis):
    with urllib.request.urlopen(kinesis.url + "/table", timeout=10) as answer:
        return json.load(answer)


def tables(figures):
    return [(f"{unit} per shard and hour", [f for f in figures if f.unit == unit], [("Java", True)])
            for unit in ("requests", "read units", "write units")]
