"""A fleet: one stream on our own local services, one lease table, workers of several makes, a producer that never rests.

Owns how workers are started and ended, what is put, and how long each shard waited at each event. Knows nothing of a scenario.
"""

import os
import pathlib
import signal
import sys
import threading
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "judges")]

import bench
import java_log
from accounting import Notes, Put, account, undelivered, waits
from bench import Bench, Failed, Stream, check, client, multilangd_of, need, run, wait_for

__all__ = ["check", "multilangd_of", "need", "run"]  # for the scenarios, beside what stands below

OURS = "multilangd"
SINGLE_TABLE, SEPARATE_TABLES, TAKING = "java-3.5.1", "java-3.1.3", "java-2.5.4"
KEYS = 16
PACE = 0.2  # seconds between two records of a key
FAILOVER = 4.0
STREAM, APPLICATION = "words", "fleet"


class Fleet:
    """Start it as a context manager; end a scenario with `finish`."""

    def __init__(self, name, multilangd, shards=4, **properties):
        self.name, self.multilangd, self.shards = name, multilangd, shards
        self.properties = properties
        self.workers = {}
        self.waits = []
        self.puts = []
        self.halt = threading.Event()
        self.broken = None

    def __enter__(self):
        self.bench = Bench(self.name).__enter__()
        self.kinesis_url, self.dynamodb_url = self.bench.multilangd_local(self.multilangd)
        self.kinesis, self.dynamodb = client("kinesis", self.kinesis_url), client("dynamodb", self.dynamodb_url)
        self.stream = Stream(self.kinesis, STREAM, self.shards)
        self.notes = Notes(self.bench.dir)
        self.producer = threading.Thread(target=self.produce, daemon=True)
        self.producer.start()
        return self

    def __exit__(self, kind, error, trace):
        self.halt.set()
        self.producer.join(30)
        return self.bench.__exit__(kind, error, trace)

    def say(self, text):
        self.bench.say(text)

    # Records.

    def produce(self):
        """Puts one record of each key in turn. The keys lie evenly over the hash range, so that each shard has some."""
        kinesis, n = client("kinesis", self.kinesis_url), 0
        while not self.halt.is_set():
            began = time.time()
            entries = [
                {"Data": f"{key} {n}".encode(), "PartitionKey": f"key-{key}", "ExplicitHashKey": str((2 * key + 1) * bench.MAX_HASH // (2 * KEYS))}
                for key in range(KEYS)
            ]
            try:
                answers = kinesis.put_records(StreamName=STREAM, Records=entries)["Records"]
                now = time.time()
                bad = [a for a in answers if "SequenceNumber" not in a]
                if bad:  # then nobody could say any more what was put in which order
                    raise Failed(f"the stream refused a record: {bad[0]}")
                self.puts += [Put(now, a["ShardId"], int(a["SequenceNumber"]), key, n) for key, a in enumerate(answers)]
            except Exception as error:
                self.broken = error
                return
            n += 1
            self.halt.wait(max(0.0, PACE - (time.time() - began)))

    def healthy(self):
        check(self.broken is None, f"the producer stopped: {self.broken}")
        for worker in self.workers.values():
            check(worker.process.running() or worker.ended, f"{worker.name} ended by itself:\n{worker.process.tail()}")

    # Workers.

    def start(self, make, name, deaf=False, **more):
        """Starts a worker of a make; `name` is its worker id too. Children that are `deaf` never answer shutdownRequested."""
        values = dict(
            executableName=self.child(name), applicationName=APPLICATION, streamName=STREAM, workerId=name, regionName=bench.REGION,
            kinesisEndpoint=self.kinesis_url, dynamoDBEndpoint=self.dynamodb_url, initialPositionInStream="TRIM_HORIZON",
            retrievalMode="POLLING", idleTimeBetweenReadsInMillis=250, metricsLevel="NONE", shutdownGraceMillis=10000,
            failoverTimeMillis=int(FAILOVER * 1000), shardSyncIntervalMillis=1000, parentShardPollIntervalMillis=1000,
        )
        if make == TAKING:
            values["AWSCredentialsProvider"] = "DefaultAWSCredentialsProviderChain"
        else:
            values.update(
                AwsCredentialsProvider="DefaultCredentialsProvider", leaseAssignmentIntervalMillis=int(FAILOVER * 1000),
                workerMetricsReporterFreqInMillis=3000, gracefulLeaseHandoffTimeoutMillis=10000,
            )
        values.update(self.properties)
        values.update(more)
        properties = self.bench.properties(name, **values)
        env = bench.environment(FLEET_NOTES=self.bench.dir / f"{name}.notes", FLEET_DEAF="1" if deaf else "")
        if make == OURS:
            process = self.bench.multilangd(self.multilangd, properties, name=name, env=env)
        else:
            process = self.bench.java_daemon(properties, name=name, env=env, version=make)
        self.workers[name] = worker = Worker(name, make, process)
        self.say(f"{name} ({make}) starts")
        return worker

    def child(self, name):
        return bench.shell_name(self.bench.dir, f"child-{name}", [sys.executable, "-I", "-S", HERE / "noting_child.py"])

    # What the table and the children say.

    def leases(self):
        return bench.leases(self.dynamodb, APPLICATION)

    def all_rows(self, table=APPLICATION):
        """Every row of a table, leases or not; none while the table is not there."""
        try:
            return bench.rows(self.dynamodb, table)
        except self.dynamodb.exceptions.ResourceNotFoundException:
            return []

    def row(self, key, table=APPLICATION):
        return next((r for r in self.all_rows(table) if r.get("leaseKey", r.get("key")) == key), None)

    def leader(self):
        for table in (APPLICATION, f"{APPLICATION}-CoordinatorState"):
            row = self.row("Leader", table)
            if row:
                return row["ownerName"]
        return None

    def owned(self, worker):
        """The open shards that a worker holds by now, hand-offs being over."""
        return sorted(
            key for key, row in self.leases().items()
            if row.get("leaseOwner") == worker.name and "checkpointOwner" not in row and row["checkpoint"] != "SHARD_END"
        )

    def until(self, what, limit, look):
        def healthy_look():
            self.healthy()
            return look()

        began = time.monotonic()
        seen = wait_for(what, limit, healthy_look, every=0.2)
        self.say(f"{what}: after {time.monotonic() - began:.1f} s")
        return seen

    def owners_text(self):
        return ", ".join(f"{key[-3:]} {row.get('leaseOwner')}" for key, row in sorted(self.leases().items()))

    def flows(self, since):
        """Whether a record of each key that was put after `since` has been delivered."""
        self.notes.look()
        keys = {p.key for p in reversed(self.puts) if p.time > since and (p.shard, p.number) in self.notes.first}
        return len(keys) == KEYS

    # Events. Each measures how long the shards waited, and checks `limit` where there is a promise.

    def event(self, what, act, patience, limit=None):
        self.healthy()
        self.say(f"{what} …")
        begin = time.time()
        act()
        acted = time.time()
        try:
            self.until(f"{what}: every key flows", patience, lambda: self.flows(acted + 0.5))
        except Failed as failed:
            raise Failed(f"{failed}; owners: {self.owners_text()}") from None
        self.waits.append((what, limit, begin, acted + 0.5))
        seen = waits(self.puts, self.notes, begin, acted + 0.5)
        self.say(f"{what}: waited {wait_text(seen)}")

    def join(self, make, name, least=1, patience=240, **more):
        """Starts a worker and waits until it has got leases and all its shards flow: how long did they stand still for that?"""

        def act():
            worker = self.start(make, name, **more)
            self.until(f"{name} has leases", patience, lambda: len(self.owned(worker)) >= least)

        self.event(f"{name} joins", act, patience)
        return self.workers[name]

    def settle(self, patience):
        """Until every open lease has been renewed by the owner that it has: it is for those that something is promised."""
        given = {}

        def all_renewed():
            rows = {key: row for key, row in self.leases().items() if row["checkpoint"] != "SHARD_END"}
            for key, row in rows.items():
                if key not in given or given[key].get("leaseOwner") != row.get("leaseOwner"):
                    given[key] = row
            return all("checkpointOwner" not in row and int(row["leaseCounter"]) > int(given[key]["leaseCounter"]) for key, row in rows.items())

        self.until("every lease is renewed by its owner", patience, all_renewed)

    def kill(self, worker, patience, limit=None):
        self.settle(patience)

        def act():
            worker.ended = True
            os.kill(worker.process.pid, signal.SIGKILL)
            worker.process.wait(10)

        self.event(f"kill -9 {worker.name}{self.role(worker)}", act, patience, limit)

    def stop(self, worker, patience, limit=None):
        def act():
            worker.ended = True
            code = worker.process.stop(60)
            check(code == 143, f"{worker.name} ended with {code} after SIGTERM, 143 was expected")

        self.event(f"SIGTERM {worker.name}{self.role(worker)}", act, patience, limit)

    def role(self, worker):
        return " (leader)" if self.leader() == worker.name else ""

    def split(self, shard, patience, limit=None):
        self.event(f"split of {shard}", lambda: self.stream.split(shard), patience, limit)

    def merge(self, shard, neighbour, patience, limit=None):
        self.event(f"merge of {shard} and {neighbour}", lambda: self.stream.merge(shard, neighbour), patience, limit)

    # The end.

    def finish(self, measure=False):
        """Lets all records arrive, accounts for them, reads the logs of the Java workers, and prints the table of waits.

        `measure`: this was a fleet of Java alone, and what its logs say is the measure for the others.
        """
        self.halt.set()
        self.producer.join(30)
        self.until("every record has arrived", 60, lambda: not undelivered(self.puts, self.notes.look()))
        again = account(self.puts, self.notes)
        duplicates = ", ".join(f"{count} by {worker}" for worker, count in sorted(again.items()) if count) or "none"
        self.say(f"{len(self.puts)} records put, each delivered, in order; delivered again: {duplicates}")
        for worker in self.workers.values():
            if not worker.ended:
                worker.ended = True
                worker.process.stop(60)
        print(f"\n| {self.name} | longest wait | by shard | promised |\n|---|---|---|---|")
        late = []
        for what, limit, begin, end in self.waits:
            seen = waits(self.puts, self.notes, begin, end)
            longest = max((wait for wait, _ in seen.values()), default=0.0)
            promised = f"{limit:.0f} s" if limit else "–"
            print(f"| {what} | {longest:.1f} s | {wait_text(seen)} | {promised} |")
            if limit and longest > limit:
                late.append(f"{what}: {longest:.1f} s, promised were {limit:.0f} s")
        print(flush=True)
        java = [w for w in self.workers.values() if w.make != OURS]
        if measure:
            java_log.remember(java)
        strange = java_log.strange(java)
        check(not strange, "the Java workers said what they never say among themselves:\n" + "\n".join(strange))
        check(not late, "shards waited too long: " + "; ".join(late))


class Worker:
    def __init__(self, name, make, process):
        self.name, self.make, self.process, self.ended = name, make, process, False


def wait_text(seen):
    """Those that waited longer than a fetch takes, by the number of their shard."""
    return ", ".join(f"{int(shard[-12:])}: {wait:.1f} ({worker})" for shard, (wait, worker) in sorted(seen.items()) if wait > 0.5) or "–"
