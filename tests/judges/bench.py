"""What every judge needs: the services, the daemons, a stream with records, and an end for each process that was started.

Owns ports, temporary directories and processes; knows nothing of what a judge checks. A `Bench` is a context manager: whatever
was started in it is ended when it closes, by process id, whether the judge passed, failed or was interrupted.
"""

import contextlib
import decimal
import hashlib
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
REPOSITORY = HERE.parents[1]
JUDGES = pathlib.Path(os.environ.get("JUDGES_DIR") or REPOSITORY / ".judges")
PYTHON = JUDGES / "python" / "bin" / "python"
REGION = "us-east-1"
ACCOUNT = "000000000000"
MAX_HASH = 2**128


def need(*names):
    """Installs the judges called `names`, and goes on under the Python that has boto3."""
    names = ("python",) + names
    if any(not (JUDGES / name / ".installed").exists() for name in names):
        subprocess.run([HERE / "install.sh", *names], check=True)
    if pathlib.Path(sys.prefix).resolve() != PYTHON.parents[1].resolve():
        os.execv(PYTHON, [str(PYTHON), *sys.argv])


def multilangd_of(arguments):
    """The daemon under test: an option's value, or $MULTILANGD. Ends the program when there is none."""
    path = arguments or os.environ.get("MULTILANGD")
    if not path:
        sys.exit("which multilangd? Give its path as an argument or in MULTILANGD")
    if not os.access(path, os.X_OK):
        sys.exit(f"{path} is not a program")
    return os.path.abspath(path)


class Failed(Exception):
    """What a judge found wrong; the text says what was expected and what was there."""


def check(condition, text):
    if not condition:
        raise Failed(text)


def wait_for(what, limit, look, every=0.1):
    """Looks until `look` gives something true, and gives that; after `limit` seconds the judge has failed."""
    end = time.monotonic() + limit
    while True:
        seen = look()
        if seen:
            return seen
        if time.monotonic() > end:
            raise Failed(f"waited {limit} s for {what}")
        time.sleep(every)


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def environment(**more):
    """What a daemon or a service gets: no settings of this machine's AWS configuration, fixed credentials."""
    env = {k: v for k, v in os.environ.items() if not k.startswith("AWS_")}
    env.update(
        AWS_ACCESS_KEY_ID="local",
        AWS_SECRET_ACCESS_KEY="local",
        AWS_REGION=REGION,
        AWS_EC2_METADATA_DISABLED="true",
        AWS_CONFIG_FILE="/dev/null",
        AWS_SHARED_CREDENTIALS_FILE="/dev/null",
    )
    env.update({k: str(v) for k, v in more.items()})
    return env


class Process:
    """One process that the bench started, in a process group of its own, with its output in a file."""

    def __init__(self, name, argv, log, cwd=None, env=None, stdin=subprocess.DEVNULL):
        self.name, self.log, self.waited_for = name, pathlib.Path(log), False
        self.out = open(self.log, "wb")
        self.child = subprocess.Popen(
            [str(a) for a in argv], stdin=stdin, stdout=self.out, stderr=subprocess.STDOUT, cwd=cwd, env=env or environment(),
            start_new_session=True,
        )

    @property
    def pid(self):
        return self.child.pid

    def running(self):
        return self.child.poll() is None

    def text(self):
        return self.log.read_text(errors="replace")

    def tail(self, lines=30):
        return "\n".join(self.text().splitlines()[-lines:])

    def stop(self, limit=60):
        """SIGTERM, then the exit code: as a shell tells it, 128 + signal for one that a signal ended."""
        if self.running():
            self.child.send_signal(signal.SIGTERM)
        return self.wait(limit)

    def wait(self, limit):
        self.waited_for = True
        try:
            code = self.child.wait(limit)
        except subprocess.TimeoutExpired:
            raise Failed(f"{self.name} did not end within {limit} s; its last words:\n{self.tail()}") from None
        return code if code >= 0 else 128 - code

    def end(self):
        """The way out when nothing else matters: the whole group, then the program."""
        if self.running():
            self.child.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.child.wait(3)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.child.pid, signal.SIGKILL)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.child.wait(10)
        self.out.close()


