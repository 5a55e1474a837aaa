// A processor that does what the child of a transcript did. Started by transcripts.test.mjs with the transcript's path.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { CheckpointError, run } from "../index.mjs";
import { turnsOf } from "./transcripts.mjs";

const turns = turnsOf(readFileSync(process.argv[2], "utf8"))[Symbol.iterator]();

async function replay({ records = [], checkpointer }) {
  for (const { data, approximateArrivalTimestamp } of records) {
    assert.ok(data instanceof Buffer && approximateArrivalTimestamp instanceof Date);
  }
  const { stray, checkpoints } = turns.next().value;
  for (const line of stray) console.log(line);
  for (const { sequenceNumber, subSequenceNumber } of checkpoints) {
    await checkpointer.checkpoint(sequenceNumber, subSequenceNumber).catch((error) => {
      if (!(error instanceof CheckpointError)) throw error;
    });
  }
}

run(
  {
    initialize: () => replay({}),
    processRecords: replay,
    leaseLost: () => replay({}),
    shardEnded: replay,
    shutdownRequested: replay,
  },
  { retry: { triesMax: 1 } },
);
