"""Nothing that a processor prints reaches the daemon."""

from __future__ import annotations

import unittest

from .daemon import Child, initialize, process_records, record, status


class StandardOutput(unittest.TestCase):
    def test_everything_written_to_stdout_lands_on_stderr(self) -> None:
        for code, printed in [
            ("print('hello')", "hello\n"),
            ("print('no line end', end='', flush=True)", "no line end"),
            ("""print('{"action":"status","responseFor":"leaseLost"}')""", '{"action":"status","responseFor":"leaseLost"}\n'),
            ("print('null')", "null\n"),
            ("sys.__stdout__.write('dunder')", "dunder"),
            ("sys.stdout.buffer.write(bytes([0, 255, 10]))", "\0\\xff\n"),
            ("os.write(1, b'raw')", "raw"),
            ("subprocess.run(['echo', 'from a subprocess'])", "from a subprocess\n"),
            ("os.system('echo from a shell')", "from a shell\n"),
            ("logging.StreamHandler(sys.stdout).emit(logging.makeLogRecord({'msg': 'logged'}))", "logged\n"),
            ("print('x' * 1_000_000)", "x" * 1_000_000 + "\n"),
        ]:
            with self.subTest(code[:60]):
                child = Child(
                    f"""
import logging, os, subprocess, sys
class P(Processor):
    def process_records(self, records, checkpointer):
        {code}
"""
                )
                child.start()
                self.assertEqual(child.ask(process_records(record(1))), status("processRecords"))
                self.assertEqual(child.end(), (0, printed, [], []))

    def test_what_was_printed_before_run_cannot_glue_itself_to_a_message(self) -> None:
        child = Child(
            """
print("no line end", end="", flush=True)
class P(Processor):
    def process_records(self, records, checkpointer):
        pass
"""
        )
        self.assertEqual(child.ask(initialize()), status("initialize"))
        self.assertEqual(child.end(), (0, "", ["no line end"], []))

    def test_prints_appear_at_once(self) -> None:
        child = Child(
            """
import os
class P(Processor):
    def process_records(self, records, checkpointer):
        print("before the end")
        os._exit(3)  # nothing is flushed any more
"""
        )
        child.start()
        self.assertIsNone(child.ask(process_records(record(1))))
        self.assertEqual(child.end(), (3, "before the end\n", [], []))


class StandardInput(unittest.TestCase):
    def test_neither_the_processor_nor_a_subprocess_can_read_the_daemons_messages(self) -> None:
        child = Child(
            """
import subprocess, sys
class P(Processor):
    def process_records(self, records, checkpointer):
        print(repr(sys.stdin.read()), subprocess.run(["cat"], capture_output=True).stdout)
"""
        )
        child.start()
        child.send(process_records(record(1)))
        child.send({"action": "leaseLost"})
        self.assertEqual(child.receive(), status("processRecords"))
        self.assertEqual(child.receive(), status("leaseLost"))
        self.assertEqual(child.end(), (0, "'' b''\n", [], []))
