#!/usr/bin/env python3
"""Counts the words of a stream, shard by shard.

    multilangd run --local clients/python/examples/wordcount.properties
    echo "to be or not to be" | multilangd put words
"""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

sys.path.append(str(Path(__file__).parent.parent / "src"))  # not needed once multilangd is installed

from multilangd import Checkpointer, Processor, Records, Shard, run  # noqa: E402


class WordCount(Processor):
    def initialize(self, shard: Shard) -> None:
        print(f"counting the words of {shard.shard_id}")
        self.words: Counter[str] = Counter()

    def process_records(self, records: Records, checkpointer: Checkpointer) -> None:
        for record in records:
            self.words.update(record.data.decode("utf-8", "replace").lower().split())
        self.show()
        checkpointer.checkpoint()

    def shard_ended(self, checkpointer: Checkpointer) -> None:
        print("the shard is complete")
        checkpointer.checkpoint()  # only now may the shards that follow it start

    def show(self) -> None:
        most = ", ".join(f"{word} {count}" for word, count in self.words.most_common(10))
        print(f"{sum(self.words.values())} words: {most}")  # printing is harmless: it goes to stderr


run(WordCount)
