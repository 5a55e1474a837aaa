"""Judge: kinesis-local, a Kinesis by other authors, serves the stream that multilangd reads.

    tests/judges/foreign_stream.py [PATH OF MULTILANGD]

Every record arrives, through a split and a merge. (Its records are few: the service is slow.) Our own DynamoDB holds the leases.
"""

import sys

import bench
from bench import HERE, Bench, Stream, check, client, multilangd_of, need, shell_name, wait_for
from counting import Noted, Sent, app_values, check_all


def main():
    need("npm", "kclpy")
    multilangd = multilangd_of(sys.argv[1] if len(sys.argv) > 1 else None)
    with Bench("foreign_stream") as b:
        kinesis_url = b.kinesis_local()
        _, dynamodb_url = b.multilangd_local(multilangd)
        stream = Stream(client("kinesis", kinesis_url), "words", 3)
        sent = Sent(stream)
        sent.put("early", 300)
        sent.put_aggregates("aggregate", 5, shard=1)
        counts = b.dir / "counts"
        counts.mkdir()
        shell_name(b.dir, "count", [sys.executable, HERE / "kclpy_counter.py", "3"])
        properties = b.properties(
            "app", **app_values(kinesis_url, dynamodb_url, executableName=b.dir / "count", applicationName="foreign", streamName="words")
        )
        daemon = b.multilangd(multilangd, properties, env=bench.environment(COUNT_DIR=counts, PYTHONPATH=bench.JUDGES / "kclpy"))

        def counted():
            check(daemon.running(), f"the daemon ended:\n{daemon.tail()}")
            return len(Noted(counts).records()) >= len(sent.all)

        wait_for("all records", 180, counted, every=0.2)
        b.say(f"{len(sent.all)} records are counted")
        stream.split(0)
        sent.put("after the split", 100)
        wait_for("the records after the split", 60, counted, every=0.2)
        stream.merge(1, 2)
        sent.put("after the merge", 100)
        wait_for("the records after the merge", 60, counted, every=0.2)
        wait_for("three ended shards", 30, lambda: len(Noted(counts).shards("shard_ended")) == 3)
        b.say(f"{len(sent.all)} records are counted, through a split and a merge")
        dynamodb = client("dynamodb", dynamodb_url)
        code = daemon.stop()
        check(code == 143, f"exit code 143 was expected, not {code}")
        check_all(sent, Noted(counts))
        for key, row in bench.leases(dynamodb, "foreign").items():
            check(row["checkpoint"] == "SHARD_END" or row["checkpoint"].isdigit() or row["checkpoint"] == "TRIM_HORIZON",
                  f"{key} stands at {row['checkpoint']}")


if __name__ == "__main__":
    bench.run(main)
