// What a record looks like to the processor.

import assert from "node:assert/strict";
import { test } from "node:test";
import { Record } from "../index.mjs";
import { processRecords, processing, processor, record, status } from "./daemon.mjs";

const clean = { code: 0, stderr: "", stray: [], rest: [] };

test("all fields have the types of JavaScript", () => {
  const one = new Record(record(1, Buffer.of(0, 255), { key: "k-1", sub: 2 }));
  assert.deepEqual(one.data, Buffer.of(0, 255));
  assert.deepEqual(
    { ...one },
    {
      partitionKey: "k-1",
      sequenceNumber: `1${"0".repeat(54)}1`,
      subSequenceNumber: 2,
      approximateArrivalTimestamp: new Date("2026-01-01T00:00:00.123Z"),
    },
  );
});

test("data is decoded once", () => {
  const one = new Record(record(1));
  assert.equal(one.data, one.data);
});

test("nulls are tolerated", () => {
  const one = new Record({ ...record(1), data: null, approximateArrivalTimestamp: null, subSequenceNumber: null });
  assert.deepEqual([one.data.length, one.approximateArrivalTimestamp, one.subSequenceNumber], [0, null, 0]);
});

test("ten thousand records arrive in order", async () => {
  const child = await processing(
    `if (records.some(({ data }, index) => parseInt(data.toString()) !== index)) throw new Error("order");
     console.log(records.length, records.reduce((sum, { data }) => sum + data.length, 0));`,
    ...Array.from({ length: 10_000 }, (_, index) => record(index, String(index).padStart(6, "0") + " " + "x".repeat(1000))),
  );
  assert.deepEqual(await child.receive(), status("processRecords"));
  assert.deepEqual(await child.end(), { ...clean, stderr: "10000 10070000\n" });
});

test("keys in any script arrive unchanged, escaped or raw, even if a read ends inside a character", async () => {
  const child = processor("const P = { processRecords({ records }) { console.log(records.map((r) => r.partitionKey).join()); } };");
  await child.start();
  const key = "ключ\u2028😀".repeat(20_000);
  child.sendLine(`{"action":"processRecords","records":[{"partitionKey":"${key}"},{"partitionKey":"\\ud83d\\ude00"}]}`);
  assert.deepEqual(await child.receive(), status("processRecords"));
  assert.deepEqual(await child.end(), { ...clean, stderr: `${key},😀\n` });
});

test("batches that arrive faster than they are processed are taken one by one", async () => {
  const child = processor(`
    let running = 0;
    const P = { async processRecords() {
      if (++running > 1) throw new Error("two at once");
      await new Promise(setImmediate);
      running--;
    } };`);
  await child.start();
  for (let index = 0; index < 100; index += 1) child.send(processRecords(record(index)));
  for (let index = 0; index < 100; index += 1) assert.deepEqual(await child.receive(), status("processRecords"));
  assert.deepEqual(await child.end(), clean);
});
