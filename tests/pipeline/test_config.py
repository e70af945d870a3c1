"""A configuration is strict: what is wrong is named with its value, and where there is a nearest key, that one too."""

import re
from pathlib import Path

import pytest

from stillroom.pipeline.config.config import load_config, parse_config
from stillroom.pipeline.config.sections import CacheSection
from stillroom.storage.errors import ConfigError

WHOLE = """
[run]
name = "trashnet"
dir = "runs/trashnet"
[data]
train = "photos/train"
eval = "photos/val"
samples_per_shard = 1000
[views]
count = 30
seed = 0
area = [0.05, 1.0]
aspect = [0.75, 1.333333]
flip = true
mixup = true
views_per_block = 10
[[teacher]]
name = "r18"
model = "torchvision:resnet18"
weights = "runs/teacher.safetensors"
size = 128
batch_size = 64
precision = "float32"
[cache]
codec = "float16"
[student]
target = "cache"
model = "torchvision:mobilenet_v3_small"
size = 128
epochs = 30
batch_size = 64
temperature = 1.0
design = "consistent"
"""


def plain(**tables):
    return {"run": {"dir": "runs/x"}, "data": {"train": "photos"}} | tables


def written(tmp_path, text=WHOLE):
    path = tmp_path / "run.toml"
    path.write_text(text, encoding="utf-8")
    return path


def complaint(data):
    with pytest.raises(ConfigError) as caught:
        parse_config(data, "run.toml")
    assert caught.value.exit_status == 2
    return str(caught.value)


TEACHER = {"name": "t", "model": "timm:x", "weights": "w.safetensors"}


# What is right


def test_the_example_of_the_design_is_read(tmp_path):
    config = load_config(written(tmp_path))
    assert config.run.name == "trashnet"
    assert config.views.area == (0.05, 1.0)
    assert [teacher.name for teacher in config.teacher] == ["r18"]
    assert [student.name for student in config.student] == ["student"]
    assert config.student[0].epochs == 30


def test_run_dir_and_data_train_are_all_that_must_be_given():
    config = parse_config(plain())
    assert (config.views.count, config.views.views_per_block, config.cache.codec) == (30, 10, "float16")
    assert config.teacher == config.student == ()


def test_everything_defaults_into_the_runs_folder():
    config = parse_config(plain(teacher=TEACHER, student={"name": "s"}))
    places = [config.data_place, config.eval_place, config.cache_place, config.student_place(config.student[0])]
    assert [str(place) for place in places] == [
        "runs/x/data",
        "runs/x/eval",
        "runs/x/cache",
        "runs/x/students/s",
    ]


def test_each_place_may_be_a_url_of_its_own():
    data = plain(cache={"dir": "memory://bucket/cache"}, data={"train": "photos", "dir": "elsewhere/data"})
    assert str(parse_config(data).cache_place) == "memory://bucket/cache"
    assert str(parse_config(data).data_place) == "elsewhere/data"


def test_one_table_or_several_are_the_same_to_a_student():
    one = parse_config(plain(student={"target": "labels"}))
    several = parse_config(plain(student=[{"target": "labels"}]))
    assert one == several


def test_a_configuration_does_not_change_once_read():
    with pytest.raises(ValueError, match="frozen"):
        parse_config(plain()).views.count = 10


def test_the_configurations_that_come_with_it_are_right():
    found = sorted((Path(__file__).parents[2] / "configs").glob("*.toml"))
    assert found
    for path in found:
        load_config(path)


# Unknown and mistyped keys


@pytest.mark.parametrize(
    ("tables", "key", "nearest"),
    [
        ({"views": {"cuont": 30}}, "views.cuont", "count"),
        ({"views": {"mix_up": True}}, "views.mix_up", "mixup"),
        ({"veiws": {}}, "veiws", "views"),
        ({"run": {"dir": "x", "nmae": "y"}}, "run.nmae", "name"),
        ({"student": {"target": "labels", "epoch": 3}}, "student.0.epoch", "epochs"),
        (
            {"student": [{"target": "labels"}, {"name": "b", "target": "labels", "bach_size": 3}]},
            "student.1.bach_size",
            "batch_size",
        ),
        ({"teacher": {**TEACHER, "weight": "w"}}, "teacher.0.weight", "weights"),
        ({"cache": {"codek": "float16"}}, "cache.codek", "codec"),
    ],
)
def test_an_unknown_key_is_named_with_the_nearest_known_one(tables, key, nearest):
    assert complaint(plain(**tables)) == f"run.toml: unknown key {key}; did you mean {nearest!r}?"


