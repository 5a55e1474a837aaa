"""What a record looks like to the processor."""

from __future__ import annotations

import unittest
from datetime import datetime, timezone

from multilangd import Record, Records

from .daemon import Child, process_records, record, status


class RecordFields(unittest.TestCase):
    def test_all_fields_have_python_types(self) -> None:
        one = Record(record(1, b"\x00\xff", key="k-1", sub=2))
        self.assertEqual(one.data, b"\x00\xff")
        self.assertEqual(one.partition_key, "k-1")
        self.assertEqual(one.sequence_number, "1" + "0" * 54 + "1")
        self.assertEqual(one.sub_sequence_number, 2)
        self.assertEqual(
            one.approximate_arrival_timestamp, datetime(2026, 1, 1, 0, 0, 0, 123000, tzinfo=timezone.utc)
        )

    def test_data_is_decoded_once(self) -> None:
        one = Record(record(1))
        self.assertIs(one.data, one.data)

    def test_nulls_are_tolerated(self) -> None:
        one = Record({**record(1), "data": None, "approximateArrivalTimestamp": None, "subSequenceNumber": None})
        self.assertEqual((one.data, one.approximate_arrival_timestamp, one.sub_sequence_number), (b"", None, 0))

    def test_it_shows_what_it_holds(self) -> None:
        self.assertEqual(
            repr(Record({"partitionKey": "k", "sequenceNumber": "1", "data": "aGk="})),
            "Record(partition_key='k', sequence_number='1', sub_sequence_number=0, data=b'hi')",
        )


class Batches(unittest.TestCase):
    def test_a_batch_is_a_sequence(self) -> None:
        batch = Records([Record(record(number)) for number in range(3)], 7)
        self.assertEqual(len(batch), 3)
        self.assertEqual([each.sequence_number for each in batch[1:]], [batch[1].sequence_number, batch[-1].sequence_number])
        self.assertEqual(batch.millis_behind_latest, 7)

    def test_ten_thousand_records_arrive_in_order(self) -> None:
        child = Child(
            """
class P(Processor):
    def process_records(self, records, checkpointer):
        assert [int(record.data.split()[0]) for record in records] == list(range(10_000))
        print(len(records), sum(len(record.data) for record in records))
"""
        )
        child.start()
        payload = b" " + b"x" * 1000
        batch = process_records(*[record(number, b"%06d" % number + payload) for number in range(10_000)])
        self.assertEqual(child.ask(batch), status("processRecords"))
        self.assertEqual(child.end(), (0, "10000 10070000\n", [], []))

    def test_keys_in_any_script_arrive_unchanged_escaped_or_raw_under_any_locale(self) -> None:
        for locale in ["C", "C.UTF-8"]:
            with self.subTest(locale):
                child = Child(
                    """
class P(Processor):
    def process_records(self, records, checkpointer):
        print(ascii([record.partition_key for record in records]))
""",
                    environment={"LC_ALL": locale, "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
                )
                child.start()
                raw = '{"action":"processRecords","records":[{"partitionKey":"ключ\u2028😀"},{"partitionKey":"\\ud83d\\ude00"}]}'
                child.send_line(raw)
                self.assertEqual(child.receive(), status("processRecords"))
                self.assertEqual(child.end().stderr, r"['\u043a\u043b\u044e\u0447\u2028\U0001f600', '\U0001f600']" + "\n")
