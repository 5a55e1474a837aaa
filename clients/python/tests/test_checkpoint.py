"""How checkpoints are asked for, tried again and refused."""

from __future__ import annotations

import unittest
from typing import List

from multilangd import Checkpointer, Retry, ThrottlingError
from multilangd.pipe import Pipe

from .daemon import Child, Message, checkpoint, process_records, record, reply, status


class Forms(unittest.TestCase):
    def test_a_checkpoint_names_everything_a_record_or_a_position(self) -> None:
        for call, request in [
            ("checkpoint()", checkpoint()),
            ("checkpoint(records[0])", checkpoint(str(10**55 + 1), 3)),
            ("checkpoint('77')", checkpoint("77")),
            ("checkpoint('77', 5)", checkpoint("77", 5)),
        ]:
            with self.subTest(call):
                child = processing(f"checkpointer.{call}", record(1, sub=3))
                self.assertEqual(child.receive(), request)
                self.assertEqual(child.ask(reply()), status("processRecords"))
                self.assertEqual(child.end(), (0, "", [], []))

    def test_several_checkpoints_in_one_callback_go_out_one_after_the_other(self) -> None:
        child = processing("[checkpointer.checkpoint(record) for record in records]", record(1), record(2))
        self.assertEqual(child.receive(), checkpoint(str(10**55 + 1), 0))
        self.assertEqual(child.ask(reply()), checkpoint(str(10**55 + 2), 0))
        self.assertEqual(child.ask(reply()), status("processRecords"))
        self.assertEqual(child.end().code, 0)

    def test_a_thread_may_checkpoint_and_the_status_waits_for_it(self) -> None:
        child = processing(
            """
import threading
asked = threading.Event()
send = checkpointer._pipe.send
checkpointer._pipe.send = lambda message: (send(message), asked.set())
threading.Thread(target=checkpointer.checkpoint).start()
asked.wait()
""",
            record(1),
        )
        self.assertEqual(child.receive(), checkpoint())
        self.assertEqual(child.ask(reply()), status("processRecords"))
        self.assertEqual(child.end().code, 0)

    def test_between_callbacks_it_is_refused_without_asking_the_daemon(self) -> None:
        child = Child(
            """
class P(Processor):
    def process_records(self, records, checkpointer):
        self.checkpointer = checkpointer
    def lease_lost(self):
        try:
            self.checkpointer.checkpoint()
        except CheckpointError as error:
            print(error)
"""
        )
        child.start()
        self.assertEqual(child.ask(process_records(record(1))), status("processRecords"))
        self.assertEqual(child.ask({"action": "leaseLost"}), status("leaseLost"))
        self.assertEqual(
            child.end().stderr,
            "InvalidStateException: checkpoints are possible only while process_records, shutdown_requested "
            "or shard_ended runs\n",
        )


