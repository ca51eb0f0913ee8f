"""Processes that use an SQLite database, for the tests in sqlite.rs: writers that say which transaction they
begin and which was committed, readers, checkpoints, and a look at what is there.

Each transaction adds five rows, changes those of three before, and counts itself: half of one would show.
"""

import hashlib
import json
import sqlite3
import sys
import time

PARTS = 5
BEFORE = 3


def connect(path, mode, synchronous):
    db = sqlite3.connect(path, timeout=240, isolation_level=None)
    got = db.execute(f"pragma journal_mode={mode}").fetchone()[0]
    assert got == mode, f"journal mode is {got}, not {mode}"
    db.execute(f"pragma synchronous={synchronous}")
    return db


def body(writer, n, part):
    """Of a length that changes, so that a transaction takes one page or several."""
    return hashlib.sha256(f"{writer}/{n}/{part}".encode()).hexdigest() * (1 + (n * 7 + part * 13) % 40)


def make(path, mode, synchronous, writers):
    db = connect(path, mode, synchronous)
    db.execute("create table entry(writer, n, part, body, touched, primary key(writer, n, part)) without rowid")
    db.execute("create index of_body on entry(body)")
    db.execute("create table total(writer primary key, transactions, entries)")
    for writer in range(int(writers)):
        db.execute("insert into total values(?, 0, 0)", (writer,))
    db.close()


def write(path, mode, synchronous, name, writer, first, count):
    db = connect(path, mode, synchronous)
    writer, first = int(writer), int(first)
    for n in range(first, first + int(count)):
        db.execute("begin immediate")
        print("begun", name, writer, n, flush=True)
        for part in range(PARTS):
            db.execute("insert into entry values(?, ?, ?, ?, 0)", (writer, n, part, body(writer, n, part)))
        db.execute("update entry set touched = touched + 1 where writer = ? and n = ?", (writer, n - BEFORE))
        db.execute(
            "update total set transactions = transactions + 1, entries = entries + ? where writer = ?",
            (PARTS, writer),
        )
        db.execute("commit")
        print("done", name, writer, n, flush=True)
    db.close()


def totals(db):
    return db.execute("select sum(transactions), sum(entries), (select count(*) from entry) from total").fetchone()


def read(path, mode, synchronous, until):
    """Looks twice in each of its transactions until there are `until` of the writers'."""
    db, looks, transactions = connect(path, mode, synchronous), 0, -1
    while transactions < int(until):
        db.execute("begin")
        first = totals(db)
        time.sleep(0.02)
        assert totals(db) == first, f"a transaction saw {first}, then {totals(db)}"
        transactions, entries, counted = first
        assert entries == counted == transactions * PARTS, f"half a transaction: {first}"
        db.execute("commit")
        looks += 1
        # With a rollback journal nobody commits while somebody reads.
        time.sleep(0.1)
    print("looked", looks)
    db.close()


def checkpoint(path, mode, synchronous, until):
    """Writes the log back, in every way there is, until there are `until` transactions of the writers'."""
    db, whole = connect(path, mode, synchronous), 0
    while totals(db)[0] < int(until):
        for how in "passive", "full", "restart", "truncate":
            busy, log, back = db.execute(f"pragma wal_checkpoint({how})").fetchone()
            whole += busy == 0 and log == back
            time.sleep(0.01)
    print("whole", whole)
    db.close()


def check(path, mode, synchronous):
    """The transactions that are there, as [writer, n], each of them found to be whole."""
    db = connect(path, mode, synchronous)
    said = [row[0] for row in db.execute("pragma integrity_check")]
    assert said == ["ok"], f"integrity_check: {said}"
    rows = db.execute("select writer, n, part, body, touched from entry order by 1, 2, 3").fetchall()
    there = sorted({(row[0], row[1]) for row in rows})
    want = [
        (writer, n, part, body(writer, n, part), int((writer, n + BEFORE) in there))
        for writer, n in there
        for part in range(PARTS)
    ]
    assert rows == want, "the rows are not those of whole transactions"
    for writer, transactions, entries in db.execute("select * from total"):
        counted = sum(row[0] == writer for row in there)
        assert (transactions, entries) == (counted, counted * PARTS), f"writer {writer}: {transactions}, {counted}"
    print(json.dumps(there))
    db.close()


COMMANDS = {"make": make, "write": write, "read": read, "checkpoint": checkpoint, "check": check}
COMMANDS[sys.argv[1]](*sys.argv[2:])
