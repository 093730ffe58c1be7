"""Broken inputs, each with the command that is to take it: all of it follows from a generator of random numbers."""

import gzip
import hashlib
import io
import json
import os
import random
import re
import struct
import tarfile
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from corpus import FEW, SMALL, copy, official
from mutations import NUMBERS, TEXTS, in_bytes, in_csv, in_json, on_disk

from lopbench.core.errors import LopbenchError
from lopbench.results.packed import MEMBERS
from lopbench.results.record import read_record

Arguments = list[str]


def broken(rng: random.Random, whole: Path, place: Path) -> Arguments:
    """Put something broken into an empty folder, and return the command that takes it."""
    kinds: dict[Callable[[random.Random, Path, Path], Arguments], int] = {
        records: 30,
        packed: 14,
        table: 12,
        archives: 14,
        folders: 8,
        stopped: 4,
        typed: 18,
    }
    (kind,) = rng.choices(list(kinds), list(kinds.values()))
    return kind(rng, whole, place)


# Records -------------------------------------------------------------------------------------------------------------


def records(rng: random.Random, whole: Path, place: Path) -> Arguments:
    """Break files of records in a results folder."""
    results = copy(whole / "results", place / "results")
    runs = sorted((results / "runs").iterdir())
    files = sorted(path for run in runs for path in run.iterdir())
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        path = rng.choice(files)
        with suppress(
            OSError, ValueError, LookupError, MemoryError
        ):  # what was broken before may not be broken so again
            if rng.random() < 0.15:
                on_disk(rng, rng.choice((path, path.parent, results / "runs")), files)
            elif path.is_symlink() or not path.is_file() or path.stat().st_size > 2**24:
                continue  # it is a pipe by now, say, which nobody writes to, or as long as a disk
            elif path.suffix == ".json" and rng.random() < 0.8:
                path.write_bytes(in_json(rng, path.read_bytes()))
            elif path.suffix == ".parquet" and rng.random() < 0.7:
                in_parquet(rng, path)
            else:
                path.write_bytes(in_bytes(rng, path.read_bytes()))
    if rng.random() < 0.7:
        for run in runs:
            sealed(run)
    return reading(rng, results)


def sealed(run: Path) -> None:
    """Give a run directory the name that goes with its spec, so that what is changed in it is looked at."""
    try:
        read_record(run)
    except LopbenchError as error:
        found = re.search(r"has run id (\w+)", str(error))
        if found is not None:
            run.rename(run.with_name(f"{run.name.rpartition('-')[0]}-{found[1]}"))


def reading(rng: random.Random, results: Path) -> Arguments:
    """Return a command that reads results."""
    name = rng.choice((str(results), results.name, f"{results.name}/"))
    kinds = ("curves", "learning-rate", "error-curves", "recovery", "recovery-bars", "cloning")
    commands: list[tuple[int, Arguments]] = [
        (6, ["leaderboard", name, f"--format={rng.choice(('table', 'csv', 'markdown', 'latex', 'json'))}"]),
        (4, ["compare", name, f"--format={rng.choice(('table', 'json'))}"]),
        (2, ["compare", f"{name}:none", f"{name}:cbp"]),
        (2, ["status", name, f"--format={rng.choice(('table', 'json'))}"]),
        (2, ["report", name, "--output=page.html"]),
        (3, ["pack", name, "--output=new.lopbench"]),
        (1, ["plot", rng.choice(kinds), name, "--output=figure.svg"]),
        (1, ["leaderboard", name, "--output=table.csv"]),
    ]
    if results.suffix == ".lopbench":
        commands.append((3, ["unpack", name, "--output=unpacked"]))
    elif (results / "runs").is_dir():
        commands.append((1, ["reproduce", str(rng.choice(sorted((results / "runs").iterdir())))]))
    return rng.choices([each for _, each in commands], [weight for weight, _ in commands])[0]


