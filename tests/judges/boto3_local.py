"""Judge: boto3, AWS's own client for Python, drives every operation of the local Kinesis and DynamoDB.

    tests/judges/boto3_local.py [PATH OF MULTILANGD]                              starts `multilangd local`
    tests/judges/boto3_local.py KINESIS_ENDPOINT DYNAMODB_ENDPOINT [CHECK…]       services that run already

The services must be fresh and run without limits. Every check makes its own stream. Exit code 0 if all passed.
"""

import datetime
import itertools
import sys
import threading
import time
import traceback
import urllib.request

import bench

if len(sys.argv) < 3:
    bench.need()  # goes on under the Python that has boto3

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

MIDDLE = 1 << 127
checks = []
streams = itertools.count(1)


def check(function):
    checks.append(function)
    return function


def connect(service, endpoint):
    return boto3.client(
        service,
        endpoint_url=endpoint,
        region_name="us-east-1",
        aws_access_key_id="any",
        aws_secret_access_key="any",
        config=Config(retries={"total_max_attempts": 1}, max_pool_connections=50, read_timeout=30),
    )


class World:
    def __init__(self, kinesis_endpoint, dynamodb_endpoint):
        self.endpoints = kinesis_endpoint, dynamodb_endpoint
        self.kinesis = connect("kinesis", kinesis_endpoint)
        self.dynamodb = connect("dynamodb", dynamodb_endpoint)

    def stream(self, shards=1):
        name = f"boto3-{next(streams)}"
        self.kinesis.create_stream(StreamName=name, ShardCount=shards)
        self.kinesis.get_waiter("stream_exists").wait(StreamName=name)
        return Stream(self.kinesis, name)


class Stream:
    def __init__(self, kinesis, name):
        self.kinesis, self.name = kinesis, name
        self.arn = kinesis.describe_stream_summary(StreamName=name)["StreamDescriptionSummary"]["StreamARN"]

    def put(self, text, **more):
        more.setdefault("PartitionKey", "key")
        return self.kinesis.put_record(StreamName=self.name, Data=text.encode(), **more)

    def shards(self, **more):
        return self.kinesis.list_shards(StreamName=self.name, **more)["Shards"]

    def ids(self, **more):
        return [int(shard["ShardId"][8:]) for shard in self.shards(**more)]

    def iterator(self, shard=0, kind="TRIM_HORIZON", **more):
        answer = self.kinesis.get_shard_iterator(StreamName=self.name, ShardId=shard_id(shard), ShardIteratorType=kind, **more)
        return answer["ShardIterator"]

    def texts(self, shard=0, kind="TRIM_HORIZON", **more):
        return texts(self.kinesis.get_records(ShardIterator=self.iterator(shard, kind, **more)))

    def drain(self, shard):
        """All records of a shard up to its tip or its end, and the answer that ended it."""
        read, iterator = [], self.iterator(shard)
        while True:
            answer = self.kinesis.get_records(ShardIterator=iterator)
            read += answer["Records"]
            iterator = answer.get("NextShardIterator")
            if iterator is None or not answer["Records"]:
                return read, answer


def shard_id(number):
    return f"shardId-{number:012}"


def texts(answer):
    return [record["Data"].decode() for record in answer["Records"]]


def equal(found, wanted):
    assert found == wanted, f"found {found!r}, wanted {wanted!r}"


def refused(code, function, *arguments, **more):
    try:
        function(*arguments, **more)
    except ClientError as error:
        equal(error.response["Error"]["Code"], code)
        assert error.response["Error"]["Message"], "an error without words"
        return error.response
    raise AssertionError(f"taken, not refused with {code}")


