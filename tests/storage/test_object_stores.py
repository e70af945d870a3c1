"""Places in an object store: a real S3 server that fails in every way, and clients that must not mind, or say why."""

import io
import logging
import pickle
import subprocess
import sys
import tempfile
import threading
import traceback
from pathlib import Path

import boto3
import numpy as np
import pytest
from trials.flakys3 import FAULTS, KEY, SECRET, every, refusing, times

from stillroom.pipeline.config.config import parse_config
from stillroom.storage.errors import ConfigError, MissingObjectError, StoreError, UnreachableError
from stillroom.storage.objects.fsspec_clients import ATTEMPTS, TIMEOUT
from stillroom.storage.objects.retry import Retry
from stillroom.storage.objects.urls import open_parent, open_place, shown

DATA = bytes(range(256)) * 40
ROOT = Path(__file__).parents[2]


@pytest.fixture
def place(bucket):
    made = open_place(f"{bucket}/run")
    made.write("a", DATA)
    return made


@pytest.fixture
def few_attempts(monkeypatch):
    monkeypatch.setenv(ATTEMPTS, "2")


@pytest.fixture
def quick(monkeypatch):
    """Little waiting between attempts."""
    monkeypatch.setattr(Retry, "wait", lambda policy, failed: 0.01)


OPERATIONS = {
    "read": lambda place: place.read("a") == DATA,
    "range": lambda place: place.read_range("a", 10, 5000) == DATA[10:5000],
    "size": lambda place: place.size("a") == len(DATA),
    "list": lambda place: list(place.list()) == ["a"],
    "folders": lambda place: place.folders() == [],
    "times": lambda place: list(place.times()) == ["a"],
    "write": lambda place: place.write("a", DATA[:9]) is None and place.read("a") == DATA[:9],
    "create": lambda place: place.create("b", b"mine") and place.read("b") == b"mine",
    "not created": lambda place: not place.create("a", b"mine") and place.read("a") == DATA,
    "delete": lambda place: place.delete("a", DATA) is None and place.size("a") is None,
}


# What passes


@pytest.mark.parametrize(
    "fault", [pytest.param(fault, marks=pytest.mark.slow if fault == "timeout" else ()) for fault in FAULTS]
)
def test_no_operation_minds_what_passes(place, s3, quick, fault):
    for name, operation in OPERATIONS.items():
        place.write("a", DATA)
        place.delete("b")
        with s3.failing(times(1 if fault == "timeout" else 2, fault)):
            assert operation(place), f"{name} after {fault}"


@pytest.mark.parametrize("fault", FAULTS)
def test_a_file_is_uploaded_whatever_passes(place, s3, quick, tmp_path, fault):
    (tmp_path / "file").write_bytes(DATA[:-7])
    with (tmp_path / "file").open("rb") as file, s3.failing(times(1 if fault == "timeout" else 2, fault)):
        place.write_file("a", file)
        assert place.read("a") == DATA[:-7]


def nth(number, fault, method):
    """A plan: the n-th request of a method."""
    left = iter(range(1, number + 1))
    return lambda asked, path: fault if asked == method and next(left, None) == number else None


@pytest.mark.slow
@pytest.mark.parametrize(
    ("what", "way"),
    [
        ((1, "500", "POST"), "file"),
        ((2, "dropped", "PUT"), "bytes"),
        ((3, "lost", "PUT"), "file"),
        ((2, "lost", "POST"), "bytes"),
        ((2, "lost", "POST"), "file"),
    ],
    ids=["not begun", "a part dropped", "a part's answer lost", "put together, the answer lost", "the same of a file"],
)
def test_a_large_object_goes_in_parts_and_is_seen_only_whole(place, s3, quick, monkeypatch, what, way):
    monkeypatch.setenv(TIMEOUT, "30")
    place = open_place(place.url)
    piece = np.random.default_rng(1).bytes(2**20)
    with tempfile.TemporaryFile(buffering=0) as file, s3.noted() as requests, s3.failing(nth(*what)):
        if way == "bytes":
            place.write("a", piece * 110)
        else:  # a nameless one, that has no path of its own
            for _ in range(110):
                file.write(piece)
            place.write_file("a", file)
    assert len([item for item in requests if item.method == "PUT" and "partNumber" in item.query]) >= 3
    assert place.size("a") == 110 * 2**20
    assert place.read_range("a", 109 * 2**20, 110 * 2**20) == piece
    assert list(place.list()) == ["a"]


def test_a_lost_answer_to_a_conditional_put_is_no_defeat(place, s3):
    """Whoever repeats it sees that the name is taken: by itself."""
    with s3.noted() as requests, s3.failing(times(1, "lost", only="PUT")):
        assert place.create("claim", b"mine")
    assert [item.status[:3] for item in requests if item.method == "PUT"] == ["200", "412"]
    with s3.failing(times(1, "lost", only="PUT")):
        assert not place.create("claim", b"another's")
    assert place.read("claim") == b"mine"


