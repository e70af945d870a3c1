"""A module of a Python program's own fills a cache as any teacher does."""

import numpy as np
import pytest
import safetensors.torch
import torch
from conftest import MODEL, SIZE
from torch import nn

import stillroom
from stillroom.pipeline.config.config import parse_config
from stillroom.pipeline.config.sections import Teacher
from stillroom.pipeline.models import teacher as config_teachers
from stillroom.pipeline.models.factory import build_model
from stillroom.pipeline.models.teacher import load_teacher
from stillroom.stages.cli.main import main
from stillroom.storage.cache.cache import Cache
from stillroom.storage.errors import ConfigError, FingerprintError, ModelError

PLAIN = stillroom.Preprocessing.none()
OWN = {"name": "own", "model": "python:own", "weights": None}


class Ensemble(nn.ModuleList):
    """Counts how often it is asked, and may fail once."""

    asked, fails_at = 0, None

    def forward(self, images):
        self.asked += 1
        if self.asked == self.fails_at:
            raise KeyboardInterrupt
        return torch.stack([model(images) for model in self]).mean(dim=0)


@pytest.fixture
def ensemble():
    torch.manual_seed(5)
    return Ensemble([build_model(MODEL, 3), build_model(MODEL, 3)]).eval()


@pytest.fixture
def config(run_config, tmp_path):
    def make(**changes):
        return run_config(tmp_path / "run", teacher=OWN | {"mean": [0.5] * 3, "std": [0.25] * 3}, **changes)

    return make


def teach(config, module, **more):
    given = {"version": "1", "progress": False, **more}
    return stillroom.teacher(config, "own", module, **given)


def blocks(config):
    return sorted(Cache(config.cache_place).ledger.tasks("teachers/own/blocks"))


@pytest.mark.slow
def test_its_answers_to_each_view_are_what_the_cache_holds(config, ensemble):
    made = config(views={"mixup": False}, cache={"codec": "float32"})
    cache = teach(made, ensemble, verify=True)
    loader = stillroom.ReplayLoader(cache, data=str(made.data_place), batch_size=8, size=SIZE, seed=0, teacher="own")
    for batch in loader.epoch(0):
        with torch.inference_mode():
            expected = ensemble((batch.images - 0.5) / 0.25)
        torch.testing.assert_close(batch.logits, expected, rtol=1e-4, atol=1e-4)
        assert batch.proved


@pytest.mark.slow
def test_students_report_and_verify_do_without_it_from_the_command_line(config, ensemble, run_stages):
    made = config()
    teach(made, ensemble)
    found = run_stages(made, "ingest", "seeds", "teacher", "verify", "student", "report")
    assert found["teacher"].ran == 0
    assert found["verify"].concluded["ok"]
    assert any("its module is not here" in text for text in found["verify"].concluded["skipped"])
    assert found["student"].ran == 1


@pytest.mark.slow
def test_what_was_stopped_goes_on_with_what_is_left(config, ensemble):
    made = config()
    ensemble.fails_at = 3 + 3  # three asks find out whether its answers depend on their company
    with pytest.raises(KeyboardInterrupt):
        teach(made, ensemble)
    done = blocks(made)
    assert 0 < len(done) < 6
    before = [Cache(made.cache_place).ledger.get(task).to_bytes() for task in done]
    ensemble.asked, ensemble.fails_at = 0, None
    teach(made, ensemble)
    assert len(blocks(made)) == 6
    assert [Cache(made.cache_place).ledger.get(task).to_bytes() for task in done] == before
    asked = ensemble.asked
    teach(made, ensemble)
    assert ensemble.asked - asked == 3, "nothing was left to do"


