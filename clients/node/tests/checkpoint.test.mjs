// How checkpoints are asked for, tried again and refused.

import assert from "node:assert/strict";
import { createRequire } from "node:module";
import { test } from "node:test";
import { checkpoint, processRecords, processing, processor, record, reply, sequenceNumber, status } from "./daemon.mjs";

const { RETRY, delayMs } = createRequire(import.meta.url)("../lib/checkpointer.cjs");
const clean = { code: 0, stderr: "", stray: [], rest: [] };

for (const [call, request] of [
  ["checkpoint()", checkpoint()],
  ["checkpoint(records[0])", checkpoint(sequenceNumber(1), 3)],
  ['checkpoint("77")', checkpoint("77")],
  ['checkpoint("77", 5)', checkpoint("77", 5)],
]) {
  test(`${call} names its position`, async () => {
    const child = await processing(`await checkpointer.${call};`, record(1, "", { sub: 3 }));
    assert.deepEqual(await child.receive(), request);
    assert.deepEqual(await child.ask(reply()), status("processRecords"));
    assert.deepEqual(await child.end(), clean);
  });
}

test("checkpoints that were started together go out one after the other", async () => {
  const child = await processing(
    "await Promise.all(records.map((record) => checkpointer.checkpoint(record)));",
    record(1),
    record(2),
  );
  assert.deepEqual(await child.receive(), checkpoint(sequenceNumber(1), 0));
  assert.deepEqual(await child.ask(reply()), checkpoint(sequenceNumber(2), 0));
  assert.deepEqual(await child.ask(reply()), status("processRecords"));
  assert.deepEqual(await child.end(), clean);
});

test("a checkpoint that nobody awaits is stored before the status", async () => {
  const child = await processing("checkpointer.checkpoint();", record(1));
  assert.deepEqual(await child.receive(), checkpoint());
  assert.deepEqual(await child.ask(reply()), status("processRecords"));
  assert.deepEqual(await child.end(), clean);
});

test("a checkpoint that nobody awaits still ends the process when it is refused", async () => {
  const child = await processing("checkpointer.checkpoint('77');", record(1));
  assert.deepEqual(await child.receive(), checkpoint("77"));
  assert.equal(await child.ask(reply("IllegalArgumentException")), null);
  const { code, stderr } = await child.end();
  assert.equal(code, 1);
  assert.match(stderr, /CheckpointError: IllegalArgumentException: not a position between .* \(asked for 77\)/);
});

test("between callbacks it is refused without asking the daemon", async () => {
  const child = processor(`
    let kept;
    const P = {
      processRecords({ checkpointer }) { kept = checkpointer; },
      leaseLost: () => kept.checkpoint().catch((error) => console.log(error.message)),
    };`);
  await child.start();
  assert.deepEqual(await child.ask(processRecords(record(1))), status("processRecords"));
  assert.deepEqual(await child.ask({ action: "leaseLost" }), status("leaseLost"));
  assert.equal(
    (await child.end()).stderr,
    "InvalidStateException: checkpoints are possible only while processRecords, shutdownRequested or shardEnded runs\n",
  );
});

for (const error of ["ThrottlingException", "KinesisClientLibDependencyException"]) {
  test(`after ${error} the daemon is asked again`, async () => {
    const child = await processing("await checkpointer.checkpoint();", record(1));
    assert.deepEqual(await child.receive(), checkpoint());
    assert.deepEqual(await child.ask(reply(error)), checkpoint());
    assert.deepEqual(await child.ask(reply()), status("processRecords"));
    assert.deepEqual(await child.end(), clean);
  });
}

test("after the last try it is a ThrottlingError", async () => {
  const child = await processing("await checkpointer.checkpoint();", record(1));
  for (let tries = 0; tries < 3; tries += 1) {
    assert.deepEqual(await child.receive(), checkpoint());
    child.send(reply("ThrottlingException"));
  }
  assert.equal(await child.receive(), null);
  const { code, stderr } = await child.end();
  assert.equal(code, 1);
  assert.match(stderr, /ThrottlingError: ThrottlingException: the lease table is throttling \(asked for everything delivered\)/);
});

