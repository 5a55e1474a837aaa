"""What a bench starts: the synthetic Kinesis, the lease table, the daemons, and the children's counts.

Processes, ports and directories are the judges' (tests/judges/bench.py): whatever was started here ends with the `World`.
"""

import contextlib
import json
import pathlib
import struct
import subprocess
import sys
import urllib.request

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "judges"))

from bench import JUDGES, REGION, REPOSITORY, Bench, Failed, check, environment, free_port, wait_for  # noqa: E402

__all__ = ["HERE", "JUDGES", "REPOSITORY", "Counts", "Failed", "World", "check", "environment", "wait_for"]

SYNTHETIC = "synthetic-kinesis"
#: What Java's daemon gets: nothing. Its heap, its collector and its threads are the JVM's own choice for this machine.
JAVA_FLAGS = ()
#: A store of certificates must have one.
STORE_PASSWORD = "bench-bench"


class Counts:
    """What the children of one daemon have seen (struct counts in child.c)."""

    FIELDS = ("started_ns", "first_ns", "last_ns", "gap_ns", "gap_end_ns", "batches", "records", "bytes")

    def __init__(self, directory):
        self.directory = directory
        directory.mkdir(exist_ok=True)

    def children(self):
        """One dictionary for each child that there ever was."""
        found = []
        for path in self.directory.iterdir():
            content = path.read_bytes()
            if len(content) == 8 * len(self.FIELDS):
                found.append(dict(zip(self.FIELDS, struct.unpack(f"={len(self.FIELDS)}Q", content)), pid=int(path.name)))
        return found

    def forget_gaps(self):
        """From now on, gaps are measured anew."""
        at = 8 * self.FIELDS.index("gap_ns")
        for path in self.directory.iterdir():
            with open(path, "r+b") as file:
                file.seek(at)
                file.write(bytes(8))

    def sum(self, field="records"):
        return sum(child[field] for child in self.children())

    def first_ns(self, since_ns=0):
        """When the first batch arrived at a child that was started since; None while there was none."""
        return min((c["first_ns"] for c in self.children() if c["first_ns"] and c["started_ns"] >= since_ns), default=None)


