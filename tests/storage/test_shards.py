"""Data shards: tars that WebDataset itself reads, the same bytes each time, with keys that come back as they were."""

import io
import tarfile

import pytest
import webdataset as wds
from hypothesis import given, settings
from hypothesis import strategies as st

from stillroom.storage.dataset.webdataset import expand, member_key, original_key, pack, scan_tar
from stillroom.storage.errors import DataError

# WebDataset leaves closing the tars that it read to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")

DOTTED = ["cats/a.b.c", "cats/1.5", "cats/a", "dogs/v1.0/x.y", "dogs.old/z", "dogs/100%", "dogs/%2E", "dogs/é ü"]


def samples(keys):
    return [(key, {"jpg": f"image of {key}".encode(), "cls": b"%d" % number}) for number, key in enumerate(keys)]


def read_by_webdataset(path):
    return list(wds.WebDataset(str(path), shardshuffle=False, empty_check=False))


_letters = st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"], exclude_characters="/")
_name = st.text(".%2E5_a é", min_size=1, max_size=8) | st.text(_letters, min_size=1, max_size=30)
_file = _name.filter(lambda name: not name.startswith((".", "__")))
keys = st.lists(st.tuples(st.lists(_file, max_size=2), _file).map(lambda key: "/".join([*key[0], key[1]])), unique=True)


def test_webdataset_itself_reads_our_tars(tmp_path):
    path = tmp_path / "000000.tar"
    path.write_bytes(pack(samples(DOTTED))[:])
    found = read_by_webdataset(path)
    assert [original_key(item["__key__"]) for item in found] == DOTTED
    assert [item["jpg"] for item in found] == [f"image of {key}".encode() for key in DOTTED]
    assert [item["cls"] for item in found] == [b"%d" % number for number in range(len(DOTTED))]
    assert all(set(item) == {"__key__", "__url__", "__local_path__", "jpg", "cls"} for item in found)


def test_the_same_samples_give_the_same_bytes(monkeypatch):
    first = pack(samples(DOTTED))[:]
    monkeypatch.setattr("time.time", lambda: 4e9)
    monkeypatch.setattr("os.getuid", lambda: 12345)
    assert pack(samples(DOTTED))[:] == first
    assert pack(samples(reversed(DOTTED)))[:] != first


def test_nothing_of_this_machine_is_in_the_tar():
    with tarfile.open(fileobj=io.BytesIO(pack(samples(["a/b"]))[:])) as tar:
        about = {(item.mtime, item.uid, item.gid, item.uname, item.gname, item.mode) for item in tar}
    assert about == {(0.0, 0, 0, "stillroom", "stillroom", 0o644)}


@given(keys)
@settings(max_examples=25)
def test_every_key_survives_the_way_through_webdataset(tmp_path_factory, names):
    path = tmp_path_factory.mktemp("tar") / "x.tar"
    path.write_bytes(pack(samples(names))[:])
    assert [original_key(item["__key__"]) for item in read_by_webdataset(path)] == names


def test_a_class_that_looks_like_metadata_survives_the_way_through_webdataset(tmp_path):
    names = ["__background__/1", "__background__/2", "cats/__init__", "cats/1"]
    (tmp_path / "x.tar").write_bytes(pack(samples(names))[:])
    assert [original_key(item["__key__"]) for item in read_by_webdataset(tmp_path / "x.tar")] == names


@given(_file)
def test_an_escaped_key_has_no_dot_in_its_name_and_comes_back(name):
    key = f"folder.with.dots/{name}"
    assert "." not in member_key(key).rpartition("/")[2]
    assert original_key(member_key(key)) == key


def test_other_peoples_keys_stay_as_they_are():
    assert original_key("n01440764/n01440764_10026") == "n01440764/n01440764_10026"
    assert original_key("50%off") == "50%off"
    assert original_key("a%20b") == "a%20b"