def test_a_pilot_of_the_modules_last_version_is_made_again(config, ensemble):
    made = config(cache={"codec": "transform", "pilot_samples": 24})
    ensemble.fails_at = 3 + 13  # the pilot asks about each of 4 views of 3 data shards
    with pytest.raises(KeyboardInterrupt):
        teach(made, ensemble)
    ledger = Cache(made.cache_place).ledger
    before = ledger.get("teachers/own/pilot")
    assert not blocks(made)
    ledger.drop("teachers/own/layout/000004")
    made.cache_place.delete("teachers/own/zarr.json")
    ensemble.fails_at = None
    teach(made, ensemble, version="2")
    after = ledger.get("teachers/own/pilot")
    assert [record.facts["made_from"]["teacher"]["version"] for record in (before, after)] == ["1", "2"]


def test_a_student_with_it_in_the_loop_is_refused_by_the_config(config):
    with pytest.raises(ConfigError, match="is a module that only its Python program has"):
        config(student={"target": "online"})


@pytest.mark.parametrize("left", ["all", "none"])
@pytest.mark.parametrize(("change", "field"), [("weights", "weights"), ("version", "version"), ("mean", "mean")])
def test_another_module_under_the_name_is_refused_by_what_differs(config, ensemble, change, field, left):
    made = config()
    if left == "all":
        ensemble.fails_at = 3 + 2
        with pytest.raises(KeyboardInterrupt):
            teach(made, ensemble)
        ensemble.fails_at = None
    else:
        teach(made, ensemble)
    more = {"version": {"version": "2"}, "mean": {"preprocessing": PLAIN}}.get(change, {})
    if change == "weights":
        with torch.no_grad():
            ensemble[1].get_classifier().bias[0] += 1e-6
    with pytest.raises(FingerprintError, match=rf"\b{field} = "):
        teach(made, ensemble, **more)


def test_a_function_with_a_file_of_its_own_is_a_teacher_and_its_file_counts(config, ensemble, tmp_path):
    path = tmp_path / "session.bin"
    path.write_bytes(b"1")

    class Answer:
        def __init__(self, logits):
            self.logits = logits  # as models of transformers answer

    made = config()
    teach(made, lambda images: Answer(ensemble(images)), files=[str(path)])
    path.write_bytes(b"2")
    with pytest.raises(FingerprintError, match=r"weights = "):
        teach(made, lambda images: Answer(ensemble(images)), files=[str(path)])


def test_a_module_in_training_mode_is_refused_by_its_part(config, ensemble):
    ensemble[1].bn1.train()
    with pytest.raises(ModelError, match=r"teacher 'own' cannot be cached: its part '1.bn1' is in training mode"):
        teach(config(), ensemble)


class Company(nn.Module):
    """Batch norm without running statistics, which takes the batch's in evaluation mode too."""

    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm2d(3, track_running_stats=False)
        self.head = nn.Linear(3, 3)

    def forward(self, images):
        return self.head(self.norm(images).amax(dim=(2, 3)))


def noise(images):
    return images.mean(dim=(2, 3)) + torch.rand(len(images), 3)


@pytest.mark.parametrize(
    ("module", "why"),
    [(Company().eval(), "in other company"), (noise, "when it is asked again")],
    ids=["norm", "noise"],
)
def test_answers_that_depend_on_more_than_the_image_are_refused(config, module, why):
    with pytest.raises(ModelError, match=rf"teacher 'own' answers otherwise about the same image {why}"):
        teach(config(), module)
    assert not blocks(config())


@pytest.mark.parametrize("library", ["mine", "timm"])
def test_a_packages_model_is_asked_the_same_and_timms_is_not(monkeypatch, tmp_path, library):
    """timm's in evaluation mode are known; what a package builds is not."""
    monkeypatch.setattr(config_teachers, "build_model", lambda name, classes: Company())
    safetensors.torch.save_file(Company().state_dict(), tmp_path / "w.safetensors")
    section = Teacher(name="t", model=f"{library}:norm", weights=str(tmp_path / "w.safetensors"), size=SIZE)
    if library == "timm":
        load_teacher(section, ("a", "b", "c"))
        return
    with pytest.raises(ModelError, match=r"teacher 't' answers otherwise about the same image in other company"):
        load_teacher(section, ("a", "b", "c"))


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (lambda images: images.mean(dim=(2, 3))[:, :2], r"answers with float32 \[2, 2\]"),
        (lambda images: np.zeros((len(images), 3)), "answers with a ndarray"),
    ],
    ids=["two classes", "numpy"],
)
def test_what_is_no_logits_is_refused_before_a_view_is_rendered(config, answer, said):
    with pytest.raises(ModelError, match=said):
        teach(config(), answer)