def in_parquet(rng: random.Random, path: Path) -> None:
    """Write a Parquet file anew with other types, other values, other rows, or another number of them."""
    frame: Any = pq.read_table(path).to_pandas()
    columns = list(frame.columns)
    column, kind = rng.choice(columns), rng.randrange(9)
    row = rng.randrange(max(1, len(frame)))
    if kind < 3 and len(frame):
        odd = rng.choice((*NUMBERS, *TEXTS, None, float("nan"), float("inf"), b"\xff\xfe"))
        frame[column] = frame[column].astype(object)
        frame.iloc[row if kind else slice(None), columns.index(column)] = odd
    elif kind == 3:
        frame = frame.drop(columns=column)
    elif kind == 4:
        frame = pd.concat([frame, frame.iloc[: row + 1]])
    elif kind == 5:
        frame = frame.sample(frac=1.0, random_state=row)
    elif kind == 6:
        frame = frame.iloc[:0]
    elif kind == 7:
        frame = frame.rename(columns={column: rng.choice(TEXTS)})
    schema = pq.read_schema(path)
    if kind == 8:
        array = pa.array(rng.choice(([0], [float("nan")], [""])) * 300_000)
        table = pa.table({name: array.cast(schema.field(name).type, safe=False) for name in columns}, schema=schema)
    else:
        try:
            table = pa.Table.from_pandas(frame, schema=schema, preserve_index=False)
        except (pa.ArrowException, KeyError, OverflowError, ValueError):
            table = pa.Table.from_pandas(frame.astype(str), preserve_index=False)
    pq.write_table(table, path, compression=rng.choice(("snappy", "zstd", "none")))


# Packed sets ---------------------------------------------------------------------------------------------------------


def packed(rng: random.Random, whole: Path, place: Path) -> Arguments:
    """Break a packed set: its bytes, or its members with the manifest that goes with them."""
    path = copy(whole / "packed.lopbench", place / "packed.lopbench")
    if rng.random() < 0.35:
        path.write_bytes(in_bytes(rng, path.read_bytes()))
    elif rng.random() < 0.1:
        on_disk(rng, path, [whole / "table.csv", whole])
    else:
        members = _members(path)
        name = rng.choice(list(members))
        part = place / "member"
        with suppress(OSError, ValueError, LookupError, MemoryError):
            part.write_bytes(members[name])
            if name.endswith(".parquet") and rng.random() < 0.7:
                _in_rows(rng, part) if name.startswith("records") else in_parquet(rng, part)
                members[name] = part.read_bytes()
            elif name.endswith(".json"):
                members[name] = in_json(rng, members[name])
            else:
                members[name] = in_bytes(rng, members[name])
        part.unlink()
        manifest = json.loads(members["manifest.json"]) if not name.endswith(".json") else None
        if isinstance(manifest, dict):
            for each in MEMBERS[1:]:
                size, sha256 = len(members[each]), hashlib.sha256(members[each]).hexdigest()
                manifest["files"][each] = {"bytes": size, "sha256": sha256}
            with suppress(pa.ArrowException, OSError):
                manifest["records"] = pq.read_metadata(io.BytesIO(members["records.parquet"])).num_rows
                manifest["rows"] = pq.read_metadata(io.BytesIO(members["measurements.parquet"])).num_rows
            members["manifest.json"] = json.dumps(manifest).encode()
        _write_zip(rng, path, members)
    return reading(rng, path)


def _in_rows(rng: random.Random, path: Path) -> None:
    """Change a file of a record inside ``records.parquet``."""
    table = pq.read_table(path)
    column = rng.choice(("spec", "environment", "status", "log", "name"))
    values = table[column].to_pylist()
    row = rng.randrange(len(values))
    if column == "name":
        values[row] = rng.choice([each for each in TEXTS if not re.search("[\ud800-\udfff]", each)])
    else:
        values[row] = in_json(rng, values[row]) if column != "log" else in_bytes(rng, values[row] or b"")
    made = pa.array(values, table.schema.field(column).type)
    index = table.schema.get_field_index(column)
    pq.write_table(table.set_column(index, table.schema.field(column), made), path)


