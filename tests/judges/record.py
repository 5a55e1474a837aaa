"""Records conversations of the real Java daemon with real children: protocol/transcripts/*.jsonl.

    tests/judges/record.py [--multilangd PATH] [--out DIR] [--keep] [PART…]

PART is `tour` or one of the fatal scenarios; without any, everything is recorded. A tour is one run of the Java daemon over a stream
with a shard, and a child, for each scenario: the first record of a new application takes the Java daemon about a minute, so it is
worth having one application only. The fatal scenarios end the daemon, so each has a run of its own.

With --multilangd our own Kinesis serves the stream, otherwise kinesis-local does; DynamoDB Local holds the leases.
"""

import argparse
import json
import pathlib
import sys
import time

import bench
from bench import HERE, JUDGES, REPOSITORY, Bench, Stream, aggregate, check, client, leases, need, wait_for

SCRIPT = [sys.executable, str(HERE / "scripted_child.py")]
KCLPY = {"PYTHONPATH": str(JUDGES / "kclpy")}
NODE = {"NODE_PATH": str(JUDGES / "npm/node_modules")}

# Shard number -> file name, title, child. The shards from 20 on are children of others.
TOUR = {
    0: ("checkpoints", "a child that checkpoints each batch, and a graceful stop", "checkpoint-at-every-turn"),
    1: ("checkpoint-errors", "positions that are refused, in each action", "checkpoint-errors"),
    2: ("sub-sequences", "checkpoints inside aggregated records", "sub-sequences"),
    3: ("number-forms", "numbers and texts that are turned into each other", "number-forms"),
    4: ("garbage", "lines that are skipped", "garbage"),
    5: ("odd-but-accepted", "unusual lines that are accepted", "odd-but-accepted"),
    6: ("pipelined", "requests and status without waiting for replies", "pipelined"),
    7: ("lease-lost-in-batch", "the lease is taken while a batch is processed", "slow-batch"),
    8: ("lease-lost", "the lease is taken between batches", "no-checkpoints"),
    9: ("shard-ended", "a split: the end of a shard, checkpointed", "checkpoint-at-every-turn"),
    10: ("shard-ended-by-number", "a split: the end is checkpointed by the last sequence number", "shard-end-by-number"),
    11: ("shard-ended-by-name", "a merge: the end is checkpointed as SHARD_END", "shard-end-by-name"),
    12: ("shard-ended-pipelined", "a merge: checkpoints and status without waiting", "pipelined"),
    13: ("stderr", "a child that logs, and never checkpoints", "talks-on-stderr"),
    14: ("kclpy-sample", "the sample application of amazon_kclpy 3.2.0, to the end of its shard", None),
    15: ("kclpy-v1", "amazon_kclpy 3.2.0, processor interface v1", None),
    16: ("kclpy-v2", "amazon_kclpy 3.2.0, processor interface v2", None),
    17: ("node", "aws-kcl 2.3.2 (npm), to the end of its shard", None),
    18: ("skipped-by-java-only", "lines that the Java daemon skips and multilangd understands", "skipped-by-java-only"),
    19: ("checkpoint-inside", "a checkpoint in the middle of an aggregated record, then the lease is taken", "checkpoint-inside"),
}
AGAIN = {7: ("again", "the lease comes back: a second tenure begins after the checkpoint"),
         19: ("again-inside", "the lease comes back: a second tenure begins in the middle of an aggregated record")}
CHILDREN = {20: "child-of-split", 28: "child-of-merge"}
SHARDS = len(TOUR)

# name -> title, scenario, properties of its own, exit code of the Java daemon.
FATAL = {
    "wrong-status": ("a status for another action ends the daemon", "status-for-another", {"shutdownGraceMillis": 1000}, 1),
    "empty-status": ("a status for no action ends the daemon", "status-for-nothing", {"shutdownGraceMillis": 1000}, 1),
    "child-exits": ("the child exits while a status is owed", "dies", {"shutdownGraceMillis": 1000}, 1),
    "null-line": ("the line null ends the Java daemon", "says-null", {"shutdownGraceMillis": 1000}, 1),
    "timeout": ("no status within timeoutInSeconds", "never-answers", {"timeoutInSeconds": 5, "shutdownGraceMillis": 1000}, 1),
    "leaves-at-shutdown": ("the child exits after answering shutdownRequested", "leaves-when-asked-to-stop", {}, 143),
    "wrong-status-at-shutdown": ("shutdownRequested is answered with another status", "refuses-to-stop", {}, 143),
    "empty-batches": ("callProcessRecordsEvenForEmptyRecordList", "checkpoint-at-every-turn",
                      {"callProcessRecordsEvenForEmptyRecordList": "true"}, 143),
}


