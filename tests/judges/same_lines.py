"""Judge: the Java daemon 3.5.1 and multilangd, with the same children on the same stream, say the same lines.

    tests/judges/same_lines.py [PATH OF MULTILANGD]

Both run as two applications on our own local Kinesis and DynamoDB. Each shard has a child of its own (checkpoints, refused positions,
sub-sequences, odd lines, the official clients, …); a tap writes every line down. At the end each tenure of the one is compared with the
same tenure of the other, line by line and byte for byte. What is made equal before:

* `millisBehindLatest`: its number depends on the moment of the call.
* Characters outside ASCII: the Java daemon sends them raw, multilangd as `\\uXXXX`. Both are turned into `\\uXXXX`; nothing else is
  unescaped, so quotes, slashes and control characters have to be written alike.

Nothing else: sequence numbers, arrival times, order of keys, spaces, nulls and the division into batches are the same, since both read
the same stream, and each wave of records is put when both have answered the one before. For children that do not wait for replies
(`pipelined`) the two directions are compared each by itself, since how they interleave is chance.
"""

import json
import re
import sys

import bench
from bench import HERE, JUDGES, Bench, Stream, check, client, multilangd_of, need, wait_for
from record import put_first_wave, steal

SCENARIOS = [
    "checkpoint-at-every-turn", "checkpoint-errors", "sub-sequences", "number-forms", "garbage", "odd-but-accepted", "pipelined", "no-checkpoints",
    "checkpoint-inside", "shard-end-by-number", "shard-end-by-name", "checkpoint-at-every-turn",
]
KCLPY, NODE = len(SCENARIOS), len(SCENARIOS) + 1
SHARDS = len(SCENARIOS) + 2
LOST = [SCENARIOS.index("no-checkpoints"), SCENARIOS.index("checkpoint-inside")]  # their leases are taken, and come back
AGGREGATED = [SCENARIOS.index("sub-sequences"), SCENARIOS.index("checkpoint-inside")]
SPLIT = [SCENARIOS.index("shard-end-by-number"), KCLPY]
MERGED = (SCENARIOS.index("shard-end-by-name"), SHARDS - 3)
AFTER = range(SHARDS, SHARDS + 5)  # the children of the splits and of the merge
LOOSE = [SCENARIOS.index("pipelined")]


def children():
    script = [sys.executable, str(HERE / "scripted_child.py")]
    plan = {n: {"child": scenario, "argv": [*script, scenario]} for n, scenario in enumerate(SCENARIOS)}
    plan[KCLPY] = {"child": "kclpy v3", "argv": [sys.executable, str(HERE / "kclpy_counter.py"), "3"], "env": {"PYTHONPATH": str(JUDGES / "kclpy")}}
    plan[NODE] = {"child": "node", "argv": ["node", str(HERE / "node_counter.js"), "2"], "env": {"NODE_PATH": str(JUDGES / "npm/node_modules")}}
    plan["*"] = {"child": "checkpoint-at-every-turn", "argv": [*script, "checkpoint-at-every-turn"]}
    return plan


def equal_form(line):
    """A line as the comparison takes it (see above)."""
    line = re.sub(r'"millisBehindLatest":\d+', '"millisBehindLatest":N', line)

    def escaped(match):
        units = match[0].encode("utf-16-be")
        return "".join(f"\\u{units[i] << 8 | units[i + 1]:04X}" for i in range(0, len(units), 2))

    line = re.sub(r"[^\x00-\x7f]", escaped, line)
    return re.sub(r"(?<!\\)((?:\\\\)*)\\u([0-9a-fA-F]{4})", lambda m: m[0] if int(m[2], 16) < 0x80 else f"{m[1]}\\u{m[2].upper()}", line)


def conversation(path):
    """(direction, line) of one tenure, without what goes to stderr."""
    out = []
    for text in path.read_text(encoding="utf-8").splitlines():
        entry = json.loads(text)
        if "line" in entry:
            out.append(("daemon" if "to" in entry else "child", equal_form(entry["line"])))
        elif "exit" in entry:
            out.append(("exit", str(entry["exit"])))
    return out


def difference(java, ours, loose):
    """Where two conversations part, for people; None when they are the same."""
    if loose:
        java, ours = (sorted(lines, key=lambda line: ("daemon", "child", "exit").index(line[0])) for lines in (java, ours))
    for n, (a, b) in enumerate(zip(java, ours)):
        if a != b:
            at = next((i for i, (x, y) in enumerate(zip(a[1], b[1])) if x != y), min(len(a[1]), len(b[1])))
            start = max(0, at - 60)
            return f"line {n + 1}, from column {start}:\n  java       {a[0]}: {a[1][start:at + 140]}\n  multilangd {b[0]}: {b[1][start:at + 140]}"
    if len(java) != len(ours):
        longer, name = (java, "java") if len(java) > len(ours) else (ours, "multilangd")
        where = min(len(java), len(ours))
        return f"{abs(len(java) - len(ours))} more lines from {name}, the first ({longer[where][0]}): {longer[where][1][:300]}"
    return None


