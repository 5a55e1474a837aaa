"""A child that misbehaves on purpose, by scenario: `scripted_child.py SCENARIO`. It uses no client library, so that every byte that it
says stands in this file.

Each scenario is a function that is called with every message of the daemon, before the status is sent. One that returns DONE has sent
the status itself (or will not). The scenarios are listed by name at the end of the file.
"""

import json
import os
import sys
import time

DONE = object()


class Child:
    def __init__(self):
        self.batches = 0
        self.batch = []  # records of the last batch
        self.all = []  # records of all batches

    def read(self):
        line = sys.stdin.readline()
        return json.loads(line) if line else None

    def say(self, text):
        sys.stdout.write(text + "\n")
        sys.stdout.flush()

    def ask(self, text):
        """Says a checkpoint request and reads its reply."""
        self.say(text)
        return self.read()

    def checkpoint(self, *position):
        names = ("sequenceNumber", "subSequenceNumber")
        return self.ask(compact({"action": "checkpoint", **dict(zip(names, position))}))

    def status(self, action):
        self.say(compact({"action": "status", "responseFor": action}))

    def serve(self, scenario):
        while message := self.read():
            action = message["action"]
            if action == "processRecords":
                self.batches += 1
                self.batch = message["records"]
                self.all += self.batch
            if scenario(self, message, action) is not DONE:
                self.status(action)


def compact(value):
    return json.dumps(value, separators=(",", ":"))


def number(record, more=0):
    return str(int(record["sequenceNumber"]) + more)


def is_first(child, action):
    return action == "processRecords" and child.batches == 1


def checkpoint_at_every_turn(child, message, action):
    """What a good child does: every batch, and both ends where it is allowed."""
    if action == "processRecords" and child.batch:
        if child.batches % 2:
            child.checkpoint(None)
        else:
            child.checkpoint(child.batch[-1]["sequenceNumber"])
    if action in ("shutdownRequested", "shardEnded"):
        child.checkpoint(None)


def no_checkpoints(child, message, action):
    """A child that only listens."""


def checkpoint_errors(child, message, action):
    """Each position that is refused, then the good ones at the limits."""
    if action in ("initialize", "leaseLost"):
        child.checkpoint(None)
        child.checkpoint("1")
    if is_first(child, action):
        first, last = child.batch[0], child.batch[-1]
        child.checkpoint(number(last, 1))
        child.checkpoint(last["sequenceNumber"], 1)
        for text in ("", "abc", "-1", "1", "SHARD_END", "TRIM_HORIZON", "LATEST", "AT_TIMESTAMP"):
            child.checkpoint(text)
        child.checkpoint(first["sequenceNumber"], -1)
        child.checkpoint(first["sequenceNumber"])
        child.checkpoint(last["sequenceNumber"], 0)
        child.checkpoint(last["sequenceNumber"], None)
        child.checkpoint(first["sequenceNumber"])
        child.checkpoint(None)
    if action == "shutdownRequested":
        child.checkpoint(number(child.all[-1], 1))
        child.checkpoint("SHARD_END")
        child.checkpoint(None)


def sub_sequences(child, message, action):
    """Positions inside an aggregated record."""
    if is_first(child, action):
        inside = [r for r in child.batch if r["sequenceNumber"] == child.batch[0]["sequenceNumber"]]
        for record in inside[::2]:
            child.checkpoint(record["sequenceNumber"], record["subSequenceNumber"])
        child.checkpoint(inside[0]["sequenceNumber"], 0)
        child.checkpoint(inside[0]["sequenceNumber"])
        child.checkpoint(inside[-1]["sequenceNumber"], inside[-1]["subSequenceNumber"])
        child.checkpoint(child.batch[-1]["sequenceNumber"], child.batch[-1]["subSequenceNumber"] + 1)
        child.checkpoint(None, 99)


