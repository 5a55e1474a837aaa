// The two pipes to the daemon: owns the streams and the JSON lines, knows nothing of what they mean.
"use strict";

const { isAscii } = require("node:buffer"); // not in the first releases of Node.js 18
const { writeSync } = require("node:fs");
const { Socket } = require("node:net");
const { Readable } = require("node:stream");
const { ProtocolError } = require("./errors.cjs");

const LINE_FEED = 0x0a;
/** As much as a pipe holds on Linux by default. Doubled until the longest line fits (a batch of 10 MB needs 16 MiB). */
const BUFFER_BYTES = 64 * 1024;

class Pipe {
  #lines;
  #input;
  #write;
  #waiting = null;

  constructor(lines, input, write) {
    this.#lines = lines;
    this.#input = input;
    this.#write = write;
    lines.arrived = () => {
      const wake = this.#waiting;
      this.#waiting = null;
      wake?.();
      return wake !== null; // nobody waits: the daemon is ahead, so read no more until somebody does
    };
    input.hold();
  }

  /**
   * Takes standard input and output away from everybody else: console.log and process.stdout.write end up on stderr,
   * where they cannot disturb the conversation, and process.stdin is found empty.
   */
  static take() {
    const stdout = process.stdout;
    const write = writing(stdout);
    stdout.on("error", () => {}); // the callback of write is told too
    process.stderr.on("error", () => {}); // nobody reads it: the daemon is gone, and stdin says so
    // A subprocess that inherits file descriptor 1 still writes to the daemon; complete lines are skipped there.
    stdout.write = process.stderr.write.bind(process.stderr);
    Object.defineProperty(process, "stdout", { value: process.stderr, configurable: true, enumerable: true });
    const lines = new Lines();
    const pipe = new Pipe(lines, inputOf(lines), write);
    Object.defineProperty(process, "stdin", { value: Readable.from([]), configurable: true, enumerable: true });
    return pipe;
  }

  /** The next message; null when the daemon has closed the pipe. One caller at a time. */
  async receive() {
    for (;;) {
      let text;
      while ((text = this.#lines.next()) === undefined) {
        if (this.#lines.ended) return null;
        this.#input.listen();
        await new Promise((resolve) => (this.#waiting = resolve));
        this.#input.hold();
      }
      text = text.trim();
      if (text !== "") return parse(text);
    }
  }

  /** Writes one message. Is or resolves to false if nobody reads it. */
  send(message) {
    // The line feed in front ends whatever was printed before the pipe was taken; empty lines are ignored.
    return this.#write(Buffer.from(`\n${JSON.stringify(message)}\n`));
  }
}

/** Lines of a pipe, read into one buffer that is kept: fresh memory for every batch costs more than the reading. */
class Lines {
  ended = false;
  #buffer = Buffer.allocUnsafeSlow(BUFFER_BYTES);
  #end = 0; // of what was read of the line that is not complete yet
  #complete = []; // texts; the input is not read while nobody waits, so seldom more than one

  /** The next complete line; undefined if there is none yet. */
  next() {
    return this.#complete.shift();
  }

  /** Where to read into. */
  room() {
    if (this.#end === this.#buffer.length) {
      const larger = Buffer.allocUnsafeSlow(2 * this.#buffer.length);
      this.#buffer.copy(larger);
      this.#buffer = larger;
    }
    return this.#buffer.subarray(this.#end);
  }

  /** So many bytes were read into the room. Returns false if no more should be read for now. */
  filled(count) {
    let searched = this.#end;
    let start = 0;
    this.#end += count;
    for (let at; (at = this.#find(searched)) !== -1; start = searched = at + 1) {
      this.#complete.push(textOf(this.#buffer.subarray(start, at)));
    }
    if (start > 0) {
      this.#buffer.copyWithin(0, start, this.#end);
      this.#end -= start;
    }
    return this.#complete.length === 0 || this.arrived();
  }

  /** Nothing more will come. A line without its end is not a message: the daemon died. */
  finish() {
    this.ended = true;
    this.arrived();
  }

  #find(searched) {
    const at = this.#buffer.subarray(searched, this.#end).indexOf(LINE_FEED);
    return at === -1 ? -1 : searched + at;
  }
}

/** What feeds the lines: `listen` while somebody waits for one, `hold` while a callback is what keeps the process alive. */
function inputOf(lines) {
  let input;
  let control;
  try {
    // Not process.stdin, which asks for new memory for each 64 KiB.
    input = new Socket({
      fd: 0,
      readable: true,
      writable: false,
      onread: { buffer: () => lines.room(), callback: (count) => lines.filled(count) },
    });
    control = {
      hold: () => input.unref(),
      listen() {
        input.ref();
        input.resume(); // does nothing unless the lines had enough
      },
    };
  } catch (error) {
    if (error.code !== "ERR_INVALID_FD_TYPE") throw error;
    input = process.stdin; // a file or a terminal: somebody tries by hand
    input.on("data", (chunk) => {
      for (let rest = chunk; rest.length > 0; ) {
        const count = rest.copy(lines.room());
        if (!lines.filled(count)) input.pause();
        rest = rest.subarray(count);
      }
    });
    control = { hold: () => input.pause(), listen: () => input.resume() };
  }
  for (const end of ["end", "close", "error"]) input.on(end, () => lines.finish());
  return control;
}

/**
 * Writes to standard output and tells whether somebody reads it: at once, or where the pipe is full as a promise.
 * A stream of Node.js would take two rounds for the same system call.
 */
function writing(stdout) {
  const write = stdout.write.bind(stdout);
  return (bytes) => {
    let count = 0;
    if (stdout.writableLength === 0) {
      try {
        count = writeSync(1, bytes);
        if (count === bytes.length) return true;
      } catch (error) {
        if (error.code !== "EAGAIN") return false;
      }
    }
    return new Promise((resolve) => write(bytes.subarray(count), (error) => resolve(!error)));
  };
}

/** Nearly every line is ASCII, and costs a tenth if that is known. */
const textOf = (line) => (isAscii?.(line) ? line.latin1Slice() : line.utf8Slice());

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