@check
def streams_are_made_described_listed_and_deleted(world):
    kinesis = world.kinesis
    stream = world.stream(3)
    description = kinesis.describe_stream(StreamARN=stream.arn)["StreamDescription"]
    equal((description["StreamStatus"], len(description["Shards"]), description["RetentionPeriodHours"]), ("ACTIVE", 3, 24))
    first = kinesis.describe_stream(StreamName=stream.name, Limit=2)["StreamDescription"]
    equal((len(first["Shards"]), first["HasMoreShards"]), (2, True))
    paged = kinesis.get_paginator("describe_stream").paginate(StreamName=stream.name, PaginationConfig={"PageSize": 1})
    equal(sum(len(page["StreamDescription"]["Shards"]) for page in paged), 3)
    summary = kinesis.describe_stream_summary(StreamName=stream.name)["StreamDescriptionSummary"]
    equal((summary["OpenShardCount"], summary["ConsumerCount"]), (3, 0))
    age = datetime.datetime.now(datetime.timezone.utc) - summary["StreamCreationTimestamp"]
    assert abs(age) < datetime.timedelta(minutes=1), f"made {age} ago"
    others = {world.stream().name for _ in range(5)}
    names = {name for page in kinesis.get_paginator("list_streams").paginate(PaginationConfig={"PageSize": 2}) for name in page["StreamNames"]}
    assert others | {stream.name} <= names, names
    refused("ResourceInUseException", kinesis.create_stream, StreamName=stream.name, ShardCount=1)
    kinesis.delete_stream(StreamName=stream.name)
    kinesis.get_waiter("stream_not_exists").wait(StreamName=stream.name)
    refused("ResourceNotFoundException", kinesis.describe_stream_summary, StreamName=stream.name)


@check
def on_demand_streams_and_settings_are_remembered(world):
    kinesis = world.kinesis
    stream = world.stream()
    kinesis.update_stream_mode(StreamARN=stream.arn, StreamModeDetails={"StreamMode": "ON_DEMAND"})
    kinesis.increase_stream_retention_period(StreamName=stream.name, RetentionPeriodHours=168)
    refused("InvalidArgumentException", kinesis.increase_stream_retention_period, StreamName=stream.name, RetentionPeriodHours=100)
    kinesis.decrease_stream_retention_period(StreamARN=stream.arn, RetentionPeriodHours=48)
    metrics = kinesis.enable_enhanced_monitoring(StreamName=stream.name, ShardLevelMetrics=["IncomingBytes", "OutgoingBytes"])
    equal(sorted(metrics["DesiredShardLevelMetrics"]), ["IncomingBytes", "OutgoingBytes"])
    kinesis.disable_enhanced_monitoring(StreamName=stream.name, ShardLevelMetrics=["OutgoingBytes"])
    kinesis.start_stream_encryption(StreamName=stream.name, EncryptionType="KMS", KeyId="alias/aws/kinesis")
    summary = kinesis.describe_stream_summary(StreamName=stream.name)["StreamDescriptionSummary"]
    equal(summary["StreamModeDetails"], {"StreamMode": "ON_DEMAND"})
    equal(summary["RetentionPeriodHours"], 48)
    equal(summary["EnhancedMonitoring"], [{"ShardLevelMetrics": ["IncomingBytes"]}])
    equal((summary["EncryptionType"], summary["KeyId"]), ("KMS", "alias/aws/kinesis"))
    kinesis.stop_stream_encryption(StreamName=stream.name, EncryptionType="KMS", KeyId="alias/aws/kinesis")
    kinesis.put_resource_policy(ResourceARN=stream.arn, Policy='{"Version":"2012-10-17"}')
    equal(kinesis.get_resource_policy(ResourceARN=stream.arn)["Policy"], '{"Version":"2012-10-17"}')
    kinesis.delete_resource_policy(ResourceARN=stream.arn)
    assert kinesis.describe_limits()["OpenShardCount"] >= 1


@check
def tags_come_and_go(world):
    kinesis = world.kinesis
    stream = world.stream()
    kinesis.add_tags_to_stream(StreamName=stream.name, Tags={"team": "a", "stage": "test"})
    kinesis.tag_resource(ResourceARN=stream.arn, Tags={"more": "yes"})
    kinesis.remove_tags_from_stream(StreamName=stream.name, TagKeys=["stage"])
    wanted = [{"Key": "more", "Value": "yes"}, {"Key": "team", "Value": "a"}]
    equal(kinesis.list_tags_for_stream(StreamName=stream.name)["Tags"], wanted)
    equal(kinesis.list_tags_for_resource(ResourceARN=stream.arn)["Tags"], wanted)
    kinesis.untag_resource(ResourceARN=stream.arn, TagKeys=["more", "team"])
    equal(kinesis.list_tags_for_stream(StreamName=stream.name)["Tags"], [])


