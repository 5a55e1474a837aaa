"""Records as the daemon delivers them: parsed once, decoded only where the processor looks."""

from __future__ import annotations

from binascii import a2b_base64
from datetime import datetime, timedelta, timezone
from typing import Any, Dict, Iterator, List, Optional, Sequence, Union, overload

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


class Record:
    """One user record. Aggregated (KPL) records have been taken apart by the daemon."""

    __slots__ = ("_fields", "_data")

    def __init__(self, fields: Dict[str, Any]) -> None:
        self._fields = fields
        self._data: Optional[bytes] = None

    @property
    def data(self) -> bytes:
        """The payload, decoded on first use."""
        if self._data is None:
            self._data = a2b_base64(self._fields.pop("data", None) or b"")  # one copy of the payload is enough
        return self._data

    @property
    def partition_key(self) -> str:
        """The key that chose the shard."""
        return self._fields["partitionKey"]  # type: ignore[no-any-return]

    @property
    def sequence_number(self) -> str:
        """Decimal digits. The records of one aggregate share it."""
        return self._fields["sequenceNumber"]  # type: ignore[no-any-return]

    @property
    def sub_sequence_number(self) -> int:
        """Place within its aggregate; 0 for a record that was not aggregated."""
        return self._fields.get("subSequenceNumber") or 0

    @property
    def approximate_arrival_timestamp(self) -> Optional[datetime]:
        """When Kinesis took the record (UTC, to the millisecond)."""
        millis = self._fields.get("approximateArrivalTimestamp")
        return None if millis is None else _EPOCH + timedelta(milliseconds=millis)

    def __repr__(self) -> str:
        return (
            f"Record(partition_key={self.partition_key!r}, sequence_number={self.sequence_number!r}, "
            f"sub_sequence_number={self.sub_sequence_number}, data={self.data!r})"
        )


class Records(Sequence[Record]):
    """One batch, in the order of the shard."""

    __slots__ = ("_records", "millis_behind_latest")

    #: How far this batch is behind the tip of the shard, in milliseconds; 0 at the tip.
    millis_behind_latest: Optional[int]

    def __init__(self, records: List[Record], millis_behind_latest: Optional[int]) -> None:
        self._records = records
        self.millis_behind_latest = millis_behind_latest

    def __len__(self) -> int:
        return len(self._records)

    def __iter__(self) -> Iterator[Record]:
        return iter(self._records)

    @overload
    def __getitem__(self, index: int) -> Record: ...
    @overload
    def __getitem__(self, index: slice) -> List[Record]: ...
    def __getitem__(self, index: Union[int, slice]) -> Union[Record, List[Record]]:
        return self._records[index]

    def __repr__(self) -> str:
        return f"Records({len(self)} records, millis_behind_latest={self.millis_behind_latest})"
