// The two pipes to the daemon: owns the streams and the JSON lines, knows nothing of what they mean.
"use strict";

const { ProtocolError } = require("./errors.cjs");

const LINE_FEED = 0x0a;

class Pipe {
  #input;
  #write;
  #chunks = []; // of the line that is not complete yet
  #lines = []; // complete ones; the input is paused while nobody waits, so never more than one chunk holds
  #ended = false;
  #waiting = null;

  constructor(input, write) {
    this.#input = input;
    this.#write = write;
    input.on("data", (chunk) => this.#feed(chunk));
    for (const end of ["end", "close", "error"]) {
      input.on(end, () => {
        this.#ended = true; // a line without its end is not a message: the daemon died
        this.#wake();
      });
    }
    input.pause();
  }

  /**
   * Takes standard output away from everybody else: console.log and process.stdout.write end up on stderr, where
   * they cannot disturb the conversation.
   */
  static take() {
    const stdout = process.stdout;
    const write = stdout.write.bind(stdout);
    stdout.on("error", () => {}); // the callback of write is told too
    process.stderr.on("error", () => {}); // nobody reads it: the daemon is gone, and stdin says so
    // A subprocess that inherits file descriptor 1 still writes to the daemon; complete lines are skipped there.
    stdout.write = process.stderr.write.bind(process.stderr);
    Object.defineProperty(process, "stdout", { value: process.stderr, configurable: true, enumerable: true });
    return new Pipe(process.stdin, write);
  }

  /** The next message; null when the daemon has closed the pipe. One caller at a time. */
  async receive() {
    for (;;) {
      while (this.#lines.length === 0) {
        if (this.#ended) return null;
        await new Promise((resolve) => {
          this.#waiting = resolve;
          this.#input.resume();
        });
      }
      const text = this.#lines.shift().toString("utf8").trim();
      if (text !== "") return parse(text);
    }
  }

  /** Writes one message. Resolves to false if nobody reads it. */
  send(message) {
    // The line feed in front ends whatever was printed before the pipe was taken; empty lines are ignored.
    return new Promise((resolve) => this.#write(`\n${JSON.stringify(message)}\n`, (error) => resolve(!error)));
  }

  #feed(chunk) {
    let start = 0;
    for (let end; (end = chunk.indexOf(LINE_FEED, start)) !== -1; start = end + 1) {
      this.#chunks.push(chunk.subarray(start, end));
      this.#lines.push(this.#chunks.length === 1 ? this.#chunks[0] : Buffer.concat(this.#chunks));
      this.#chunks = [];
    }
    if (start < chunk.length) this.#chunks.push(chunk.subarray(start));
    if (this.#lines.length > 0) {
      this.#input.pause();
      this.#wake();
    }
  }

  #wake() {
    this.#waiting?.();
    this.#waiting = null;
  }
}

function parse(text) {
  let message;
  try {
    message = JSON.parse(text);
  } catch (error) {
    throw new ProtocolError(`the daemon sent a line that is not JSON (${error.message}): ${text.slice(0, 200)}`);
  }
  if (message === null || typeof message !== "object" || Array.isArray(message)) {
    throw new ProtocolError(`the daemon sent a line that is not a JSON object: ${text.slice(0, 200)}`);
  }
  return message;
}

module.exports = { Pipe };
