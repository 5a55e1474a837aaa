'use strict';
// A processor for the unmodified aws-kcl that counts: `node node_counter.js 1|2`, the number being the processor interface
// (1: shutdown with a reason; 2: leaseLost and shardEnded). Appends one line for each record and each ending to a file of its own
// in $COUNT_DIR. NODE_PATH must hold the client.

const fs = require('fs');
const path = require('path');
const kcl = require('aws-kcl');

const out = path.join(process.env.COUNT_DIR, `${process.pid}.txt`);
const note = (...words) => fs.appendFileSync(out, words.join(' ') + '\n');

let shard = '';

function checkpointed(checkpointer, number, done) {
  checkpointer.checkpoint(...(number ? [number] : []), (error) => {
    if (error) note('checkpoint-error', shard, error);
    done();
  });
}

const common = {
  initialize(input, done) {
    shard = input.shardId;
    note('initialize', shard, input.sequenceNumber, input.subSequenceNumber);
    done();
  },
  processRecords(input, done) {
    for (const r of input.records) {
      note('record', shard, r.sequenceNumber, r.subSequenceNumber, Buffer.from(r.data, 'base64').toString('hex'), r.partitionKey);
    }
    const last = input.records[input.records.length - 1];
    if (!last) return done();
    checkpointed(input.checkpointer, last.sequenceNumber, done);
  },
  shutdownRequested(input, done) {
    note('shutdown_requested', shard);
    checkpointed(input.checkpointer, null, done);
  },
};

const versions = {
  1: {
    ...common,
    shutdown(input, done) {
      note('shutdown', shard, input.reason);
      if (input.reason !== 'TERMINATE') return done();
      checkpointed(input.checkpointer, null, done);
    },
  },
  2: {
    ...common,
    leaseLost(input, done) {
      note('lease_lost', shard);
      done();
    },
    shardEnded(input, done) {
      note('shard_ended', shard);
      checkpointed(input.checkpointer, null, done);
    },
  },
};

kcl(versions[process.argv[2]]).run();
