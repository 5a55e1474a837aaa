// What a processor experiences, from `initialize` to the end of the pipe.

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { Child, ROOT, checkpoint, initialize, processRecords, processing, processor, record, reply, status } from "./daemon.mjs";

const EVERYTHING = `
class P {
  initialize({ shardId, sequenceNumber, subSequenceNumber }) {
    console.log("initialize", shardId, sequenceNumber, subSequenceNumber);
  }
  async processRecords({ records, millisBehindLatest }) {
    console.log("processRecords", records.length, millisBehindLatest);
  }
  async leaseLost() { console.log("leaseLost"); }
  async shardEnded({ checkpointer }) { console.log("shardEnded"); await checkpointer.checkpoint(); }
  async shutdownRequested() { console.log("shutdownRequested"); }
}`;
const MINIMAL = "const P = { processRecords() {} };";
const clean = { code: 0, stderr: "", stray: [], rest: [] };

test("a tenure that ends with a lost lease calls each callback in order", async () => {
  const child = processor(EVERYTHING);
  assert.deepEqual(await child.ask(initialize()), status("initialize"));
  assert.deepEqual(await child.ask(processRecords(record(1), record(2))), status("processRecords"));
  assert.deepEqual(await child.ask({ action: "shutdownRequested" }), status("shutdownRequested"));
  assert.deepEqual(await child.ask({ action: "leaseLost" }), status("leaseLost"));
  assert.deepEqual(await child.end(), {
    ...clean,
    stderr:
      "initialize shardId-000000000007 TRIM_HORIZON 0\nprocessRecords 2 5000\nshutdownRequested\nleaseLost\n",
  });
});

test("the end of a shard is checkpointed by default", async () => {
  const child = processor(MINIMAL);
  await child.start();
  assert.deepEqual(await child.ask({ action: "shardEnded" }), checkpoint());
  assert.deepEqual(await child.ask(reply()), status("shardEnded"));
  assert.deepEqual(await child.end(), clean);
});

test("a shard end without a checkpoint is pointed out", async () => {
  const child = processor("const P = { processRecords() {}, shardEnded() {} };");
  await child.start();
  assert.deepEqual(await child.ask({ action: "shardEnded" }), status("shardEnded"));
  assert.match((await child.end()).stderr, /shardEnded returned without a checkpoint: shardId-000000000007/);
});

test("all callbacks but processRecords are optional", async () => {
  const child = processor(MINIMAL);
  await child.start();
  assert.deepEqual(await child.ask({ action: "shutdownRequested" }), status("shutdownRequested"));
  assert.deepEqual(await child.ask({ action: "leaseLost" }), status("leaseLost"));
  assert.deepEqual(await child.end(), clean);
});

test("a function is enough, and each batch is checkpointed after it", async () => {
  const child = processor("run(async ({ records }) => console.log(records.map(({ data }) => `${data}`).join(' ')));");
  await child.start();
  assert.deepEqual(await child.ask(processRecords(record(1, "one"), record(2, "two"))), checkpoint());
  assert.deepEqual(await child.ask(reply()), status("processRecords"));
  assert.deepEqual(await child.end(), { ...clean, stderr: "one two\n" });
});

test("a processor may be given as an object, a class, or a class of arrow functions", async () => {
  for (const given of ["{ processRecords() {} }", "class { processRecords() {} }", "class { processRecords = async () => {} }"]) {
    const child = processor(`run(${given});`);
    await child.start();
    assert.deepEqual(await child.ask(processRecords(record(1))), status("processRecords"), given);
    assert.deepEqual(await child.end(), clean, given);
  }
});

for (const given of ["{}", "class {}", "null", "42"]) test(`${given} is refused: it is no processor`, async () => {
  const { code, stderr } = await processor(`run(${given});`).end();
  assert.equal(code, 1);
  assert.match(stderr, /TypeError: run\(\) takes a processor \(an object with processRecords\), its class, or a function/);
});

