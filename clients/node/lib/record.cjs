// Records as the daemon delivers them: parsed once, decoded only where the processor looks.
"use strict";

class Record {
  #encoded;
  #data = null;

  constructor(fields) {
    this.#encoded = fields.data;
    this.partitionKey = fields.partitionKey;
    this.sequenceNumber = fields.sequenceNumber;
    this.subSequenceNumber = fields.subSequenceNumber ?? 0;
    const millis = fields.approximateArrivalTimestamp;
    this.approximateArrivalTimestamp = millis == null ? null : new Date(millis);
  }

  get data() {
    if (this.#data === null) {
      this.#data = Buffer.from(this.#encoded ?? "", "base64");
      this.#encoded = null; // one copy of the payload is enough
    }
    return this.#data;
  }
}

module.exports = { Record };
