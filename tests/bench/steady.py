"""Memory and CPU of the daemon while records trickle, with 1, 100 and 1,000 shards; what quiet shards cost; leases that were lost."""

import time

from measure import Figure, memory_mb, rates, threads
from world import check, leases

TITLE = "Many shards"
TEXT = """\
Records of 100 bytes at a steady rate, default settings of the pace (1,500 ms) and of the leases (`failoverTimeMillis = 10000`). Memory is the
resident memory of the daemon's process at the end, CPU is per cent of one core over the last part of a run. A tenure is a child that
was started: more of them than shards means that leases were lost and taken again."""

#: (what, shards, records per second and shard)
SCENES = [("1 shard, 1,000 records/s", 1, 1000), ("100 shards, 10 records/s each", 100, 10),
          ("100 quiet shards", 100, 0), ("1,000 shards, 1 record/s each", 1000, 1)]
#: After every shard has a child; and how long is looked.
SETTLE_S, LOOK_S = 5, 20
SHORT_SETTLE_S, SHORT_LOOK_S = 3, 10


def run(world, options):
    figures = {}
    table = world.table()
    for what, shards, rate in SCENES:
        for who in options.contenders("multilangd", "Java"):
            if options.short and shards == 1000:
                continue
            for _ in range(1 if who == "Java" else options.runs):
                seen = {}
                with world.forgiving(who):
                    seen = once(world, who, table, shards, rate, options)
                world.say(f"{what}, {who}: " + ", ".join(f"{unit} {value:.1f}" for unit, value in seen.items()))
                for unit, value in seen.items():
                    figures.setdefault((unit, what), Figure(what, unit, {}, digits=1 if unit == "CPU" else 0)).runs.setdefault(who, []).append(value)
    return list(figures.values())


def once(world, who, table, shards, rate, options):
    kinesis = world.synthetic(shards=shards, bytes=100, records=10_000, rate=rate)
    counts = world.counts()
    process = world.contender(who, kinesis, table, counts, idleTimeBetweenReadsInMillis=1500)
    try:
        world.wait_for_children(process, counts, shards)
        if rate:
            world.wait_for_records(process, counts)
        time.sleep(SHORT_SETTLE_S if options.short else SETTLE_S)
        cpu, records = rates(process, counts, SHORT_LOOK_S if options.short else LOOK_S)
        seen = {
            "memory": memory_mb(process.pid),
            "CPU": cpu * 100,
            "threads": threads(process.pid),
            "records/s": records,
            "tenures": len(counts.children()),
            "leases without owner": sum("leaseOwner" not in row for row in leases(table, process.application).values()),
        }
        check(rate == 0 or seen["records/s"] > 0, f"{process.name} reads nothing")
        return seen
    finally:
        world.end(process)
        world.end(kinesis)


def tables(figures):
    def of(unit):
        return [figure for figure in figures if figure.unit == unit]

    return [
        ("memory of the daemon, MB", of("memory"), [("Java", True)]),
        ("CPU of the daemon, % of a core", of("CPU"), [("Java", True)]),
        ("threads of the daemon", of("threads"), []),
        ("records per second, all shards", of("records/s"), []),
        ("tenures", of("tenures"), []),
        ("leases without owner at the end", of("leases without owner"), []),
    ]