def plan(bench_dir):
    children = {}
    for shard, (_, _, scenario) in TOUR.items():
        if scenario:
            children[shard] = {"child": f"scripted_child.py {scenario}", "argv": [*SCRIPT, scenario], "env": {"HOLD": str(bench_dir / "go")}}
    children[14] = {"child": "amazon_kclpy 3.2.0, samples/sample_kclpy_app.py",
                    "argv": [sys.executable, str(JUDGES / "kclpy/samples/sample_kclpy_app.py")], "env": KCLPY}
    for shard, version in ((15, "1"), (16, "2")):
        children[shard] = {"child": f"amazon_kclpy 3.2.0, kclpy_counter.py {version}",
                           "argv": [sys.executable, str(HERE / "kclpy_counter.py"), version], "env": KCLPY}
    children[17] = {"child": "aws-kcl 2.3.2, node_counter.js 2", "argv": ["node", str(HERE / "node_counter.js"), "2"], "env": NODE}
    children["*"] = {"child": "scripted_child.py checkpoint-at-every-turn", "argv": [*SCRIPT, "checkpoint-at-every-turn"]}
    return children


def services(b, multilangd):
    kinesis = b.multilangd_local(multilangd)[0] if multilangd else b.kinesis_local()
    return kinesis, b.dynamodb_local()


def start_java(b, name, kinesis, dynamodb, stream, children, **more):
    executable, env, out = b.tapped(name, children)
    values = dict(
        executableName=executable, applicationName=f"app-{name}", streamName=stream, regionName=bench.REGION, kinesisEndpoint=kinesis,
        dynamoDBEndpoint=dynamodb, AwsCredentialsProvider="DefaultCredentialsProvider", initialPositionInStream="TRIM_HORIZON",
        retrievalMode="POLLING", idleTimeBetweenReadsInMillis=250, metricsLevel="NONE", shutdownGraceMillis=20000,
        failoverTimeMillis=5000, shardSyncIntervalMillis=1000, parentShardPollIntervalMillis=1000, workerId="java-1",
    )
    values.update(more)
    return b.java_daemon(b.properties(name, **values), name=name, env=env), out


def steal(dynamodb, table, shard):
    """Takes a lease as another worker would."""
    dynamodb.update_item(
        TableName=table, Key={"leaseKey": {"S": f"shardId-{shard:012}"}},
        UpdateExpression="SET leaseOwner = :w ADD leaseCounter :one, ownerSwitchesSinceCheckpoint :one",
        ExpressionAttributeValues={":w": {"S": "someone-else"}, ":one": {"N": "1"}},
    )


def write_transcript(tenure, target, title):
    lines = tenure.read_text().splitlines()
    head = {"transcript": title, "daemon": "java 3.5.1", "child": json.loads(lines[0])["child"]}
    check('"exit"' in lines[-1], f"{tenure.name} has no end: the child did not exit")
    target.write_text("\n".join([json.dumps(head, separators=(",", ":")), *lines[1:]]) + "\n")


def put_first_wave(stream, shards, aggregated):
    """Five records for every shard, with keys and data that are hard to write; two aggregates and a plain record for some of them."""
    for shard in shards:
        if shard in aggregated:
            first, last = stream.range_of(shard)
            elsewhere = (last + 1) % bench.MAX_HASH
            stream.put(shard, aggregate([(f"user-{n}", first + n, b"sub record %d" % n) for n in range(5)]), "a")
            stream.put(shard, aggregate([("in", first, b"kept"), ("out", elsewhere, b"dropped: not this shard's")]), "a")
            stream.put(shard, b"not aggregated", "plain")
            continue
        for data, key in (
            (b"first", "k-1"), (bytes(range(256)), "\u043a\u043b\u044e\u0447"), (b"third", 'quote " and \\ and / and <tag>'),
            (b"\x00", "\U0001f600\u2028\x7f"), ("t\u00ebxt".encode(), "tab\tand\x01control\x1f"),
        ):
            stream.put(shard, data, key)


