"""Process a Kinesis stream, one shard per process, started by multilangd or the Java MultiLangDaemon.

>>> from multilangd import Processor, run
>>>
>>> class Printer(Processor):
...     def process_records(self, records, checkpointer):
...         for record in records:
...             print(record.partition_key, record.data)
...         checkpointer.checkpoint()
>>>
>>> run(Printer)  # doctest: +SKIP
"""

from .checkpointer import Checkpointer, Retry
from .conversation import run
from .errors import CheckpointError, DaemonGone, ProtocolError, ShutdownError, ThrottlingError
from .processor import Processor, Shard
from .records import Record, Records

__all__ = [
    "CheckpointError",
    "Checkpointer",
    "DaemonGone",
    "Processor",
    "ProtocolError",
    "Record",
    "Records",
    "Retry",
    "Shard",
    "ShutdownError",
    "ThrottlingError",
    "run",
]
__version__ = "0.1.0"