test("a CommonJS program can require it", async () => {
  const child = new Child(process.execPath, ["-e", `require("${ROOT}index.cjs").run(() => {})`]);
  await child.start();
  assert.deepEqual(await child.end(), clean);
});

test("an installed package is found by its name from both module systems", async () => {
  for (const [type, source] of [
    ["module", 'import { run } from "multilangd"; run(() => {});'],
    ["commonjs", 'require("multilangd").run(() => {});'],
  ]) {
    const child = new Child(process.execPath, [`--input-type=${type}`, "-e", source]); // a package may name itself
    await child.start();
    assert.deepEqual(await child.end(), clean, type);
  }
});

test("a daemon's real pipes work like the sockets of these tests", async () => {
  const child = new Child("bash", ["-o", "pipefail", "-c", `cat | node -e 'require("./index.cjs").run(() => {})' | cat`]);
  await child.start();
  assert.deepEqual(await child.ask({ action: "leaseLost" }), status("leaseLost"));
  assert.deepEqual(await child.end(), clean);
});

test("a recorded conversation can be tried by hand from a file, one line at a time", () => {
  const directory = mkdtempSync(join(tmpdir(), "multilangd-"));
  try {
    const path = join(directory, "lines.jsonl");
    const messages = [initialize(), processRecords(record(1, "x".repeat(300_000))), processRecords(record(2)), { action: "leaseLost" }];
    writeFileSync(path, messages.map((message) => JSON.stringify(message) + "\n").join(""));
    const source = `let running = 0;
      require("./index.cjs").run({ async processRecords({ records }) {
        if (++running > 1) throw new Error("two at once");
        await new Promise(setImmediate);
        console.log(records[0].data.length);
        running--;
      } });`;
    const { status: code, stdout, stderr } = spawnSync("bash", ["-c", 'node -e "$1" < "$2"', "-", source, path], { cwd: ROOT, timeout: 30_000 });
    assert.deepEqual([code, `${stderr}`], [0, "300000\n5\n"]);
    assert.deepEqual(
      `${stdout}`.split("\n").filter(Boolean).map((line) => JSON.parse(line)),
      messages.map(({ action }) => status(action)),
    );
  } finally {
    rmSync(directory, { recursive: true });
  }
});

test("lines of every length around that of the buffer arrive whole, however they are cut", async () => {
  const child = processor(EVERYTHING.replace("records.length", "records[0].data.length"));
  await child.start();
  const bytes = [1, 48_900, 49_000, 49_152, 98_000, 98_304, 1_000_000, 2];
  for (const each of bytes) child.send(processRecords(record(1, "x".repeat(each))));
  for (const _ of bytes) assert.deepEqual(await child.receive(), status("processRecords"));
  const [, ...printed] = (await child.end()).stderr.trim().split("\n");
  assert.deepEqual(printed, bytes.map((each) => `processRecords ${each} 5000`));
});

test("keys of newer daemons are ignored and those of older ones not missed", async () => {
  const child = processor(EVERYTHING);
  assert.deepEqual(await child.ask({ action: "initialize", shardId: "s", extra: { deep: [1] } }), status("initialize"));
  assert.deepEqual(await child.ask({ action: "processRecords", records: [] }), status("processRecords"));
  assert.equal((await child.end()).stderr, "initialize s null null\nprocessRecords 0 null\n");
});

test("blank lines and carriage returns are ignored", async () => {
  const child = processor(MINIMAL);
  child.sendLine("\n  \n\r");
  child.sendLine('{"action":"initialize","shardId":"s"}', "\r\n");
  assert.deepEqual(await child.receive(), status("initialize"));
  assert.equal((await child.end()).code, 0);
});

