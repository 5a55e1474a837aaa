"""Judge: the Java daemon 3.5.1 and multilangd publish the same metrics for the same run.

    tests/judges/metrics.py [PATH OF MULTILANGD]

Both read one stream of our own local Kinesis, through a split, and stop in order; a CloudWatch of ours (`cloudwatch.py`) notes what each puts.
Each does so twice at the same time, as two applications: with all metrics, and with those of SUMMARY level under a single dimension. The two sets of (name, dimensions with their values, unit) are compared. A difference that is not in `DIFFERENCES` is a
failure; those that are there are explained there, and in docs/COMPATIBILITY.md. Of the metrics that count records, the sums are compared too.
"""

import sys
import time

import bench
from bench import HERE, Bench, Stream, check, client, multilangd_of, need, shell_name, wait_for
from cloudwatch import CloudWatch
from counting import Noted, Sent, app_values, check_all

# Who alone publishes it, what it is (a predicate of name and dimensions), and why the other does not.
SETTINGS = {"all": {"metricsLevel": "DETAILED"}, "few": {"metricsLevel": "summary", "metricsEnabledDimensions": "ShardId"}}
LABEL = "Java labels a checkpoint with whichever task of any shard was created last, ours with the task that it ends (compared without the label below)"
DIFFERENCES = [
    (who, lambda name, of: name.startswith("UpdateLease.") and of.get("Operation") in ("ProcessTask", "ShutdownTask"), LABEL) for who in ("java", "ours")
]


def explained(who, key):
    name, dimensions, _ = key
    return next((why for whose, matches, why in DIFFERENCES if whose == who and matches(name, dict(dimensions))), None)


def keys(data):
    """To CloudWatch, dimensions have no order."""
    return {(each.name, tuple(sorted(each.dimensions)), each.unit) for each in data}


def total(data, name, dimension):
    """The sum of a metric's samples, by the value of one dimension."""
    sums = {}
    for each in data:
        if each.name == name:
            value = dict(each.dimensions).get(dimension)
            sums[value] = sums.get(value, 0) + each.sum
    return sums


def shown(key):
    name, dimensions, unit = key
    return f"{name} ({unit}) of {', '.join(f'{n}={v}' for n, v in dimensions)}"


def main():
    need("java-3.5.1", "kclpy")
    multilangd = multilangd_of(sys.argv[1] if len(sys.argv) > 1 else None)
    with Bench("metrics") as b, CloudWatch() as cloudwatch:
        kinesis_url, dynamodb_url = b.multilangd_local(multilangd)
        kinesis = client("kinesis", kinesis_url)
        stream = Stream(kinesis, "words", 2)
        sent = Sent(stream)
        sent.put("early", 300)
        sent.put_aggregates("aggregate", 10, shard=1)
        daemons, counts = {}, {}
        for name in (f"{who}-{what}" for who in ("java", "ours") for what in SETTINGS):
            counts[name] = b.dir / f"counts-{name}"
            counts[name].mkdir()
            executable = shell_name(b.dir, f"count-{name}", [sys.executable, HERE / "kclpy_counter.py", "3"])
            values = app_values(
                kinesis_url, dynamodb_url, executableName=executable, applicationName=f"app-{name}", streamName="words", workerId="w-1",
                metricsBufferTimeMillis=1000, cloudWatchClient__endpointOverride=cloudwatch.url,
            )
            who, what = name.split("-")
            values.update(SETTINGS[what])
            start = b.java_daemon if who == "java" else lambda p, **more: b.multilangd(multilangd, p, **more)
            env = bench.environment(COUNT_DIR=counts[name], PYTHONPATH=bench.JUDGES / "kclpy")
            daemons[name] = start(b.properties(name, **values), name=name, env=env)
        began = time.monotonic()

        def in_both(what, limit, look):
            def seen():
                for name, daemon in daemons.items():
                    check(daemon.running(), f"{name} ended while this was waited for: {what}\n{daemon.tail()}")
                return all(look(Noted(each)) for each in counts.values())

            wait_for(what, limit, seen, every=0.3)
            b.say(what)

        in_both("all records", 240, lambda noted: len(noted.records()) >= len(sent.all))
        stream.split(0)
        sent.put("after the split", 200)
        in_both("the records after the split", 90, lambda noted: len(noted.records()) >= len(sent.all))
        in_both("the ended shard", 30, lambda noted: len(noted.shards("shard_ended")) == 1)
        # All look for holes 60 s after their start, and so many seconds later at the latest.
        published = lambda name: {each.name for each in cloudwatch.of(f"app-{name}")}
        wait_for("the leaders' audits", 150, lambda: all("NumStreamsToSync" in published(name) for name in daemons), every=1)
        b.say(f"the audits, {time.monotonic() - began:.0f} s after the start")
        for name, daemon in daemons.items():
            check_all(sent, Noted(counts[name]))
            daemon.stop(60)
        namespaces = {each.namespace for each in cloudwatch.data}
        check(namespaces == {f"app-{name}" for name in daemons}, f"the namespaces are {namespaces}")
        check(max(cloudwatch.sizes) <= 20, f"{max(cloudwatch.sizes)} entries in one PutMetricData")
        b.say(f"protocols: {', '.join(sorted(cloudwatch.protocols))}")
        for what in SETTINGS:
            compare(b, what, cloudwatch.of(f"app-java-{what}"), cloudwatch.of(f"app-ours-{what}"), len(sent.all))


def compare(b, what, java, ours, records):
    unexplained = []
    for who, only in (("java", keys(java) - keys(ours)), ("ours", keys(ours) - keys(java))):
        for key in sorted(only):
            why = explained(who, key)
            b.say(f"{what}: only {who}: {shown(key)}: {why or 'NOT EXPLAINED'}")
            if not why:
                unexplained.append(f"{what}: only {who}: {shown(key)}")
    check(not unexplained, "metrics differ:\n" + "\n".join(unexplained))
    for name in ("UpdateLease.Success", "UpdateLease.Time"):
        shards = [sorted(total(data, name, "ShardId")) for data in (java, ours)]
        check(shards[0] == shards[1], f"{what}: {name}: Java of {shards[0]}, ours of {shards[1]}")
    for name in ("RecordsProcessed", "DataBytesProcessed"):
        sums = [total(data, name, "ShardId") for data in (java, ours)]
        check(sums[0] == sums[1], f"{what}: {name}: Java {sums[0]}, ours {sums[1]}")
    processed = sum(total(ours, "RecordsProcessed", "ShardId").values())
    check(processed == records, f"{what}: {processed} records processed of {records}")
    b.say(f"{what}: {len(keys(java) & keys(ours))} metrics are the same, name, dimensions and unit; the counts of records too")


if __name__ == "__main__":
    bench.run(main)
