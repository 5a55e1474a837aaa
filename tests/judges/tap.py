"""The recorder: stands between a daemon and a child, passes every byte on, and writes every line down.

A daemon starts it as `executableName`. It waits for the first line, which names the shard, looks in the plan for the child that this
shard shall have, starts it, and from then on only listens. It never changes what is said: a line is written down before it is passed
on, so that an answer never stands before its question.

$TAP_PLAN   a JSON file: {"<shard number>" or "*": {"child": "name for people", "argv": [...], "env": {...}}}
$TAP_OUT    a directory; each tenure becomes the file SHARD.TENURE.jsonl there, in the transcripts' own format but for its first line
"""

import itertools
import json
import os
import pathlib
import signal
import subprocess
import sys
import threading


def plan_for(first_line, plan):
    number = "*"
    try:
        number = str(int(json.loads(first_line)["shardId"][-12:]))
    except (ValueError, KeyError, TypeError):
        pass
    return number, plan.get(number) or plan["*"]


def open_new(directory, shard):
    """The first free file name for this shard: one tenure, one file."""
    for tenure in itertools.count():
        try:
            return open(pathlib.Path(directory) / f"{shard}.{tenure}.jsonl", "x", encoding="utf-8")
        except FileExistsError:
            continue


class Notes:
    def __init__(self, file):
        self.file, self.lock = file, threading.Lock()

    def write(self, **entry):
        with self.lock:
            self.file.write(json.dumps(entry, ensure_ascii=True, separators=(",", ":")) + "\n")
            self.file.flush()


def lines(fd):
    """The pipe's content, split after each \\n and nowhere else: a lone \\r is part of what was said."""
    rest = b""
    while chunk := os.read(fd, 1 << 16):
        *whole, rest = (rest + chunk).split(b"\n")
        for line in whole:
            yield line + b"\n"
    if rest:
        yield rest


def pass_on(source, sink, note):
    """Copies until the end of `source`; goes on reading when nobody listens any more, as the pipe itself would not."""
    for line in lines(source):
        note(line.removesuffix(b"\n").decode("utf-8", "replace"))
        try:
            view = memoryview(line)
            while view:
                view = view[os.write(sink, view):]
        except OSError:
            pass


def main():
    first = b""
    while not first.endswith(b"\n"):
        byte = os.read(0, 1)
        if not byte:
            break
        first += byte
    if not first:
        return 0  # the daemon said nothing and went away
    shard, wanted = plan_for(first, json.loads(pathlib.Path(os.environ["TAP_PLAN"]).read_text()))
    notes = Notes(open_new(os.environ["TAP_OUT"], shard))
    notes.write(child=wanted["child"])
    child = subprocess.Popen(
        wanted["argv"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env={**os.environ, **wanted.get("env", {})}
    )
    signal.signal(signal.SIGTERM, lambda *_: child.terminate())

    def to_child():
        notes.write(to="child", line=first.removesuffix(b"\n").decode("utf-8", "replace"))
        try:
            os.write(child.stdin.fileno(), first)
        except OSError:
            pass
        pass_on(0, child.stdin.fileno(), lambda line: notes.write(to="child", line=line))
        child.stdin.close()

    def from_child():
        pass_on(child.stdout.fileno(), 1, lambda line: notes.write(**{"from": "child", "line": line}))
        os.close(1)

    def errors():
        pass_on(child.stderr.fileno(), 2, lambda line: notes.write(stderr=line))

    threading.Thread(target=to_child, daemon=True).start()
    ends = [threading.Thread(target=f) for f in (from_child, errors)]
    for each in ends:
        each.start()
    for each in ends:
        each.join()
    code = child.wait()
    code = code if code >= 0 else 128 - code
    notes.write(exit=code)
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    sys.exit(main())
