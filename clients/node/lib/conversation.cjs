// The life of one process: from the daemon's first message to the end of its pipe.
"use strict";

const { isatty } = require("node:tty");
const { Checkpointer } = require("./checkpointer.cjs");
const { ProtocolError, ShutdownError } = require("./errors.cjs");
const { Pipe } = require("./pipe.cjs");
const { Record } = require("./record.cjs");

function run(processor, { retry } = {}) {
  const conversation = new Conversation(asProcessor(processor), retry);
  // Not caught by anything: an error of the processor ends the process, so that the daemon knows.
  conversation.run().then(
    () => exit(process.exitCode ?? 0),
    (error) => {
      console.error(error);
      exit(1);
    },
  );
}

class Conversation {
  #processor;
  #pipe;
  #checkpointer;
  #shardId = "?";
  #leaseIsGone = false;
  #running = null; // the name of the callback that has not settled

  constructor(processor, retry) {
    if (isatty(0)) {
      say("this program is run by a daemon and reads JSON from it; try: multilangd run --local APP.properties");
    }
    this.#processor = processor;
    this.#pipe = Pipe.take();
    this.#checkpointer = new Checkpointer((request) => this.#ask(request), retry);
    process.on("beforeExit", () => {
      if (this.#running === null) return;
      say(`${this.#running} of ${this.#shardId} still waits for a promise that nothing can fulfil any more`);
      exit(1);
    });
  }

  async run() {
    for (let message; (message = await this.#pipe.receive()) !== null; ) {
      await this.#answer(message);
      if (!(await this.#pipe.send({ action: "status", responseFor: message.action }))) return;
    }
  }

  async #answer(message) {
    switch (message.action) {
      case "initialize": {
        const { sequenceNumber = null, subSequenceNumber = null } = message;
        this.#shardId = required(message, "shardId");
        return this.#call("initialize", { shardId: this.#shardId, sequenceNumber, subSequenceNumber });
      }
      case "processRecords": {
        const records = required(message, "records").map((fields) => new Record(fields));
        return this.#withCheckpointer("processRecords", { records, millisBehindLatest: message.millisBehindLatest ?? null });
      }
      case "shutdownRequested":
        return this.#withCheckpointer("shutdownRequested", {});
      case "shardEnded": {
        const stored = await this.#withCheckpointer("shardEnded", {});
        if (stored === 0 && !this.#leaseIsGone) {
          say(
            `shardEnded returned without a checkpoint: ${this.#shardId} is not finished, ` +
              "and the shards that follow it cannot start",
          );
        }
        return;
      }
      case "leaseLost":
        return this.#call("leaseLost");
      default:
        throw new ProtocolError(`the daemon asked for ${JSON.stringify(message.action)}, which this client does not know`);
    }
  }

  /** Resolves to the number of checkpoints that the callback got stored. */
  async #withCheckpointer(name, input) {
    if (this.#leaseIsGone) return 0; // the next worker does this; the processor waits for leaseLost
    const checkpointer = this.#checkpointer;
    Checkpointer.open(checkpointer);
    try {
      await this.#call(name, { ...input, checkpointer });
    } catch (error) {
      if (!(error instanceof ShutdownError)) throw error;
      this.#leaseIsGone = true;
      say(`${name} of ${this.#shardId} stopped: ${error.message}`);
    }
    return Checkpointer.close(checkpointer);
  }

  async #call(name, input) {
    this.#running = name;
    try {
      if (this.#processor[name]) await this.#processor[name](input);
      else if (name === "shardEnded") await input.checkpointer.checkpoint(); // or the shard would never be finished
    } catch (error) {
      if (!(error instanceof ShutdownError)) {
        say(
          `${name} of ${this.#shardId} failed; this process ends, ` +
            "and what was not checkpointed is delivered again",
        );
      }
      throw error;
    } finally {
      this.#running = null;
    }
  }

  async #ask(request) {
    const reply = (await this.#pipe.send(request)) ? await this.#pipe.receive() : null;
    return reply ?? exit(0); // the daemon is gone, and with it the lease
  }
}

/** Accepts a processor, its class, or a function for batches. */
function asProcessor(given) {
  if (typeof given !== "function") return checked(given);
  const isClass = given.prototype?.processRecords || /^class\b/.test(given.toString());
  if (isClass) return checked(new given());
  return {
    async processRecords({ records, millisBehindLatest, checkpointer }) {
      await given({ records, millisBehindLatest });
      if (records.length > 0) await checkpointer.checkpoint();
    },
  };
}

function checked(processor) {
  if (typeof processor?.processRecords === "function") return processor;
  throw new TypeError("run() takes a processor (an object with processRecords), its class, or a function");
}

function required(message, key) {
  if (message[key] == null) throw new ProtocolError(`the daemon's ${message.action} has no ${JSON.stringify(key)}`);
  return message[key];
}

/** Ends the process once what was written to stderr is out. Never resolves, so that nothing else happens. */
function exit(code) {
  process.stderr.write("", () => process.exit(code));
  return new Promise(() => {});
}

function say(text) {
  console.error(`multilangd: ${text}`);
}

module.exports = { run };
