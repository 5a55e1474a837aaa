"""What the judges that count share: records with known content, what the counting processors noted, and the comparison of both."""

import pathlib

import bench
from bench import aggregate, check


class Sent:
    """What was put into a stream: for each data value, in hexadecimal, its partition key."""

    def __init__(self, stream):
        self.stream, self.all = stream, {}

    def put(self, label, count):
        """Puts records wherever their keys lead, some with keys outside ASCII, all with data of their own."""
        records = []
        for n in range(count):
            key = f"{label}-{n}" if n % 5 else f"\u043a\u043b\u044e\u0447 {n} \U0001f600"
            data = b"%s %d " % (label.encode(), n) + bytes(range(n % 256))
            records.append((key, data))
            self.all[data.hex()] = key
        self.stream.put_many(records)

    def put_aggregates(self, label, count, shard):
        """Puts aggregated records of three user records each into one shard."""
        first, _ = self.stream.range_of(shard)
        for n in range(count):
            inside = [(f"{label}-{n}-{i}", first, f"{label} {n} {i}".encode()) for i in range(3)]
            self.stream.put(shard, aggregate(inside), "a")
            self.all.update({data.hex(): key for key, _, data in inside})


class Noted:
    """What the counting processors wrote to their files."""

    def __init__(self, directory):
        self.lines = [
            line.split(" ", 5) for path in sorted(pathlib.Path(directory).glob("*.txt")) for line in path.read_text(encoding="utf-8").splitlines()
        ]

    def records(self):
        """Data in hexadecimal -> partition key."""
        return {words[4]: words[5] for words in self.lines if words[0] == "record"}

    def positions(self):
        return [(words[1], words[2], words[3]) for words in self.lines if words[0] == "record"]

    def count(self, what):
        return sum(words[0] == what for words in self.lines)

    def shards(self, what):
        return sorted({words[1] for words in self.lines if words[0] == what})


def check_all(sent, noted, once=True):
    """Every record was seen, with its key, and (when nothing was stopped in between) no record twice."""
    seen = noted.records()
    missing = [data for data in sent.all if data not in seen]
    check(not missing, f"{len(missing)} of {len(sent.all)} records were not delivered, the first: {bytes.fromhex((missing or [''])[0])[:40]!r}")
    wrong = [data for data, key in sent.all.items() if seen[data] != key]
    check(not wrong, f"{len(wrong)} records came with another partition key: {sent.all[wrong[0]]!r} as {seen[wrong[0]]!r}" if wrong else "")
    check(len(seen) == len(sent.all), f"{len(seen) - len(sent.all)} records were delivered that nobody put")
    positions = noted.positions()
    if once:
        check(len(positions) == len(set(positions)), f"{len(positions) - len(set(positions))} records were delivered twice")
    for shard in {p[0] for p in positions}:
        order = [(int(p[1]), int(p[2])) for p in positions if p[0] == shard]
        check(order == sorted(order), f"the records of {shard} were not delivered in order")


def app_values(kinesis, dynamodb, **more):
    """The properties that all counting applications share."""
    values = dict(
        regionName=bench.REGION, kinesisEndpoint=kinesis, dynamoDBEndpoint=dynamodb, AwsCredentialsProvider="DefaultCredentialsProvider",
        initialPositionInStream="TRIM_HORIZON", retrievalMode="POLLING", idleTimeBetweenReadsInMillis=250, metricsLevel="NONE",
        shutdownGraceMillis=20000, parentShardPollIntervalMillis=1000, failoverTimeMillis=5000, shardSyncIntervalMillis=1000,
    )
    values.update(more)
    return values
