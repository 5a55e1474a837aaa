/// <reference types="node" />

/** One user record. Aggregated (KPL) records have been taken apart by the daemon. */
export declare class Record {
  private constructor();
  /** The payload, decoded on first use. */
  get data(): Buffer;
  /** The key that chose the shard. */
  readonly partitionKey: string;
  /** Decimal digits. The records of one aggregate share it. */
  readonly sequenceNumber: string;
  /** Place within its aggregate; 0 for a record that was not aggregated. */
  readonly subSequenceNumber: number;
  /** When Kinesis took the record, to the millisecond. */
  readonly approximateArrivalTimestamp: Date | null;
}

/** Stores positions of one shard. Works while the callback that it was given to runs. */
export interface Checkpointer {
  /**
   * Marks as processed everything delivered so far, or everything up to a record (or its sequence number).
   *
   * Resolves once it is stored. A throttling or failing lease table is asked again for a while (see `Retry`).
   * Rejects with `ShutdownError` if the lease is gone, `ThrottlingError` after the last try, else `CheckpointError`.
   */
  checkpoint(record?: Pick<Record, "sequenceNumber" | "subSequenceNumber"> | null): Promise<void>;
  checkpoint(sequenceNumber: string, subSequenceNumber?: number | null): Promise<void>;
}

/** The shard that this process works on, and where it starts. */
export interface Shard {
  shardId: string;
  /** The last checkpoint: digits, or `TRIM_HORIZON`, `LATEST`, `AT_TIMESTAMP`. Records follow after it. */
  sequenceNumber: string | null;
  subSequenceNumber: number | null;
}

/** One batch, in the order of the shard. */
export interface Batch {
  records: Record[];
  /** How far this batch is behind the tip of the shard, in milliseconds; 0 at the tip. */
  millisBehindLatest: number | null;
  checkpointer: Checkpointer;
}

/**
 * Processes one shard, from getting its lease to losing it or reaching its end.
 *
 * The callbacks are called one at a time, each when the one before has settled. An error out of any of them ends
 * the process; the daemon then has the records since the last checkpoint delivered again.
 */
export interface Processor {
  /** Called once, first. May take as long as it needs. */
  initialize?(shard: Shard): void | Promise<void>;
  /** Called with each batch, in order. */
  processRecords(batch: Batch): void | Promise<void>;
  /** Called when another worker has the shard. Let go of what belongs to it; checkpoints are over. */
  leaseLost?(): void | Promise<void>;
  /**
   * Called when the last record of a closed shard has been processed. The shards that follow it start only once
   * this has been checkpointed, so without this callback it is. With it, call `checkpointer.checkpoint()` yourself.
   */
  shardEnded?(end: { checkpointer: Checkpointer }): void | Promise<void>;
  /**
   * Called when the worker stops or hands the shard over: the last chance to checkpoint before `leaseLost`.
   * Without it, what was not checkpointed is delivered again to the next worker.
   */
  shutdownRequested?(end: { checkpointer: Checkpointer }): void | Promise<void>;
}

/**
 * How long to insist when the lease table throttles or fails. The delay doubles up to `delayMaxMs` and is shortened
 * by up to half at random. The defaults (20 tries, 100 ms, 10 s) insist for one to two minutes.
 */
export interface Retry {
  triesMax?: number;
  delayFirstMs?: number;
  delayMaxMs?: number;
}

/**
 * Talks to the daemon that started this process until the daemon ends it; then the process exits.
 *
 * Takes a processor, its class, or just a function that is called with each batch; a batch is checkpointed when the
 * function's promise is fulfilled.
 */
export declare function run(
  processor: Processor | (new () => Processor) | ((batch: Omit<Batch, "checkpointer">) => unknown),
  options?: { retry?: Retry },
): void;

/** A checkpoint was refused, and asking again would not help. Nothing was stored. */
export declare class CheckpointError extends Error {
  protected constructor();
  /** The daemon's name for the reason, such as `"InvalidStateException"`. */
  readonly error: string;
}

/**
 * The lease is gone: stop working on this shard, another worker continues it. Need not be caught: left alone it ends
 * the callback, and of this shard the processor is only told `leaseLost`.
 */
export declare class ShutdownError extends CheckpointError {}

/** The lease table was still throttling or failing after the last of the tries. */
export declare class ThrottlingError extends CheckpointError {}

/** The daemon said something that this client does not understand. */
export declare class ProtocolError extends Error {}
