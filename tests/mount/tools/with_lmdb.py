"""Processes that use an LMDB database, for the tests in lmdb.rs: writers that say which transaction they begin
and which was committed, readers, and a look at what is there.

Each transaction adds five values, replaces those of three before by shorter ones, deletes those of six before,
and counts itself: half of one would show.
"""

import hashlib
import json
import sys
import time

import lmdb

PARTS = 5
SHORTENED = 3
DELETED = 6


def connect(path, how):
    # Not resized: the map is mapped once, and the file is as long as the map where it is written through it.
    return lmdb.open(path, map_size=64 << 20, writemap=how == "writemap", sync=True, metasync=True)


def key(writer, n, part):
    return f"{writer:02}/{n:08}/{part}".encode()


def value(writer, n, part):
    """Of a length that changes, up to a few pages."""
    text = hashlib.sha256(f"{writer}/{n}/{part}".encode()).hexdigest()
    return (text * (1 + (n * 7 + part * 13) % 150)).encode()


def count_of(txn, writer):
    return int(txn.get(f"total {writer}".encode(), b"0"))


def write(path, how, name, writer, first, count):
    env = connect(path, how)
    writer, first = int(writer), int(first)
    for n in range(first, first + int(count)):
        with env.begin(write=True) as txn:
            print("begun", name, writer, n, flush=True)
            for part in range(PARTS):
                txn.put(key(writer, n, part), value(writer, n, part))
                if n >= SHORTENED:
                    txn.put(key(writer, n - SHORTENED, part), value(writer, n - SHORTENED, part)[:32])
                if n >= DELETED:
                    assert txn.delete(key(writer, n - DELETED, part)), f"{n - DELETED} is not there"
            txn.put(f"total {writer}".encode(), str(n + 1).encode())
        print("done", name, writer, n, flush=True)
    env.close()


def entries(txn):
    return {bytes(k): bytes(v) for k, v in txn.cursor() if not bytes(k).startswith(b"total")}


def expected(txn, writers):
    """What has to be there, from the counts alone."""
    want = {}
    for writer in range(writers):
        total = count_of(txn, writer)
        for n in range(max(0, total - DELETED), total):
            for part in range(PARTS):
                whole = value(writer, n, part)
                want[key(writer, n, part)] = whole if n >= total - SHORTENED else whole[:32]
    return want


def read(path, how, writers, until):
    """Looks twice in each of its transactions until there are `until` of the writers'."""
    env, looks, transactions = connect(path, how), 0, -1
    while transactions < int(until):
        with env.begin() as txn:
            first = entries(txn)
            time.sleep(0.02)
            assert entries(txn) == first, "a transaction saw two states"
            assert first == expected(txn, int(writers)), "a reader saw half a transaction"
            transactions = sum(count_of(txn, writer) for writer in range(int(writers)))
        looks += 1
        time.sleep(0.02)
    print("looked", looks)
    env.close()


def check(path, how, writers):
    """The number of transactions of each writer, found to be whole ones."""
    env = connect(path, how)
    with env.begin() as txn:
        assert entries(txn) == expected(txn, int(writers)), "what is there is not that of whole transactions"
        print(json.dumps([count_of(txn, writer) for writer in range(int(writers))]))
    env.close()


COMMANDS = {"write": write, "read": read, "check": check}
COMMANDS[sys.argv[1]](*sys.argv[2:])