@pytest.mark.slow
def test_of_writers_whose_answers_are_lost_one_creates(place, s3, quick):
    others = [open_place(place.url) for _ in range(4)]
    for number in range(12):
        won = [None] * len(others)

        def create(writer, name=f"claims/{number}", won=won):
            won[writer] = others[writer].create(name, b"%d" % writer)

        with s3.failing(every(3, ("lost", "500", "dropped"), only="PUT|GET", seed=number)):
            threads = [threading.Thread(target=create, args=(writer,)) for writer in range(len(others))]
            [thread.start() for thread in threads]
            [thread.join() for thread in threads]
        assert sorted(won) == [False, False, False, True]
        assert place.read(f"claims/{number}") == b"%d" % won.index(True)


def test_a_repeated_delete_leaves_what_another_has_put_there_since(place, s3):
    """The claim of the next writer, say, where the first answer was late."""
    place.write("claim", b"mine")
    other = open_place(place.url)
    swapped = []

    def plan(method, path):
        if method == "DELETE" and not swapped:
            swapped.append(True)
            return "500"
        if swapped == [True]:
            swapped.append(True)
            other.write("claim", b"the next writer's")
        return None

    with s3.failing(plan):
        place.delete("claim", b"mine")
    assert len(swapped) == 2
    assert place.read("claim") == b"the next writer's"


@pytest.mark.slow
def test_what_stays_is_given_up_by_name_with_the_attempts_and_the_last_error(place, s3, few_attempts):
    place = open_place(place.url)
    for fault, last in [
        ("500", "HTTP 500 InternalError"),
        ("SlowDown", "HTTP 503 SlowDown"),
        ("timeout", "ReadTimeout"),
    ]:
        with s3.noted() as requests, s3.failing(times(99, fault)), pytest.raises(UnreachableError) as caught:
            place.read("a")
        assert f"{place}/a could not be read: 2 attempts in" in str(caught.value)
        assert last in str(caught.value)
        assert len(requests) == 2, "each layer below must try once"


def test_a_server_that_is_not_there_is_named(place, monkeypatch, few_attempts):
    import s3fs

    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    s3fs.S3FileSystem.clear_instance_cache()
    with pytest.raises(UnreachableError, match=r"/a could not be read: 2 attempts in .*EndpointConnectionError"):
        open_place(place.url).read("a")


# What does not pass


REFUSED = {
    "AccessDenied": ("403 Forbidden", "s3:GetObject"),
    "InvalidAccessKeyId": ("403 Forbidden", "credentials are not accepted"),
    "SignatureDoesNotMatch": ("403 Forbidden", "credentials are not accepted"),
    "ExpiredToken": ("400 Bad Request", "credentials are not accepted"),
    "NotImplemented": ("501 Not Implemented", "If-None-Match"),
}


@pytest.mark.parametrize("code", REFUSED)
def test_a_refusal_is_named_once_with_its_remedy_and_without_credentials(place, s3, code, capfd, caplog):
    """The server's message holds the secret, as some servers' messages do."""
    caplog.set_level(logging.DEBUG, "stillroom")
    status, words = REFUSED[code]
    with s3.failing(refusing(code, status)):
        for name, operation in OPERATIONS.items():
            with s3.noted() as requests, pytest.raises(UnreachableError) as caught:
                operation(place)
            assert len(requests) <= 2, name
            assert str(place) in str(caught.value)
            if name in ("read", "write"):
                assert code in str(caught.value)
                assert words in str(caught.value)
            everything = "".join(traceback.format_exception(caught.value))
            assert SECRET not in everything
            assert KEY not in everything
    said = "".join(capfd.readouterr()) + caplog.text
    assert SECRET not in said


def test_a_bucket_that_is_not_there_is_named_by_every_operation(s3):
    place = open_place("s3://no-such-bucket/run")
    for operation in OPERATIONS.values():
        with pytest.raises(UnreachableError, match="there is no bucket 'no-such-bucket'; create it"):
            operation(place)
    with pytest.raises(UnreachableError, match="there is no bucket"):
        open_place("s3://no such bucket/run").read("a")


def test_without_credentials_it_says_where_they_come_from(place, monkeypatch):
    import s3fs

    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    s3fs.S3FileSystem.clear_instance_cache()
    with pytest.raises(UnreachableError, match=r"no credentials were found.*AWS_ACCESS_KEY_ID"):
        open_place(place.url).read("a")


URLS = [f"s3://{KEY}:{SECRET}@bucket/x", f"s3://{SECRET.replace('/', '-')}@bucket/x", f"gs://u:{SECRET}@b/x.tar"]


@pytest.mark.parametrize("url", URLS, ids=["key and secret", "secret", "another scheme"])
def test_credentials_in_a_url_are_refused_and_not_printed(url):
    for opens in (open_place, open_parent):
        with pytest.raises(StoreError, match="holds credentials") as caught:
            opens(url)
        assert "secret" not in "".join(traceback.format_exception(caught.value))
    for table, key in (("run", "dir"), ("data", "train"), ("cache", "dir")):
        tables = {"run": {"dir": "runs/a"}, "data": {"train": "photos"}, "student": {}, "cache": {}}
        tables[table][key] = url
        with pytest.raises(ConfigError, match=rf"{key}.*holds credentials") as caught:
            parse_config(tables)
        assert "secret" not in str(caught.value)


