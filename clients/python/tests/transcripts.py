"""Recorded conversations, read as a script: what the daemon said, and what a client must answer.

The format is described in protocol/transcripts/README.md.
"""

from __future__ import annotations

import json
from typing import List, NamedTuple

from .daemon import Message, as_message

#: What a processor is not given a checkpointer for.
WITHOUT_CHECKPOINTS = ("initialize", "leaseLost")


class Turn(NamedTuple):
    """One action of the daemon, and what was said until its next."""

    #: The daemon's line.
    line: str
    action: str
    #: The daemon's lines that answered checkpoints.
    replies: List[str]
    #: What the child wrote to stdout that was no message.
    stray: List[str]

    @property
    def checkpoints(self) -> List[Message]:
        """The requests of the child as the daemon understood them: its replies repeat them."""
        positions = map(json.loads, self.replies)
        return [
            {key: each[key] for key in ("action", "sequenceNumber", "subSequenceNumber")} for each in positions
        ]


def turns_of(transcript: str) -> List[Turn]:
    """Every turn of a recorded conversation.

    Recorded children misbehave on purpose, too. Of what they did one thing is left out, since a client cannot do it:
    checkpoints in turns that have no checkpointer. Where a child's status was wrong or missing, a client's is not.
    """
    turns: List[Turn] = []
    for event in map(json.loads, transcript.splitlines()):
        if event.get("to") == "child":
            message = json.loads(event["line"])
            if message["action"] != "checkpoint":
                turns.append(Turn(event["line"], message["action"], [], []))
            elif turns[-1].action not in WITHOUT_CHECKPOINTS:
                turns[-1].replies.append(event["line"])
        elif event.get("from") == "child" and turns and as_message(event["line"]) is None:
            turns[-1].stray.append(event["line"])
    return turns


def expected(turns: List[Turn]) -> List[Message]:
    """What a client answers, in order."""
    answers: List[Message] = []
    for turn in turns:
        answers += turn.checkpoints
        answers.append({"action": "status", "responseFor": turn.action})
    return answers


def fed(turns: List[Turn]) -> List[str]:
    """What the daemon says, in order."""
    return [line for turn in turns for line in [turn.line, *turn.replies]]