class Refusals(unittest.TestCase):
    def test_a_throttling_or_failing_table_is_asked_again(self) -> None:
        for error in ["ThrottlingException", "KinesisClientLibDependencyException"]:
            with self.subTest(error):
                child = processing("checkpointer.checkpoint()", record(1))
                self.assertEqual(child.receive(), checkpoint())
                self.assertEqual(child.ask(reply(error)), checkpoint())
                self.assertEqual(child.ask(reply()), status("processRecords"))
                self.assertEqual(child.end(), (0, "", [], []))

    def test_after_the_last_try_it_is_a_throttling_error(self) -> None:
        child = processing("checkpointer.checkpoint()", record(1))
        for _ in range(3):
            self.assertEqual(child.receive(), checkpoint())
            child.send(reply("ThrottlingException"))
        self.assertIsNone(child.receive())
        ending = child.end()
        self.assertEqual(ending.code, 1)
        self.assertIn(
            "ThrottlingError: ThrottlingException: the lease table is throttling (asked for everything delivered)",
            ending.stderr,
        )

    def test_other_errors_are_raised_at_once_with_the_name_the_daemon_gave(self) -> None:
        for error in ["InvalidStateException", "IllegalArgumentException", "RuntimeException", ""]:
            with self.subTest(error):
                child = processing(
                    """
try:
    checkpointer.checkpoint("77")
except CheckpointError as error:
    print(type(error).__name__, repr(error.error))
""",
                    record(1),
                )
                self.assertEqual(child.receive(), checkpoint("77"))
                self.assertEqual(child.ask(reply(error)), status("processRecords"))
                self.assertEqual(child.end().stderr, f"CheckpointError {error!r}\n")

    def test_a_lost_lease_can_be_caught(self) -> None:
        child = processing(
            """
try:
    checkpointer.checkpoint()
except ShutdownError as error:
    print(error.error)
""",
            record(1),
        )
        self.assertEqual(child.receive(), checkpoint())
        self.assertEqual(child.ask(reply("ShutdownException")), status("processRecords"))
        self.assertEqual(child.end(), (0, "ShutdownException\n", [], []))

    def test_a_lost_lease_left_alone_ends_the_callback_and_only_lease_lost_follows(self) -> None:
        child = Child(
            """
class P(Processor):
    def process_records(self, records, checkpointer):
        print("process_records")
        checkpointer.checkpoint()
        print("not reached")
    def shutdown_requested(self, checkpointer):
        print("not called")
    def lease_lost(self):
        print("lease_lost")
"""
        )
        child.start()
        self.assertEqual(child.ask(process_records(record(1))), checkpoint())
        self.assertEqual(child.ask(reply("ShutdownException")), status("processRecords"))
        self.assertEqual(child.ask(process_records(record(2))), status("processRecords"))
        self.assertEqual(child.ask({"action": "shutdownRequested"}), status("shutdownRequested"))
        self.assertEqual(child.ask({"action": "leaseLost"}), status("leaseLost"))
        ending = child.end()
        self.assertEqual(ending.code, 0)
        self.assertEqual(
            ending.stderr.splitlines(),
            [
                "process_records",
                "multilangd: process_records of shardId-000000000007 stopped: ShutdownException: this process no "
                "longer holds the lease of its shard (asked for everything delivered)",
                "lease_lost",
            ],
        )

    def test_a_reply_that_is_none_ends_the_process(self) -> None:
        child = processing("checkpointer.checkpoint()", record(1))
        self.assertEqual(child.receive(), checkpoint())
        self.assertIsNone(child.ask({"action": "leaseLost"}))
        ending = child.end()
        self.assertEqual(ending.code, 1)
        self.assertIn("ProtocolError: the daemon answered a checkpoint with 'leaseLost'", ending.stderr)


class Patience(unittest.TestCase):
    def test_delays_double_up_to_the_limit_and_end_after_the_last_try(self) -> None:
        retry = Retry(tries_max=5, delay_first=1, delay_max=5)
        self.assertEqual([retry.delay(tries, chance=0) for tries in range(1, 6)], [1, 2, 4, 5, None])

    def test_chance_takes_up_to_half_of_a_delay(self) -> None:
        self.assertEqual(Retry(delay_first=2).delay(1, chance=0.5), 1.5)

    def test_the_default_insists_for_at_least_a_minute_even_without_luck(self) -> None:
        slept: List[float] = []
        checkpointer = Checkpointer(AlwaysThrottled(), sleep=slept.append, chance=lambda: 0.999)
        checkpointer._open()
        with self.assertRaises(ThrottlingError):
            checkpointer.checkpoint()
        self.assertEqual(len(slept), 19)
        self.assertGreater(sum(slept), 60)


class AlwaysThrottled(Pipe):
    def __init__(self) -> None:
        pass

    def send(self, message: object) -> None:
        pass

    def receive(self) -> Message:
        return reply("ThrottlingException")


def processing(code: str, *records: Message) -> Child:
    """A child that has just been given records and runs the code with them."""
    body = "\n".join("        " + line for line in code.strip().splitlines())
    child = Child(f"class P(Processor):\n    def process_records(self, records, checkpointer):\n{body}\n")
    child.start()
    child.send(process_records(*records))
    return child
