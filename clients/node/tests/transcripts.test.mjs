// This client holds the conversations that were recorded with the Java daemon.

import assert from "node:assert/strict";
import { existsSync, mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { Child, ROOT, checkpoint, initialize, processRecords, record, reply, status } from "./daemon.mjs";
import { expected, fed, turnsOf } from "./transcripts.mjs";

const TRANSCRIPTS = join(ROOT, "../../protocol/transcripts");
const recorded = existsSync(TRANSCRIPTS) ? readdirSync(TRANSCRIPTS).filter((name) => name.endsWith(".jsonl")) : [];

test("conversations are recorded", { skip: !existsSync(join(TRANSCRIPTS, "README.md")) && "none are landed yet" }, () => {
  assert.notEqual(recorded.length, 0, `${TRANSCRIPTS} has a README but no *.jsonl`);
});

for (const name of recorded.sort()) {
  test(`the conversation ${name} is held`, () => replay(join(TRANSCRIPTS, name)));
}

test("a whole tenure is replayed", async () => {
  const answers = await replayMade(
    { to: "child", line: initialize() },
    { from: "child", line: status("initialize") },
    { to: "child", line: processRecords(record(1), record(2)) },
    { from: "child", line: "Error: garbage" },
    { from: "child", line: checkpoint("77", 3) },
    { to: "child", line: { ...checkpoint("77", 3), error: "ThrottlingException" } },
    { from: "child", line: checkpoint("77", 3) },
    { to: "child", line: { ...checkpoint("77", 3), error: null } },
    { from: "child", line: status("processRecords") },
    { stderr: "something" },
    { to: "child", line: { action: "shardEnded" } },
    { from: "child", line: checkpoint() },
    { to: "child", line: reply() },
    { from: "child", line: status("shardEnded") },
    { exit: 0 },
  );
  assert.deepEqual(answers, [
    status("initialize"),
    checkpoint("77", 3),
    checkpoint("77", 3),
    status("processRecords"),
    checkpoint(),
    status("shardEnded"),
  ]);
});

test("what a faulty child did is done right", async () => {
  const answers = await replayMade(
    { to: "child", line: initialize() },
    { from: "child", line: checkpoint() },
    { to: "child", line: reply("InvalidStateException") },
    { from: "child", line: status("initialize") },
    { to: "child", line: processRecords(record(1)) },
    { from: "child", line: status("leaseLost") },
    { exit: 1 },
  );
  assert.deepEqual(answers, [status("initialize"), status("processRecords")]);
});

/** Replays a conversation made up here; messages stand for their lines. */
async function replayMade(...events) {
  const directory = mkdtempSync(join(tmpdir(), "transcript-"));
  try {
    const path = join(directory, "made.jsonl");
    const lines = events.map(({ line, ...event }) => (typeof line === "object" ? { ...event, line: JSON.stringify(line) } : { ...event, line }));
    const head = { transcript: "made up", daemon: "none", child: "none" };
    writeFileSync(path, [head, ...lines].map((line) => JSON.stringify(line) + "\n").join(""));
    return await replay(path);
  } finally {
    rmSync(directory, { recursive: true });
  }
}

async function replay(path) {
  const turns = turnsOf(readFileSync(path, "utf8"));
  assert.notEqual(turns.length, 0, `${path}: nothing was said`);
  const child = new Child(process.execPath, [join(ROOT, "tests/replaying.mjs"), path]);
  for (const line of fed(turns)) child.sendLine(line);
  const answers = [];
  for (const _ of expected(turns)) answers.push(await child.receive());
  const { code, stderr, stray, rest } = await child.end();
  assert.deepEqual({ code, stray, rest }, { code: 0, stray: [], rest: [] }, stderr);
  assert.deepEqual(answers, expected(turns));
  return answers;
}
