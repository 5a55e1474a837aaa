// Records per second through a pipe: this client beside aws-kcl.
//
//     npm install --prefix /tmp/aws-kcl aws-kcl
//     node bench/bench.mjs /tmp/aws-kcl/node_modules/aws-kcl

import { spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";

const RECORD_BYTES = 1024;
const BATCH_RECORDS = 1000;
const BATCHES = 100;
const RUNS = 3; // the best counts: what else the machine did only ever slows a run down

const OURS = (path) => `
require(${JSON.stringify(path)}).run({
  async processRecords({ records, checkpointer }) {
    for (const { data, partitionKey, sequenceNumber } of records) data.length;
    await checkpointer.checkpoint();
  },
});`;

const AWS = (path) => `
require(${JSON.stringify(path)})({
  initialize(input, done) { done(); },
  processRecords({ records, checkpointer }, done) {
    for (const { data, partitionKey, sequenceNumber } of records) Buffer.from(data, "base64").length;
    checkpointer.checkpoint(() => done());
  },
  leaseLost(input, done) { done(); },
  shardEnded({ checkpointer }, done) { checkpointer.checkpoint(() => done()); },
  shutdownRequested({ checkpointer }, done) { checkpointer.checkpoint(() => done()); },
}).run();`;

const ours = await best("multilangd", OURS(fileURLToPath(new URL("../index.cjs", import.meta.url))));
if (process.argv[2]) {
  const aws = await best("aws-kcl", AWS(process.argv[2]));
  console.log(`multilangd is ${(ours / aws).toFixed(1)} times as fast`);
}

async function best(name, source) {
  let most = 0;
  for (let run = 0; run < RUNS; run += 1) most = Math.max(most, await rate(source));
  console.log(`${name.padEnd(12)} ${Math.round(most).toLocaleString("en").padStart(10)} records/s of ${RECORD_BYTES} bytes`);
  return most;
}

async function rate(source) {
  // cat makes real pipes of what Node gives its children (sockets), as a daemon does.
  const child = spawn("bash", ["-c", 'cat | "$0" -e "$1" | cat', process.execPath, source], {
    stdio: ["pipe", "pipe", "inherit"],
  });
  const answers = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  const ask = async (line) => {
    child.stdin.write(line);
    while ((await answers.next()).value === "");
  };
  await ask('{"action":"initialize","shardId":"s","sequenceNumber":"LATEST","subSequenceNumber":0}\n');
  const line = batch();
  const start = performance.now();
  for (let count = 0; count < BATCHES; count += 1) {
    await ask(line); // answered by the request for a checkpoint
    await ask('{"action":"checkpoint","sequenceNumber":null,"subSequenceNumber":null,"error":null}\n');
  }
  const seconds = (performance.now() - start) / 1000;
  child.stdin.end();
  await new Promise((resolve) => child.on("close", resolve));
  return (BATCHES * BATCH_RECORDS) / seconds;
}

function batch() {
  const data = randomBytes(RECORD_BYTES).toString("base64");
  const records = Array.from({ length: BATCH_RECORDS }, (_, number) => ({
    data,
    partitionKey: `key-${number}`,
    sequenceNumber: String(49590338271490256608559692540925702759324208523137515618n + BigInt(number)),
    approximateArrivalTimestamp: 1767225600123 + number,
    subSequenceNumber: 0,
    action: "record",
  }));
  return Buffer.from(JSON.stringify({ action: "processRecords", records, millisBehindLatest: 0 }) + "\n");
}
