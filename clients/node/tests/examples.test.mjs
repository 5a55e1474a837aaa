// The examples work as they stand.

import assert from "node:assert/strict";
import { join } from "node:path";
import { test } from "node:test";
import { Child, ROOT, checkpoint, processRecords, record, reply, status } from "./daemon.mjs";

test("the word count counts", async () => {
  const child = new Child(process.execPath, [join(ROOT, "examples/wordcount.mjs")]);
  await child.start();
  assert.deepEqual(await child.ask(processRecords(record(1, "to be"), record(2, "or not  To\nbe"))), checkpoint());
  assert.deepEqual(await child.ask(reply()), status("processRecords"));
  assert.deepEqual(await child.ask({ action: "shardEnded" }), checkpoint());
  assert.deepEqual(await child.ask(reply()), status("shardEnded"));
  assert.deepEqual(await child.end(), {
    code: 0,
    stderr: "counting the words of shardId-000000000007\n6 words: to 2, be 2, or 1, not 1\nthe shard is complete\n",
    stray: [],
    rest: [],
  });
});