def test_a_scan_finds_where_each_members_bytes_lie():
    data = pack(samples(DOTTED))[:]
    found = list(scan_tar(data, "x.tar"))
    assert [original_key(item.key) for item in found] == DOTTED
    for key, item in zip(DOTTED, found, strict=True):
        member = item.members["jpg"]
        assert data[member.offset : member.offset + member.size] == f"image of {key}".encode()


@given(keys, st.binary(max_size=2000))
@settings(max_examples=40)
def test_a_scan_finds_what_webdataset_finds(tmp_path_factory, names, image):
    path = tmp_path_factory.mktemp("tar") / "x.tar"
    data = pack((name, {"PNG": image, "cls": b"3"}) for name in names)[:]
    path.write_bytes(data)
    theirs = [(item["__key__"], item["png"]) for item in read_by_webdataset(path)]
    ours = [(item.key, item.members["png"]) for item in scan_tar(data, "x.tar")]
    assert [(key, data[place.offset : place.offset + place.size]) for key, place in ours] == theirs


def tar_of(*members):
    """A tar as another tool may write it: (name, bytes), or (name, None) for a folder."""
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w") as tar:
        for name, data in members:
            info = tarfile.TarInfo(name)
            if data is None:
                info.type = tarfile.DIRTYPE
            else:
                info.size = len(data)
            tar.addfile(info, io.BytesIO(data or b""))
    return sink.getvalue()


def test_what_webdataset_passes_over_a_scan_passes_over(tmp_path):
    foreign = tar_of(
        ("a", None),
        ("a/1.jpg", b"one"),
        ("a/1.cls", b"0"),
        ("README", b"no extension"),
        (".hidden", b""),
        ("__meta__/info.json", b"{}"),
        ("a/2.seg.jpg", b"two"),
    )
    (tmp_path / "x.tar").write_bytes(foreign)
    theirs = [
        (item["__key__"], {key: value for key, value in item.items() if key[0] != "_"})
        for item in read_by_webdataset(tmp_path / "x.tar")
    ]
    ours = [
        (item.key, {key: foreign[m.offset : m.offset + m.size] for key, m in item.members.items()})
        for item in scan_tar(foreign, "x.tar")
    ]
    assert ours == theirs
    assert [key for key, _ in ours] == ["a/1", "a/2"]


def test_a_member_that_comes_twice_is_refused():
    with pytest.raises(DataError, match=r"x\.tar holds a/1\.jpg twice"):
        list(scan_tar(tar_of(("a/1.jpg", b"one"), ("a/1.jpg", b"two")), "x.tar"))


# Of two members: a header of 512 bytes and 600 bytes of data, filled up to 1024, each.
@pytest.mark.parametrize("kept", [0, 100, 512, 700, 1111, 1600, 2047, 2048, 2600])
def test_a_tar_that_is_cut_short_is_refused(kept):
    data = tar_of(("a/1.jpg", bytes(600)), ("a/2.jpg", bytes(600)))
    with pytest.raises(DataError, match=r"x\.tar"):
        list(scan_tar(data[:kept], "x.tar"))


def test_a_damaged_header_in_the_middle_does_not_end_the_tar_quietly():
    data = bytearray(tar_of(("a/1.jpg", bytes(600)), ("a/2.jpg", bytes(600)), ("a/3.jpg", bytes(600))))
    data[1536 + 124] ^= 1  # the size in the second member's header
    with pytest.raises(DataError, match=r"x\.tar"):
        list(scan_tar(bytes(data), "x.tar"))


def test_what_is_no_tar_is_refused():
    with pytest.raises(DataError, match=r"x\.tar is not a readable tar"):
        list(scan_tar(b"\xff\xd8 this is a photo" * 100, "x.tar"))


def test_braces_name_tars_in_order():
    assert expand("s3://b/{000..003}.tar") == [f"s3://b/00{n}.tar" for n in range(4)]
    assert expand("one.tar") == ["one.tar"]


def test_a_command_in_place_of_a_tar_is_not_run(tmp_path):
    with pytest.raises(DataError, match="would run a command"):
        expand(f"pipe:touch {tmp_path}/ran")
    assert not (tmp_path / "ran").exists()