for (const error of ["InvalidStateException", "IllegalArgumentException", "RuntimeException", ""]) {
  test(`the error "${error}" is raised at once with the name that the daemon gave`, async () => {
    const child = await processing(
      `await checkpointer.checkpoint("77").catch((error) => console.log(error instanceof CheckpointError, [error.error]));`,
      record(1),
    );
    assert.deepEqual(await child.receive(), checkpoint("77"));
    assert.deepEqual(await child.ask(reply(error)), status("processRecords"));
    assert.deepEqual(await child.end(), { ...clean, stderr: `true [ '${error}' ]\n` });
  });
}

test("a lost lease can be caught", async () => {
  const child = await processing(
    "try { await checkpointer.checkpoint(); } catch (error) { console.log(error instanceof ShutdownError); }",
    record(1),
  );
  assert.deepEqual(await child.receive(), checkpoint());
  assert.deepEqual(await child.ask(reply("ShutdownException")), status("processRecords"));
  assert.deepEqual(await child.end(), { ...clean, stderr: "true\n" });
});

test("a lost lease left alone ends the callback, and only leaseLost follows", async () => {
  const child = processor(`
    const P = {
      async processRecords({ checkpointer }) {
        console.log("processRecords");
        await checkpointer.checkpoint();
        console.log("not reached");
      },
      shutdownRequested() { console.log("not called"); },
      leaseLost() { console.log("leaseLost"); },
    };`);
  await child.start();
  assert.deepEqual(await child.ask(processRecords(record(1))), checkpoint());
  assert.deepEqual(await child.ask(reply("ShutdownException")), status("processRecords"));
  assert.deepEqual(await child.ask(processRecords(record(2))), status("processRecords"));
  assert.deepEqual(await child.ask({ action: "shutdownRequested" }), status("shutdownRequested"));
  assert.deepEqual(await child.ask({ action: "leaseLost" }), status("leaseLost"));
  assert.deepEqual(await child.end(), {
    ...clean,
    stderr:
      "processRecords\n" +
      "multilangd: processRecords of shardId-000000000007 stopped: ShutdownException: this process no longer holds " +
      "the lease of its shard (asked for everything delivered)\n" +
      "leaseLost\n",
  });
});

test("a lost lease that nobody awaits is no failure either", async () => {
  const child = await processing("checkpointer.checkpoint();", record(1));
  assert.deepEqual(await child.receive(), checkpoint());
  assert.deepEqual(await child.ask(reply("ShutdownException")), status("processRecords"));
  assert.deepEqual(await child.ask({ action: "leaseLost" }), status("leaseLost"));
  assert.deepEqual(await child.end(), clean);
});

test("a reply that is none ends the process", async () => {
  const child = await processing("await checkpointer.checkpoint();", record(1));
  assert.deepEqual(await child.receive(), checkpoint());
  assert.equal(await child.ask({ action: "leaseLost" }), null);
  const { code, stderr } = await child.end();
  assert.equal(code, 1);
  assert.match(stderr, /ProtocolError: the daemon answered a checkpoint with "leaseLost"/);
});

test("delays double up to the limit and end after the last try", () => {
  const retry = { triesMax: 5, delayFirstMs: 1000, delayMaxMs: 5000 };
  assert.deepEqual([1, 2, 3, 4, 5].map((tries) => delayMs(retry, tries, 0)), [1000, 2000, 4000, 5000, null]);
});

test("chance takes up to half of a delay", () => {
  assert.equal(delayMs({ ...RETRY, delayFirstMs: 2000 }, 1, 0.5), 1500);
});

test("the default insists for at least a minute even without luck", () => {
  let sum = 0;
  for (let tries = 1, delay; (delay = delayMs(RETRY, tries, 0.999)) !== null; tries += 1) sum += delay;
  assert.ok(sum > 60_000, `${sum} ms`);
});