@check
def records_come_back_as_they_were_put(world):
    stream = world.stream()
    data = [b"", b"\x00\xff" * 100, "äöü 😀".encode(), b"x" * 1_000_000]
    keys = ["k", '"quoted" \\ key', "ключ", "k" * 256]
    for value, key in zip(data, keys):
        world.kinesis.put_record(StreamARN=stream.arn, Data=value, PartitionKey=key)
    read, _ = stream.drain(0)
    equal([record["Data"] for record in read], data)
    equal([record["PartitionKey"] for record in read], keys)
    numbers = [record["SequenceNumber"] for record in read]
    equal(sorted(numbers, key=int), numbers)
    assert all(len(number) == 56 and number.startswith("49") for number in numbers), numbers
    now = datetime.datetime.now(datetime.timezone.utc)
    assert all(abs(now - record["ApproximateArrivalTimestamp"]) < datetime.timedelta(minutes=1) for record in read)


@check
def hash_keys_are_routed_at_both_bounds(world):
    stream = world.stream(2)
    for key, shard in [(0, 0), (MIDDLE - 1, 0), (MIDDLE, 1), ((1 << 128) - 1, 1)]:
        equal(stream.put("x", ExplicitHashKey=str(key))["ShardId"], shard_id(shard))
    for key in [str(1 << 128), "-1", "zero"]:
        try:
            stream.put("x", ExplicitHashKey=key)
        except ClientError as error:
            assert error.response["Error"]["Code"] in ("InvalidArgumentException", "ValidationException")
        else:
            raise AssertionError(f"hash key {key} was taken")


@check
def limits_on_records_and_batches_hold(world):
    stream = world.stream()
    put = world.kinesis.put_records
    refused("ValidationException", put, StreamName=stream.name, Records=[{"Data": b"", "PartitionKey": "k"}] * 501)
    refused("ValidationException", stream.put, "x" * ((1 << 20) + 1))
    refused("ValidationException", stream.put, "x", PartitionKey="k" * 257)
    refused("InvalidArgumentException", put, StreamName=stream.name, Records=[{"Data": b"x" * 1_000_000, "PartitionKey": "k"}] * 11)
    answer = put(StreamName=stream.name, Records=[{"Data": b"%d" % n, "PartitionKey": str(n)} for n in range(500)])
    equal((answer["FailedRecordCount"], len(answer["Records"])), (0, 500))
    equal(stream.texts(), [str(n) for n in range(500)])


@check
def every_iterator_begins_where_it_says(world):
    stream = world.stream(2)
    put = lambda text: stream.put(text, ExplicitHashKey="0")["SequenceNumber"]
    put("a")
    time.sleep(0.05)
    between = datetime.datetime.now(datetime.timezone.utc)
    time.sleep(0.05)
    number = put("b")
    put("c")
    equal(stream.texts(kind="TRIM_HORIZON"), ["a", "b", "c"])
    equal(stream.texts(kind="LATEST"), [])
    equal(stream.texts(kind="AT_SEQUENCE_NUMBER", StartingSequenceNumber=number), ["b", "c"])
    equal(stream.texts(kind="AFTER_SEQUENCE_NUMBER", StartingSequenceNumber=number), ["c"])
    equal(stream.texts(kind="AT_TIMESTAMP", Timestamp=between), ["b", "c"])
    equal(stream.texts(kind="AT_TIMESTAMP", Timestamp=between - datetime.timedelta(hours=1)), ["a", "b", "c"])
    equal(stream.texts(kind="AT_TIMESTAMP", Timestamp=datetime.datetime.now(datetime.timezone.utc)), [])
    refused("InvalidArgumentException", stream.iterator, 1, "AT_SEQUENCE_NUMBER", StartingSequenceNumber=number)
    refused("InvalidArgumentException", stream.iterator, 0, "AT_SEQUENCE_NUMBER", StartingSequenceNumber="123")
    refused("InvalidArgumentException", stream.iterator, kind="AT_TIMESTAMP", Timestamp=datetime.datetime(2100, 1, 1))
    refused("InvalidArgumentException", world.kinesis.get_records, ShardIterator="garbage")
    refused("ResourceNotFoundException", stream.iterator, 7)


