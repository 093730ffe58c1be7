"""Ways to break a file: each takes a generator of random numbers, and gives the same for the same seed."""

import copy
import json
import os
import random
import shutil
import socket
import struct
from pathlib import Path
from typing import Any

#: Texts that somebody would print, run, open or believe.
TEXTS = (
    "",
    " ",
    "\x00",
    "\x1b[2J\x1b]0;title\x07",
    "\u202eabc",
    "\ud800",
    "\udcff",
    "a\nb\rc",
    "a" * 300,
    "漢" * 100,
    "../../../lopbench-evil",
    "/etc/passwd",
    "C:\\lopbench-evil",
    "nul",
    "-rf",
    "=cmd|'/C touch canary'!A1",
    "$(touch canary)",
    "`touch canary`",
    "; touch canary",
    "{{ 7 * 7 }}{% for x in ().__class__.__base__.__subclasses__() %}{{ x }}{% endfor %}",
    "<script>alert(1)</script>",
    "__import__('pathlib').Path('canary').touch()",
    "lopbench_plugins.metrics:hookimpl",
    "none",
    "cbp",
    "nan",
    "1e999",
    "0x10",
    "1_000",
    "٣",
    "²",
    "true",
    "1" * 5000,
    "[bold]x[/]",
    "%s%n",
    "\ufeff",
)

NUMBERS = (0, -1, 1, 2, 2**31 - 1, 2**31, 2**53 + 1, 2**63, -(2**63), 2**64, 10**30, 0.5, -0.0, 1e308, 5e-324, 1e-400)

#: What Python's JSON writes no other way: no numbers, and numbers that are too large.
RAW = (
    "NaN",
    "Infinity",
    "-Infinity",
    "1e999",
    "-1e999",
    "1" * 5000,
    "1" * 400 + ".5",
    '"\\ud800"',
    '"\\u0000"',
    "[" * 9999,
)


def value(rng: random.Random) -> Any:
    """Return something that may stand in a file of JSON, whatever was expected."""
    kind = rng.randrange(8)
    if kind == 0:
        return None
    if kind == 1:
        return rng.random() < 0.5
    if kind in (2, 3):
        return rng.choice(NUMBERS)
    if kind in (4, 5):
        return rng.choice(TEXTS)
    if kind == 6:
        return [value(rng) for _ in range(rng.randrange(3))]
    return {rng.choice(TEXTS): value(rng) for _ in range(rng.randrange(3))}


def in_bytes(rng: random.Random, data: bytes) -> bytes:
    """Return ``data`` with bits turned, bytes cut out, doubled, moved or made up."""
    made = bytearray(data)
    at, length = rng.randrange(len(made) + 1), rng.choice((1, 2, 4, 16, 256, 4096))
    kind = rng.randrange(9)
    if kind < 3 and made:
        for _ in range(rng.choice((1, 1, 2, 8, 64))):
            made[rng.randrange(len(made))] ^= 1 << rng.randrange(8)
    elif kind == 3:
        del made[at:]
    elif kind == 4:
        del made[at : at + length]
    elif kind == 5:
        made[at : at + length] = rng.randbytes(length)
    elif kind == 6:
        made[at:at] = made[at : at + length] * rng.randrange(1, 4)
    elif kind == 7:
        made[at:at] = rng.choice(TEXTS).encode("utf-8", "surrogatepass")
    else:
        made[at : at + 4] = struct.pack("<I", rng.choice((0, 1, 2**31 - 1, 2**31, 2**32 - 1)))
    return bytes(made)


def in_json(rng: random.Random, data: bytes) -> bytes:
    """Return the JSON ``data`` with values of other types, members lost, renamed or doubled, or no numbers in it."""
    try:
        whole = json.loads(data)
    except RecursionError:  # it was nested deeply by an earlier change
        return in_bytes(rng, data)
    for _ in range(rng.choice((1, 1, 1, 2, 5))):
        holder, key = _place(rng, whole)
        if holder is None:
            return json.dumps(value(rng)).encode("utf-8", "surrogatepass")
        kind = rng.randrange(10)
        if kind == 0:
            del holder[key]
        elif kind == 1 and isinstance(holder, dict):
            holder[rng.choice((*TEXTS, *holder))] = holder.pop(key)
        elif kind == 2 and isinstance(holder, list):
            holder.extend([holder[key]] * rng.randrange(1, 4))
        elif kind == 3:
            holder[key] = "@raw@"
        elif kind == 4:
            other, name = _place(rng, whole)
            holder[key] = copy.deepcopy(other[name])  # not itself, which might hold what it is put into
        elif kind == 5 and isinstance(holder[key], int | float):
            holder[key] = rng.choice(NUMBERS)
        elif kind == 6 and isinstance(holder[key], str):
            holder[key] = rng.choice((holder[key] + rng.choice(TEXTS), holder[key][1:], holder[key].upper()))
        else:
            holder[key] = value(rng)
    text = json.dumps(whole, ensure_ascii=rng.random() < 0.5)
    text = text.replace('"@raw@"', rng.choice(RAW))
    if rng.random() < 0.1 and len(text) > 2:
        text = f"{text[:-1]}, {text[1:]}"  # every name twice
    return text.encode("utf-8", "surrogatepass")


