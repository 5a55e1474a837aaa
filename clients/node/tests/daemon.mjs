// The daemon's side of the pipe: starts a processor as a real child process and talks to it.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";

export const ROOT = fileURLToPath(new URL("..", import.meta.url));
const PATIENCE_MS = 30_000;

/** A processor under test: source of a module, in which `P` is run unless it calls `run` itself. */
export function processor(source) {
  source = `import { run, CheckpointError, ShutdownError, ThrottlingError } from "./index.mjs";\n${source}`;
  if (!/^run\(/m.test(source)) source += "\nrun(P, { retry: { triesMax: 3, delayFirstMs: 1 } });";
  return new Child(process.execPath, ["--input-type=module", "-e", source]);
}

/** A processor in whose processRecords the code runs, just given records. */
export async function processing(code, ...records) {
  const child = processor(`const P = { async processRecords({ records, checkpointer }) {\n${code}\n} };`);
  await child.start();
  child.send(processRecords(...records));
  return child;
}

export class Child {
  #process;
  #messages = [];
  #waiting = null;
  #stdoutEnded = false;
  #stray = [];
  #stderr = "";
  #exited;

  constructor(command, args) {
    this.#process = spawn(command, args, { cwd: ROOT, stdio: "pipe", timeout: PATIENCE_MS });
    this.#process.stdin.on("error", () => {}); // the child has ended: the test sees that in what it says
    this.#process.stderr.setEncoding("utf8").on("data", (text) => (this.#stderr += text));
    this.#exited = new Promise((resolve) => this.#process.on("close", (code, signal) => resolve(code ?? signal)));
    createInterface({ input: this.#process.stdout, crlfDelay: Infinity })
      .on("line", (line) => {
        const message = asMessage(line);
        if (message) this.#messages.push(message);
        else if (line !== "") this.#stray.push(line);
        this.#wake();
      })
      .on("close", () => {
        this.#stdoutEnded = true;
        this.#wake();
      });
  }

  send(message) {
    this.sendLine(JSON.stringify(message));
  }

  sendLine(line, end = "\n") {
    this.#process.stdin.write(line + end);
  }

  /** The next message; null if the child closed its stdout. */
  async receive() {
    while (this.#messages.length === 0) {
      if (this.#stdoutEnded) return null;
      await new Promise((resolve) => (this.#waiting = resolve));
    }
    return this.#messages.shift();
  }

  async ask(message) {
    this.send(message);
    return this.receive();
  }

  /** Through `initialize`. */
  async start() {
    assert.deepEqual(await this.ask(initialize()), status("initialize"));
  }

  /** The daemon dies without reading what the child writes next. */
  stopReading() {
    this.#process.stdout.destroy();
  }

  /** Closes the child's stdin and waits for it. `stray`: lines that were no messages; `rest`: messages not asked for. */
  async end() {
    this.#process.stdin.end();
    const code = await this.#exited;
    return { code, stderr: this.#stderr, stray: this.#stray, rest: this.#messages };
  }

  #wake() {
    this.#waiting?.();
    this.#waiting = null;
  }
}

/** What the daemon accepts as a message; null for a line that it skips. */
export function asMessage(line) {
  try {
    const message = JSON.parse(line);
    return ["status", "checkpoint"].includes(message?.action) ? message : null;
  } catch {
    return null;
  }
}

export const initialize = () => ({
  action: "initialize",
  shardId: "shardId-000000000007",
  sequenceNumber: "TRIM_HORIZON",
  subSequenceNumber: 0,
});

export const sequenceNumber = (number) => String(10n ** 55n + BigInt(number));

export const record = (number, data = "hello", { key = "k", sub = 0 } = {}) => ({
  data: Buffer.from(data).toString("base64"),
  partitionKey: key,
  sequenceNumber: sequenceNumber(number),
  approximateArrivalTimestamp: 1767225600123,
  subSequenceNumber: sub,
  action: "record",
});

export const processRecords = (...records) => ({ action: "processRecords", records, millisBehindLatest: 5000 });

export const status = (responseFor) => ({ action: "status", responseFor });

/** A child's request. */
export const checkpoint = (sequenceNumber = null, subSequenceNumber = null) => ({
  action: "checkpoint",
  sequenceNumber,
  subSequenceNumber,
});

/** The daemon's answer to `checkpoint()`. */
export const reply = (error = null) => ({ ...checkpoint(), error });
