// Asking the daemon to store how far a shard has been processed.
"use strict";

const { CheckpointError, ProtocolError, ShutdownError, WORTH_ANOTHER_TRY, checkpointError } = require("./errors.cjs");

/** Insists for at least a minute and at most 2.2: longer than a table takes to scale, shorter than patience. */
const RETRY = { triesMax: 20, delayFirstMs: 100, delayMaxMs: 10_000 };

/** Milliseconds to wait after the given number of failed tries; null to give up. `chance` is in [0, 1). */
function delayMs(retry, tries, chance) {
  if (tries >= retry.triesMax) return null;
  return Math.min(retry.delayMaxMs, retry.delayFirstMs * 2 ** (tries - 1)) * (1 - chance / 2);
}

class Checkpointer {
  #ask;
  #retry;
  #isOpen = false;
  #last = Promise.resolve(); // requests go out one at a time, each when the one before has settled
  #stored = 0;
  #refused = false;

  /** @param ask sends a request and resolves to the daemon's reply */
  constructor(ask, retry) {
    this.#ask = ask;
    this.#retry = { ...RETRY, ...retry };
  }

  checkpoint(position = null, subSequenceNumber = null) {
    const [sequenceNumber, sub] =
      position !== null && typeof position === "object"
        ? [position.sequenceNumber, position.subSequenceNumber ?? null]
        : [position, subSequenceNumber];
    const insisted = this.#last.then(() => this.#insist(sequenceNumber, sub));
    const stored = new Promise((resolve, reject) => {
      insisted.then(resolve, (error) => {
        // A checkpoint that nobody awaits ends the process when it fails, as it should. Losing a lease is no failure.
        if (error instanceof ShutdownError) stored.catch(() => {});
        this.#refused = true;
        reject(error);
      });
    });
    this.#last = insisted.catch(() => {}); // not of `stored`: that would count as handling its failure
    return stored;
  }

  /** For the conversation alone: a callback starts. */
  static open(checkpointer) {
    checkpointer.#isOpen = true;
    checkpointer.#stored = 0;
    checkpointer.#refused = false;
  }

  /** For the conversation alone: a callback has ended. Resolves, after what it began, to the checkpoints stored. */
  static async close(checkpointer) {
    for (let last; last !== checkpointer.#last; ) {
      last = checkpointer.#last;
      await last;
    }
    checkpointer.#isOpen = false;
    // A refusal that nobody handles ends the process in this turn of the loop, before the status could go out.
    if (checkpointer.#refused) await new Promise(setImmediate);
    return checkpointer.#stored;
  }

  async #insist(sequenceNumber, subSequenceNumber) {
    for (let tries = 1; ; tries += 1) {
      if (!this.#isOpen) {
        throw new CheckpointError(
          "InvalidStateException",
          "checkpoints are possible only while processRecords, shutdownRequested or shardEnded runs",
        );
      }
      const reply = await this.#ask({ action: "checkpoint", sequenceNumber, subSequenceNumber });
      if (reply.action !== "checkpoint") {
        throw new ProtocolError(`the daemon answered a checkpoint with ${JSON.stringify(reply.action)}`);
      }
      if ((reply.error ?? null) === null) {
        this.#stored += 1;
        return;
      }
      const delay = WORTH_ANOTHER_TRY.includes(reply.error) ? delayMs(this.#retry, tries, Math.random()) : null;
      if (delay === null) throw checkpointError(reply.error, sequenceNumber);
      await new Promise((resolve) => setTimeout(resolve, delay));
    }
  }
}

module.exports = { Checkpointer, RETRY, delayMs };
