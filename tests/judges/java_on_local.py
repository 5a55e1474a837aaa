"""Judge: the Java daemon 3.5.1, and boto3, on our own Kinesis and DynamoDB.

    tests/judges/java_on_local.py [PATH OF MULTILANGD]

Java reads by enhanced fan-out (SubscribeToShard over HTTP/2 with prior knowledge, CBOR), through a split and a merge, and every record
arrives; polling is what `same_lines.py` does. The other way round from the other judges: here `multilangd local` is judged.
"""

import sys

import bench
from bench import HERE, Bench, Stream, check, client, multilangd_of, need, shell_name, wait_for
from counting import Noted, Sent, app_values, check_all


def main():
    need("java-3.5.1", "kclpy")
    multilangd = multilangd_of(sys.argv[1] if len(sys.argv) > 1 else None)
    with Bench("java_on_local") as b:
        kinesis_url, dynamodb_url = b.multilangd_local(multilangd)
        kinesis = client("kinesis", kinesis_url)
        stream = Stream(kinesis, "words", 3)
        sent = Sent(stream)
        sent.put("early", 500)
        sent.put_aggregates("aggregate", 10, shard=1)
        counts = b.dir / "counts"
        counts.mkdir()
        shell_name(b.dir, "count", [sys.executable, HERE / "kclpy_counter.py", "3"])
        values = app_values(kinesis_url, dynamodb_url, executableName=b.dir / "count", applicationName="fanout", streamName="words")
        values.update(retrievalMode="FANOUT")
        values.pop("idleTimeBetweenReadsInMillis")
        java = b.java_daemon(b.properties("app", **values), env=bench.environment(COUNT_DIR=counts, PYTHONPATH=bench.JUDGES / "kclpy"))

        def counted():
            check(java.running(), f"the Java daemon ended:\n{java.tail()}")
            return len(Noted(counts).records()) >= len(sent.all)

        wait_for("all records", 240, counted, every=0.3)
        b.say(f"Java has counted {len(sent.all)} records by fan-out")
        arn = kinesis.describe_stream_summary(StreamName="words")["StreamDescriptionSummary"]["StreamARN"]
        consumers = [c["ConsumerName"] for c in kinesis.list_stream_consumers(StreamARN=arn)["Consumers"]]
        check(consumers == ["fanout"], f"the consumers are {consumers}")
        for _ in range(5):  # pushed as they come
            sent.put(f"pushed {len(sent.all)}", 20)
            wait_for("pushed records", 10, counted, every=0.1)
        stream.split(0)
        sent.put("after the split", 200)
        wait_for("the records after the split", 60, counted, every=0.3)
        stream.merge(1, 2)
        sent.put("after the merge", 200)
        wait_for("the records after the merge", 60, counted, every=0.3)
        wait_for("three ended shards", 30, lambda: len(Noted(counts).shards("shard_ended")) == 3)
        check_all(sent, Noted(counts))
        b.say(f"and {len(sent.all)} through a split and a merge")
        java.stop(60)


if __name__ == "__main__":
    bench.run(main)
