"""What a processor experiences, from `initialize` to the end of the pipe."""

from __future__ import annotations

import unittest

from .daemon import Child, checkpoint, initialize, process_records, record, reply, status

EVERYTHING = """
class P(Processor):
    def initialize(self, shard):
        print("initialize", *shard)
    def process_records(self, records, checkpointer):
        print("process_records", len(records), records.millis_behind_latest)
    def lease_lost(self):
        print("lease_lost")
    def shard_ended(self, checkpointer):
        print("shard_ended")
        checkpointer.checkpoint()
    def shutdown_requested(self, checkpointer):
        print("shutdown_requested")
"""

MINIMAL = """
class P(Processor):
    def process_records(self, records, checkpointer):
        pass
"""


class Conversation(unittest.TestCase):
    def test_a_tenure_that_ends_with_a_lost_lease_calls_each_callback_in_order(self) -> None:
        child = Child(EVERYTHING)
        self.assertEqual(child.ask(initialize()), status("initialize"))
        self.assertEqual(child.ask(process_records(record(1), record(2))), status("processRecords"))
        self.assertEqual(child.ask({"action": "shutdownRequested"}), status("shutdownRequested"))
        self.assertEqual(child.ask({"action": "leaseLost"}), status("leaseLost"))
        ending = child.end()
        self.assertEqual(ending.code, 0)
        self.assertEqual(
            ending.stderr.splitlines(),
            [
                "initialize shardId-000000000007 TRIM_HORIZON 0",
                "process_records 2 5000",
                "shutdown_requested",
                "lease_lost",
            ],
        )

    def test_the_end_of_a_shard_is_checkpointed_by_default(self) -> None:
        child = Child(MINIMAL)
        child.start()
        self.assertEqual(child.ask({"action": "shardEnded"}), checkpoint())
        self.assertEqual(child.ask(reply()), status("shardEnded"))
        self.assertEqual(child.end(), (0, "", [], []))

    def test_a_shard_end_without_a_checkpoint_is_pointed_out(self) -> None:
        child = Child(MINIMAL + "    def shard_ended(self, checkpointer): pass")
        child.start()
        self.assertEqual(child.ask({"action": "shardEnded"}), status("shardEnded"))
        self.assertIn("shard_ended returned without a checkpoint: shardId-000000000007", child.end().stderr)

    def test_a_function_is_enough_and_each_batch_is_checkpointed_after_it(self) -> None:
        child = Child("run(lambda records: print(*[record.data.decode() for record in records]))")
        child.start()
        self.assertEqual(child.ask(process_records(record(1, b"one"), record(2, b"two"))), checkpoint())
        self.assertEqual(child.ask(reply()), status("processRecords"))
        self.assertEqual(child.end(), (0, "one two\n", [], []))

    def test_a_processor_may_be_given_as_an_instance(self) -> None:
        child = Child(MINIMAL + "\nrun(P())")
        child.start()
        self.assertEqual(child.end().code, 0)

    def test_something_that_is_no_processor_is_refused(self) -> None:
        ending = Child("run(42)").end()
        self.assertEqual(ending.code, 1)
        self.assertIn("run() takes a Processor or a function, not int", ending.stderr)

    def test_a_processor_without_process_records_is_refused(self) -> None:
        ending = Child("class P(Processor): pass").end()
        self.assertEqual(ending.code, 1)
        self.assertIn("process_records", ending.stderr)

    def test_keys_of_newer_daemons_are_ignored_and_those_of_older_ones_not_missed(self) -> None:
        child = Child(EVERYTHING)
        self.assertEqual(
            child.ask({"action": "initialize", "shardId": "s", "extra": {"deep": [1]}}), status("initialize")
        )
        self.assertEqual(child.ask({"action": "processRecords", "records": []}), status("processRecords"))
        self.assertEqual(child.end().stderr, "initialize s None None\nprocess_records 0 None\n")

    def test_blank_lines_and_carriage_returns_are_ignored(self) -> None:
        child = Child(MINIMAL)
        child.send_line("\n  \n\r")
        child.send_line('{"action":"initialize","shardId":"s"}', end="\r\n")
        self.assertEqual(child.receive(), status("initialize"))
        self.assertEqual(child.end().code, 0)

    def test_what_the_daemon_should_not_say_ends_the_process_with_a_clear_error(self) -> None:
        for line, error in [
            ('{"action":"dance"}', "the daemon asked for 'dance', which this client does not know"),
            ("{}", "the daemon asked for None, which this client does not know"),
            ("hello", "the daemon sent a line that is not JSON"),
            ("[1]", "the daemon sent a line that is not a JSON object: '[1]'"),
            ("{} {}", "the daemon sent a line with something behind its JSON: '{} {}'"),
            ('{"action":"processRecords"}', "the daemon's processRecords has no 'records'"),
            ('{"action":"checkpoint","error":null}', "the daemon asked for 'checkpoint'"),
        ]:
            with self.subTest(line):
                child = Child(MINIMAL)
                child.send_line(line)
                self.assertIsNone(child.receive())
                ending = child.end()
                self.assertEqual(ending.code, 1)
                self.assertIn("ProtocolError: " + error, ending.stderr)