def test_where_nothing_is_near_the_known_keys_are_listed():
    said = complaint(plain(cache={"zzzzzz": 1}))
    assert said.startswith("run.toml: unknown key cache.zzzzzz; known keys: ")
    assert all(key in said for key in ("codec", "canaries", "dir"))


def test_every_mistake_is_named_in_a_line_of_its_own():
    said = complaint(plain(views={"cuont": 1, "seed": -1}, cache={"canaries": "many"}))
    assert [re.findall(r"(?:views|cache)\.\w+", line)[0] for line in said.splitlines()] == [
        "views.seed",
        "views.cuont",
        "cache.canaries",
    ]


@pytest.mark.parametrize(
    ("data", "key"),
    [
        ({"data": {"train": "x"}}, "run"),
        ({"run": {}, "data": {"train": "x"}}, "run.dir"),
        ({"run": {"dir": "x"}, "data": {}}, "data.train"),
        (plain(teacher={"name": "t", "model": "m"}), "teacher.0.weights"),
    ],
)
def test_a_missing_key_is_named(data, key):
    assert complaint(data) == f"run.toml: {key} is missing; it has no default"


# Values


@pytest.mark.parametrize(
    ("tables", "parts"),
    [
        ({"views": {"area": [1.2, 1.5]}}, ["views.area[0] is 1.2; areas are fractions in (0, 1]"]),
        ({"views": {"area": [0.0, 1.0]}}, ["views.area[0] is 0.0"]),
        ({"views": {"area": [0.9, 0.1]}}, ["views.area is [0.9, 0.1]; give the smaller bound first"]),
        ({"views": {"area": [float("nan"), 1.0]}}, ["views.area[0] is nan"]),
        ({"views": {"aspect": [0.0, 1.0]}}, ["views.aspect[0] is 0.0"]),
        ({"views": {"area": [0.5]}}, ["views.area"]),
        ({"views": {"count": 25}}, ["views.count is 25", "views_per_block (10)", "20 or 30 views"]),
        ({"views": {"count": 0}}, ["views.count is 0"]),
        ({"views": {"count": "many"}}, ["views.count is 'many'"]),
        ({"views": {"seed": 2**64}}, [f"views.seed is {2**64}"]),
        ({"views": {"hue": 0.7}}, ["views.hue is 0.7"]),
        ({"data": {"train": "x", "samples_per_shard": 1}}, ["data.samples_per_shard is 1"]),
        ({"data": {"train": "x", "max_rejected": 5}}, ["data.max_rejected is 5"]),
        ({"data": {"train": "x", "eval": "y", "holdout": 0.1}}, ["data.eval and data.holdout"]),
        ({"data": {"train": 3}}, ["data.train is 3"]),
        ({"run": {"dir": "x", "name": "../up"}}, ["run.name is '../up'"]),
        ({"run": 3}, ["run is 3"]),
        ({"student": {"target": "labels", "temperature": 0}}, ["student.0.temperature is 0"]),
        ({"student": {"target": "label"}}, ["student.0.target is 'label'", "'labels'"]),
        ({"student": {"target": "labels", "name": "a/b"}}, ["student.0.name is 'a/b'"]),
        ({"student": {"target": "labels", "learning_rate": float("nan")}}, ["student.0.learning_rate is nan"]),
        ({"teacher": {**TEACHER, "precision": "float64"}}, ["teacher.0.precision is 'float64'", "bfloat16"]),
        ({"teacher": "r18"}, ["teacher"]),
        ({"cache": {"codec": "topk:0"}}, ["cache.codec is 'topk:0'", "1 or more"]),
        ({"cache": {"codec": "sqrtp:x"}}, ["cache.codec is 'sqrtp:x'", "a number after the colon"]),
        ({"cache": {"temperatures": [1, -2]}}, ["cache.temperatures[1] is -2.0", "[0.1, 100]"]),
        ({"cache": {"temperatures": []}}, ["cache.temperatures", "at least 1"]),
        ({"cache": {"max_kl": 0}}, ["cache.max_kl", "greater than 0"]),
        ({"cache": {"max_kl": float("inf")}}, ["cache.max_kl is inf", "0.02 is a good start"]),
        ({"cache": {"pilot_samples": 1}}, ["cache.pilot_samples", "2"]),
        ({"cache": {"codec": "flaot16"}}, ["cache.codec is 'flaot16'", "float16", "float32"]),
    ],
)
def test_a_wrong_value_is_named_with_what_is_right(tables, parts):
    said = complaint(plain(**tables))
    assert all(part in said for part in parts), said


