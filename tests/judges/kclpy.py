"""Judge: the unmodified amazon_kclpy 3.2.0, started by its own launcher with `--java multilangd`.

    tests/judges/kclpy.py [PATH OF MULTILANGD [v1|v2|v3|sample…]]

Its three processor interfaces each count every record of a stream, through a split, and finish cleanly; its own sample application
logs every record. Our own Kinesis and DynamoDB serve them.
"""

import os
import re
import shlex
import subprocess
import sys

import bench
from bench import HERE, JUDGES, Bench, Stream, check, client, multilangd_of, need, shell_name, wait_for
from counting import Noted, Sent, app_values, check_all

SAMPLES = JUDGES / "kclpy" / "samples"
LOGGED = re.compile(r"Record \(Partition Key: .*?, Sequence Number: (\d+), Subsequence Number: (\d+), Data Size: \d+")
FIRST = "shardId-000000000000"


def launch(b, multilangd, properties, env):
    """Runs what the client's launcher prints, as users do: `amazon_kclpy_helper.py --print_command …` in backticks."""
    command = subprocess.run(
        [sys.executable, SAMPLES / "amazon_kclpy_helper.py", "--print_command", "--java", multilangd, "--properties", properties.name],
        cwd=b.dir, env={**env, "PYTHONPATH": str(JUDGES / "kclpy")}, check=True, capture_output=True, text=True,
    ).stdout
    check("software.amazon.kinesis.multilang.MultiLangDaemon" in command, f"the launcher printed: {command}")
    return b.start(properties.stem, shlex.split(command), cwd=b.dir, env=env)


class Counter:
    """The counting application of one processor interface."""

    def __init__(self, b, multilangd, version, endpoints):
        self.name = f"kclpy-{version}"
        self.counts = b.dir / f"{self.name}-counts"
        self.counts.mkdir()
        shell_name(b.dir, f"count-{self.name}", [sys.executable, HERE / "kclpy_counter.py", version[1:]])
        properties = b.properties(self.name, **app_values(
            *endpoints, executableName=f"count-{self.name}", applicationName=self.name, streamName="words", processingLanguage="python/3.8"
        ))
        env = bench.environment(COUNT_DIR=self.counts, PYTHONPATH=JUDGES / "kclpy", PATH=f"{b.dir}:{os.environ['PATH']}")
        self.process = launch(b, multilangd, properties, env)

    def has(self, sent):
        check(self.process.running(), f"{self.name}: the daemon ended:\n{self.process.tail()}")
        return len(Noted(self.counts).records()) >= len(sent.all)

    def saw_the_end(self):
        return any(words[0] in ("shard_ended", "shutdown") and words[1] == FIRST for words in Noted(self.counts).lines)

    def finish(self, sent):
        code = self.process.stop()
        noted = Noted(self.counts)
        check_all(sent, noted)
        check(code == 143, f"{self.name}: exit code 143 was expected, not {code}")
        check(noted.count("initialize") == 5, f"{self.name}: 5 shards should have one child each, there were {noted.count('initialize')}")
        asked = noted.count("shutdown_requested")
        check(asked == 4, f"{self.name}: 4 shards should be asked to stop, {asked} were")
        lost = noted.count("lease_lost") + sum(words[::2] == ["shutdown", "ZOMBIE"] for words in noted.lines)
        check(lost == 4, f"{self.name}: 4 leases should be lost at the end, {lost} were")


def start_sample(b, multilangd, endpoints):
    """The sample application, with its own properties, changed where everyone changes them: names and endpoints, no made-up ARN."""
    text = re.sub(r"(?m)^streamArn.*\n", "", (SAMPLES / "sample.properties").read_text())
    text = re.sub(r"(?m)^streamName.*$", "streamName = words", text)
    text = re.sub(r"(?m)^applicationName.*$", "applicationName = kclpy-sample", text)
    more = app_values(*endpoints)
    for key in ("regionName", "AwsCredentialsProvider", "initialPositionInStream"):
        more.pop(key)  # as the sample has them
    properties = b.dir / "sample.properties"
    properties.write_text("\n".join([text, *(f"{key} = {value}" for key, value in more.items()), ""]))
    (SAMPLES / "sample_kclpy_app.py").chmod(0o755)  # as its installation leaves it
    env = bench.environment(PYTHONPATH=JUDGES / "kclpy", PATH=f"{SAMPLES}:{bench.PYTHON.parent}:{os.environ['PATH']}")
    return launch(b, multilangd, properties, env)


def main():
    need("kclpy")
    multilangd = multilangd_of(sys.argv[1] if len(sys.argv) > 1 else None)
    parts = sys.argv[2:] or ["v1", "v2", "v3", "sample"]
    with Bench("kclpy") as b:
        endpoints = b.multilangd_local(multilangd)
        dynamodb = client("dynamodb", endpoints[1])
        stream = Stream(client("kinesis", endpoints[0]), "words", 3)
        sent = Sent(stream)
        sent.put("early", 300)
        sent.put_aggregates("aggregate", 10, shard=1)
        counters = [Counter(b, multilangd, version, endpoints) for version in parts if version != "sample"]
        sample = start_sample(b, multilangd, endpoints) if "sample" in parts else None

        def checkpointed():
            """How many shards the sample has begun and not ended, by its checkpoints."""
            check(sample.running(), f"the sample application's daemon ended:\n{sample.tail()}")
            return sum(row["checkpoint"].isdigit() for row in bench.leases(dynamodb, "kclpy-sample").values())

        if counters:
            wait_for("all records", 180, lambda: all(c.has(sent) for c in counters), every=0.3)
            b.say(f"{len(counters)} processor interfaces have counted {len(sent.all)} records each")
        if sample:  # its checkpoints tell how far it is: its log may show only when its children end
            wait_for("the sample's first checkpoints", 180, lambda: checkpointed() == 3)
        stream.split(0)
        sent.put("late", 200)
        wait_for("the records after the split", 60, lambda: all(c.has(sent) and c.saw_the_end() for c in counters), every=0.3)
        for counter in counters:
            counter.finish(sent)
        if counters:
            b.say(f"and {len(sent.all)} after a split, and have ended as they should")

        if sample:
            wait_for("the sample's checkpoints in the split shard's children", 60, lambda: checkpointed() == 4)
            code = sample.stop()
            seen = set(LOGGED.findall(sample.text()))
            check(code == 143, f"the sample application: exit code 143 was expected, not {code}")
            check(len(seen) == len(sent.all), f"the sample application logged {len(seen)} of {len(sent.all)} records")
            ended = bench.leases(dynamodb, "kclpy-sample").get(FIRST)
            check(ended is None or ended["checkpoint"] == "SHARD_END", f"the split shard is at {ended}")
            b.say(f"the sample application has logged {len(seen)} records")


if __name__ == "__main__":
    bench.run(main)