class ExceptionsOfTheProcessor(unittest.TestCase):
    ACTIONS = {
        "initialize": initialize(),
        "process_records": process_records(record(1)),
        "lease_lost": {"action": "leaseLost"},
        "shard_ended": {"action": "shardEnded"},
        "shutdown_requested": {"action": "shutdownRequested"},
    }

    def test_each_callback_that_raises_ends_the_process_without_a_status_and_with_a_traceback(self) -> None:
        for callback, message in self.ACTIONS.items():
            with self.subTest(callback):
                child = Child(MINIMAL + f"    def {callback}(self, *_): raise KeyError('of my own')")
                if callback != "initialize":
                    child.start()
                self.assertIsNone(child.ask(message))
                ending = child.end()
                self.assertEqual(ending.code, 1)
                self.assertIn("Traceback (most recent call last)", ending.stderr)
                self.assertIn("KeyError: 'of my own'", ending.stderr)
                self.assertIn(f"multilangd: {callback} of ", ending.stderr)

    def test_a_thread_that_goes_on_does_not_hide_the_failure_from_the_daemon(self) -> None:
        child = Child(
            MINIMAL
            + """
    def initialize(self, shard):
        import threading, time
        threading.Thread(target=time.sleep, args=(1,)).start()
        raise ValueError("no")
"""
        )
        self.assertIsNone(child.ask(initialize()))  # at once, although the process still runs
        self.assertEqual(child.end().code, 1)


class EndOfThePipe(unittest.TestCase):
    def test_at_any_point_of_a_conversation_it_is_a_clean_exit(self) -> None:
        conversation = [initialize(), process_records(record(1)), reply(), {"action": "shardEnded"}, reply()]
        for length in range(len(conversation) + 1):
            with self.subTest(messages=length):
                child = Child(
                    """
class P(Processor):
    def process_records(self, records, checkpointer):
        checkpointer.checkpoint()
"""
                )
                for message in conversation[:length]:
                    child.send(message)
                    child.receive()
                self.assertEqual(child.end(), (0, "", [], []))

    def test_in_the_middle_of_a_message_it_is_a_clean_exit_and_nothing_is_processed(self) -> None:
        child = Child(EVERYTHING)
        child.send_line('{"action":"initialize","shardId":"s"}', end="")
        self.assertEqual(child.end(), (0, "", [], []))

    def test_while_a_checkpoint_waits_it_runs_finally_blocks_and_not_exception_handlers(self) -> None:
        child = Child(
            """
class P(Processor):
    def process_records(self, records, checkpointer):
        try:
            checkpointer.checkpoint()
        except Exception:
            print("handled")
        finally:
            print("cleaned up")
"""
        )
        child.start()
        self.assertEqual(child.ask(process_records(record(1))), checkpoint())
        self.assertEqual(child.end(), (0, "cleaned up\n", [], []))

    def test_a_daemon_that_no_longer_reads_is_a_clean_exit(self) -> None:
        ended = Child.unheard(EVERYTHING, initialize(), process_records(record(1)))
        self.assertEqual((ended.returncode, ended.stderr), (0, "initialize shardId-000000000007 TRIM_HORIZON 0\n"))
