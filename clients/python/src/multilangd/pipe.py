"""The two pipes to the daemon: owns file descriptors and JSON lines, knows nothing of what they mean."""

from __future__ import annotations

import json
import os
import sys
from io import FileIO
from typing import Any, Dict, Optional

from .errors import DaemonGone, ProtocolError

#: As much as a pipe can hold on Linux by default. Doubled until the longest line fits (a batch of 10 MB needs 16 MiB).
_BUFFER_BYTES = 64 * 1024

# json.dumps and json.loads would make and ask these anew for every message.
_encode = json.JSONEncoder(separators=(",", ":")).encode
_decode = json.JSONDecoder().raw_decode


class Pipe:
    """Messages from and to the daemon."""

    def __init__(self, requests_fd: int, answers_fd: int) -> None:
        self._requests = _Lines(requests_fd)
        self._answers_fd = answers_fd

    @classmethod
    def take(cls) -> "Pipe":
        """Moves the daemon's pipes away from file descriptors 0 and 1.

        After this, whatever writes to standard output (print, a subprocess, a C extension) ends up on stderr, and
        whatever reads from standard input finds it empty: neither can disturb the conversation.
        """
        pipe = cls(os.dup(0), os.dup(1))
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, 0)
        os.close(nothing)
        os.dup2(2, 1)
        reconfigure = getattr(sys.stdout, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(line_buffering=True)  # or prints would wait for a full buffer
        return pipe

    def receive(self) -> Optional[Dict[str, Any]]:
        """The next message; None when the daemon has closed the pipe."""
        while True:
            line = self._requests.next()
            if line is None:
                return None
            line = line.strip()
            if line:
                return _message(line)

    def send(self, message: Dict[str, Any]) -> None:
        """Writes one message. Raises `DaemonGone` if nobody reads it."""
        # The line feed in front ends whatever was printed before the pipe was taken; empty lines are ignored.
        line = f"\n{_encode(message)}\n".encode("ascii")
        try:
            while line:
                line = line[os.write(self._answers_fd, line) :]
        except BrokenPipeError:
            raise DaemonGone() from None

    def close(self) -> None:
        """Shows the daemon that nothing more will come, even if a thread keeps this process alive."""
        self._requests.close()
        os.close(self._answers_fd)


class _Lines:
    """Lines of a pipe, read into one buffer that is kept.

    Python's own readline would ask the system for fresh memory for every batch, which costs more than the reading.
    """

    def __init__(self, fd: int) -> None:
        self._file = FileIO(fd, "rb")
        self._buffer = bytearray(_BUFFER_BYTES)
        self._view = memoryview(self._buffer)  # slices of it copy nothing
        self._start = self._end = 0  # what has been read and not yet returned

    def next(self) -> Optional[str]:
        """One line without its end; None at the end of the pipe, also in the middle of a line: the daemon died."""
        searched = self._start
        while (at := self._buffer.find(b"\n", searched, self._end)) < 0:
            self._make_room()
            searched = self._end
            count = self._file.readinto(self._view[self._end :])
            if not count:
                return None
            self._end += count
        text = str(self._view[self._start : at], "utf-8", "replace")
        self._start = at + 1
        return text

    def close(self) -> None:
        self._file.close()

    def _make_room(self) -> None:
        if self._start:  # seldom with contents: the daemon waits for an answer before it says more
            contents = self._buffer[self._start : self._end]
            self._buffer[: len(contents)] = contents
            self._start, self._end = 0, len(contents)
        if self._end == len(self._buffer):
            self._view.release()  # what is looked at cannot grow
            self._buffer.extend(bytes(len(self._buffer)))
            self._view = memoryview(self._buffer)


def _message(text: str) -> Dict[str, Any]:
    try:
        message, end = _decode(text)
    except ValueError as error:
        raise ProtocolError(f"the daemon sent a line that is not JSON ({error}): {text[:200]!r}") from None
    if end < len(text):
        raise ProtocolError(f"the daemon sent a line with something behind its JSON: {text[:200]!r}")
    if not isinstance(message, dict):
        raise ProtocolError(f"the daemon sent a line that is not a JSON object: {text[:200]!r}")
    return message
