"""The child of every worker of a fleet: notes what it was given, checkpoints every batch, and ends every shard as it should.

Appends to $FLEET_NOTES, one line for each event, in one write for each message, so that the lines of many children stay whole:

    TIME PID SHARD record SEQUENCE_NUMBER      TIME PID SHARD initialize SEQUENCE_NUMBER
    TIME PID SHARD stored SEQUENCE_NUMBER      TIME PID SHARD leaseLost|shardEnded|shutdownRequested -

With FLEET_DEAF set, it never answers shutdownRequested.
"""

import json
import os
import sys
import time

NOTES = os.open(os.environ["FLEET_NOTES"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)


def read():
    line = sys.stdin.readline()
    return json.loads(line) if line else None


def say(message):
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


def main():
    shard = "-"

    def note(what, *numbers):
        now = time.time()
        os.write(NOTES, "".join(f"{now:.3f} {os.getpid()} {shard} {what} {n}\n" for n in numbers).encode())

    def checkpoint(number):
        say({"action": "checkpoint", "sequenceNumber": number})
        reply = read()
        if reply is not None and not reply.get("error"):
            note("stored", number or "-")

    while message := read():
        action = message["action"]
        if action == "initialize":
            shard = message["shardId"]
            note(action, message["sequenceNumber"])
        elif action == "processRecords":
            numbers = [record["sequenceNumber"] for record in message["records"]]
            if numbers:
                note("record", *numbers)
                checkpoint(numbers[-1])
        else:
            note(action, "-")
            while action == "shutdownRequested" and os.environ.get("FLEET_DEAF"):
                time.sleep(60)
            if action in ("shardEnded", "shutdownRequested"):
                checkpoint(None)
        say({"action": "status", "responseFor": action})


if __name__ == "__main__":
    main()
