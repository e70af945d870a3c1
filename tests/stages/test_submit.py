"""What is submitted, without a cluster: scripts that pass signals and paths on, Indexed Jobs that Kubernetes takes."""

import json
import os
import re
import signal
import stat
import subprocess
import sys
import time

import kubernetes_validate
import pytest
import yaml

from stillroom.pipeline.config.config import load_config
from stillroom.stages.submit.kubernetes import manifest
from stillroom.stages.submit.stage_jobs import jobs_of
from stillroom.stages.submit.submit import submit_run
from stillroom.storage.errors import ConfigError, StillroomError

KUBERNETES = ("1.29", kubernetes_validate.latest_version())
"""The first one where backoffLimitPerIndex needs no switch, and the newest whose schemas are at hand."""
ODD = "it's $HOME & 50% odd"
CONFIG = """
[run]
name = "My.Run_1"
dir = "{run}"
[data]
train = "images"
holdout = 0.3
[[teacher]]
name = "t"
model = "timm:test_resnet"
weights = "w.safetensors"
size = 16
[[student]]
model = "timm:test_resnet"
size = 16
[[submit]]
jobs = 5
time = "1:00:00"
lines = ["#SBATCH --qos=low"]
activate = "export ACTIVATED=yes"
image = "example.org/stillroom:1"
claim = "data"
[[submit]]
name = "teacher"
gpus = 1
memory = "32G"
"""


@pytest.fixture
def config(tmp_path, monkeypatch):
    folder = tmp_path / ODD
    folder.mkdir()
    path = folder / "run.toml"
    path.write_text(CONFIG.format(run=folder / "run"))
    monkeypatch.chdir(folder)
    return path


