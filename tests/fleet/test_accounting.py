"""The accounting itself: what it must find, it finds."""

import pathlib
import sys

import pytest

sys.path[:0] = [str(pathlib.Path(__file__).resolve().parents[1] / "judges"), str(pathlib.Path(__file__).resolve().parent)]

import accounting
import java_log
from accounting import Put
from bench import Failed

PUTS = [Put(float(n), "s-1", 100 + n, "a", n) for n in range(4)]


def notes_of(directory, **workers):
    """Notes with lines of (time, pid, what, number) for each worker, all of shard s-1."""
    for worker, lines in workers.items():
        (directory / f"{worker}.notes").write_text("".join(f"{t} {pid} s-1 {what} {n}\n" for t, pid, what, n in lines))
    return accounting.Notes(directory).look()


def records(pid, numbers, begin=10.0):
    return [(begin + i, pid, "record", n) for i, n in enumerate(numbers)]


def test_each_record_once_is_right(tmp_path):
    again = accounting.account(PUTS, notes_of(tmp_path, w=records(1, [100, 101, 102, 103])))
    assert sum(again.values()) == 0


def test_a_record_that_nobody_got_is_found(tmp_path):
    with pytest.raises(Failed, match="1 of 4 records were never delivered"):
        accounting.account(PUTS, notes_of(tmp_path, w=records(1, [100, 101, 102])))


def test_a_hole_that_a_later_child_filled_is_found(tmp_path):
    with pytest.raises(Failed, match="record 3 came after record 1"):
        accounting.account(PUTS, notes_of(tmp_path, w=records(1, [100, 101, 103]), x=records(2, [102, 103], 20.0)))


def test_a_child_that_begins_too_late_is_found(tmp_path):
    with pytest.raises(Failed, match="began s-1 at record 2, but only 1 had been delivered"):
        accounting.account(PUTS, notes_of(tmp_path, w=records(1, [100]), x=records(2, [102, 103], 20.0), y=records(3, [101], 30.0)))


def test_a_record_that_nobody_put_is_found(tmp_path):
    with pytest.raises(Failed, match="which nobody put there"):
        accounting.account(PUTS, notes_of(tmp_path, w=records(1, [100, 101, 102, 103, 104])))


def test_keys_out_of_order_across_shards_are_found(tmp_path):
    (tmp_path / "w.notes").write_text("10.0 1 s-2 record 900\n11.0 2 s-1 record 100\n")
    puts = [Put(1.0, "s-1", 100, "a", 0), Put(2.0, "s-2", 900, "a", 1)]
    with pytest.raises(Failed, match="record 1 of key a .s-2. was delivered before record 0"):
        accounting.account(puts, accounting.Notes(tmp_path).look())


def test_what_a_second_owner_repeats_is_counted(tmp_path):
    notes = notes_of(tmp_path, w=records(1, [100, 101, 102]), x=records(2, [101, 102, 103], 20.0))
    assert accounting.account(PUTS, notes) == {"w": 0, "x": 2}


def test_a_half_written_line_is_read_later(tmp_path):
    path = tmp_path / "w.notes"
    path.write_text("10.0 1 s-1 record 100\n11.0 1 s-1 rec")
    notes = accounting.Notes(tmp_path).look()
    assert list(notes.first) == [("s-1", 100)]
    path.write_text("10.0 1 s-1 record 100\n11.0 1 s-1 record 101\n")
    assert list(notes.look().first) == [("s-1", 100), ("s-1", 101)]


def test_a_wait_counts_from_the_event_for_what_was_put_before(tmp_path):
    notes = notes_of(tmp_path, w=records(1, [100, 101, 102, 103], begin=2.5))
    assert accounting.waits(PUTS, notes, 2.0, 9.0) == {"s-1": (2.5, "w")}


def test_the_same_complaint_is_known_again_whatever_its_numbers():
    line = "2026-11-24 14:27:21,404 [main] WARN  s.a.k.X [NONE] - lease shardId-{} of {} in 12 ms"
    assert java_log.kind(line.format("000000000001", "java-1")) == java_log.kind(line.format("000000000742", "ours-3"))


def test_what_is_no_complaint_is_passed_over():
    assert java_log.complaints("2026-11-24 14:27:21,404 [main] INFO  s.a.k.X [NONE] - no WARNING at all\n") == set()
