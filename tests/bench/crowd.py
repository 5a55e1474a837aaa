"""What a worker keeps in memory when many of its shards have a backlog at once, with children that read and with children that stall."""

import time

from measure import Figure, memory_mb, rates

TITLE = "Many shards with a backlog"
TEXT = """\
Every shard has an endless backlog of records of 1 KB. Children read and count, or answer `initialize` and then read nothing more. Peak memory of
the daemon's process after a while; with `maxReadAheadBytes` as it is (256 MB). Without such a limit, each shard of ours would keep two answers of
10 MB, as base64: 27 MB. A JVM takes a quarter of the machine at most, and what happens then is seen in what it reads."""

#: (what, shards, whether children stall, who can)
SCENES = [("100 shards, children read", 100, False, ("multilangd", "Java")), ("100 shards, children stall", 100, True, ("multilangd", "Java")),
          ("1,000 shards, children stall", 1000, True, ("multilangd",))]
SETTLE_S, LOOK_S = 5, 20


def run(world, options):
    figures = {}
    table = world.table()
    for what, shards, stalls, able in SCENES:
        if options.short and shards == 1000:
            continue
        for who in options.contenders(*able):
            for _ in range(1 if who == "Java" else options.runs):
                seen = {}
                with world.forgiving(who):
                    seen = once(world, who, table, shards, stalls)
                world.say(f"{what}, {who}: " + ", ".join(f"{unit} {value:,.0f}" for unit, value in seen.items()))
                for unit, value in seen.items():
                    figures.setdefault((unit, what), Figure(what, unit, {})).runs.setdefault(who, []).append(value)
    return list(figures.values())


def once(world, who, table, shards, stalls):
    kinesis = world.synthetic(shards=shards, bytes=1024, records=10_000)
    counts = world.counts()
    process = world.contender(who, kinesis, table, counts, stalls=stalls)
    try:
        world.wait_for_children(process, counts, shards)
        time.sleep(SETTLE_S)
        cpu, records = rates(process, counts, LOOK_S)
        seen = {"peak memory": memory_mb(process.pid, "VmHWM")}
        if not stalls:
            seen["records/s"] = records
            seen["records per CPU second"] = records / cpu
        return seen
    finally:
        world.end(process)
        world.end(kinesis)


def tables(figures):
    def of(unit):
        return [figure for figure in figures if figure.unit == unit]

    return [("peak memory, MB", of("peak memory"), [("Java", True)]), ("records per second", of("records/s"), [("Java", False)]),
            ("records per CPU second", of("records per CPU second"), [("Java", False)])]