@pytest.fixture
def programs(tmp_path, monkeypatch):
    """Puts programs of a cluster on the path; they note how they were called."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")

    def program(name, body):
        path = folder / name
        path.write_text(f'#!/bin/bash\necho "$@" >>"{tmp_path}/{name}.calls"\n{body}\n')
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
        return path

    program.calls = lambda name: (tmp_path / f"{name}.calls").read_text().splitlines()
    return program


def texts(lines):
    """The files that a dry run prints, by name."""
    parts = re.split(r"^--- .*/(.*)$", "\n".join(lines), flags=re.MULTILINE)[1:]
    return dict(zip(parts[::2], (part.lstrip("\n") for part in parts[1::2]), strict=True))


def test_a_dry_run_prints_a_script_for_each_stage_and_writes_nothing(config, programs):
    programs("scontrol", "echo 'MaxArraySize            = 4'")
    found = texts(submit_run(str(config), (), "slurm", dry_run=True))
    assert list(found) == [f"{stage}.sbatch" for stage in ("ingest", "seeds", "teacher", "verify", "student", "report")]
    for line in ("--array=0-3", "--gres=gpu:1", "--mem=32G", "--time=1:00:00", "--requeue", "--qos=low"):
        assert f"#SBATCH {line}\n" in found["teacher.sbatch"]
    assert "gpu" not in found["ingest.sbatch"]
    assert not (config.parent / "run").exists()


def test_arrays_are_chained_each_after_the_one_before(config, programs):
    programs("scontrol", "true")
    programs("sbatch", 'echo "$((100 + $(wc -l <"$0".n 2>/dev/null || echo 0)));cluster"; echo >>"$0".n')
    lines = submit_run(str(config), (), "slurm", ("seeds", "teacher", "verify"))
    folder = config.parent / "run/jobs"
    assert [line.split()[1] for line in lines] == ["100:", "101:", "102:"]
    assert programs.calls("sbatch") == [
        f"--parsable {folder}/seeds.sbatch",
        f"--parsable --dependency=afterok:100 {folder}/teacher.sbatch",
        f"--parsable --dependency=afterok:101 {folder}/verify.sbatch",
    ]
    assert (folder / "logs").is_dir()


@pytest.mark.parametrize(
    ("number", "ends", "back"),
    [(signal.SIGUSR1, 75, True), (signal.SIGTERM, 75, False), (signal.SIGUSR1, 0, False), (None, 3, False)],
)
def test_a_script_passes_paths_and_signals_on_and_queues_again_only_what_was_told_in_time(
    config, programs, tmp_path, number, ends, back
):
    programs("scontrol", "true")
    wait = "sleep 0.1; " * 50 if number else ""
    python = programs(
        "py thon",
        f'exec 3>"{tmp_path}/saw"; echo "$ACTIVATED $PWD $STILLROOM_JOBS" >&3; printf "%s\\n" "${{@: -1}}" "$4" >&3\n'
        f"trap 'echo got >&3; exit {ends}' USR1 TERM\n{wait}exit {ends}",
    )
    text = texts(
        submit_run(str(config), (f'submit.python="{python}"', "views.count=20"), "slurm", ("teacher",), dry_run=True)
    )
    script = tmp_path / "script"
    script.write_text(text["teacher.sbatch"] + "\n")
    job = subprocess.Popen(["bash", script], env=os.environ | {"SLURM_JOB_ID": "77"})
    if number:
        while not (tmp_path / "saw").exists() or (tmp_path / "saw").read_text().count("\n") < 3:
            time.sleep(0.02)
        time.sleep(0.2)
        job.send_signal(number)
    assert job.wait(20) == ends
    saw = (tmp_path / "saw").read_text().splitlines()
    assert saw[:3] == [f"yes {config.parent} 5", "views.count=20", str(config)]
    assert saw[3:] == (["got"] if number else [])
    assert ("requeue 77" in programs.calls("scontrol")) == back


@pytest.mark.parametrize("stage", ["ingest", "teacher"])
def test_an_indexed_job_is_one_that_kubernetes_takes(config, programs, stage):
    text = texts(submit_run(str(config), (), "kubernetes", (stage,), dry_run=True))[f"{stage}.yaml"]
    job = yaml.safe_load(text)
    for version in KUBERNETES:
        kubernetes_validate.validate(job, version, strict=True)
    assert (job["apiVersion"], job["kind"]) == ("batch/v1", "Job")
    name = job["metadata"]["name"]
    assert name == f"stillroom-my-run-1-{stage}"
    assert re.fullmatch(r"[a-z0-9]([-a-z0-9]{0,50}[a-z0-9])?", name)
    spec = job["spec"]
    assert spec["completionMode"] == "Indexed"
    assert (spec["completions"], spec["parallelism"], spec["backoffLimitPerIndex"]) == (5, 5, 3)
    pod = spec["template"]["spec"]
    assert pod["restartPolicy"] == "Never", "podFailurePolicy needs it"
    (container,) = pod["containers"]
    for rule in spec["podFailurePolicy"]["rules"]:
        assert rule["action"] in {"Ignore", "FailJob", "FailIndex", "Count"}
        assert set(rule) in ({"action", "onExitCodes"}, {"action", "onPodConditions"})
        if "onExitCodes" in rule:
            assert set(rule["onExitCodes"]) == {"containerName", "operator", "values"}
            assert rule["onExitCodes"]["containerName"] == container["name"]
            assert rule["onExitCodes"]["operator"] == "In"
            assert 0 not in rule["onExitCodes"]["values"]
        for condition in rule.get("onPodConditions", []):
            assert condition == {"type": "DisruptionTarget", "status": "True"}
    assert {
        "action": "Ignore",
        "onExitCodes": {"containerName": "stillroom", "operator": "In", "values": [75]},
    } in spec["podFailurePolicy"]["rules"]
    assert all(isinstance(word, str) for word in container["command"])
    assert container["command"] == ["python", "-m", "stillroom.stages", stage, str(config)]
    assert {"name": "STILLROOM_JOBS", "value": "5"} in container["env"]
    assert all(isinstance(item["value"], str) for item in container["env"])
    quantities = container["resources"]["limits"]
    gpus = {"nvidia.com/gpu": "1"} if stage == "teacher" else {}
    assert quantities == {"cpu": "4", "memory": "32Gi" if gpus else "16Gi", **gpus}
    assert container["resources"]["requests"] == quantities, "of GPUs, requests must equal limits"
    assert [mount["name"] for mount in container["volumeMounts"]] == [volume["name"] for volume in pod["volumes"]]
    assert container["workingDir"].startswith("/")


@pytest.mark.parametrize(
    ("path", "wrong"),
    [
        ("spec.completions_mode", "Indexed"),
        ("spec.completions", "5"),
        ("spec.podFailurePolicy.rules.0.onExitCode", {}),
        ("spec.template.spec.containers.0.env.0.values", "5"),
        ("spec.template.spec.containers.0.command", "python"),
        ("spec.template.spec.volumes.0.claim", "data"),
    ],
)
def test_the_published_schema_takes_no_field_that_kubernetes_does_not_know(config, path, wrong):
    job = yaml.safe_load(texts(submit_run(str(config), (), "kubernetes", ("teacher",), dry_run=True))["teacher.yaml"])
    *parents, field = path.split(".")
    changed = job
    for name in parents:
        changed = changed[int(name) if name.isdecimal() else name]
    changed[field] = wrong
    for version in KUBERNETES:
        with pytest.raises(kubernetes_validate.ValidationError):
            kubernetes_validate.validate(job, version, strict=True)


def test_indexed_jobs_are_applied_when_the_one_before_is_complete(config, programs):
    programs(
        "kubectl",
        'case $1 in apply) echo "job.batch/$(basename "$3" .yaml)";; '
        'get) echo \'{"status": {"conditions": [{"type": "Complete", "status": "True"}]}}\';; esac',
    )
    submit_run(str(config), (), "kubernetes", ("seeds", "teacher"))
    folder = config.parent / "run/jobs"
    assert programs.calls("kubectl") == [
        f"apply -f {folder}/seeds.yaml -o name",
        "get job.batch/seeds -o json",
        f"apply -f {folder}/teacher.yaml -o name",
    ]


def test_a_failed_indexed_job_ends_the_chain(config, programs):
    status = json.dumps({"status": {"conditions": [{"type": "Failed", "status": "True"}]}})
    programs("kubectl", f"case $1 in apply) echo job.batch/a;; get) echo '{status}';; esac")
    with pytest.raises(StillroomError, match=r"job.batch/a has failed; .*submit again"):
        submit_run(str(config), (), "kubernetes", ("seeds", "teacher"))


def test_what_cannot_be_submitted_is_said(config, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    for settings, stages, scheduler, error, message in (
        ((), ("teach",), "slurm", ConfigError, "--stage teach is no stage; there are: ingest, seeds"),
        ((), (), "slurm", StillroomError, "there is no sbatch"),
        ((), (), "kubernetes", StillroomError, "there is no kubectl"),
        (('run.dir="memory://b/r"',), (), "slurm", ConfigError, "submit.dir"),
        (("submit.jobs=0",), (), "slurm", ConfigError, "submit.0.jobs is 0"),
        (("submit.partition=a b",), (), "slurm", ConfigError, "submit.0.partition"),
        (('submit.dir="a\\"b"',), (), "slurm", ConfigError, "Slurm takes no path"),
    ):
        with pytest.raises(error, match=re.escape(message)):
            submit_run(str(config), settings, scheduler, stages)


@pytest.mark.slow
def test_a_containers_command_does_its_index_of_the_work(array):
    settings = ('submit.image="i"', f'submit.python="{sys.executable}"', "submit.jobs=2")
    config = load_config(array.config, settings)
    (work,) = jobs_of(config, str(array.config), (), ("teacher",))
    (container,) = manifest(work, "r")["spec"]["template"]["spec"]["containers"]
    array.begin_after("seeds")
    for index in (1, 0):
        variables = {item["name"]: item["value"] for item in container["env"]} | {
            "JOB_COMPLETION_INDEX": str(index),
            "OMP_NUM_THREADS": "1",
        }
        said = subprocess.run(
            container["command"],
            cwd=container["workingDir"],
            env=os.environ | variables,
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        assert f"job {index} of 2" in said
    assert not array.wrong("teacher")