class Bench:
    """A temporary directory, and everything that was started. `keep` leaves the directory for a person to read."""

    def __init__(self, name, keep=False):
        self.name, self.keep = name, keep or bool(os.environ.get("JUDGES_KEEP"))
        self.processes = []
        self.started = time.monotonic()

    def __enter__(self):
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix=f"judge-{self.name}-"))
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
        return self

    def __exit__(self, kind, error, _):
        for process in reversed(self.processes):
            process.end()
        if isinstance(error, Failed):
            for process in [p for p in self.processes if not p.waited_for]:
                sys.stderr.write(f"--- last lines of {process.name}\n{process.tail(12)}\n")
        if self.keep:
            self.say(f"left {self.dir}")
        else:
            shutil.rmtree(self.dir, ignore_errors=True)
        return False

    def say(self, text):
        print(f"[{time.monotonic() - self.started:6.1f} s] {self.name}: {text}", flush=True)

    def start(self, name, argv, **more):
        process = Process(name, argv, self.dir / f"{name}.log", **more)
        self.processes.append(process)
        return process

    def answers(self, process, port, limit=30):
        def look():
            if not process.running():
                raise Failed(f"{process.name} ended while it was starting:\n{process.tail()}")
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                return True

        wait_for(f"{process.name} on port {port}", limit, look)

    # Services. Each gives the endpoint's URL.

    def dynamodb_local(self):
        """AWS's DynamoDB Local (a JVM)."""
        need("dynamodb-local")
        jars, port = JUDGES / "dynamodb-local", free_port()
        process = self.start(
            "dynamodb-local",
            ["java", "-Xmx256m", f"-Djava.library.path={jars}", "-cp", f"{jars}/*",
             "com.amazonaws.services.dynamodbv2.local.main.ServerRunner", "-inMemory", "-sharedDb", "-port", port, "-disableTelemetry"],
            cwd=self.dir,
        )
        self.answers(process, port)
        return f"http://127.0.0.1:{port}"

    def ministack(self):
        """ministack: a DynamoDB, and more, by other authors (Python)."""
        need("ministack")
        port = free_port()
        process = self.start("ministack", [JUDGES / "ministack/bin/ministack"], env=environment(GATEWAY_PORT=port), cwd=self.dir)
        self.answers(process, port)
        return f"http://127.0.0.1:{port}"

    def kinesis_local(self):
        """kinesis-local: a Kinesis by other authors (Node)."""
        need("npm")
        home, port = JUDGES / "npm/node_modules/kinesis-local", free_port()
        quick = {f"{what}_DURATION": "50ms" for what in ("CREATE_STREAM", "SPLIT_SHARD", "MERGE_SHARDS", "DELETE_STREAM")}
        process = self.start(
            "kinesis-local", ["node", home / "main.js"], cwd=self.dir,
            env=environment(KINESIS_MOCK_PLAIN_PORT=port, KINESIS_MOCK_TLS_PORT=free_port(), KINESIS_MOCK_CERT_PATH=home / "server.json",
                            LOG_LEVEL="ERROR", **quick),
        )
        self.answers(process, port)
        return f"http://127.0.0.1:{port}"

    def multilangd_local(self, multilangd):
        """Our own Kinesis and DynamoDB; gives both endpoints."""
        kinesis, dynamodb = free_port(), free_port()
        process = self.start(
            "multilangd-local", [multilangd, "local", "--kinesis-port", kinesis, "--dynamodb-port", dynamodb, "--memory"], cwd=self.dir,
        )
        self.answers(process, kinesis)
        self.answers(process, dynamodb)
        return f"http://127.0.0.1:{kinesis}", f"http://127.0.0.1:{dynamodb}"

    # Daemons.

    def properties(self, name, **values):
        """Writes NAME.properties; a key with a dot is written with two underscores."""
        path = self.dir / f"{name}.properties"
        path.write_text("".join(f"{key.replace('__', '.')} = {value}\n" for key, value in values.items()))
        return path

    def tapped(self, name, children):
        """A tap before children that a plan names: the executable, the daemon's environment, and where its tenures are written down."""
        out, plan = self.dir / f"{name}-tenures", self.dir / f"{name}-plan.json"
        out.mkdir()
        plan.write_text(json.dumps(children))
        tap = shell_name(self.dir, f"tap-{name}", [sys.executable, HERE / "tap.py"])
        return tap, environment(TAP_PLAN=plan, TAP_OUT=out, COUNT_DIR=self.dir), out

    def java_daemon(self, properties, name="java", env=None, flags=(), version="java-3.5.1"):
        need(version)
        return self.start(
            name,
            ["java", "-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Dfile.encoding=UTF-8", *flags,
             "-cp", f"{JUDGES / version}/*", "software.amazon.kinesis.multilang.MultiLangDaemon", "--properties-file", properties],
            cwd=self.dir, env=env,
        )

    def multilangd(self, binary, properties, name="multilangd", env=None):
        return self.start(name, [binary, properties], cwd=self.dir, env=env)