@pytest.mark.parametrize(
    ("tables", "part"),
    [
        ({"teacher": [TEACHER, TEACHER]}, "two [[teacher]] tables are named 't'"),
        ({"student": [{"target": "labels"}] * 2}, "two [[student]] tables are named 'student'"),
        ({"student": {"target": "cache"}}, "student 'student' has target = 'cache' and there is no [[teacher]]"),
        ({"teacher": TEACHER, "student": {"teacher": "other"}}, "asks for teacher 'other'; there are: t"),
    ],
)
def test_tables_that_do_not_fit_each_other_are_named(tables, part):
    assert part in complaint(plain(**tables))


# The file


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"absent\.toml does not exist"):
        load_config(tmp_path / "absent.toml")


@pytest.mark.parametrize("data", [b"[run\n", b"\xff\xfe[run]", b"run = {"])
def test_a_file_that_is_no_toml_is_named(tmp_path, data):
    path = tmp_path / "run.toml"
    path.write_bytes(data)
    with pytest.raises(ConfigError, match=re.escape(str(path))):
        load_config(path)


def test_a_folder_in_place_of_a_file_is_named(tmp_path):
    with pytest.raises(ConfigError, match=re.escape(str(tmp_path))):
        load_config(tmp_path)


# --set


@pytest.mark.parametrize(
    ("override", "read"),
    [
        ("views.count=40", lambda config: config.views.count == 40),
        ("views.area=[0.5, 0.75]", lambda config: config.views.area == (0.5, 0.75)),
        ("run.dir=runs/other", lambda config: config.run.dir == "runs/other"),
        ('run.dir="runs/other"', lambda config: config.run.dir == "runs/other"),
        ("views.mixup=false", lambda config: config.views.mixup is False),
        ("cache.canaries=3", lambda config: config.cache.canaries == 3),
        ("student.epochs=7", lambda config: config.student[0].epochs == 7),
        ("teacher.r18.size=96", lambda config: config.teacher[0].size == 96),
        ("data.eval=a=b", lambda config: config.data.eval == "a=b"),
    ],
)
def test_a_setting_on_the_command_line_wins(tmp_path, override, read):
    assert read(load_config(written(tmp_path), [override]))


def test_a_later_setting_wins_over_an_earlier_one(tmp_path):
    assert load_config(written(tmp_path), ["views.count=40", "views.count=50"]).views.count == 50


def test_a_setting_reaches_every_table_of_a_name_or_the_one_that_is_named(tmp_path):
    text = WHOLE.replace("[student]", "[[student]]") + '[[student]]\nname = "b"\ntarget = "labels"\n'
    path = written(tmp_path, text)
    assert [student.epochs for student in load_config(path, ["student.epochs=3"]).student] == [3, 3]
    assert [student.epochs for student in load_config(path, ["student.b.epochs=3"]).student] == [30, 3]


@pytest.mark.parametrize(
    ("override", "part"),
    [
        ("views.count", "is not table.key=value"),
        ("count=3", "is not table.key=value"),
        ("=3", "is not table.key=value"),
        ("views..count=3", "is not table.key=value"),
        ("a.b.c.d=3", "is not table.key=value"),
        ("teacher.r50.size=96", "no [[teacher]] is named 'r50'"),
        ("views.cuont=3", "did you mean 'count'?"),
        ("views.count=three", "views.count is 'three'"),
    ],
)
def test_a_wrong_setting_is_named(tmp_path, override, part):
    with pytest.raises(ConfigError) as caught:
        load_config(written(tmp_path), [override])
    assert part in str(caught.value)


@pytest.mark.parametrize("override", ["run.dir=x", "run.a.dir=x"])
def test_a_setting_below_what_is_no_table_is_named(tmp_path, override):
    with pytest.raises(ConfigError, match=re.escape(f"--set {override!r}: run is not a table")):
        load_config(written(tmp_path, 'run = "x"\n[data]\ntrain = "y"\n'), [override])


@pytest.mark.parametrize("codec", ["float16", "float32", "int8", "topk", "topk:100", "sqrtp", "sqrtp:0.1", "transform"])
def test_every_codec_can_be_chosen(codec):
    assert CacheSection(codec=codec).codec == codec


def test_the_order_of_temperatures_means_nothing():
    assert CacheSection(temperatures=(5, 1, 5)) == CacheSection(temperatures=(1.0, 5.0))
