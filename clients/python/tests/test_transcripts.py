"""This client holds the conversations that were recorded with the Java daemon."""

from __future__ import annotations

import json
import sys
import tempfile
import unittest
from pathlib import Path
from typing import Any, List

from .daemon import ROOT, Child, checkpoint, initialize, process_records, record, reply, status
from .transcripts import expected, fed, turns_of

TRANSCRIPTS = ROOT.parent.parent / "protocol" / "transcripts"


class Transcripts(unittest.TestCase):
    def test_every_recorded_conversation_is_held(self) -> None:
        paths = sorted(TRANSCRIPTS.glob("*.jsonl"))
        if not paths and not (TRANSCRIPTS / "README.md").exists():
            self.skipTest(f"no conversations are recorded yet in {TRANSCRIPTS}")
        self.assertTrue(paths, f"{TRANSCRIPTS} has a README but no *.jsonl")
        for path in paths:
            with self.subTest(path.name):
                self.replay(path)

    def test_a_whole_tenure_is_replayed(self) -> None:
        answers = self.replay_made(
            {"to": "child", "line": initialize()},
            {"from": "child", "line": status("initialize")},
            {"to": "child", "line": process_records(record(1), record(2))},
            {"from": "child", "line": "Traceback (most recent call last):"},
            {"from": "child", "line": checkpoint("77", 3)},
            {"to": "child", "line": {**checkpoint("77", 3), "error": "ThrottlingException"}},
            {"from": "child", "line": checkpoint("77", 3)},
            {"to": "child", "line": {**checkpoint("77", 3), "error": None}},
            {"from": "child", "line": status("processRecords")},
            {"stderr": "something"},
            {"to": "child", "line": {"action": "shardEnded"}},
            {"from": "child", "line": checkpoint()},
            {"to": "child", "line": reply()},
            {"from": "child", "line": status("shardEnded")},
            {"exit": 0},
        )
        self.assertEqual(
            answers,
            [
                status("initialize"),
                checkpoint("77", 3),
                checkpoint("77", 3),
                status("processRecords"),
                checkpoint(),
                status("shardEnded"),
            ],
        )

    def test_what_a_faulty_child_did_is_done_right(self) -> None:
        answers = self.replay_made(
            {"to": "child", "line": initialize()},
            {"from": "child", "line": checkpoint()},
            {"to": "child", "line": reply("InvalidStateException")},
            {"from": "child", "line": status("initialize")},
            {"to": "child", "line": process_records(record(1))},
            {"from": "child", "line": status("leaseLost")},
            {"exit": 1},
        )
        self.assertEqual(answers, [status("initialize"), status("processRecords")])

    def replay_made(self, *events: Any) -> List[Any]:
        """Replays a conversation made up here; messages stand for their lines."""
        with tempfile.TemporaryDirectory() as directory:
            path = Path(directory) / "made.jsonl"
            lines = [{"transcript": "made up", "daemon": "none", "child": "none"}]
            for event in events:
                if isinstance(event.get("line"), dict):
                    event = {**event, "line": json.dumps(event["line"])}
                lines.append(event)
            path.write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
            return self.replay(path)

    def replay(self, path: Path) -> List[Any]:
        turns = turns_of(path.read_text("utf-8"))
        self.assertTrue(turns, f"{path.name}: nothing was said")
        child = Child.program(sys.executable, str(ROOT / "tests" / "replaying.py"), str(path))
        answers = []
        for line in fed(turns):
            child.send_line(line)
        for _ in expected(turns):
            answers.append(child.receive())
        ending = child.end()
        self.assertEqual((ending.code, ending.stray, ending.rest), (0, [], []), ending.stderr)
        self.assertEqual(answers, expected(turns))
        return answers