def _place(rng: random.Random, whole: Any) -> tuple[Any, Any]:
    """Return a container somewhere in a value, and the key or index of one of its members; None if it has none."""
    places: list[tuple[Any, Any]] = []
    seen = [whole]
    while seen:
        each = seen.pop()
        if isinstance(each, dict | list):
            keys = list(each) if isinstance(each, dict) else range(len(each))
            places += [(each, key) for key in keys]
            seen += [each[key] for key in keys]
    return rng.choice(places) if places else (None, None)


def in_csv(rng: random.Random, data: bytes) -> bytes:
    """Return the CSV ``data`` with cells, columns, lines or separators changed."""
    lines = [line.split(",") for line in data.decode().splitlines()]
    for _ in range(rng.choice((1, 1, 2, 10))):
        row = rng.choice(lines)
        column = rng.randrange(len(row))
        kind = rng.randrange(9)
        if kind < 4:
            new = rng.choice((*TEXTS, *map(str, NUMBERS), "inf", "-nan", '"', '""', "'", "x" * 200_000))
            row[column] = new if rng.random() < 0.5 else '"' + new.replace('"', '""') + '"'
        elif kind == 4:
            del row[column:]
            row.append("")
        elif kind == 5:
            row[column:column] = [rng.choice(row)] * rng.choice((1, 2, 500))
        elif kind == 6:
            lines.insert(rng.randrange(len(lines)), list(rng.choice(lines)))
        elif kind == 7:
            other = rng.randrange(len(row))
            row[column], row[other] = row[other], row[column]
        else:
            for each in lines:
                each[column % len(each)] = rng.choice(("", "1", "nan", "-1", "x"))
    joined = rng.choice(("\n", "\n", "\n", "\r\n", "\r")).join(rng.choice((",", ",", ",", ";")).join(r) for r in lines)
    coding = rng.choice(("utf-8", "utf-8", "utf-8", "utf-8", "utf-8-sig", "utf-16"))
    return joined.encode(coding, "surrogatepass")


def on_disk(rng: random.Random, path: Path, others: list[Path]) -> None:
    """Put something else in the place of a file or folder: a pipe, a link, a folder, another file, nothing."""
    kind = rng.randrange(14)
    if kind == 12 and path.is_file():
        path.chmod(0)  # says nothing to the superuser
        return
    if kind == 13 and path.is_file():
        os.truncate(path, rng.choice((2**24 + 1, 2**31, 2**33, 2**40)))  # has holes, and takes no room
        return
    if kind == 0 and len(others) > 1:
        other = rng.choice([each for each in others if each != path])
        if other.is_file() and path.is_file():
            shutil.copyfile(other, path)
        return
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()
    if kind == 1:
        os.mkfifo(path)
    elif kind == 2:
        path.symlink_to(path.name)
    elif kind == 3:
        path.symlink_to(rng.choice(("/dev/zero", "/dev/stdin", "/dev/full", "/proc/self/mem", "/proc/kmsg")))
    elif kind == 4:
        path.symlink_to(rng.choice(("/nowhere", "..", "/", "a" * 250)))
    elif kind == 5:
        path.mkdir()
        (path / "x").write_text("x")
    elif kind == 6:
        path.symlink_to(rng.choice(others))
    elif kind == 7:
        path.write_bytes(b"")
    elif kind == 8:
        listening = socket.socket(socket.AF_UNIX)
        here = Path.cwd()
        os.chdir(path.parent)  # names of sockets are short
        try:
            listening.bind(path.name[:90])
        finally:
            os.chdir(here)
            listening.close()
    elif kind == 9:
        path.write_bytes(rng.randbytes(rng.choice((1, 100, 100_000))))
    elif kind == 10:
        (path.parent / os.fsdecode(b"\xff\xfe\x1b[2J")).write_bytes(b"{}")
    # else: nothing stands there
