#!/usr/bin/env python3
"""Bench: how long a record takes from its put to the child, on an idle stream of one shard.

    tests/bench/latency.py [--java] [--puts N] [PATH OF MULTILANGD]

Reads one stream by enhanced fan-out and by polling (1,500 ms between reads, the default) at the same time, so that every put is
measured by each; with `--java`, by the Java daemon 3.5.1 too. Puts come at random times, 50 to 650 ms apart. The clock is stopped when
the child has read and parsed its line. Prints a table for docs/BENCHMARKS.md. Needs Python, and for `--java` a JDK with Maven.
"""

import argparse
import pathlib
import random
import statistics
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "judges"))

import bench
from bench import Bench, check, client, multilangd_of, need, shell_name, wait_for

CHILD = pathlib.Path(__file__).resolve().parent / "latency_child.py"
WARM_UP = 20


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--java", action="store_true")
    arguments.add_argument("--puts", type=int, default=300)
    arguments.add_argument("multilangd", nargs="?")
    options = arguments.parse_args()
    need(*(["java-3.5.1"] if options.java else []))
    multilangd = multilangd_of(options.multilangd)
    with Bench("latency") as b:
        kinesis_url, dynamodb_url = b.multilangd_local(multilangd)
        kinesis = client("kinesis", kinesis_url)
        kinesis.create_stream(StreamName="idle", ShardCount=1)
        runs = {}
        for who in ["multilangd", "Java"] if options.java else ["multilangd"]:
            for mode in ["FANOUT", "POLLING"]:
                name = f"{who}-{mode}".lower()
                noted = b.dir / f"{name}.latencies"
                properties = b.properties(
                    name, applicationName=name, streamName="idle", executableName=shell_name(b.dir, f"{name}-child", [sys.executable, CHILD, noted]),
                    AwsCredentialsProvider="DefaultCredentialsProvider", regionName=bench.REGION, kinesisEndpoint=kinesis_url,
                    dynamoDBEndpoint=dynamodb_url, metricsLevel="NONE", retrievalMode=mode, initialPositionInStream="TRIM_HORIZON",
                )
                start = b.java_daemon if who == "Java" else lambda path, name: b.multilangd(multilangd, path, name=name)
                runs[who, mode] = (start(properties, name=name), noted)
        numbers = iter(range(10**9))

        def put():
            number = next(numbers)
            kinesis.put_record(StreamName="idle", PartitionKey="k", Data=f"{number} {time.time_ns()}")
            return number

        def seen(number):
            for process, noted in runs.values():
                check(process.running(), f"{process.name} ended:\n{process.tail()}")
            return all(noted.exists() and f"{number} " in noted.read_text() for _, noted in runs.values())

        first = put()
        wait_for("the first record everywhere", 400, lambda: seen(first))
        for _ in range(WARM_UP):
            put()
            time.sleep(random.uniform(0.05, 0.65))
        begin = put() + 1
        for _ in range(options.puts):
            last = put()
            time.sleep(random.uniform(0.05, 0.65))
        wait_for("the last record everywhere", 60, lambda: seen(last))
        print(f"\n| Daemon | `retrievalMode` | p50 (ms) | p99 (ms) | most (ms) |\n|---|---|---|---|---|")
        for (who, mode), (_, noted) in runs.items():
            pairs = [line.split() for line in noted.read_text().splitlines()]
            took = [int(ns) / 1e6 for number, ns in pairs if begin <= int(number) <= last]
            check(len(took) == options.puts, f"{who} {mode}: {len(took)} records of {options.puts}")
            hundredths = statistics.quantiles(took, n=100, method="inclusive")
            print(f"| {who} | {mode} | {hundredths[49]:.1f} | {hundredths[98]:.1f} | {max(took):.1f} |")


if __name__ == "__main__":
    bench.run(main)
