#!/usr/bin/env python3
"""A child that speaks the protocol by hand, notes all that it hears, and misbehaves when told to.

Usage: record.py NOTES [BEHAVIOUR[=VALUE] ...]

Each line of NOTES is one JSON object: what was heard ("heard"), by which process ("pid"), for which shard ("shard").
Behaviours:
  checkpoint=batch|never|end    when to checkpoint (default batch: after each batch, and at every chance to)
  crash_at=N                    kill itself with -9 when it has seen N records, before answering (once per NOTES file)
  exit_at=N                     the same with exit code 3
  slow_ms=N                     think this long about each batch
  slow_initialize_ms=N          think this long in initialize
  garbage                       print rubbish on stdout before every answer
  noise_bytes=N                 print a line of N bytes on stdout before every answer
  stderr                        print a line on stderr per batch
  ignore_eof                    stay when stdin closes, and ignore SIGTERM
  no_end_checkpoint=N           do not checkpoint in the first N shardEnded messages
  no_data                       note records without their data
"""
import json
import os
import signal
import sys
import time

notes = open(sys.argv[1], "a", buffering=1)
options = dict((word.split("=", 1) + [""])[:2] for word in sys.argv[2:])
shard = None
seen = 0


def note(**facts):
    # One write per line: the file is shared by every child of the test.
    os.write(notes.fileno(), (json.dumps({"pid": os.getpid(), "shard": shard, **facts}) + "\n").encode())


def say(message):
    if "garbage" in options:
        sys.stdout.write("this is no message\n\n{\"action\":\n[]\nnull\n\x00\xff\t{}\n")
    if "noise_bytes" in options:
        sys.stdout.write("x" * int(options["noise_bytes"]) + "\n")
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


def hear():
    line = sys.stdin.readline()
    return json.loads(line) if line else None


def checkpoint():
    say({"action": "checkpoint", "sequenceNumber": None, "subSequenceNumber": None})
    reply = hear()
    if reply is None:
        return None
    note(heard="checkpoint", error=reply["error"])
    return reply["error"]


def once(name):
    """True the first time any child of this NOTES file asks."""
    try:
        os.close(os.open(f"{sys.argv[1]}.{name}", os.O_CREAT | os.O_EXCL))
        return True
    except FileExistsError:
        return False


def count(name):
    """How often any child of this NOTES file has asked before."""
    number = 0
    while not once(f"{name}.{number}"):
        number += 1
    return number


if "ignore_eof" in options:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
note(heard="start")
sys.stdout.reconfigure(errors="surrogateescape")
when = options.get("checkpoint", "batch")
while True:
    message = hear()
    if message is None:
        note(heard="eof")
        break
    action = message["action"]
    if action == "initialize":
        shard = message["shardId"]
        note(heard=action, at=message["sequenceNumber"], sub=message["subSequenceNumber"])
        time.sleep(float(options.get("slow_initialize_ms", 0)) / 1000)
    elif action == "processRecords":
        records = [
            [r["sequenceNumber"], r["subSequenceNumber"], r["partitionKey"], None if "no_data" in options else r["data"]]
            for r in message["records"]
        ]
        seen += len(records)
        time.sleep(float(options.get("slow_ms", 0)) / 1000)
        for name in ("crash_at", "exit_at"):
            if name in options and seen >= int(options[name]) and once(name):
                note(heard=action, died=True, records=[])
                if name == "exit_at":
                    sys.exit(3)
                os.kill(os.getpid(), signal.SIGKILL)
        note(heard=action, records=records, behind=message["millisBehindLatest"])
        if "stderr" in options:
            print(f"processed {len(records)} records", file=sys.stderr, flush=True)
        if when == "batch":
            checkpoint()
    elif action == "shardEnded":
        note(heard=action)
        if "no_end_checkpoint" not in options or count("no_end_checkpoint") >= int(options["no_end_checkpoint"]):
            checkpoint()
    elif action == "shutdownRequested":
        note(heard=action)
        if when != "never":
            checkpoint()
    else:
        note(heard=action)
    say({"action": "status", "responseFor": action})
while "ignore_eof" in options:
    time.sleep(1)