def _members(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        return {info.filename: archive.read(info) for info in archive.infolist()}


def _write_zip(rng: random.Random, path: Path, members: dict[str, bytes]) -> None:
    """Write a zip as lopbench does, or now and then packed, with a member twice, or with names that lead outside."""
    method = zipfile.ZIP_DEFLATED if rng.random() < 0.1 else zipfile.ZIP_STORED
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in members.items():
            entry = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
            entry.create_system, entry.external_attr, entry.compress_type = 3, 0o644 << 16, method
            archive.writestr(entry, content)
        if rng.random() < 0.1:
            archive.writestr("../lopbench-evil", b"x")


# Tables --------------------------------------------------------------------------------------------------------------


def table(rng: random.Random, whole: Path, place: Path) -> Arguments:
    """Break the CSV of a leaderboard."""
    path = copy(whole / "table.csv", place / "table.csv")
    if rng.random() < 0.06:
        on_disk(rng, path, [whole / "packed.lopbench", whole])
    else:
        how = in_csv if rng.random() < 0.75 else in_bytes
        path.write_bytes(how(rng, path.read_bytes()))
    good, bad = str(whole / "table.csv"), str(path)
    return rng.choice(
        (
            ["compare", bad],
            ["compare", bad, "--format=json"],
            ["compare", good, bad],
            ["compare", bad, good],
            ["compare", bad, "--output=again.csv"],
            ["compare", f"{bad}:none", str(whole / "results")],
            ["leaderboard", str(whole / "results"), f"--check={bad}"],
        )
    )


# Data sets -----------------------------------------------------------------------------------------------------------

#: What an image may turn out to be: images of a great size, that want a program to be shown, or none.
IMAGES = (
    b"",
    b"\xff\xd8\xff\xe0",
    b"\xff\xd8\xff\xc0\x00\x11\x08" + b"\xff\xff\xff\xff" + b"\x03\x01\x22\x00\x02\x11\x01\x03\x11\x01",
    b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(canary) (w) file closefile\n",
    b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR" + b"\x00\x00\xff\xff" * 2 + b"\x08\x02\x00\x00\x00",
    b"GIF89a\xff\xff\xff\xff",
    b"<html>log in</html>",
    b"II*\x00\xff\xff\xff\xff",
)

#: A pickle that runs a program.
RUNS = b"cos\nsystem\n(S'touch canary'\ntR."


def in_image(rng: random.Random, data: bytes) -> bytes:
    """Return something else in place of an image."""
    return rng.choice(IMAGES) if rng.random() < 0.4 else in_bytes(rng, data)


def in_pickle(rng: random.Random, data: bytes) -> bytes:
    """Return something else in place of a batch of CIFAR."""
    odd = (
        RUNS,
        b"}.",
        b"N.",
        b"\x80\x02}(U\x04dataK\x01U\x06labels]u.",
        b"(" * 100_000 + b".",
        b"\x80\x04\x95" + b"\xff" * 8,
    )
    deep = b"]" * 200_000 + b"a" * 199_999 + b"."
    return rng.choice((*odd, deep)) if rng.random() < 0.3 else in_bytes(rng, data)


def in_idx(rng: random.Random, data: bytes) -> bytes:
    """Return something else in place of a file of MNIST."""
    if rng.random() < 0.3:
        return data[:4] + struct.pack(">I", rng.choice((0, 1, 2**31, 2**32 - 1))) + data[8:]
    return b"" if rng.random() < 0.1 else in_bytes(rng, data)


def in_text(rng: random.Random, data: bytes) -> bytes:
    """Return other words or lines."""
    words = re.split(r"(\s)", data.decode())
    words[rng.randrange(len(words))] = rng.choice((*TEXTS, *words))
    return "".join(words).encode("utf-8", "surrogatepass")


def in_member(rng: random.Random, name: str, data: bytes) -> bytes:
    """Return what a file of a data set may turn out to hold."""
    if name.endswith(".JPEG"):
        return in_image(rng, data)
    if "ubyte" in name:
        return in_idx(rng, data)
    if "batch" in name:
        return in_pickle(rng, data)
    return in_text(rng, data) if rng.random() < 0.7 else in_bytes(rng, data)


def folders(rng: random.Random, whole: Path, place: Path) -> Arguments:
    """Break a data set in a folder."""
    source, name = rng.choice(
        (
            ("tiny-folder", "tiny-imagenet-200"),
            ("cifar-folder", "cifar10"),
            ("mnist-idx", "mnist"),
            ("mnist-gz", "mnist"),
        )
    )
    data = copy(whole / source, place / "data")
    files = sorted(path for path in data.rglob("*") if path.is_file() and "_boxes" not in path.name)
    for _ in range(rng.choice((1, 1, 3))):
        path = rng.choice(files)
        with suppress(OSError, ValueError, MemoryError):
            if rng.random() < 0.4:
                on_disk(rng, rng.choice((path, path, path.parent)), files)
            else:
                path.write_bytes(in_member(rng, path.name, path.read_bytes()))
    return loading(rng, name, data)


def archives(rng: random.Random, whole: Path, place: Path) -> Arguments:
    """Break a data set in an archive: its bytes, its members, their names, and the sizes that it declares."""
    data = place / "data"
    source, name = rng.choice((("tiny-zip", "tiny-imagenet-200"), ("cifar-tar", "cifar10"), ("mnist-gz", "mnist")))
    data = copy(whole / source, place / "data")
    (path,) = rng.sample(sorted(path for path in data.rglob("*") if path.is_file()), 1)
    kind = rng.random()
    if kind < 0.35:
        path.write_bytes(in_bytes(rng, path.read_bytes()))
    elif path.suffix == ".zip":
        _in_zip(rng, path)
    elif path.name.endswith((".tar", ".tar.gz")):
        _in_tar(rng, path)
    else:
        content = in_idx(rng, gzip.decompress(path.read_bytes()))
        path.write_bytes(gzip.compress(bytes(2**28) if kind > 0.98 else content))
    return loading(rng, name, data)


def _in_zip(rng: random.Random, path: Path) -> None:
    members = _members(path)
    name = rng.choice([each for each in members if "_boxes" not in each])
    kind = rng.randrange(8)
    if kind < 3:
        members[name] = in_member(rng, name, members[name])
    elif kind == 3:
        members[_name(rng, name)] = members.pop(name)
    elif kind == 4:
        members[name] = bytes(2**26)  # a bomb
    with zipfile.ZipFile(path, "w", rng.choice((zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2))) as archive:
        for each, content in members.items():
            with suppress(UnicodeEncodeError):
                archive.writestr(zipfile.ZipInfo(each), content)
    if kind >= 5:  # the flags, the method or the sizes of the first entry of the directory
        data = bytearray(path.read_bytes())
        at = data.rindex(b"PK\x01\x02")
        field, size = rng.choice(((8, 2), (10, 2), (16, 4), (20, 4), (24, 4), (28, 2), (30, 2), (42, 4)))
        data[at + field : at + field + size] = rng.choice((b"\xff", b"\x00", b"\x01", b"\x7f")) * size
        path.write_bytes(data)


def _in_tar(rng: random.Random, path: Path) -> None:
    with tarfile.open(path) as archive:
        members = {each.name: archive.extractfile(each).read() for each in archive if each.isreg()}
    name = rng.choice(list(members))
    kind = rng.randrange(8)
    if kind < 3:
        members[name] = in_member(rng, name, members[name])
    with tarfile.open(path, "w:gz") as archive:
        for each, content in members.items():
            entry = tarfile.TarInfo(_name(rng, each) if kind == 3 and each == name else each)
            entry.size = len(content)
            if kind == 4 and each == name:
                entry.type, entry.linkname = rng.choice((tarfile.SYMTYPE, tarfile.LNKTYPE)), rng.choice(TEXTS)[:90]
            if kind == 5 and each == name:
                entry.type = rng.choice((tarfile.FIFOTYPE, tarfile.CHRTYPE, tarfile.GNUTYPE_SPARSE, b"X", b"\x00"))
            if kind == 6 and each == name:
                entry.size = rng.choice((0, 1, len(content) - 1))
            if kind == 7 and each == name:
                entry.pax_headers = {
                    rng.choice(("size", "path", "GNU.sparse.size", "mtime")): rng.choice(("-1", "9" * 30, "../x"))
                }
            archive.addfile(entry, io.BytesIO(content))


def _name(rng: random.Random, name: str) -> str:
    odd = (
        "../" * 8 + "tmp/lopbench-evil",
        "/tmp/lopbench-evil",
        "..\\lopbench-evil",
        f"./{name}",
        f"{name}/",
        name * 30,
        *TEXTS,
    )
    return rng.choice(odd) or "x"


def loading(rng: random.Random, name: str, data: Path) -> Arguments:
    """Return a command that reads a data set."""
    official(data)
    if rng.random() < 0.15:
        return ["data", "list", f"--data-dir={data}"]
    if rng.random() < 0.25:
        return ["run", "--dry-run", "--device=cpu", f"--data={name}", f"--data-dir={data}"]
    return ["data", "verify", name, f"--data-dir={data}"]


# Stopped runs --------------------------------------------------------------------------------------------------------


def stopped(rng: random.Random, whole: Path, place: Path) -> Arguments:
    """Break what a stopped run left behind."""
    results = copy(whole / "stopped", place / "results")
    files = sorted(path for path in results.rglob("*") if path.is_file() and path.suffix != ".lock")
    path = rng.choice(files)
    kind = rng.random()
    if kind < 0.2:
        on_disk(rng, path, files)
    elif path.suffix == ".json" and kind < 0.8:
        path.write_bytes(in_json(rng, path.read_bytes()))
    elif path.suffix == ".safetensors" and kind < 0.6:
        data = path.read_bytes()
        size = struct.unpack("<Q", data[:8])[0]
        header = in_json(rng, data[8 : 8 + size])
        path.write_bytes(struct.pack("<Q", len(header)) + header + data[8 + size :])
    else:
        path.write_bytes(in_bytes(rng, path.read_bytes()))
    if rng.random() < 0.3:
        return ["status", "results"]
    return ["run", f"--scenario={FEW}", f"--architecture={SMALL}", "--device=cpu", "--results=results"]


# What users type -----------------------------------------------------------------------------------------------------

#: Commands with arguments in their places, that are right before something of them is changed.
TYPED: tuple[Arguments, ...] = (
    ["run", "--dry-run", f"--scenario={FEW}", "--method=cbp:replacement_rate=1e-3,maturity=10", "--seeds=0-3,7"],
    [
        "run",
        "--dry-run",
        f"--scenario={FEW}",
        "--method=shrink_and_perturb:decay=0.9+l2_init",
        "--optimizer=adam:lr=1e-3",
    ],
    [
        "run",
        "--dry-run",
        f"--scenario={FEW}",
        "--sweep=lr=0.01,0.001",
        "--method=cbp",
        "--sweep=cbp.replacement_rate=1e-5,1e-4",
    ],
    ["run", "--dry-run", f"--scenario={FEW}", "--from=0.5", "--metrics=dead_fraction,dormant_fraction:tau=0.1"],
    ["run", "--dry-run", f"--scenario={FEW}", "--profile=smoke", "--threads=1", "--device=cpu"],
    ["run", "--dry-run", f"--scenario={FEW}", "--architecture=mlp:width=8,depth=2", "--results=out"],
    ["run", "--dry-run", "--scenario=cloning", "--cloner=interleave", "--data=auto", "--data-dir=."],
    ["show", "cbp", "--format=json"],
    ["list", "methods", "--format=json"],
    ["status", "results"],
    ["leaderboard", "results", "--format=csv"],
    ["compare", "results:none", "results:cbp", "--score=retention", "--fail-on=worse"],
    ["plot", "curves", "results", "--output=x.svg", "--metric=online_accuracy"],
    ["report", "results", "--output=page.html"],
    [
        "certify",
        "--architecture=mlp:width=8,depth=1",
        "--cloner=interleave",
        "--factor=2",
        "--steps=1",
        "--input-shape=1/4/4",
        "--outputs=3",
    ],
    ["theory", "--activation=leaky_relu:negative_slope=0.1", "--bias=0.5", "--gain=1"],
    ["plugins", "new", "mine", "--kind=method", "--into=."],
    ["data", "verify", "mnist", "--data-dir=."],
    ["data", "list", "--format=json"],
    ["reproduce", "results", "--tolerance=0.1", "--device=cpu"],
    ["unpack", "x.lopbench", "--output=results"],
)

#: What may stand in place of a value.
VALUES = (
    *TEXTS,
    *map(str, NUMBERS),
    *(
        "inf",
        "-inf",
        "nan",
        "1e-999",
        "00",
        "+1",
        "1,",
        ",",
        "=",
        ":",
        "+",
        "a=b",
        "a:b=c",
        "a+b",
        "1-",
        "-1",
        "5-1",
        "1--2",
    ),
    *(
        "0-99999999999",
        "0,0,0",
        "1e3",
        "1.5",
        "True",
        "None",
        "[]",
        "{}",
        "()",
        "lambda: 0",
        "cuda:99",
        "meta",
        "0/0",
        "3/32/-1",
    ),
    "+".join(["cbp"] * 80),
    "cbp:" + ",".join(["maturity=1"] * 50),
    ",".join(["1"] * 3000),
    "dead_fraction," * 300,
    "/dev/full",
    "/dev/null",
    "/proc/self/mem",
    ".",
    "..",
    "/",
)


def typed(rng: random.Random, whole: Path, place: Path) -> Arguments:
    """Change what somebody typed."""
    copy(whole / "results", place / "results")
    made = list(rng.choice(TYPED))
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        at = rng.randrange(1, len(made) + 1)
        kind = rng.randrange(8)
        if at == len(made) or kind == 0:
            made.insert(at, rng.choice(("", "--", "-", "--format=", "--help", "--no-such", *VALUES)))
        elif kind == 1 and made[at] != "--dry-run":
            del made[at]
        elif kind == 2:
            made.insert(at, made[at])
        elif kind < 6:
            pieces = re.split(r"([=:,.+\-/])", made[at])
            pieces[rng.randrange(len(pieces))] = rng.choice(VALUES)
            made[at] = "".join(pieces)
        elif kind == 6:
            made[at] = rng.choice(VALUES)
        else:
            cut = rng.randrange(len(made[at]) + 1)
            made[at] = made[at][:cut] + rng.choice(TEXTS) + made[at][cut:]
    # The system takes no argument with a zero in it, and none longer than this, and Python reads bytes that are no text
    # in its own way.
    made = [os.fsdecode(each.replace("\x00", "").encode("utf-8", "surrogatepass")[:100_000]) for each in made]
    if made[0] == "run" and "--dry-run" not in made:
        made.insert(1, "--dry-run")
    return made