class World(Bench):
    """Everything of one bench. `programs` is the directory with the release build, and what `cc` made."""

    def __init__(self, name, programs):
        super().__init__(f"bench-{name}")
        self.programs = programs
        self.so_far = 0

    def fresh(self, what):
        self.so_far += 1
        return f"{what}-{self.so_far}"

    def synthetic(self, over_tls=False, **options):
        """A synthetic Kinesis with these options: a process with its `url`, and over TLS with `authority`, the file that vouches for it."""
        authority = self.dir / self.fresh("authority.pem") if over_tls else None
        if over_tls:
            options["tls"] = authority
        words = [word for key, value in options.items() for word in (f"--{key}", value)]
        process = self.start(self.fresh("kinesis"), [self.programs / SYNTHETIC, *words])
        wait_for("the synthetic Kinesis", 30, lambda: process.text().endswith("\n"), every=0.02)
        process.url, process.authority = process.text().strip(), authority
        return process

    def trusting(self, authority):
        """What tells a JVM to trust that one authority."""
        store = authority.with_name(f"{authority.name}.p12")
        if not store.exists():
            words = ["keytool", "-importcert", "-noprompt", "-alias", "bench", "-file", authority, "-keystore", store, "-storepass", STORE_PASSWORD]
            subprocess.run(words, check=True, capture_output=True)
        return [f"-Djavax.net.ssl.trustStore={store}", f"-Djavax.net.ssl.trustStorePassword={STORE_PASSWORD}"]

    def local(self, *options):
        """`multilangd local`, in memory unless told otherwise."""
        kinesis, dynamodb = free_port(), free_port()
        words = ["--kinesis-port", kinesis, "--dynamodb-port", dynamodb, *(options or ["--memory"])]
        process = self.start(self.fresh("local"), [self.programs / "multilangd", "local", *words], cwd=self.dir)
        self.answers(process, dynamodb)
        process.url, process.table_url, process.authority = f"http://127.0.0.1:{kinesis}", f"http://127.0.0.1:{dynamodb}", None
        return process

    def table(self):
        """The URL of a DynamoDB in memory: ours, for every contender alike."""
        return self.local().table_url

    def counts(self):
        return Counts(self.dir / self.fresh("counts"))

    def child(self, counts, checkpoints=False, stalls=False):
        """The C child as an executable that counts into `counts`; it can ask for a checkpoint after every batch, or take none."""
        path = self.dir / f"{counts.directory.name}-child"
        path.write_text(
            f"#!/bin/sh\n{'BENCH_CHECKPOINT=1 ' if checkpoints else ''}{'BENCH_STALL=1 ' if stalls else ''}BENCH_COUNTS='{counts.directory}' exec '{self.programs / 'bench-child'}'\n"
        )
        path.chmod(0o755)
        return path

    def application(self, kinesis_url, table_url, executable, **more):
        """A properties file, the same for Java and for ours."""
        name = more.get("applicationName") or self.fresh("application")
        values = dict(
            executableName=executable, applicationName=name, streamName="synthetic", AwsCredentialsProvider="DefaultCredentialsProvider",
            regionName=REGION, kinesisEndpoint=kinesis_url, dynamoDBEndpoint=table_url, metricsLevel="NONE", retrievalMode="POLLING",
            initialPositionInStream="TRIM_HORIZON", idleTimeBetweenReadsInMillis=200, shardSyncIntervalMillis=1000,
        )
        values.update(more)
        return self.properties(name, **values)

    def contender(self, who, kinesis, table_url, counts, checkpoints=False, stalls=False, **more):
        """Starts a daemon, with a child that counts into `counts`. Its application is called `process.application`."""
        if who == "kcl-rs":
            need_judge("kcl-rs")
            name = self.fresh("application")
            process = self.start(
                self.fresh("kcl-rs"), [JUDGES / "kcl-rs/bin/python", HERE / "kcl_rs_worker.py", kinesis.url, name, counts.directory], cwd=self.dir
            )
            process.application = name
            return process
        properties = self.application(kinesis.url, table_url, self.child(counts, checkpoints, stalls), **more)
        env = environment(**({"AWS_CA_BUNDLE": kinesis.authority} if kinesis.authority else {}))
        if who == "Java":
            need_judge("java-3.5.1")
            trust = self.trusting(kinesis.authority) if kinesis.authority else []
            daemon = ["java", *JAVA_FLAGS, *trust, "-Dfile.encoding=UTF-8", "-cp", f"{JUDGES / 'java-3.5.1'}/*",
                      "software.amazon.kinesis.multilang.MultiLangDaemon", "--properties-file"]
        else:
            daemon = [self.programs / "multilangd"]
        process = self.start(self.fresh(who.lower()), [*daemon, properties], cwd=self.dir, env=env)
        process.application = properties.stem
        return process

    def wait_for_children(self, process, counts, wanted, limit=300):
        """Until so many children were started."""
        def started():
            check(process.running(), f"{process.name} ended:\n{process.tail()}")
            return len(counts.children()) >= wanted

        wait_for(f"{wanted} children of {process.name}", limit, started, every=0.2)

    def wait_for_records(self, process, counts, more=1, limit=240):
        """Until the children have seen so many more records."""
        wanted = counts.sum() + more

        def arrived():
            check(process.running(), f"{process.name} ended:\n{process.tail()}")
            return counts.sum() >= wanted

        wait_for(f"{more} more records from {process.name}", limit, arrived, every=0.05)

    @contextlib.contextmanager
    def forgiving(self, who):
        """A peer that fails leaves its cells empty; ours fails the bench."""
        try:
            yield
        except Failed as failed:
            if who == "multilangd":
                raise
            self.say(f"{who} failed: {failed}")

    def end(self, process):
        """This process is not needed any more."""
        process.end()
        self.processes.remove(process)


def need_judge(*names):
    """Installs programs by other authors that are missing."""
    missing = [name for name in names if not (JUDGES / name / ".installed").exists()]
    if missing:
        subprocess.run([HERE.parent / "judges/install.sh", *missing], check=True, stdout=sys.stderr)


def ask(url, target, **request):
    """One call of an AWS service, without an SDK."""
    headers = {
        "x-amz-target": target, "content-type": f"application/x-amz-json-1.{int(target.startswith('Kinesis'))}", "x-amz-date": "20260101T000000Z",
        "authorization": "AWS4-HMAC-SHA256 Credential=local/20260101/us-east-1/any/aws4_request, SignedHeaders=host, Signature=0",
    }
    with urllib.request.urlopen(urllib.request.Request(url, json.dumps(request).encode(), headers), timeout=30) as answer:
        return json.loads(answer.read() or "{}")


def ask_table(url, operation, **request):
    return ask(url, f"DynamoDB_20120810.{operation}", **request)


def leases(table_url, application):
    """The lease rows of an application by shard, values as DynamoDB writes them."""
    found, page = {}, {}
    while True:
        page = ask_table(table_url, "Scan", TableName=application, ConsistentRead=True, **page)
        found.update({row["leaseKey"]["S"]: row for row in page["Items"] if row["leaseKey"]["S"].startswith("shardId-")})
        if "LastEvaluatedKey" not in page:
            return found
        page = {"ExclusiveStartKey": page["LastEvaluatedKey"]}

