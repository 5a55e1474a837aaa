"""The examples work as they stand."""

from __future__ import annotations

import sys
import unittest

from .daemon import ROOT, Child, checkpoint, process_records, record, reply, status


class Examples(unittest.TestCase):
    def test_the_word_count_counts(self) -> None:
        child = Child.program(sys.executable, str(ROOT / "examples" / "wordcount.py"))
        child.start()
        batch = process_records(record(1, b"to be"), record(2, b"or not  To\nbe"))
        self.assertEqual(child.ask(batch), checkpoint())
        self.assertEqual(child.ask(reply()), status("processRecords"))
        self.assertEqual(child.ask({"action": "shardEnded"}), checkpoint())
        self.assertEqual(child.ask(reply()), status("shardEnded"))
        ending = child.end()
        self.assertEqual(ending.code, 0)
        self.assertEqual(
            ending.stderr.splitlines(),
            [
                "counting the words of shardId-000000000007",
                "6 words: to 2, be 2, or 1, not 1",
                "the shard is complete",
            ],
        )

    def test_records_are_printed(self) -> None:
        child = Child.program(sys.executable, str(ROOT / "examples" / "print_records.py"))
        child.start()
        batch = process_records(record(1, "süß".encode(), key="k-1"), record(2, b"\xff"))
        self.assertEqual(child.ask(batch), checkpoint())
        self.assertEqual(child.ask(reply()), status("processRecords"))
        self.assertEqual(child.ask({"action": "shutdownRequested"}), checkpoint())
        self.assertEqual(child.ask(reply()), status("shutdownRequested"))
        self.assertEqual(child.ask({"action": "leaseLost"}), status("leaseLost"))
        ending = child.end()
        self.assertEqual(ending.code, 0)
        self.assertEqual(
            ending.stderr.splitlines(),
            [
                "starts after TRIM_HORIZON",
                "00:00:00  k-1           süß",
                "00:00:00  k             \\xff",
                "asked to stop",
                "lease lost",
            ],
        )
