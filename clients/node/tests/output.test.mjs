// Nothing that a processor prints reaches the daemon.

import assert from "node:assert/strict";
import { test } from "node:test";
import { initialize, processing, processor, record, status } from "./daemon.mjs";

const clean = { code: 0, stderr: "", stray: [], rest: [] };

for (const [code, printed] of [
  ["console.log('hello')", "hello\n"],
  ["console.info('hello')", "hello\n"],
  ["process.stdout.write('no line end')", "no line end"],
  [`console.log('{"action":"status","responseFor":"leaseLost"}')`, '{"action":"status","responseFor":"leaseLost"}\n'],
  ["console.log(null)", "null\n"],
  ["(await import('node:process')).stdout.write('imported')", "imported"],
  ["await new Promise((resolve) => process.stdout.write('with a callback', resolve))", "with a callback"],
  ["(await import('node:stream')).Readable.from(['pi', 'ped']).pipe(process.stdout); await new Promise(setImmediate)", "piped"],
  ["console.log('x'.repeat(1_000_000))", "x".repeat(1_000_000) + "\n"],
]) {
  test(`${code.slice(0, 70)} lands on stderr`, async () => {
    const child = await processing(code, record(1));
    assert.deepEqual(await child.receive(), status("processRecords"));
    assert.deepEqual(await child.end(), { ...clean, stderr: printed });
  });
}

test("a console that was used before run is redirected, too", async () => {
  const child = processor("console.log('early');\nconst P = { processRecords() {}, initialize() { console.log('late'); } };");
  assert.deepEqual(await child.ask(initialize()), status("initialize"));
  assert.deepEqual(await child.end(), { ...clean, stray: ["early"], stderr: "late\n" });
});

test("what was printed before run cannot glue itself to a message", async () => {
  const child = processor("process.stdout.write('no line end');\nconst P = { processRecords() {} };");
  assert.deepEqual(await child.ask(initialize()), status("initialize"));
  assert.deepEqual(await child.end(), { ...clean, stray: ["no line end"] });
});

test("lines of a subprocess that inherits stdout do not break the conversation", async () => {
  const child = await processing(
    "(await import('node:child_process')).spawnSync('printf', ['half a line'], { stdio: 'inherit' });",
    record(1),
  );
  assert.deepEqual(await child.receive(), status("processRecords"));
  assert.deepEqual(await child.end(), { ...clean, stray: ["half a line"] });
});

test("neither the processor nor a library can read the daemon's messages from process.stdin", async () => {
  const child = await processing(
    "let read = ''; for await (const chunk of process.stdin) read += chunk; console.log([read]);",
    record(1),
  );
  child.send({ action: "leaseLost" });
  assert.deepEqual(await child.receive(), status("processRecords"));
  assert.deepEqual(await child.receive(), status("leaseLost"));
  assert.deepEqual(await child.end(), { ...clean, stderr: "[ '' ]\n" });
});