@check
def reading_is_limited_and_says_how_far_behind_it_is(world):
    stream = world.stream()
    for text in "abc":
        stream.put(text)
    time.sleep(0.1)
    answer = world.kinesis.get_records(ShardIterator=stream.iterator(), Limit=2, StreamARN=stream.arn)
    equal(texts(answer), ["a", "b"])
    assert 100 <= answer["MillisBehindLatest"] < 60_000, answer["MillisBehindLatest"]
    answer = world.kinesis.get_records(ShardIterator=answer["NextShardIterator"])
    equal((texts(answer), answer["MillisBehindLatest"]), (["c"], 0))


@check
def resharding_leaves_parents_and_children_as_the_service_does(world):
    kinesis, stream = world.kinesis, world.stream()
    before = datetime.datetime.now(datetime.timezone.utc)
    stream.put("in the parent")
    time.sleep(0.02)
    kinesis.split_shard(StreamName=stream.name, ShardToSplit=shard_id(0), NewStartingHashKey=str(MIDDLE))
    time.sleep(0.02)
    split = datetime.datetime.now(datetime.timezone.utc)
    time.sleep(0.02)
    kinesis.merge_shards(StreamARN=stream.arn, ShardToMerge=shard_id(1), AdjacentShardToMerge=shard_id(2))
    kinesis.get_waiter("stream_exists").wait(StreamName=stream.name)
    kind = lambda kind, **more: stream.ids(ShardFilter={"Type": kind, **more})
    equal(stream.ids(), [0, 1, 2, 3])
    equal(kind("AT_LATEST"), [3])
    equal(kind("AT_TRIM_HORIZON"), [0])
    equal(kind("FROM_TRIM_HORIZON"), [0, 1, 2, 3])
    equal(kind("AT_TIMESTAMP", Timestamp=before), [0])
    equal(kind("AT_TIMESTAMP", Timestamp=split), [1, 2])
    equal(kind("FROM_TIMESTAMP", Timestamp=split), [1, 2, 3])
    equal(kind("AFTER_SHARD_ID", ShardId=shard_id(1)), [2, 3])
    equal(stream.ids(ExclusiveStartShardId=shard_id(2)), [3])
    shards = stream.shards()
    equal([shard.get("ParentShardId") for shard in shards], [None, shard_id(0), shard_id(0), shard_id(1)])
    equal(shards[3]["AdjacentParentShardId"], shard_id(2))
    equal(["EndingSequenceNumber" in shard["SequenceNumberRange"] for shard in shards], [True, True, True, False])
    read, last = stream.drain(0)
    equal(([record["Data"] for record in read], "NextShardIterator" in last), ([b"in the parent"], False))
    equal([(child["ShardId"], child["ParentShards"]) for child in last["ChildShards"]], [(shard_id(1), [shard_id(0)]), (shard_id(2), [shard_id(0)])])
    _, last = stream.drain(1)
    equal([(child["ShardId"], child["ParentShards"]) for child in last["ChildShards"]], [(shard_id(3), [shard_id(1), shard_id(2)])])
    refused("InvalidArgumentException", kinesis.split_shard, StreamName=stream.name, ShardToSplit=shard_id(0), NewStartingHashKey="5")


@check
def listings_go_on_by_their_token_alone(world):
    kinesis, stream = world.kinesis, world.stream(10)
    answer = kinesis.list_shards(StreamName=stream.name, MaxResults=4)
    pages = [len(answer["Shards"])]
    token = answer["NextToken"]
    while "NextToken" in answer:
        answer = kinesis.list_shards(NextToken=answer["NextToken"], MaxResults=4)
        pages.append(len(answer["Shards"]))
    equal(pages, [4, 4, 2])
    refused("InvalidArgumentException", kinesis.list_shards, StreamName=stream.name, NextToken=token)
    equal(sum(len(page["Shards"]) for page in kinesis.get_paginator("list_shards").paginate(StreamName=stream.name)), 10)


