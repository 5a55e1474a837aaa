"""Judge: AWS's DynamoDB Local holds the leases of multilangd.

    tests/judges/foreign_leases.py [PATH OF MULTILANGD]

The table that multilangd makes there is the one that the Java library makes (key, index, billing), the rows are its rows, a restart goes
on where the first run stopped. Our own Kinesis serves the stream.
"""

import sys

import bench
from bench import HERE, Bench, Stream, check, client, multilangd_of, need, shell_name, wait_for
from counting import Noted, Sent, app_values, check_all

TABLE = "leases-elsewhere"
INDEX = "LeaseOwnerToLeaseKeyIndex"


def main():
    need("dynamodb-local", "kclpy")
    multilangd = multilangd_of(sys.argv[1] if len(sys.argv) > 1 else None)
    with Bench("foreign_leases") as b:
        dynamodb_url = b.dynamodb_local()
        kinesis_url, _ = b.multilangd_local(multilangd)
        dynamodb = client("dynamodb", dynamodb_url)
        stream = Stream(client("kinesis", kinesis_url), "words", 2)
        sent = Sent(stream)
        sent.put("early", 200)
        sent.put_aggregates("aggregate", 5, shard=1)
        counts = b.dir / "counts"
        counts.mkdir()
        shell_name(b.dir, "count", [sys.executable, HERE / "kclpy_counter.py", "3"])
        properties = b.properties(
            "app", **app_values(kinesis_url, dynamodb_url, executableName=b.dir / "count", applicationName=TABLE, streamName="words", workerId="w-1")
        )
        env = bench.environment(COUNT_DIR=counts, PYTHONPATH=bench.JUDGES / "kclpy")

        def counted():
            check(daemon.running(), f"the daemon ended:\n{daemon.tail()}")
            return len(Noted(counts).records()) >= len(sent.all)

        daemon = b.multilangd(multilangd, properties, env=env)
        wait_for("all records", 180, counted, every=0.2)
        b.say(f"{len(sent.all)} records are counted")

        table = dynamodb.describe_table(TableName=TABLE)["Table"]
        check(table["KeySchema"] == [{"AttributeName": "leaseKey", "KeyType": "HASH"}], f"the table's key is {table['KeySchema']}")
        check(table["BillingModeSummary"]["BillingMode"] == "PAY_PER_REQUEST", f"the table is billed {table['BillingModeSummary']}")
        index = {i["IndexName"]: i for i in table.get("GlobalSecondaryIndexes", [])}.get(INDEX)
        check(index is not None, f"there is no index {INDEX}")
        check([k["AttributeName"] for k in index["KeySchema"]] == ["leaseOwner", "leaseKey"], f"the index's key is {index['KeySchema']}")
        check(index["Projection"] == {"ProjectionType": "KEYS_ONLY"}, f"the index holds {index['Projection']}")

        wait_for("the checkpoints of the last batches", 20, lambda: all(
            row["checkpoint"].isdigit() for row in bench.leases(dynamodb, TABLE).values()))
        for key, row in bench.leases(dynamodb, TABLE).items():
            check(row.get("leaseOwner") == "w-1", f"{key} is owned by {row.get('leaseOwner')}")
            check(row["entityType"] == "LEASE", f"{key} is a {row['entityType']}")
            for name in ("leaseCounter", "ownerSwitchesSinceCheckpoint", "checkpointSubSequenceNumber"):
                check(isinstance(row[name], bench.decimal.Decimal), f"{key}: {name} is {row[name]!r}, not a number")
            check(row["startingHashKey"].isdigit() and row["endingHashKey"].isdigit(), f"{key} has no hash range")
        others = {row["leaseKey"]: row["entityType"] for row in bench.rows(dynamodb, TABLE) if row["entityType"] != "LEASE"}
        check(others.get("Leader") == "LEADER", f"there is no leader row: {others}")
        check(others.get("Migration3.0") == "CLIENT_VERSION_MIGRATION", f"there is no client version row: {others}")
        check(others.get("w-1") == "WORKER_METRIC_STATS", f"there is no row of the worker: {others}")
        b.say("the table, its index and its rows are those of the Java library")

        stream.split(0)
        sent.put("after the split", 100)
        wait_for("the records after the split", 60, counted, every=0.2)
        ended = wait_for("SHARD_END", 30, lambda: [
            row for key, row in bench.leases(dynamodb, TABLE).items() if key.endswith("000000000000") and row["checkpoint"] == "SHARD_END"
        ] or "shardId-000000000000" not in bench.leases(dynamodb, TABLE))
        if ended is not True:
            check(ended[0]["childShardIds"] == {"shardId-000000000002", "shardId-000000000003"}, f"its children are {ended[0].get('childShardIds')}")
        for child in ("shardId-000000000002", "shardId-000000000003"):
            row = bench.leases(dynamodb, TABLE)[child]
            check(row["parentShardId"] == {"shardId-000000000000"}, f"the parents of {child} are {row.get('parentShardId')}")
        code = daemon.stop()
        check(code == 143, f"exit code 143 was expected, not {code}")
        left = {key: row for key, row in bench.leases(dynamodb, TABLE).items() if row["checkpoint"] != "SHARD_END"}
        owners = {key: row["leaseOwner"] for key, row in left.items() if "leaseOwner" in row}
        check(not owners, f"after a clean stop these leases are still owned: {owners}")
        b.say("the daemon has stopped and given its leases back")

        sent.put("while stopped", 100)
        before = len(Noted(counts).positions())
        daemon = b.multilangd(multilangd, properties, name="multilangd-again", env=env)
        wait_for("the records put while stopped", 60, counted, every=0.2)
        check_all(sent, Noted(counts))
        check(len(Noted(counts).positions()) == before + 100, "the restart delivered records again")
        daemon.stop()
        b.say("a restart went on where the first run stopped")


if __name__ == "__main__":
    bench.run(main)
