// What a record costs through a pipe: this client beside aws-kcl.
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

/** Tells its CPU time (all threads') at the end: what a busy machine changes least. */
const TELL_CPU = `
process.on("exit", () => {
  const { user, system } = process.cpuUsage();
  require("node:fs").writeSync(2, String(user + system));
});`;

const ours = await best("multilangd", OURS(fileURLToPath(new URL("../index.cjs", import.meta.url))));
if (process.argv[2]) {
  const aws = await best("aws-kcl", AWS(process.argv[2]));
  const cpu = Math.round((100 * ours.cpu) / aws.cpu);
  console.log(`multilangd is ${(ours.rate / aws.rate).toFixed(2)} times as fast, on ${cpu}% of the CPU`);
}

async function best(name, source) {
  const cost = { rate: 0, cpu: Infinity };
  for (let run = 0; run < RUNS; run += 1) {
    const { rate, cpu } = await measure(source + TELL_CPU);
    cost.rate = Math.max(cost.rate, rate);
    cost.cpu = Math.min(cost.cpu, cpu);
  }
  const rate = Math.round(cost.rate).toLocaleString("en").padStart(10);
  console.log(`${name.padEnd(12)} ${rate} records/s of ${RECORD_BYTES} bytes, ${cost.cpu.toFixed(1).padStart(5)} µs of CPU each`);
  return cost;
}

/** Resolves to records per second, and microseconds of the child's CPU time per record. */
async function measure(source) {
  // cat makes real pipes of what Node gives its children (sockets), as a daemon does.
  const child = spawn("bash", ["-c", 'cat | "$0" -e "$1" | cat', process.execPath, source], { stdio: "pipe" });
  let stderr = "";
  child.stderr.on("data", (text) => (stderr += text));
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
  const records = BATCHES * BATCH_RECORDS;
  return { rate: records / seconds, cpu: Number(stderr) / records };
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