def test_a_logit_that_is_not_finite_is_refused_by_its_sample(config):
    with pytest.raises(ModelError, match=r"not finite for view \d of sample '\w+/\d\d'"):
        teach(config(), lambda images: images.mean(dim=(2, 3)) * torch.nan)


def test_what_it_must_be_told_is_asked_for(config, run_config, tmp_path, ensemble):
    untold = run_config(tmp_path / "run", teacher=OWN)
    with pytest.raises(ConfigError, match=r"nothing says how its images are normalised"):
        teach(untold, ensemble)
    with pytest.raises(ConfigError, match=r"version is empty"):
        teach(config(), ensemble, version="")
    with pytest.raises(ConfigError, match=r"has no teacher 'other'"):
        stillroom.teacher(config(), "other", ensemble, version="1")
    with pytest.raises(ConfigError, match=r"model = 'timm:test_resnet', which stillroom builds itself"):
        stillroom.teacher(run_config(tmp_path / "run"), "t", ensemble, version="1", preprocessing=PLAIN, progress=False)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"weights": "w.pth"}, "has its weights already"),
        ({"compile": True}, "compile the module"),
        ({"checkpoint_key": "ema"}, "no file of weights that it could be of"),
    ],
)
def test_settings_of_models_that_stillroom_builds_are_refused(run_tables, tmp_path, changes, said):
    with pytest.raises(ConfigError, match=said):
        parse_config(run_tables(tmp_path, teacher=OWN | changes))


def test_the_command_without_the_program_says_which_one_is_needed_before_ingest(run_tables, tmp_path, capsys):
    path = tmp_path / "run.toml"
    tables = run_tables(tmp_path / "run", teacher=OWN)
    path.write_text(
        "\n".join(
            f"[{name}]\n" + "\n".join(f"{key} = {value!r}".replace("True", "true") for key, value in table.items())
            for name, table in tables.items()
        )
    )
    for options in ([], ["--dry-run"]):
        with pytest.raises(SystemExit) as stopped:
            main(["run", str(path), *options])
        assert stopped.value.code == 1
        assert (
            'run the program that calls stillroom.teacher(CONFIG, "own", module, version=…)' in capsys.readouterr().err
        )
    assert not (tmp_path / "run").exists()


def test_the_example_fills_a_cache_in_thirty_lines(run_tables, tmp_path, capsys, monkeypatch):
    import runpy
    import sys
    from pathlib import Path

    example = Path(__file__).parents[2] / "examples" / "own_teacher.py"
    assert len(example.read_text().splitlines()) <= 32
    tables = run_tables(tmp_path / "run", teacher=OWN | {"name": "ensemble", "model": "python:ensemble"})
    models = [build_model(MODEL, 3), build_model("timm:test_efficientnet", 3)]
    safetensors.torch.save_model(nn.ModuleList(models), str(tmp_path / "w.safetensors"))
    (tmp_path / "run.toml").write_text(
        "\n".join(
            f"[{name}]\n" + "\n".join(f"{key} = {value!r}".replace("True", "true") for key, value in table.items())
            for name, table in tables.items()
        )
    )
    arguments = [str(tmp_path / "run.toml"), "--models", "test_resnet", "test_efficientnet", "--classes=3"]
    monkeypatch.setattr(sys, "argv", ["own_teacher.py", *arguments, f"--weights={tmp_path / 'w.safetensors'}"])
    runpy.run_path(str(example), run_name="__main__")
    assert "4 views of 3 classes in " in capsys.readouterr().out