def main():
    need("java-3.5.1", "kclpy", "npm")
    multilangd = multilangd_of(sys.argv[1] if len(sys.argv) > 1 else None)
    with Bench("same_lines") as b:
        kinesis_url, dynamodb_url = b.multilangd_local(multilangd)
        kinesis, dynamodb = client("kinesis", kinesis_url), client("dynamodb", dynamodb_url)
        stream = Stream(kinesis, "lines", SHARDS)
        put_first_wave(stream, range(SHARDS), aggregated=AGGREGATED)
        outs, daemons = {}, {}
        for name in ("java", "ours"):
            executable, env, outs[name] = b.tapped(name, children())
            properties = b.properties(
                name, executableName=executable, applicationName=f"app-{name}", streamName="lines", regionName=bench.REGION,
                kinesisEndpoint=kinesis_url, dynamoDBEndpoint=dynamodb_url, AwsCredentialsProvider="DefaultCredentialsProvider",
                initialPositionInStream="TRIM_HORIZON", retrievalMode="POLLING", idleTimeBetweenReadsInMillis=250, metricsLevel="NONE",
                shutdownGraceMillis=20000, failoverTimeMillis=5000, shardSyncIntervalMillis=1000, parentShardPollIntervalMillis=1000, workerId="w-1",
            )
            start = b.java_daemon if name == "java" else lambda p, **more: b.multilangd(multilangd, p, **more)
            daemons[name] = start(properties, name=name, env=env)
        batch = '"to":"child","line":"{\\"action\\":\\"processRecords'

        def in_both(what, shards, text, times=1, limit=60):
            def missing():
                for name, daemon in daemons.items():
                    check(daemon.running(), f"{name} ended while this was waited for: {what}\n{daemon.tail()}")
                return [(n, s) for n, out in outs.items() for s in shards if not bench.said(out, s, text, times)]

            try:
                wait_for(what, limit, lambda: not missing(), every=0.2)
            except bench.Failed:
                raise bench.Failed(f"{what}: not seen within {limit} s in {missing()}") from None
            b.say(what)

        in_both("multilangd and the Java daemon have started every child", range(SHARDS), batch, limit=240)
        plain = [s for s in range(SHARDS) if s not in (SCENARIOS.index("number-forms"), *AGGREGATED)]
        for wave in (2, 3):
            bench.time.sleep(1)  # every child has answered; a wave is one record a shard, so one batch in both
            for shard in plain:
                stream.put(shard, b"wave %d" % wave, f"k-{wave}")
            in_both(f"wave {wave}", plain, batch, times=wave)
        bench.time.sleep(1)
        for name in ("java", "ours"):
            for shard in LOST:
                steal(dynamodb, f"app-{name}", shard)
        in_both("two lost leases", LOST, "leaseLost")
        for shard in SPLIT:
            stream.split(shard)
        stream.merge(*MERGED)
        in_both("the end of two split and two merged shards", [*SPLIT, *MERGED], '"exit"')
        in_both("the first words to the children of those shards", AFTER, "initialize", limit=90)
        for shard in AFTER:
            stream.put(shard, b"a record of the child", "k")
        in_both("records in the children of those shards", AFTER, batch)
        in_both("the lost leases again", LOST, "initialize", times=4, limit=120)  # each time twice, question and answer
        in_both("what is left for them", LOST[1:], batch, times=2)
        bench.time.sleep(2)
        for name, daemon in daemons.items():
            code = daemon.stop(90)
            check(code == 143, f"{name} ended with {code}, not with 143")
        for out in outs.values():
            wait_for("the last child", 20, lambda out=out: all('"exit"' in p.read_text() for p in out.iterdir()))
        b.say("both have ended")

        wrong, lines = [], 0
        tenures = [(shard, 0) for shard in [*range(SHARDS), *AFTER]] + [(shard, 1) for shard in LOST]
        for shard, tenure in tenures:
            pair = [conversation(outs[name] / f"{shard}.{tenure}.jsonl") for name in ("java", "ours")]
            lines += len(pair[0])
            found = difference(*pair, loose=shard in LOOSE)
            if found:
                wrong.append(f"shard {shard}, tenure {tenure} ({children().get(shard, children()['*'])['child']}): {found}")
        check(not wrong, "\n".join([f"{len(wrong)} of {len(tenures)} conversations differ", *wrong]))
        b.say(f"{len(tenures)} conversations of {lines} lines are the same, byte for byte")


if __name__ == "__main__":
    bench.run(main)
