"""Recorded conversations, read as a script: what the daemon said, and what a client must have answered.

A transcript is one JSON object per line: a head `{"transcript": TITLE, …}`, then `{"to": "child", "line": …}` and
`{"from": "child", "line": …}`, also `{"stderr": …}` and a last `{"exit": CODE}`.
"""

from __future__ import annotations

import json
from typing import Any, Dict, List, NamedTuple, Optional

from .daemon import Message, as_message

#: What a processor is not given a checkpointer for.
WITHOUT_CHECKPOINTS = ("initialize", "leaseLost")


class Turn(NamedTuple):
    """One action of the daemon, and all that was said until the child's status."""

    #: The daemon's line.
    line: str
    #: Positions that the child asked to checkpoint, in order.
    checkpoints: List[Message]
    #: The daemon's lines that answered them.
    replies: List[str]
    #: Lines on the child's stdout that were no messages.
    stray: List[str]

    @property
    def action(self) -> str:
        return str(json.loads(self.line)["action"])


def turns_of(transcript: str) -> List[Turn]:
    """The turns that the child completed as a client should.

    Recorded children misbehave on purpose, too. Of those only this is left out: checkpoints in turns that have no
    checkpointer, and the turn (necessarily the last) that the child failed to answer with the right status.
    """
    turns: List[Turn] = []
    turn: Optional[Turn] = None
    for event in map(json.loads, transcript.splitlines()):
        line = event.get("line", "").rstrip("\r\n")
        if event.get("to") == "child":
            message = json.loads(line)
            if message["action"] != "checkpoint":
                assert turn is None, f"the daemon sent {message['action']} while it waited for a status"
                turn = Turn(line, [], [], [])
            else:
                # A pipelining child has its reply after its status, which closed the turn.
                (turn or turns[-1]).replies.append(line)
        elif event.get("from") == "child":
            answer = as_message(line)
            if turn is None:
                continue  # said after the last status, when nobody listens
            if answer is None:
                turn.stray.append(line)
            elif answer["action"] == "checkpoint":
                turn.checkpoints.append(answer)
            elif answer.get("responseFor") == turn.action:
                turns.append(turn)
                turn = None
            else:
                break  # the daemon gave up here
    return [_without_checkpoints(turn) if turn.action in WITHOUT_CHECKPOINTS else turn for turn in turns]


def expected(turns: List[Turn]) -> List[Message]:
    """What a client answers, in order."""
    answers: List[Message] = []
    for turn in turns:
        answers += [position(request) for request in turn.checkpoints]
        answers.append({"action": "status", "responseFor": turn.action})
    return answers


def fed(turns: List[Turn]) -> List[str]:
    """What the daemon says, in order."""
    return [line for turn in turns for line in [turn.line, *turn.replies]]


def position(request: Dict[str, Any]) -> Message:
    """A checkpoint request without the freedoms of its spelling."""
    number = request.get("sequenceNumber", request.get("checkpoint"))
    return {
        "action": "checkpoint",
        "sequenceNumber": None if number is None else str(number),
        "subSequenceNumber": request.get("subSequenceNumber"),
    }


def _without_checkpoints(turn: Turn) -> Turn:
    return turn._replace(checkpoints=[], replies=[])