@pytest.mark.parametrize("url", ["s3://bucket/a@b/c:d@e", "s3://bucket/x", "runs/a@b", "/runs/x:y@z"])
def test_other_urls_are_shown_as_they_are(url):
    assert shown(url) == url


@pytest.mark.parametrize("scheme", ["s3", "gs"])
def test_a_missing_package_is_named_by_its_extra(scheme, monkeypatch):
    import fsspec

    def missing(name, **options):
        raise ImportError(f"Install {name}fs")

    monkeypatch.setattr(fsspec, "filesystem", missing)
    with pytest.raises(
        StoreError, match=rf"{scheme}://bucket/x cannot be opened: run pip install 'stillroom\[{scheme}\]'"
    ):
        open_place(f"{scheme}://bucket/x")


@pytest.mark.parametrize(
    ("variable", "value"), [(TIMEOUT, "soon"), (TIMEOUT, "0"), (ATTEMPTS, "-1"), (ATTEMPTS, "0.5")]
)
def test_a_wrong_variable_is_named(s3, monkeypatch, variable, value):
    monkeypatch.setenv(variable, value)
    with pytest.raises(ConfigError, match=f"{variable} is '{value}'"):
        open_place("s3://bucket/x")


# Processes, threads, caches


_FORKS = """
import multiprocessing, sys
from stillroom.storage.objects.urls import open_place

def read_in_child(place, queue):
    queue.put(place.read("a"))

if __name__ == "__main__":
    place = open_place(sys.argv[1])
    data = place.read("a")  # its connections and threads are there
    # Were its file system not opened anew after the fork, the child would wait for a thread that it does not have.
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    child = context.Process(target=read_in_child, args=(place, queue))
    child.start()
    same = queue.get(timeout=60) == data
    child.join(60)
    sys.exit(0 if same and child.exitcode == 0 else 1)
"""


def test_a_place_works_in_a_forked_process_and_in_one_that_gets_it_pickled(place, s3):
    # From a process that has no other threads than the file system's: a fork copies what they hold, too.
    forked = subprocess.run([sys.executable, "-c", _FORKS, place.url], cwd=ROOT, timeout=120, check=False)
    assert forked.returncode == 0
    assert place.read("a") == DATA
    assert pickle.loads(pickle.dumps(place)).read("a") == DATA
    assert SECRET.encode() not in pickle.dumps(place)


def test_what_others_change_is_seen_at_once(place, s3):
    """Nothing is remembered of a listing or a size."""
    assert list(place.list()) == ["a"]
    assert place.folders() == []
    assert place.size("a") == len(DATA)
    bucket, _, folder = place.url.removeprefix("s3://").partition("/")
    for name in ("a", "b/c"):
        boto3.client("s3").put_object(Bucket=bucket, Key=f"{folder}/{name}", Body=b"new")
    assert list(place.list()) == ["a", "b/c"]
    assert place.folders() == ["b"]
    assert place.size("a") == 3
    assert place.read("a") == b"new"


def test_many_threads_may_use_one_place(place):
    found = []
    threads = [threading.Thread(target=lambda: found.append(place.read("a") == DATA)) for _ in range(16)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert found == [True] * 16


def test_each_operation_is_one_request(place, s3):
    """However large the object: s3fs would ask for its size, and then for parts of it, which may be of two versions."""
    import s3fs

    assert s3fs.S3FileSystem.default_block_size <= 50 << 20
    place.write("large", bytes(60 << 20))
    for operation, kind in [
        (lambda: place.read("large"), "GET"),
        (lambda: place.read_range("large", 1 << 20, 59 << 20), "GET"),
        (lambda: place.size("large"), "HEAD"),
        (lambda: place.write("b", b"x"), "PUT"),
        (lambda: place.create("c", b"x"), "PUT"),
        (lambda: list(place.list()), "LIST"),
        (lambda: place.delete("b"), "DELETE"),
    ]:
        with s3.noted() as requests:
            operation()
        assert [item.kind for item in requests] == [kind]


@pytest.mark.slow
def test_a_command_prints_no_credentials_and_no_traceback(bucket, s3, tmp_path, few_attempts):
    config = tmp_path / "config.toml"
    config.write_text(
        f'[run]\ndir = "{bucket}/run"\n[data]\ntrain = "{bucket}/tars/{{0..1}}.tar"\n[student]\ntarget = "labels"\n'
    )
    with s3.failing(refusing("AccessDenied")):
        done = subprocess.run(
            [sys.executable, "-m", "stillroom.stages", "ingest", str(config)],
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 1
    assert f"stillroom: {bucket}/" in done.stderr
    assert "access is denied" in done.stderr
    assert "Traceback" not in done.stderr
    assert SECRET not in done.stdout + done.stderr


def test_an_open_object_is_read_by_one_request(place, s3):
    with s3.noted() as requests, place.open("a") as file:
        assert isinstance(file, io.BytesIO)
        file.seek(20)
        assert file.read(5) == DATA[20:25]
    assert len(requests) == 1
    with pytest.raises(MissingObjectError):
        place.open("nothing")
