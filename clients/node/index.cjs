"use strict";

const { CheckpointError, ProtocolError, ShutdownError, ThrottlingError } = require("./lib/errors.cjs");
const { Record } = require("./lib/record.cjs");
const { run } = require("./lib/conversation.cjs");

module.exports = { CheckpointError, ProtocolError, Record, ShutdownError, ThrottlingError, run };