def client(service, endpoint):
    import boto3
    from botocore.config import Config

    return boto3.client(
        service, endpoint_url=endpoint, region_name=REGION, aws_access_key_id="local", aws_secret_access_key="local",
        config=Config(retries={"max_attempts": 8, "mode": "standard"}, read_timeout=30),
    )


class Stream:
    """A stream of evenly split shards on a local Kinesis."""

    def __init__(self, kinesis, name, shards):
        self.kinesis, self.name, self.shards = kinesis, name, shards
        kinesis.create_stream(StreamName=name, ShardCount=shards)
        wait_for(
            f"stream {name}", 20,
            lambda: kinesis.describe_stream_summary(StreamName=name)["StreamDescriptionSummary"]["StreamStatus"] == "ACTIVE",
        )
        listed = self.list()
        check(len(listed) == shards, f"{shards} shards were asked for, {len(listed)} are there")

    def list(self):
        """Every shard of the stream, closed ones too."""
        page = self.kinesis.list_shards(StreamName=self.name)
        shards = page["Shards"]
        while page.get("NextToken"):
            page = self.kinesis.list_shards(NextToken=page["NextToken"])
            shards += page["Shards"]
        return shards

    def range_of(self, shard):
        """First and last hash key of a shard, given by its number."""
        for each in self.list():
            if int(each["ShardId"][-12:]) == shard:
                return int(each["HashKeyRange"]["StartingHashKey"]), int(each["HashKeyRange"]["EndingHashKey"])
        raise Failed(f"shard {shard} is not there")

    def put(self, shard, data, key):
        """Puts one record into a shard, given by its number; gives its sequence number."""
        if not hasattr(self, "ranges"):
            self.ranges = {int(s["ShardId"][-12:]): s["HashKeyRange"]["StartingHashKey"] for s in self.list()}
        if shard not in self.ranges:
            self.ranges[shard] = str(self.range_of(shard)[0])
        answer = self.kinesis.put_record(StreamName=self.name, Data=data, PartitionKey=key, ExplicitHashKey=self.ranges[shard])
        got = int(answer["ShardId"][-12:])
        check(got == shard, f"the record for shard {shard} went to shard {got}")
        return answer["SequenceNumber"]

    def put_many(self, records):
        """Puts (key, data) pairs wherever their keys lead; gives the sequence numbers by shard, in order."""
        placed = {}
        for start in range(0, len(records), 200):
            entries = [{"PartitionKey": key, "Data": data} for key, data in records[start:start + 200]]
            while entries:
                answer = self.kinesis.put_records(StreamName=self.name, Records=entries)["Records"]
                for entry in answer:
                    if "SequenceNumber" in entry:
                        placed.setdefault(entry["ShardId"], []).append(entry["SequenceNumber"])
                entries = [e for e, a in zip(entries, answer) if "SequenceNumber" not in a]
        return placed

    def active(self):
        status = self.kinesis.describe_stream_summary(StreamName=self.name)["StreamDescriptionSummary"]["StreamStatus"]
        return status == "ACTIVE"

    def split(self, shard):
        first, last = self.range_of(shard)
        self.kinesis.split_shard(
            StreamName=self.name, ShardToSplit=f"shardId-{shard:012}", NewStartingHashKey=str((first + last) // 2 + 1)
        )
        wait_for("the split", 20, self.active)

    def merge(self, shard, neighbour):
        self.kinesis.merge_shards(
            StreamName=self.name, ShardToMerge=f"shardId-{shard:012}", AdjacentShardToMerge=f"shardId-{neighbour:012}"
        )
        wait_for("the merge", 20, self.active)


def varint(number):
    out = b""
    while number > 127:
        out += bytes([number & 127 | 128])
        number >>= 7
    return out + bytes([number])


def field(number, content):
    """One length-delimited protobuf field."""
    return varint(number << 3 | 2) + varint(len(content)) + content


def aggregate(records):
    """A record as the Kinesis Producer Library makes it, of (partition key, explicit hash key or None, data)."""
    keys, hashes, body = [], [], b""
    for key, explicit, data in records:
        key = key.encode()
        if key not in keys:
            keys.append(key)
        record = varint(1 << 3) + varint(keys.index(key))
        if explicit is not None:
            explicit = str(explicit).encode()
            if explicit not in hashes:
                hashes.append(explicit)
            record += varint(2 << 3) + varint(hashes.index(explicit))
        body += field(3, record + field(3, data))
    message = b"".join(field(1, k) for k in keys) + b"".join(field(2, h) for h in hashes) + body
    return b"\xf3\x89\x9a\xc2" + message + hashlib.md5(message).digest()


def rows(dynamodb, table):
    """Every row of a table, as plain values."""
    from boto3.dynamodb.types import TypeDeserializer

    plain, page, out = TypeDeserializer(), {}, []
    while True:
        page = dynamodb.scan(TableName=table, ConsistentRead=True, **page)
        out += [{k: plain.deserialize(v) for k, v in item.items()} for item in page["Items"]]
        if "LastEvaluatedKey" not in page:
            return out
        page = {"ExclusiveStartKey": page["LastEvaluatedKey"]}


def leases(dynamodb, table):
    """The lease rows of a table by lease key; none while the table is not there."""
    try:
        all_rows = rows(dynamodb, table)
    except dynamodb.exceptions.ResourceNotFoundException:
        return {}
    return {row["leaseKey"]: row for row in all_rows if row["leaseKey"].startswith("shardId-")}


def shell_name(directory, name, argv):
    """A program called `name` in `directory` that runs `argv`: what `executableName` names, whatever the paths look like."""
    path = pathlib.Path(directory) / name
    words = " ".join("'" + str(a).replace("'", "'\\''") + "'" for a in argv)
    path.write_text(f'#!/bin/sh\nexec {words} "$@"\n')
    path.chmod(0o755)
    return path


def said(tenures, shard, text, times=1):
    """Whether what a tap wrote down of a shard so far contains a text so many times."""
    return sum(path.read_text(encoding="utf-8").count(text) for path in tenures.glob(f"{shard}.*.jsonl")) >= times


def run(judge):
    """Runs a judge's main function: exit code 0 when it comes back, 1 with its text when it found something wrong."""
    try:
        judge()
    except Failed as failed:
        sys.exit(f"FAILED: {failed}")
    except KeyboardInterrupt:
        sys.exit(130)
