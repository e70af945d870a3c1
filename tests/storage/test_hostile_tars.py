"""Tars that mean harm: read to the end, refused by the byte, or their samples marked; never believed."""

import io
import random
import tarfile
import time

import pytest

from stillroom.storage.dataset.tar_headers import BLOCK, entries
from stillroom.storage.dataset.webdataset import expand, scan_tar
from stillroom.storage.errors import DataError

ODD_KINDS = [tarfile.LNKTYPE, tarfile.SYMTYPE, tarfile.FIFOTYPE, tarfile.DIRTYPE]
FORMATS = [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]


def member(name, data=b"", kind=tarfile.REGTYPE, **fields):
    info = tarfile.TarInfo(name)
    info.type, info.size = kind, len(data)
    for field, value in fields.items():
        setattr(info, field, value)
    return info, data


def tar_of(*members, kind=tarfile.PAX_FORMAT):
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w", format=kind) as tar:
        for info, data in members:
            tar.addfile(info, io.BytesIO(data))
    return sink.getvalue()


def signed(header):
    """A header with its checksum put right."""
    header = bytearray(header)
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header)


def with_size(field, tar=None):
    """A tar of two samples, the first of which claims another size."""
    tar = tar or tar_of(member("a.jpg", bytes(600)), member("b.jpg", bytes(600)), kind=tarfile.USTAR_FORMAT)
    return signed(tar[:124] + field + tar[136:BLOCK]) + tar[BLOCK:]


def read(tar):
    return {sample.key: sample.fault for sample in scan_tar(tar, "x.tar")}


@pytest.mark.parametrize("seed", range(60))
def test_members_are_those_that_pythons_reader_finds(seed):
    draw = random.Random(seed)
    members = []
    for number in range(8):
        name = draw.choice(["a/%d.jpg", "ä ü/%d.jpg", "x" * 110 + "/%d.cls", "d" * 90 + "/" + "k" * 60 + "/%d.png"])
        kind = draw.choice(
            [tarfile.REGTYPE] * 6 + [tarfile.LNKTYPE, tarfile.SYMTYPE, tarfile.FIFOTYPE, tarfile.DIRTYPE]
        )
        data = draw.randbytes(draw.choice([0, 1, 511, 512, 513, 2000])) if kind == tarfile.REGTYPE else b""
        extra = {"comment": "x" * draw.choice([1, 2000])} if draw.random() < 0.3 else {}
        members.append(member(name % number, data, kind, linkname="y" * draw.choice([1, 90]), pax_headers=extra))
    tar = tar_of(*members, kind=draw.choice(FORMATS))
    with tarfile.open(fileobj=io.BytesIO(tar)) as opened:
        theirs = [(info.name, info.isreg(), info.offset_data if info.size else 0, info.size) for info in opened]
    ours = [
        (entry.name.rstrip("/"), not entry.odd, entry.offset if entry.size else 0, entry.size)
        for entry in entries(tar, "x.tar")
    ]
    assert ours == theirs


