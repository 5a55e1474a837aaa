"""What the judges rest on: that the comparison sees every difference that it shall see, and that the tap adds and loses nothing."""

import hashlib
import json
import subprocess
import sys

import pytest

import bench
import cloudwatch
import same_lines
import tap


@pytest.mark.parametrize(
    ("java", "ours"),
    [
        ('{"millisBehindLatest":0}', '{"millisBehindLatest":12345}'),
        ('{"partitionKey":"ключ"}', '{"partitionKey":"\\u043a\\u043B\\u044e\\u0447"}'),
        ('{"partitionKey":"\U0001f600"}', '{"partitionKey":"\\uD83D\\uDE00"}'),
    ],
)
def test_what_may_differ_is_made_equal(java, ours):
    assert same_lines.equal_form(java) == same_lines.equal_form(ours)


@pytest.mark.parametrize(
    ("java", "ours"),
    [
        ('{"a":1,"b":2}', '{"b":2,"a":1}'),
        ('{"a":1}', '{"a": 1}'),
        ('{"error":null}', "{}"),
        ('{"partitionKey":"a/b"}', '{"partitionKey":"a\\/b"}'),
        ('{"partitionKey":"\\u001F"}', '{"partitionKey":"\\u001f"}'),
        ('{"partitionKey":"\\t"}', '{"partitionKey":"\\u0009"}'),
        ('{"partitionKey":"\\\\u043a"}', '{"partitionKey":"\\\\u043A"}'),  # a backslash and text, not an escape
        ('{"approximateArrivalTimestamp":1795529441800}', '{"approximateArrivalTimestamp":1795529441799}'),
        ('{"sequenceNumber":"1"}', '{"sequenceNumber":1}'),
    ],
)
def test_what_must_not_differ_is_seen(java, ours):
    a, b = ([("daemon", same_lines.equal_form(line))] for line in (java, ours))
    assert "line 1" in same_lines.difference(a, b, loose=False)


def test_a_missing_line_is_seen():
    one, two = ("daemon", "{}"), ("child", "{}")
    assert "1 more lines from java" in same_lines.difference([one, two], [one], loose=False)


def test_only_a_loose_comparison_ignores_how_the_directions_interleave():
    java, ours = [("child", "a"), ("daemon", "b")], [("daemon", "b"), ("child", "a")]
    assert same_lines.difference(java, ours, loose=True) is None
    assert same_lines.difference(java, ours, loose=False) is not None


def test_an_aggregate_is_magic_protobuf_and_digest():
    record = bench.aggregate([("k", None, b"data")])
    assert record[:4] == b"\xf3\x89\x9a\xc2"
    assert record[4:-16] == b"\x0a\x01k" + b"\x1a\x08" + b"\x08\x00" + b"\x1a\x04data"
    assert record[-16:] == hashlib.md5(record[4:-16]).digest()


def test_the_tap_passes_every_byte_on_and_writes_every_line_down(tmp_path):
    child = "import sys; d = sys.stdin.buffer.read(); sys.stderr.write('x\\ny'); sys.stdout.buffer.write(d[::-1]); sys.exit(3)"
    (tmp_path / "plan.json").write_text(json.dumps({"7": {"child": "c", "argv": [sys.executable, "-c", child]}}))
    said = b'{"shardId":"shardId-000000000007"}\n' + b"a\rb\n" + "ключ".encode() + b"x" * 200_000
    env = bench.environment(TAP_PLAN=tmp_path / "plan.json", TAP_OUT=tmp_path)
    run = subprocess.run([sys.executable, tap.__file__], input=said, capture_output=True, env=env, timeout=30)
    assert (run.stdout, run.stderr, run.returncode) == (said[::-1], b"x\ny", 3)
    entries = [json.loads(line) for line in (tmp_path / "7.0.jsonl").read_text().splitlines()]
    assert [e["line"] for e in entries if "to" in e] == said.decode().split("\n")
    assert [e["stderr"] for e in entries if "stderr" in e] == ["x", "y"]
    assert entries[-1] == {"exit": 3}


DATUM = {
    "MetricName": "Time", "Unit": "Milliseconds", "Dimensions": [{"Name": "Operation", "Value": "ProcessTask"}],
    "StatisticValues": {"Sum": 12.5, "Minimum": 0.5, "Maximum": 12.0, "SampleCount": 2.0},
}
NOTED = cloudwatch.Datum("app", "Time", "Milliseconds", (("Operation", "ProcessTask"),), 12.5, 0.5, 12.0, 2.0)


def test_cloudwatch_notes_what_an_official_client_puts():
    with cloudwatch.CloudWatch() as service:
        bench.client("cloudwatch", service.url).put_metric_data(Namespace="app", MetricData=[DATUM])
        assert service.data == [NOTED]


def test_cloudwatch_reads_each_protocol_alike():
    form = (
        "Action=PutMetricData&Version=2010-08-01&Namespace=app&MetricData.member.1.MetricName=Time&MetricData.member.1.Unit=Milliseconds"
        "&MetricData.member.1.Dimensions.member.1.Name=Operation&MetricData.member.1.Dimensions.member.1.Value=ProcessTask"
        "&MetricData.member.1.StatisticValues.Sum=12.5&MetricData.member.1.StatisticValues.Minimum=0.5"
        "&MetricData.member.1.StatisticValues.Maximum=12.0&MetricData.member.1.StatisticValues.SampleCount=2.0"
    )
    target = {"X-Amz-Target": f"{cloudwatch.SERVICE}.PutMetricData"}
    for protocol, headers, body in (
        ("query", {}, form.encode()),
        ("json", target, json.dumps({"Namespace": "app", "MetricData": [DATUM]}).encode()),
    ):
        read = cloudwatch.decode("/", headers, body)
        assert read[:2] == (protocol, "PutMetricData")
        assert [cloudwatch.datum(read[2]["Namespace"], each) for each in read[2]["MetricData"]] == [NOTED]


@pytest.mark.parametrize(
    ("data", "item"),
    [
        (b"\xa1\x63Sum\xfb\x40\x29\x00\x00\x00\x00\x00\x00", {"Sum": 12.5}),
        (b"\xbf\x61a\x9f\x01\x38\x63\xff\xff", {"a": [1, -100]}),
        (b"\x7f\x61a\x62bc\xff", "abc"),
        (b"\x83\xf9\x3c\x00\xfa\x3f\xc0\x00\x00\x19\x01\x00", [1.0, 1.5, 256]),
        (b"\xc1\x1a\x00\x00\x00\x01", 1),
        (b"\x82\xf5\xf6", [True, None]),
    ],
)
def test_cbor_is_read(data, item):
    assert cloudwatch.Cbor(data).item() == item
