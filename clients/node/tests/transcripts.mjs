// Recorded conversations, read as a script: what the daemon said, and what a client must answer.
// The format is described in protocol/transcripts/README.md.

import { asMessage } from "./daemon.mjs";

/** What a processor is not given a checkpointer for. */
const WITHOUT_CHECKPOINTS = ["initialize", "leaseLost"];

/**
 * Every turn of a recorded conversation: the daemon's `line` and its `action`, its `replies` to checkpoints, and the
 * `checkpoints` as it understood them (its replies repeat them); `stray` is what the child wrote that was no message.
 *
 * Recorded children misbehave on purpose, too. Of what they did one thing is left out, since a client cannot do it:
 * checkpoints in turns that have no checkpointer. Where a child's status was wrong or missing, a client's is not.
 */
export function turnsOf(transcript) {
  const turns = [];
  for (const text of transcript.split("\n").filter(Boolean)) {
    const { to, from, line } = JSON.parse(text);
    if (to === "child") {
      const { action, sequenceNumber, subSequenceNumber } = JSON.parse(line);
      if (action !== "checkpoint") {
        turns.push({ line, action, replies: [], checkpoints: [], stray: [] });
      } else if (!WITHOUT_CHECKPOINTS.includes(turns.at(-1).action)) {
        turns.at(-1).replies.push(line);
        turns.at(-1).checkpoints.push({ action, sequenceNumber, subSequenceNumber });
      }
    } else if (from === "child" && asMessage(line) === null) {
      turns.at(-1)?.stray.push(line);
    }
  }
  return turns;
}

/** What a client answers, in order. */
export const expected = (turns) =>
  turns.flatMap(({ action, checkpoints }) => [...checkpoints, { action: "status", responseFor: action }]);

/** What the daemon says, in order. */
export const fed = (turns) => turns.flatMap(({ line, replies }) => [line, ...replies]);