def test_whatever_is_changed_in_a_header_ends_with_samples_or_a_data_error():
    started = time.perf_counter()
    outcomes = set()
    for seed in range(1500):
        draw = random.Random(seed)
        tar = bytearray(tar_of(*(member(f"{n}.jpg", bytes(700)) for n in range(4)), kind=draw.choice(FORMATS)))
        for _ in range(draw.choice([1, 3, 10])):
            block = draw.randrange(len(tar) // BLOCK) * BLOCK
            start, length = draw.choice([(0, 100), (124, 12), (156, 1), (257, 8), (345, 155), (0, 512)])
            tar[block + start + draw.randrange(length)] = draw.choice(
                [0, 0x20, 0x30, 0x37, 0x80, 0xFF, draw.randrange(256)]
            )
        for block in range(0, len(tar), BLOCK):
            if tar[block + 257 : block + 262] == b"ustar":
                tar[block : block + BLOCK] = signed(tar[block : block + BLOCK])
        try:
            read(bytes(tar))
            outcomes.add("read")
        except DataError:
            outcomes.add("refused")
    assert outcomes == {"read", "refused"}
    assert time.perf_counter() - started < 60


@pytest.mark.parametrize(
    ("field", "said"),
    [
        (b"\x80" + bytes(6) + b"\x7f\xff\xff\xff\xff", "claims 549755813887 bytes, and 9728 are left"),
        (b"\x80" + b"\xff" * 11, "claims 309485009821345068724781055 bytes"),
        (b"\xff" * 12, "negative"),
        (b"\xff" * 10 + b"\xfe\x00", "negative"),
        (b"77777777777\0", "claims 8589934591 bytes"),
        (b"-0000001000\0", "for a number"),
        (b"0x000001000\0", "for a number"),
        (b"00000000999\0", "for a number"),
    ],
)
def test_a_size_that_cannot_be_is_refused(field, said):
    with pytest.raises(DataError, match=said):
        read(with_size(field))


def extended(records, length=None, kind=b"x"):
    """A tar that opens with an extended header of its own making."""
    info = member("pax", records, kind)[0]
    header = info.tobuf(tarfile.USTAR_FORMAT)
    if length is not None:
        header = signed(header[:124] + length + header[136:])
    body = records + bytes(-len(records) % BLOCK)
    return header + body + tar_of(member("a.jpg", bytes(600)), kind=tarfile.USTAR_FORMAT)


def record(key, value):
    line = b" " + key + b"=" + value + b"\n"
    length = len(line) + 1
    while len(b"%d" % length) + len(line) != length:
        length += 1
    return b"%d" % length + line


@pytest.mark.parametrize(
    ("tar", "said"),
    [
        (extended(record(b"size", b"99999999999999")), "claims 99999999999999 bytes"),
        (extended(record(b"size", b"-512")), "b'-512' for a size"),
        (extended(record(b"size", b"1e9")), "b'1e9' for a size"),
        (extended(record(b"size", b"9" * 5000)), "for a size"),
        (extended(b"0 path=x\n"), "does not add up"),
        (extended(b"-9 path=x\n"), "does not add up"),
        (extended(b"99999999 path=x\n"), "does not add up"),
        (extended(b"9" * 400_000), "does not add up"),
        (extended(b"9 path=xy\n"), "does not add up"),
        (extended(record(b"path", b"a.jpg"), b"\x80" + b"\xff" * 11), "claims"),
        (extended(record(b"path", b"a.jpg"), b"\xff" * 12), "negative"),
        (extended(bytes(2_000_000)), "is 2000000 bytes long"),
        (extended(b"b.jpg" * 300_000, kind=b"L"), "is 1500000 bytes long"),
        (tar_of(member("a.jpg", b"1")) + tar_of(member("b.jpg", b"2")), "goes on after its end"),
    ],
)
def test_an_extended_header_that_lies_is_refused(tar, said):
    started = time.perf_counter()
    with pytest.raises(DataError, match=said):
        read(tar)
    assert time.perf_counter() - started < 5


def test_ten_thousand_extended_headers_in_a_row_are_read():
    one = extended(record(b"comment", b"x"))[: 2 * BLOCK]
    assert read(one * 10_000 + tar_of(member("a.jpg", b"1"))) == {"a": ""}


@pytest.mark.parametrize(
    ("info", "key", "said"),
    [
        (member("k.jpg", kind=tarfile.SYMTYPE, linkname="/etc/passwd"), "k", "a symbolic link"),
        (member("k.jpg", kind=tarfile.LNKTYPE, linkname="a.jpg"), "k", "a hard link"),
        (member("k.jpg", kind=tarfile.CHRTYPE), "k", "a character device"),
        (member("k.jpg", kind=tarfile.BLKTYPE), "k", "a block device"),
        (member("k.jpg", kind=tarfile.FIFOTYPE), "k", "a FIFO"),
        (member("k.jpg", b"x", b"V"), "k", "of type 'V'"),
        (member("k.jpg", b"x", tarfile.GNUTYPE_SPARSE), "k", "a sparse file"),
        (
            member("k.jpg", b"x", pax_headers={"GNU.sparse.name": "m.jpg"}),
            "m",
            "a sparse file",
        ),
        (member("../../k.jpg", b"x"), "../../k", "points out of the tar"),
        (member("a/../../k.jpg", b"x"), "a/../../k", "points out of the tar"),
        (member("/etc/k.jpg", b"x"), "/etc/k", "points out of the tar"),
        (member("n" * 5000 + ".jpg", b"x"), "n" * 5000, "5004 characters"),
        (member("k.jpg", b"x", pax_headers={"path": "q\0r.jpg"}), "q\0r", "holds a NUL"),
        (member("\udcff.jpg", b"x"), "\udcff", "is not UTF-8"),
    ],
    ids=lambda value: value if isinstance(value, str) and len(value) < 30 and value.isprintable() else "",
)
def test_a_member_that_is_no_plain_file_or_has_an_impossible_name_marks_its_sample(info, key, said):
    found = read(tar_of(member("a.jpg", b"1"), info, member("b.jpg", b"2")))
    assert list(found) == ["a", key, "b"]
    assert found["a"] == found["b"] == ""
    assert said in found[key]
    assert len(found[key]) < 400
    assert found[key].isprintable()


def test_one_bad_member_marks_the_whole_sample():
    found = read(tar_of(member("k.jpg", b"x"), member("k.cls", kind=tarfile.SYMTYPE, linkname="/etc/passwd")))
    assert found == {"k": "its member k.cls is a symbolic link; only plain files are read"}


@pytest.mark.parametrize(
    ("pattern", "said"),
    [
        ("pipe:touch ran.tar", "would run a command"),
        ("PIPE:touch ran.tar", "would run a command"),
        (" pipe:touch ran.tar", "would run a command"),
        ("a.tar::pipe:touch ran.tar", "would run a command"),
        ("{pipe:touch ran,b}.tar", "would run a command"),
        ("{b,pipe:touch ran}.tar", "would run a command"),
        ("{p,q}{i,j}pe:touch ran.tar", "would run a command"),
        ("reference://x/a.tar", "can run code"),
        ("{0..9999999999}.tar", "stands for 1e\\+10 tars"),
        ("{0..9}{0..9}{0..9}{0..9}{0..9}{0..9}{0..9}.tar", "stands for 1e\\+07 tars"),
        ("{0..3.tar", "no pattern of tars"),
        ("${NOT_SET}/a.tar", "missing environment variable"),
    ],
)
def test_a_pattern_that_runs_a_command_or_never_ends_is_refused(pattern, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=said):
        expand(pattern)
    assert not list(tmp_path.iterdir())


def test_variables_that_spell_a_command_are_refused(monkeypatch):
    monkeypatch.setenv("WDS_X", "pipe")
    with pytest.raises(DataError, match="would run a command"):
        expand("${X}:touch ran.tar")
