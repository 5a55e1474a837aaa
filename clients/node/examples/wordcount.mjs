// Counts the words of a stream, shard by shard.
//
//     multilangd run --local clients/node/examples/wordcount.properties
//     echo "to be or not to be" | multilangd put words

import { run } from "../index.mjs"; // from "multilangd", once it is installed

class WordCount {
  words = new Map();

  initialize({ shardId }) {
    console.log(`counting the words of ${shardId}`);
  }

  async processRecords({ records, checkpointer }) {
    for (const record of records) {
      for (const word of record.data.toString().toLowerCase().match(/\S+/g) ?? []) {
        this.words.set(word, (this.words.get(word) ?? 0) + 1);
      }
    }
    this.show();
    await checkpointer.checkpoint();
  }

  async shardEnded({ checkpointer }) {
    console.log("the shard is complete");
    await checkpointer.checkpoint(); // only now may the shards that follow it start
  }

  show() {
    const all = [...this.words].sort(([, a], [, b]) => b - a);
    const most = all.slice(0, 10).map(([word, count]) => `${word} ${count}`);
    const total = all.reduce((sum, [, count]) => sum + count, 0);
    console.log(`${total} words: ${most.join(", ")}`); // printing is harmless: it goes to stderr
  }
}

run(WordCount);