@check
def a_new_shard_count_is_reached_by_splits_and_merges(world):
    stream = world.stream(2)
    for count in [4, 3, 6, 1]:
        answer = world.kinesis.update_shard_count(StreamName=stream.name, TargetShardCount=count, ScalingType="UNIFORM_SCALING")
        equal(answer["TargetShardCount"], count)
        ranges = sorted(
            (int(shard["HashKeyRange"]["StartingHashKey"]), int(shard["HashKeyRange"]["EndingHashKey"]))
            for shard in stream.shards(ShardFilter={"Type": "AT_LATEST"})
        )
        equal([first for first, _ in ranges], [(1 << 128) // count * n for n in range(count)])
    children = {}
    for shard in stream.shards():
        parents = [shard[key] for key in ("ParentShardId", "AdjacentParentShardId") if key in shard]
        for parent in parents:
            children.setdefault(parent, []).append(len(parents))
    assert all(kinds in ([1, 1], [2]) for kinds in children.values()), children


@check
def consumers_are_registered_and_forgotten(world):
    kinesis, stream = world.kinesis, world.stream()
    registered = kinesis.register_stream_consumer(StreamARN=stream.arn, ConsumerName="app")["Consumer"]
    by_name = kinesis.describe_stream_consumer(StreamARN=stream.arn, ConsumerName="app")["ConsumerDescription"]
    by_arn = kinesis.describe_stream_consumer(ConsumerARN=registered["ConsumerARN"])["ConsumerDescription"]
    equal(by_name, by_arn)
    equal((by_arn["ConsumerStatus"], by_arn["StreamARN"]), ("ACTIVE", stream.arn))
    refused("ResourceInUseException", kinesis.register_stream_consumer, StreamARN=stream.arn, ConsumerName="app")
    for n in range(4):
        kinesis.register_stream_consumer(StreamARN=stream.arn, ConsumerName=f"other-{n}")
    pages = kinesis.get_paginator("list_stream_consumers").paginate(StreamARN=stream.arn, PaginationConfig={"PageSize": 2})
    equal(sum(len(page["Consumers"]) for page in pages), 5)
    refused("ResourceInUseException", kinesis.delete_stream, StreamName=stream.name)
    kinesis.deregister_stream_consumer(ConsumerARN=registered["ConsumerARN"])
    refused("ResourceNotFoundException", kinesis.describe_stream_consumer, StreamARN=stream.arn, ConsumerName="app")
    kinesis.delete_stream(StreamName=stream.name, EnforceConsumerDeletion=True)


@check
def subscribed_records_are_pushed_until_the_shard_ends(world):
    kinesis, stream = world.kinesis, world.stream()
    stream.put("backlog")
    consumer = kinesis.register_stream_consumer(StreamARN=stream.arn, ConsumerName="app")["Consumer"]["ConsumerARN"]
    subscribe = lambda client, position: client.subscribe_to_shard(ConsumerARN=consumer, ShardId=shard_id(0), StartingPosition=position)
    events = iter(subscribe(kinesis, {"Type": "TRIM_HORIZON"})["EventStream"])
    following = lambda: next(events)["SubscribeToShardEvent"]
    equal(texts(following()), ["backlog"])
    refused("ResourceInUseException", subscribe, kinesis, {"Type": "LATEST"})
    delays = []
    for n in range(30):
        sent = time.monotonic()
        stream.put(str(n))
        event = following()
        delays.append(time.monotonic() - sent)
        equal((texts(event), event["MillisBehindLatest"]), ([str(n)], 0))
    assert sorted(delays)[8] < 0.07, f"not pushed: {delays}"  # the quicker ones: the others may have waited for a processor
    time.sleep(5)
    taken = iter(subscribe(connect("kinesis", world.endpoints[0]), {"Type": "AFTER_SEQUENCE_NUMBER", "SequenceNumber": event["ContinuationSequenceNumber"]})["EventStream"])
    next(taken)
    try:
        while True:
            equal(following()["Records"], [])  # what was on its way
    except ClientError as error:  # boto3 raises EventStreamError, which is one
        equal(error.response["Error"]["Code"], "ResourceInUseException")
    stream.put("last")
    kinesis.split_shard(StreamName=stream.name, ShardToSplit=shard_id(0), NewStartingHashKey=str(MIDDLE))
    rest = [event["SubscribeToShardEvent"] for event in taken]
    equal([text for event in rest for text in texts(event)], ["last"])
    equal(["ContinuationSequenceNumber" in event for event in rest][-1], False)
    equal([child["ParentShards"] for child in rest[-1]["ChildShards"]], [[shard_id(0)], [shard_id(0)]])


@check
def concurrent_writers_and_a_tailing_reader_across_reshards(world):
    """Every acknowledged record is read exactly once, and each key's records in the order of their writing."""
    writers, each = 4, 1500
    stream = world.stream(2)
    acknowledged = [[] for _ in range(writers)]
    failures = []

    def write(writer):
        try:
            kinesis = connect("kinesis", world.endpoints[0])
            for first in range(0, each, 50):
                records = [{"Data": b"%d %d" % (writer, n), "PartitionKey": f"writer {writer}"} for n in range(first, first + 50)]
                answer = kinesis.put_records(StreamName=stream.name, Records=records)
                equal(answer["FailedRecordCount"], 0)
                acknowledged[writer] += [(record["ShardId"], record["SequenceNumber"]) for record in answer["Records"]]
        except Exception as error:  # noqa: BLE001 - told below
            failures.append(error)

    threads = [threading.Thread(target=write, args=(writer,)) for writer in range(writers)]
    for thread in threads:
        thread.start()
    reshards = iter([4, 3, 1, 2])
    read = {writer: [] for writer in range(writers)}
    iterators = {shard: stream.iterator(shard) for shard in (0, 1)}
    finished = set()
    deadline = time.monotonic() + 120
    while sum(map(len, read.values())) < writers * each:
        assert time.monotonic() < deadline and not failures, (failures, {k: len(v) for k, v in read.items()})
        if sum(map(len, read.values())) > 400 and (count := next(reshards, None)):
            world.kinesis.update_shard_count(StreamName=stream.name, TargetShardCount=count, ScalingType="UNIFORM_SCALING")
        for shard, iterator in list(iterators.items()):
            answer = world.kinesis.get_records(ShardIterator=iterator)
            for record in answer["Records"]:
                writer, n = map(int, record["Data"].split())
                read[writer].append((n, shard_id(shard), record["SequenceNumber"]))
            if "NextShardIterator" in answer:
                iterators[shard] = answer["NextShardIterator"]
                continue
            # As KCL does: a child is read when all its parents are finished.
            del iterators[shard]
            finished.add(shard_id(shard))
            for child in answer["ChildShards"]:
                if finished >= set(child["ParentShards"]):
                    iterators[int(child["ShardId"][8:])] = stream.iterator(int(child["ShardId"][8:]))
    for thread in threads:
        thread.join()
    equal(failures, [])
    for writer in range(writers):
        equal([n for n, _, _ in read[writer]], list(range(each)))
        equal([(shard, number) for _, shard, number in read[writer]], acknowledged[writer])
        numbers = [int(number) for _, _, number in read[writer]]
        equal(sorted(numbers), numbers)


@check
def faults_strike_and_boto3_knows_their_names(world):
    stream = world.stream()

    def faults(method, body=None):
        request = urllib.request.Request(world.endpoints[0] + "/_multilangd/faults", method=method, data=body)
        return urllib.request.urlopen(request).read()

    try:
        faults("POST", b'[{"operation":"kinesis.PutRecord","only":"%s","error":"ProvisionedThroughputExceededException","times":1}]' % stream.name.encode())
        response = refused("ProvisionedThroughputExceededException", stream.put, "x")
        equal(response["ResponseMetadata"]["HTTPStatusCode"], 400)
        stream.put("y")
        equal(stream.texts(), ["y"])
    finally:
        faults("DELETE")


@check
def dynamodb_holds_leases(world):
    dynamodb, table = world.dynamodb, "boto3-leases"
    dynamodb.create_table(
        TableName=table,
        KeySchema=[{"AttributeName": "leaseKey", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "leaseKey", "AttributeType": "S"}],
        BillingMode="PAY_PER_REQUEST",
    )
    dynamodb.get_waiter("table_exists").wait(TableName=table)
    dynamodb.put_item(
        TableName=table,
        Item={"leaseKey": {"S": "shardId-000000000000"}, "leaseCounter": {"N": "0"}},
        Expected={"leaseKey": {"Exists": False}},
    )
    refused(
        "ConditionalCheckFailedException",
        dynamodb.put_item,
        TableName=table,
        Item={"leaseKey": {"S": "shardId-000000000000"}},
        Expected={"leaseKey": {"Exists": False}},
    )
    dynamodb.update_table(
        TableName=table,
        AttributeDefinitions=[{"AttributeName": "leaseKey", "AttributeType": "S"}, {"AttributeName": "leaseOwner", "AttributeType": "S"}],
        GlobalSecondaryIndexUpdates=[
            {
                "Create": {
                    "IndexName": "LeaseOwnerToLeaseKeyIndex",
                    "KeySchema": [{"AttributeName": "leaseOwner", "KeyType": "HASH"}, {"AttributeName": "leaseKey", "KeyType": "RANGE"}],
                    "Projection": {"ProjectionType": "KEYS_ONLY"},
                }
            }
        ],
    )
    dynamodb.update_item(
        TableName=table,
        Key={"leaseKey": {"S": "shardId-000000000000"}},
        AttributeUpdates={"leaseOwner": {"Value": {"S": "me"}, "Action": "PUT"}, "leaseCounter": {"Value": {"N": "1"}, "Action": "ADD"}},
        Expected={"leaseCounter": {"Value": {"N": "0"}}},
    )
    found = dynamodb.query(
        TableName=table,
        IndexName="LeaseOwnerToLeaseKeyIndex",
        KeyConditionExpression="leaseOwner = :me",
        ExpressionAttributeValues={":me": {"S": "me"}},
    )["Items"]
    equal(found, [{"leaseOwner": {"S": "me"}, "leaseKey": {"S": "shardId-000000000000"}}])
    recovery = dynamodb.update_continuous_backups(TableName=table, PointInTimeRecoverySpecification={"PointInTimeRecoveryEnabled": True})
    described = dynamodb.describe_continuous_backups(TableName=table)["ContinuousBackupsDescription"]
    equal(described, recovery["ContinuousBackupsDescription"])
    equal(described["PointInTimeRecoveryDescription"]["PointInTimeRecoveryStatus"], "ENABLED")
    refused("TableNotFoundException", dynamodb.describe_continuous_backups, TableName="missing")


def judge(kinesis_endpoint, dynamodb_endpoint, wanted=()):
    """Runs the checks, or those wanted; gives how many failed."""
    world = World(kinesis_endpoint, dynamodb_endpoint)
    chosen = [one for one in checks if not wanted or one.__name__ in wanted]
    failed = 0
    for one in chosen:
        started = time.monotonic()
        try:
            one(world)
            print(f"ok      {one.__name__} ({time.monotonic() - started:.1f} s)")
        except Exception:  # noqa: BLE001 - the judge tells and goes on
            failed += 1
            print(f"FAILED  {one.__name__}\n{traceback.format_exc()}")
    print(f"boto3: {len(chosen) - failed} passed, {failed} failed")
    return failed


def main():
    arguments = sys.argv[1:]
    if len(arguments) >= 2:
        sys.exit(1 if judge(*arguments[:2], arguments[2:]) else 0)
    multilangd = bench.multilangd_of(arguments[0] if arguments else None)
    with bench.Bench("boto3_local") as b:
        failed = judge(*b.multilangd_local(multilangd))
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
