"""The daemon's side of the pipe: starts a processor as a real child process and talks to it."""

from __future__ import annotations

import base64
import json
import os
import queue
import re
import subprocess
import sys
import tempfile
import textwrap
import threading
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Optional

ROOT = Path(__file__).parent.parent
PATIENCE_S = 30.0

Message = Dict[str, Any]


class Ending(NamedTuple):
    """How a child ended."""

    code: int
    stderr: str
    #: Lines on stdout that were not messages.
    stray: List[str]
    #: Messages nobody had asked for.
    rest: List[Message]


class Child:
    """A processor under test. Source that does not call `run` gets one that tries checkpoints again without waiting."""

    def __init__(self, source: str, *arguments: str, environment: Optional[Dict[str, str]] = None) -> None:
        source = "from multilangd import *\n" + textwrap.dedent(source)
        if not re.search(r"^run\(", source, re.MULTILINE):
            source += "\nrun(P, retry=Retry(tries_max=3, delay_first=0.001))\n"
        self._start([sys.executable, "-c", source, *arguments], environment)

    @staticmethod
    def unheard(source: str, *messages: Message) -> "subprocess.CompletedProcess[str]":
        """Runs a processor of which nobody reads the stdout."""
        read_end, write_end = os.pipe()
        os.close(read_end)
        try:
            return subprocess.run(
                [sys.executable, "-c", "from multilangd import *\n" + textwrap.dedent(source) + "\nrun(P)"],
                input="".join(json.dumps(message) + "\n" for message in messages),
                stdout=write_end,
                stderr=subprocess.PIPE,
                env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
                text=True,
                timeout=PATIENCE_S,
            )
        finally:
            os.close(write_end)

    @classmethod
    def program(cls, *command: str) -> "Child":
        """A child that is a program of its own."""
        child = cls.__new__(cls)
        child._start(list(command), None)
        return child

    def _start(self, command: List[str], environment: Optional[Dict[str, str]]) -> None:
        self._stderr = tempfile.TemporaryFile()
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            env={**os.environ, "PYTHONPATH": str(ROOT / "src"), **(environment or {})},
        )
        self._messages: "queue.Queue[Optional[Message]]" = queue.Queue()
        self._stray: List[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def send(self, message: Message) -> None:
        self.send_line(json.dumps(message, separators=(",", ":")))

    def send_line(self, line: str, end: str = "\n") -> None:
        stdin = self._process.stdin
        assert stdin is not None
        try:
            stdin.write((line + end).encode())
            stdin.flush()
        except BrokenPipeError:
            pass  # the child has ended: the test sees that in what it says

    def receive(self) -> Optional[Message]:
        """The next message; None if the child closed its stdout."""
        return self._messages.get(timeout=PATIENCE_S)

    def ask(self, message: Message) -> Optional[Message]:
        self.send(message)
        return self.receive()

    def start(self) -> None:
        """Through `initialize`."""
        assert self.ask(initialize()) == status("initialize")

    def end(self) -> Ending:
        """Closes the child's stdin and waits for it."""
        assert self._process.stdin is not None and self._process.stdout is not None
        try:
            self._process.stdin.close()
        except BrokenPipeError:
            pass
        try:
            code = self._process.wait(PATIENCE_S)
        finally:
            self._process.kill()
        self._reader.join(PATIENCE_S)
        self._process.stdout.close()
        rest = [message for message in self._messages.queue if message is not None]
        self._stderr.seek(0)
        stderr = self._stderr.read().decode("utf-8", "backslashreplace")
        self._stderr.close()
        return Ending(code, stderr, self._stray, rest)

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            text = line.decode().rstrip("\n")
            message = as_message(text)
            if message is not None:
                self._messages.put(message)
            elif text:
                self._stray.append(text)
        self._messages.put(None)


def as_message(line: str) -> Optional[Message]:
    """What the daemon accepts as a message; None for a line that it skips."""
    try:
        message = json.loads(line)
    except ValueError:
        return None
    return message if isinstance(message, dict) and message.get("action") in ("status", "checkpoint") else None


def initialize(sequence_number: str = "TRIM_HORIZON") -> Message:
    return {
        "action": "initialize",
        "shardId": "shardId-000000000007",
        "sequenceNumber": sequence_number,
        "subSequenceNumber": 0,
    }


def record(number: int, data: bytes = b"hello", key: str = "k", sub: int = 0) -> Message:
    return {
        "data": base64.b64encode(data).decode(),
        "partitionKey": key,
        "sequenceNumber": str(10**55 + number),
        "approximateArrivalTimestamp": 1767225600123,
        "subSequenceNumber": sub,
        "action": "record",
    }


def process_records(*records: Message) -> Message:
    return {"action": "processRecords", "records": list(records), "millisBehindLatest": 5000}


def status(action: str) -> Message:
    return {"action": "status", "responseFor": action}


def checkpoint(sequence_number: Optional[str] = None, sub_sequence_number: Optional[int] = None) -> Message:
    """A child's request."""
    return {
        "action": "checkpoint",
        "sequenceNumber": sequence_number,
        "subSequenceNumber": sub_sequence_number,
    }


def reply(error: Optional[str] = None) -> Message:
    """The daemon's answer to `checkpoint()`."""
    return {**checkpoint(), "error": error}
