// What can go wrong between a processor and its daemon: one class per reaction.
"use strict";

const MEANINGS = {
  ShutdownException: "this process no longer holds the lease of its shard",
  ThrottlingException: "the lease table is throttling",
  KinesisClientLibDependencyException: "the lease table could not be written",
  InvalidStateException: "checkpoints are not possible now, or the lease table is missing",
  IllegalArgumentException: "not a position between the last checkpoint and the last delivered record",
};

class CheckpointError extends Error {
  constructor(error, detail) {
    super(`${error}: ${detail}`);
    this.name = new.target.name;
    this.error = error;
  }
}

class ShutdownError extends CheckpointError {}

class ThrottlingError extends CheckpointError {}

class ProtocolError extends Error {
  constructor(message) {
    super(message);
    this.name = "ProtocolError";
  }
}

/** Errors that say: nothing is wrong with the request, ask again. */
const WORTH_ANOTHER_TRY = ["ThrottlingException", "KinesisClientLibDependencyException"];

/** The exception for the daemon's error name, after the last try. */
function checkpointError(error, position) {
  const meaning = MEANINGS[error] ?? "the daemon could not store the checkpoint";
  const kind =
    error === "ShutdownException" ? ShutdownError
    : WORTH_ANOTHER_TRY.includes(error) ? ThrottlingError
    : CheckpointError;
  return new kind(error, `${meaning} (asked for ${position ?? "everything delivered"})`);
}

module.exports = { CheckpointError, ProtocolError, ShutdownError, ThrottlingError, WORTH_ANOTHER_TRY, checkpointError };