def checkpoint_inside(child, message, action):
    """Stops in the middle of an aggregated record, once; whoever comes after it gets the rest."""
    if is_first(child, action):
        inside = [r for r in child.batch if r["sequenceNumber"] == child.batch[0]["sequenceNumber"]]
        middle = inside[len(inside) // 2]
        child.checkpoint(middle["sequenceNumber"], middle["subSequenceNumber"])


def number_forms(child, message, action):
    """Numbers and texts that are turned into each other in a request."""
    if not is_first(child, action):
        return None
    request = '{"action":"checkpoint","sequenceNumber":%s,"subSequenceNumber":%s}'
    first = child.batch[0]["sequenceNumber"]
    for sub in ('"0"', '" 0 "', '"+0"', "0.9", "-0.9", "0e5", '""', '"  "', '"null"', "null", "7.9", "-7.9", "7e2", '"7"'):
        child.ask(request % (first, sub))
    for sequence in ("4.9e3", "true", "12345", "-5", "0.0", f'"{first}"'):
        child.ask(request % (sequence, "null"))
    # These lines are skipped, so no reply comes.
    for sub in ("true", '"x"', '"7.9"', "{}", "[]", "[1]", "9223372036854775808", '"9223372036854775808"'):
        child.say(request % (first, sub))
    for sequence in ("{}", "[]", "9" * 1001):
        child.say(request % (sequence, "null"))
    child.ask('{"action":"checkpoint"}')
    child.ask('{"action":"checkpoint","sequenceNumber":"%s"}' % first)
    child.ask('{"action":"checkpoint","error":null,"sequenceNumber":null}')
    child.ask('{"action":"checkpoint","error":"mine","sequenceNumber":"1","sequenceNumber":"2"}')
    return None


GARBAGE = [
    "", " ", "\t", "plain text", '{"action":"status"', "[]", '[{"action":"status","responseFor":"processRecords"}]', "5", '"x"', "true", "{}",
    '{"responseFor":"processRecords"}', '{"action":null,"responseFor":"processRecords"}', '{"action":"Status","responseFor":"processRecords"}',
    '{"action":"state","responseFor":"processRecords"}',
    '{"action":"status","action":"status","responseFor":"processRecords"}', 'INFO {"action":"status","responseFor":"processRecords"}',
    '\ufeff{"action":"status","responseFor":"processRecords"}', "{'action':'status','responseFor':'processRecords'}",
    '{action:"status",responseFor:"processRecords"}', '{"action":"status","responseFor":"processRecords",}',
    '/* */ {"action":"status","responseFor":"processRecords"}', '{"action":"status","responseFor":"process\tRecords"}',
    '{"action":"status","responseFor":{}}', '{"action":"status","responseFor":[]}', '{"action":"status","responseFor":NaN}',
    '{"action":"initialize","shardId":"shardId-000000000001","sequenceNumber":"1","subSequenceNumber":0}', '{"action":"leaseLost"}',
    '{"action":"shutdown","reason":"ZOMBIE"}', '{"action":"processRecords","records":[],"millisBehindLatest":1}',
    "progress 10%\rprogress 20%\rprogress 30%", "nullx", "nul", "тест",
]


def garbage(child, message, action):
    """Lines that mean nothing, before a status that does."""
    if is_first(child, action):
        for line in GARBAGE:
            child.say(line)
        child.say(compact(message))  # an echo of what was received


def skipped_by_java_only(child, message, action):
    """Lines that the Java daemon skips and multilangd understands: an unknown key, and the old name of `sequenceNumber`."""
    if is_first(child, action):
        child.say('{"action":"checkpoint","checkpoint":"%s"}' % child.batch[0]["sequenceNumber"])
        child.say('{"action":"status","responseFor":"processRecords","pid":4}')


def odd_but_accepted(child, message, action):
    """Unusual ways to write what is accepted."""
    if action == "initialize":
        child.say('  {"responseFor" : "initialize" , "action" : "status"}  ')
    elif action == "processRecords" and child.batches == 1:
        child.ask('{"action":"checkpoint","sequenceNumber":null} and more text')
        child.ask('{"action":"checkpoint","sequenceNumber":null}{"action":"status","responseFor":"shardEnded"}')
        child.ask('{"action":"\\u0063heckpoint","sequenceNumber":null}')
        child.ask('a line that a carriage return ends\r{"action":"checkpoint","sequenceNumber":null}\r')
        child.say('{"action":"status","responseFor":"wrong","responseFor":"processRecords"}')
    elif action == "processRecords":
        child.say('{"action":"status",\t"responseFor":"processRecords"}\r')
    else:
        child.say('\n\n{"action":"status","responseFor":"%s"} trailing' % action)
    return DONE


def pipelined(child, message, action):
    """Requests and the status in one write, the replies read afterwards."""
    if action in ("processRecords", "shutdownRequested", "shardEnded") and child.all:
        record = child.all[-1]
        requests = ['{"action":"checkpoint","sequenceNumber":"%s"}' % record["sequenceNumber"]]
        if action == "shardEnded":
            requests.append('{"action":"checkpoint","sequenceNumber":null}')
        else:
            requests.append('{"action":"checkpoint","sequenceNumber":"%s"}' % number(record, 1))
        child.say("\n".join([*requests, compact({"action": "status", "responseFor": action})]))
        for _ in requests:
            child.read()
        return DONE
    return None


def slow_batch(child, message, action):
    """Holds its batch until $HOLD is there, then checkpoints: by then the lease belongs to someone else."""
    if is_first(child, action):
        child.checkpoint(child.batch[0]["sequenceNumber"])
        sys.stderr.write("holding\n")
        sys.stderr.flush()
        end = time.monotonic() + 120
        while not os.path.exists(os.environ["HOLD"]) and time.monotonic() < end:
            time.sleep(0.1)
        child.checkpoint(None)
        child.checkpoint(child.batch[-1]["sequenceNumber"])
    if action == "leaseLost":
        child.checkpoint(None)


def shard_end_by_number(child, message, action):
    """Finishes the shard by naming its last record."""
    if action == "shardEnded":
        child.checkpoint(child.all[-1]["sequenceNumber"], child.all[-1]["subSequenceNumber"])


def shard_end_by_name(child, message, action):
    """Finishes the shard by the name of its end, after positions that are refused."""
    if action == "shardEnded":
        child.checkpoint(number(child.all[-1], 1))
        child.checkpoint("SHARD_END", 0)
        child.checkpoint("SHARD_END")
        child.checkpoint(None)


def talks_on_stderr(child, message, action):
    """Log lines on stderr, one of them without its end."""
    sys.stderr.write(f"got {action}\nhalf a line about {action}; ")
    sys.stderr.flush()


def status_for_another(child, message, action):
    """Answers a batch with the status of another action."""
    if action == "processRecords":
        child.status("initialize")
        return DONE
    return None


def status_for_nothing(child, message, action):
    if action == "processRecords":
        child.say('{"action":"status"}')
        return DONE
    return None


def dies(child, message, action):
    if action == "processRecords":
        sys.stderr.write("dying as planned\n")
        sys.exit(7)


def says_null(child, message, action):
    if action == "processRecords":
        child.say("null")


def never_answers(child, message, action):
    """Garbage, one checkpoint, more garbage, and no status."""
    if action == "processRecords":
        child.say("working")
        child.checkpoint(None)
        for turn in range(12):
            time.sleep(1)
            child.say(f"still working {turn}")
        return DONE
    return None


def leaves_when_asked_to_stop(child, message, action):
    """Answers shutdownRequested and exits at once, as several small clients do."""
    if action == "shutdownRequested":
        child.status(action)
        sys.exit(0)


def refuses_to_stop(child, message, action):
    """Answers shutdownRequested with another status."""
    if action == "shutdownRequested":
        child.status("leaseLost")
        return DONE
    return None


SCENARIOS = {
    each.__name__.replace("_", "-"): each
    for each in (
        checkpoint_at_every_turn, no_checkpoints, checkpoint_errors, sub_sequences, checkpoint_inside, number_forms, garbage,
        skipped_by_java_only, odd_but_accepted, pipelined, slow_batch, shard_end_by_number, shard_end_by_name, talks_on_stderr,
        status_for_another, status_for_nothing, dies, says_null, never_answers, leaves_when_asked_to_stop, refuses_to_stop,
    )
}

if __name__ == "__main__":
    sys.stdin.reconfigure(encoding="utf-8")
    sys.stdout.reconfigure(encoding="utf-8", newline="\n")
    Child().serve(SCENARIOS[sys.argv[1]])
