"""A process that takes locks as it is told: a command a line on standard input, an answer a line on standard
output, which comes once a waiting lock is there.

Handles (h) are names for open descriptors. Kinds of locks: posix, ofd, flock; types: sh, ex, un.
"""
import errno
import fcntl
import os
import signal
import struct
import sys

FORMAT = "hhqqi4x"  # struct flock: type, whence, start, length, pid
TYPES = {"sh": fcntl.F_RDLCK, "ex": fcntl.F_WRLCK, "un": fcntl.F_UNLCK}
# Getting, trying and waiting.
COMMANDS = {"posix": (fcntl.F_GETLK, fcntl.F_SETLK, fcntl.F_SETLKW), "ofd": (36, 37, 38)}
FLOCKS = {"sh": fcntl.LOCK_SH, "ex": fcntl.LOCK_EX, "un": fcntl.LOCK_UN}
MODES = {"r": os.O_RDONLY, "w": os.O_WRONLY, "rw": os.O_RDWR}

handles = {}
child = None


def open_(h, path, mode):
    handles[h] = os.open(path, MODES[mode] | os.O_CREAT, 0o644)


def close(h):
    os.close(handles.pop(h))


def dup(h, copy):
    handles[copy] = os.dup(handles[h])


def lock(kind, h, type_, start="0", length="0", wait="try"):
    if kind == "flock":
        fcntl.flock(handles[h], FLOCKS[type_] | (0 if wait == "wait" else fcntl.LOCK_NB))
        return
    command = COMMANDS[kind][2 if wait == "wait" else 1]
    asked = struct.pack(FORMAT, TYPES[type_], os.SEEK_SET, int(start), int(length), 0)
    fcntl.fcntl(handles[h], command, asked)


def who(kind, h, type_, start="0", length="0"):
    """What stands in the way of a lock."""
    asked = struct.pack(FORMAT, TYPES[type_], os.SEEK_SET, int(start), int(length), 0)
    got = struct.unpack(FORMAT, fcntl.fcntl(handles[h], COMMANDS[kind][0], asked))
    if got[0] == fcntl.F_UNLCK:
        return "free"
    found = {code: name for name, code in TYPES.items()}[got[0]]
    owner = "a description" if got[4] == -1 else "a process" if got[4] > 0 else "somebody unseen"
    return f"{found} {got[2]}+{got[3]} of {owner}"


def write(h, text):
    os.write(handles[h], text.encode())


def fork():
    """A child that has our descriptors, until `end`."""
    global child
    told, tell = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(tell)
        os.read(told, 1)
        os._exit(0)
    os.close(told)
    child = (pid, tell)


def end():
    os.close(child[1])
    os.waitpid(child[0], 0)


def exec_(*kept):
    """Becomes a new program, which has the descriptors `kept` only."""
    for h in kept:
        os.set_inheritable(handles[h], True)
    words = [f"{h}={handles[h]}" for h in kept]
    os.execv(sys.executable, [sys.executable, "-c", sys.orig_argv[2], "again", *words])


def interrupted(seconds, *words):
    """A command that a signal interrupts, unless it is done before."""
    signal.signal(signal.SIGALRM, raise_)
    signal.setitimer(signal.ITIMER_REAL, float(seconds))
    try:
        return COMMANDS_OF_OURS[words[0]](*words[1:])
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def raise_(*_):
    raise InterruptedError(errno.EINTR, "interrupted")


COMMANDS_OF_OURS = {"open": open_, "close": close, "dup": dup, "lock": lock, "who": who, "write": write,
                    "fork": fork, "end": end, "exec": exec_, "interrupted": interrupted}


def answer(line):
    name, *words = line.split()
    try:
        return COMMANDS_OF_OURS[name](*words) or "ok"
    except OSError as error:
        return errno.errorcode[error.errno]


if sys.argv[1:2] == ["again"]:
    handles = {h: int(fd) for h, fd in (word.split("=") for word in sys.argv[2:])}
    print("ok", flush=True)
while True:
    # Unbuffered, so that exec loses no command.
    line = b""
    while not line.endswith(b"\n"):
        byte = os.read(0, 1)
        if not byte:
            sys.exit(0)
        line += byte
    print(answer(line.decode()), flush=True)