for (const [line, error] of [
  ['{"action":"dance"}', 'the daemon asked for "dance", which this client does not know'],
  ["{}", "the daemon asked for undefined, which this client does not know"],
  ["hello", "the daemon sent a line that is not JSON"],
  ["[1]", "the daemon sent a line that is not a JSON object: [1]"],
  ["null", "the daemon sent a line that is not a JSON object: null"],
  ['{"action":"processRecords"}', `the daemon's processRecords has no "records"`],
]) {
  test(`the line ${line} ends the process with a clear error`, async () => {
    const child = processor(MINIMAL);
    child.sendLine(line);
    assert.equal(await child.receive(), null);
    const { code, stderr } = await child.end();
    assert.equal(code, 1);
    assert.ok(stderr.includes(`ProtocolError: ${error}`), stderr);
  });
}

for (const [callback, message] of Object.entries({
  initialize: initialize(),
  processRecords: processRecords(record(1)),
  leaseLost: { action: "leaseLost" },
  shardEnded: { action: "shardEnded" },
  shutdownRequested: { action: "shutdownRequested" },
})) {
  for (const body of ["throw new Error('of my own')", "return Promise.reject(new Error('of my own'))"]) {
    test(`${callback} with ${body} ends the process without a status and with a stack`, async () => {
      const child = processor(`const P = { processRecords() {}, ${callback}() { ${body} } };`);
      if (callback !== "initialize") await child.start();
      assert.equal(await child.ask(message), null);
      const { code, stderr } = await child.end();
      assert.equal(code, 1);
      assert.match(stderr, new RegExp(`multilangd: ${callback} of .*failed`));
      assert.match(stderr, /Error: of my own\n +at /);
    });
  }
}

test("a timer or a server that goes on does not keep a failed process alive", async () => {
  const child = await processing("setInterval(() => {}, 1000); throw new Error('no');", record(1));
  assert.equal(await child.receive(), null);
  assert.equal((await child.end()).code, 1);
});

test("a callback whose promise can never be fulfilled is an error, not a silent end", async () => {
  const child = await processing("await new Promise(() => {});", record(1));
  const { code, stderr, rest } = await child.end();
  assert.deepEqual([code, rest], [1, []]);
  assert.equal(
    stderr,
    "multilangd: processRecords of shardId-000000000007 still waits for a promise that nothing can fulfil any more\n",
  );
});

test("the pipe may end at any point of a conversation: a clean exit", async () => {
  const conversation = [initialize(), processRecords(record(1)), reply(), { action: "shardEnded" }, reply()];
  for (let length = 0; length <= conversation.length; length += 1) {
    const child = processor("const P = { processRecords: ({ checkpointer }) => checkpointer.checkpoint() };");
    for (const message of conversation.slice(0, length)) await child.ask(message);
    assert.deepEqual(await child.end(), clean, `after ${length} messages`);
  }
});

test("the pipe may end in the middle of a message: a clean exit, and nothing is processed", async () => {
  const child = processor(EVERYTHING);
  child.sendLine('{"action":"initialize","shardId":"s"}', "");
  assert.deepEqual(await child.end(), clean);
});

test("an idle timer does not outlive the pipe", async () => {
  const child = processor("setInterval(() => {}, 1000);\n" + MINIMAL);
  await child.start();
  assert.deepEqual(await child.end(), clean);
});

test("a daemon that is gone altogether is a clean exit", () => {
  const script = `exec 3>&1; { node -e 'require("./index.cjs").run(() => console.log("printed"))'; echo $? >&3; } 2>&1 | :`;
  const lines = [processRecords(record(1)), reply()].map((message) => JSON.stringify(message) + "\n").join("");
  const { stdout } = spawnSync("bash", ["-c", script], { cwd: ROOT, input: lines, timeout: 30_000 });
  assert.equal(`${stdout}`, "0\n");
});

test("a daemon that no longer reads is a clean exit", async () => {
  const child = processor(MINIMAL);
  await child.start();
  child.stopReading();
  child.send(processRecords(record(1)));
  child.send({ action: "leaseLost" });
  assert.deepEqual(await child.end(), clean);
});
