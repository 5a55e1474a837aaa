"""Judge: the unmodified amazon_kclpy 3.2.0, started by its own launcher with `--java multilangd`.

    tests/judges/kclpy.py [PATH OF MULTILANGD]

Its three processor interfaces each count every record of a stream, through a split, and finish cleanly; its own sample application
logs every record. Our own Kinesis and DynamoDB serve them.
"""

import re
import shlex
import subprocess
import sys

import bench
from bench import HERE, JUDGES, Bench, Stream, check, client, multilangd_of, need, shell_name, wait_for
from counting import Noted, Sent, app_values, check_all

SAMPLES = JUDGES / "kclpy" / "samples"


def launch(b, multilangd, properties, env):
    """Runs what the client's launcher prints, as users do: `amazon_kclpy_helper.py --print_command …` in backticks."""
    command = subprocess.run(
        [sys.executable, SAMPLES / "amazon_kclpy_helper.py", "--print_command", "--java", multilangd, "--properties", properties.name],
        cwd=b.dir, env={**env, "PYTHONPATH": str(JUDGES / "kclpy")}, check=True, capture_output=True, text=True,
    ).stdout
    check("software.amazon.kinesis.multilang.MultiLangDaemon" in command, f"the launcher printed: {command}")
    return b.start(properties.stem, shlex.split(command), cwd=b.dir, env=env)


def main():
    need("kclpy")
    multilangd = multilangd_of(sys.argv[1] if len(sys.argv) > 1 else None)
    with Bench("kclpy") as b:
        kinesis_url, dynamodb_url = b.multilangd_local(multilangd)
        stream = Stream(client("kinesis", kinesis_url), "words", 3)
        sent = Sent(stream)
        sent.put("early", 300)
        sent.put_aggregates("aggregate", 10, shard=1)

        apps = {}
        for version in ("1", "2", "3"):
            name = f"kclpy-v{version}"
            counts = b.dir / f"{name}-counts"
            counts.mkdir()
            shell_name(b.dir, f"count-{name}", [sys.executable, HERE / "kclpy_counter.py", version])
            values = app_values(kinesis_url, dynamodb_url, executableName=f"count-{name}", applicationName=name, streamName="words",
                                processingLanguage="python/3.8")
            env = bench.environment(COUNT_DIR=counts, PYTHONPATH=JUDGES / "kclpy", PATH=f"{b.dir}:{bench.os.environ['PATH']}")
            apps[name] = (launch(b, multilangd, b.properties(name, **values), env), counts)

        # The sample's properties are its own, changed where its README says so: names and endpoints, and no made-up ARN.
        text = (SAMPLES / "sample.properties").read_text()
        text = re.sub(r"(?m)^streamArn.*\n", "", text)
        text = re.sub(r"(?m)^streamName.*$", "streamName = words", text)
        text = re.sub(r"(?m)^applicationName.*$", "applicationName = kclpy-sample", text)
        text += f"\nkinesisEndpoint = {kinesis_url}\ndynamoDBEndpoint = {dynamodb_url}\nretrievalMode = POLLING\nmetricsLevel = NONE\n"
        properties = b.dir / "sample.properties"
        properties.write_text(text + "idleTimeBetweenReadsInMillis = 250\nshutdownGraceMillis = 20000\n")
        (SAMPLES / "sample_kclpy_app.py").chmod(0o755)  # as its installation leaves it
        env = bench.environment(PYTHONPATH=JUDGES / "kclpy", PATH=f"{SAMPLES}:{bench.PYTHON.parent}:{bench.os.environ['PATH']}", PYTHONUNBUFFERED="1")
        sample = launch(b, multilangd, properties, env)

        def all_counted():
            for name, (process, _) in apps.items():
                check(process.running(), f"{name}: the daemon ended:\n{process.tail()}")
            return all(len(Noted(counts).records()) >= len(sent.all) for _, counts in apps.values())

        try:
            wait_for("all records in the three interfaces", 180, all_counted, every=0.3)
        except bench.Failed:
            for _, counts in apps.values():
                check_all(sent, Noted(counts))
            raise
        b.say(f"three interfaces have counted {len(sent.all)} records each")
        stream.split(0)
        sent.put("late", 200)
        wait_for("the records after the split", 60, all_counted, every=0.3)
        for name, (process, counts) in apps.items():
            wait_for(
                f"{name}: the end of the split shard", 30,
                lambda counts=counts: any(words[:2] in (["shard_ended", "shardId-000000000000"], ["shutdown", "shardId-000000000000"])
                                          for words in Noted(counts).lines),
            )
        b.say(f"and {len(sent.all)} after a split")
        for name, (process, counts) in apps.items():
            code = process.stop()
            noted = Noted(counts)
            check_all(sent, noted)
            check(code == 143, f"{name}: exit code 143 was expected, not {code}")
            check(noted.count("shutdown_requested") >= 4, f"{name}: 4 shards should be asked to stop, {noted.count('shutdown_requested')} were")
            lost = noted.count("lease_lost") + sum(words[:3:2] == ["shutdown", "ZOMBIE"] for words in noted.lines)
            check(lost >= 4, f"{name}: 4 leases should be lost at the end, {lost} were")
            check(noted.count("initialize") == 5, f"{name}: 5 shards should have one child each, there were {noted.count('initialize')}")
        b.say("the three interfaces have ended as they should")

        expected = 310 + 200 + 20  # an aggregate counts three times
        check(len(sent.all) == expected, f"{len(sent.all)} records were put, not {expected}")
        logged = r"Record \(Partition Key: .*?, Sequence Number: (\d+), Subsequence Number: (\d+), Data Size: \d+"
        # The sample logs without line ends, so most of it may show only when its children end.
        wait_for("the sample's checkpoints", 60, lambda: len(bench.leases(client("dynamodb", dynamodb_url), "kclpy-sample")) == 5)
        bench.time.sleep(2)
        code = sample.stop()
        seen = set(re.findall(logged, sample.text()))
        check(code == 143, f"the sample: exit code 143 was expected, not {code}")
        check(len(seen) == expected, f"the sample application logged {len(seen)} of {expected} records")
        rows = bench.leases(client("dynamodb", dynamodb_url), "kclpy-sample")
        check(rows.get("shardId-000000000000", {}).get("checkpoint", "SHARD_END") == "SHARD_END", f"the split shard is at {rows}")
        b.say(f"the sample application has logged {len(seen)} records")


if __name__ == "__main__":
    bench.run(main)
