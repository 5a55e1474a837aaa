"""The two pipes to the daemon: owns file descriptors and JSON lines, knows nothing of what they mean."""

from __future__ import annotations

import json
import os
import sys
from typing import Any, Dict, Optional

from .errors import DaemonGone, ProtocolError

#: As much as a pipe can hold on Linux, so that one read empties it. Memory that is not needed is never touched.
_READ_BYTES = 1024 * 1024


class Pipe:
    """Messages from and to the daemon."""

    def __init__(self, requests_fd: int, answers_fd: int) -> None:
        self._requests = open(requests_fd, "rb", buffering=_READ_BYTES)
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
            line = self._requests.readline()
            if not line.endswith(b"\n"):
                return None  # the daemon ended, perhaps in mid-message
            text = line.decode("utf-8", "replace").strip()
            if text:
                return _message(text)

    def send(self, message: Dict[str, Any]) -> None:
        """Writes one message. Raises `DaemonGone` if nobody reads it."""
        # The line feed in front ends whatever was printed before the pipe was taken; empty lines are ignored.
        line = f"\n{json.dumps(message, separators=(',', ':'))}\n".encode("ascii")
        try:
            while line:
                line = line[os.write(self._answers_fd, line) :]
        except BrokenPipeError:
            raise DaemonGone() from None

    def close(self) -> None:
        """Shows the daemon that nothing more will come, even if a thread keeps this process alive."""
        self._requests.close()
        os.close(self._answers_fd)


def _message(text: str) -> Dict[str, Any]:
    try:
        message = json.loads(text)
    except ValueError as error:
        raise ProtocolError(f"the daemon sent a line that is not JSON ({error}): {text[:200]!r}") from None
    if not isinstance(message, dict):
        raise ProtocolError(f"the daemon sent a line that is not a JSON object: {text[:200]!r}")
    return message
