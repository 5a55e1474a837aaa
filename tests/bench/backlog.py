"""Records per CPU second of the daemon alone, and its peak memory, where there is an endless backlog; beside Java, and beside the floor."""

import contextlib
import os
import subprocess
import time

from measure import Figure, cpu_seconds, memory_mb
from world import check, wait_for

TITLE = "A backlog: records per CPU second"
TEXT = """\
Answers of GetRecords that are as full as the service makes them (10,000 records or 10 MB), as many as the daemon asks for with
`idleTimeBetweenReadsInMillis = 200`. CPU is user and system time of the daemon's process alone, without its children, which do no more
than count lines; *kcl-rs* has none: its Python processor in the same process counts a list of records. *The floor* reads the same answers from a socket and writes their bytes into a pipe (`tests/bench/floor.c`).
*Over TLS* is what AWS speaks: ours reads answers over HTTP/1.1 then too, the one for Java over HTTP/2."""

#: (what, bytes of a record, records in an answer, shards, over TLS)
SCENES = [
    ("100 B", 100, 10_000, 1, False),
    ("1 KB", 1024, 10_000, 1, False),
    ("10 KB", 10_240, 1_000, 1, False),
    ("4 shards of 1 KB", 1024, 10_000, 4, False),
    ("1 KB over TLS", 1024, 10_000, 1, True),
    ("10 KB over TLS", 10_240, 1_000, 1, True),
]
#: Before anything is counted. A JVM compiles what it sees often.
WARM_UP_S = {"multilangd": 2, "Java": 20, "kcl-rs": 4}
WINDOW_S = 5
FLOOR_ANSWERS = 300


def run(world, options):
    rates, peaks = [], []
    table = world.table()
    for what, size, records, shards, over_tls in SCENES:
        kinesis = world.synthetic(over_tls, shards=shards, bytes=size, records=records, table=table)
        rate = Figure(what, "records per CPU second", {})
        peak = Figure(what, "peak memory (MB)", {}, digits=0)
        peers = ("Java",) if over_tls else ("Java", "kcl-rs")
        for who in options.contenders("multilangd", *peers):
            for one in options.sessions(who):
                with world.forgiving(who):
                    for cost, most in session(world, who, kinesis, table, windows=one):
                        rate.runs.setdefault(who, []).append(cost)
                        peak.runs.setdefault(who, []).append(most)
        if shards == 1 and not over_tls:
            rate.runs["the floor"] = [floor(world, kinesis, records) for _ in range(options.runs)]
        world.end(kinesis)
        world.say(f"{what}: " + ", ".join(f"{who} {rate.spread(who)}, {peak.spread(who)} MB" for who in peak.runs))
        rates.append(rate)
        peaks.append(peak)
    return rates + peaks


def session(world, who, kinesis, table, windows):
    """One life of a daemon: yields (records per CPU second, peak MB) of each window."""
    counts = world.counts()
    process = world.contender(who, kinesis, table, counts)
    try:
        world.wait_for_records(process, counts)
        time.sleep(WARM_UP_S[who])
        for _ in range(windows):
            records, cpu = at_a_batch(process, counts)
            time.sleep(WINDOW_S)
            records_then, cpu_then = at_a_batch(process, counts)
            yield (records_then - records) / (cpu_then - cpu), memory_mb(process.pid, "VmHWM")
    finally:
        world.end(process)


def at_a_batch(process, counts):
    """Records and CPU time at the moment when a batch has arrived, so that a window holds whole ones."""
    before = counts.sum()

    def next_batch():
        check(process.running(), f"{process.name} ended:\n{process.tail()}")
        return counts.sum() > before

    wait_for("the next batch", 60, next_batch, every=0.002)
    return counts.sum(), cpu_seconds(process.pid)


def floor(world, kinesis, records):
    reading, writing = os.pipe()
    with contextlib.ExitStack() as open_ends:
        sink = subprocess.Popen(["cat"], stdin=reading, stdout=subprocess.DEVNULL)
        open_ends.callback(sink.wait)
        program = [world.programs / "bench-floor", kinesis.url.rsplit(":", 1)[1], str(FLOOR_ANSWERS)]
        done = subprocess.run(program, stdout=writing, stderr=subprocess.PIPE, check=True, text=True, timeout=120)
        os.close(reading)
        os.close(writing)
    _, cpu_ns = done.stderr.split()
    return FLOOR_ANSWERS * records / (int(cpu_ns) / 1e9)


def tables(figures):
    return [
        ("records per CPU second", [f for f in figures if f.unit == "records per CPU second"], [("Java", False), ("kcl-rs", False), ("the floor", False)]),
        ("peak memory of the daemon, MB", [f for f in figures if f.unit == "peak memory (MB)"], [("Java", True), ("kcl-rs", True)]),
    ]