def tour(b, arguments):
    kinesis_url, dynamodb_url = services(b, arguments.multilangd)
    kinesis, dynamodb = client("kinesis", kinesis_url), client("dynamodb", dynamodb_url)
    stream = Stream(kinesis, "tour", SHARDS)
    put_first_wave(stream, range(SHARDS), aggregated=(2, 19))
    java, out = start_java(b, "tour", kinesis_url, dynamodb_url, "tour", plan(b.dir))
    table = "app-tour"
    done = '"to":"child","line":"{\\"action\\":\\"processRecords'

    def wait_each(what, shards, text, times=1, limit=60):
        def look():
            check(java.running(), f"the Java daemon ended while waiting for {what}:\n{java.tail()}")
            return all(bench.said(out, s, text, times) for s in shards)

        try:
            wait_for(what, limit, look)
        except bench.Failed:
            raise bench.Failed(f"{what}: not seen in shards {[s for s in shards if not bench.said(out, s, text, times)]}") from None
        b.say(what)

    wait_each("the first batch of every shard", range(SHARDS), done, limit=240)
    wait_each("the slow child holds its batch", [7], "holding")
    time.sleep(3)  # the others answer; nothing depends on it
    for wave in (2, 3):
        for shard in (0, 1, 4, 5, 6, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17):
            stream.put(shard, b"wave %d" % wave, f"k-{wave}")
        wait_each(f"wave {wave}", (0, 4, 5, 8, 9, 10, 13, 14, 15, 16, 17), done, times=wave)
    for shard in (7, 8, 19):
        steal(dynamodb, table, shard)
    wait_each("the lease is lost between batches", [8], "leaseLost")
    (b.dir / "go").touch()
    wait_each("the lease is lost in a batch", [7], '\\"leaseLost')
    wait_each("the lease is lost after a checkpoint inside an aggregated record", [19], "leaseLost")
    for shard in (9, 10, 14, 17):
        stream.split(shard)
    stream.merge(11, 12)
    wait_each("six shards have ended", (9, 10, 11, 12, 14, 17), '"exit"', limit=60)
    wait_each("the children of the shards have started", CHILDREN, '"initialize', limit=90)
    for shard in CHILDREN:
        stream.put(shard, b"a record of the child", "k")
    wait_each("the children of the shards have got a record", CHILDREN, done)
    wait_each("the lost leases have come back", AGAIN, done, times=2, limit=120)
    time.sleep(2)
    code = java.stop(limit=90)
    b.say(f"the Java daemon has ended: {code}")
    check(code == 143, f"exit code 143 was expected of the Java daemon, not {code}")
    wait_for("the last child", 20, lambda: all('"exit"' in p.read_text() for p in out.iterdir()))
    for shard, (name, title, _) in TOUR.items():
        write_transcript(out / f"{shard}.0.jsonl", arguments.out / f"{name}.jsonl", title)
    for shard, (name, title) in AGAIN.items():
        write_transcript(out / f"{shard}.1.jsonl", arguments.out / f"{name}.jsonl", title)
    for shard, name in CHILDREN.items():
        write_transcript(out / f"{shard}.0.jsonl", arguments.out / f"{name}.jsonl", "the first tenure of a shard with parents")


def fatal(b, arguments, names):
    kinesis_url, dynamodb_url = services(b, arguments.multilangd)
    kinesis = client("kinesis", kinesis_url)
    for name in names:
        title, scenario, more, expected = FATAL[name]
        stream = Stream(kinesis, name, 1)
        for n in range(3):
            stream.put(0, b"record %d" % n, f"k-{n}")
        children = {"*": {"child": f"scripted_child.py {scenario}", "argv": [*SCRIPT, scenario]}}
        java, out = start_java(b, name, kinesis_url, dynamodb_url, name, children, **more)
        wait_for(f"{name}: the first batch", 240, lambda: bench.said(out, 0, "processRecords") or not java.running())
        if expected == 143:
            time.sleep(2)
            code = java.stop(limit=90)
        else:
            code = java.wait(90)
        b.say(f"{name}: the Java daemon ended with {code}")
        check(code == expected, f"{name}: exit code {expected} was expected of the Java daemon, not {code}")
        wait_for("the child's end", 30, lambda: '"exit"' in (out / "0.0.jsonl").read_text())
        write_transcript(out / "0.0.jsonl", arguments.out / f"{name}.jsonl", title)


def main():
    need("java-3.5.1", "dynamodb-local", "npm", "kclpy")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--multilangd", help="its `local` serves the stream")
    parser.add_argument("--out", type=pathlib.Path, default=REPOSITORY / "protocol" / "transcripts")
    parser.add_argument("--keep", action="store_true", help="leave logs and raw recordings in the temporary directory")
    parser.add_argument("parts", nargs="*", choices=["tour", *FATAL, []], default=[])
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    parts = arguments.parts or ["tour", *FATAL]
    if "tour" in parts:
        with Bench("tour", keep=arguments.keep) as b:
            tour(b, arguments)
    fatals = [p for p in parts if p != "tour"]
    if fatals:
        with Bench("fatal", keep=arguments.keep) as b:
            fatal(b, arguments, fatals)


if __name__ == "__main__":
    bench.run(main)
