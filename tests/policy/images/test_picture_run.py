"""Whole runs on class folders: what they leave behind, resumed bit for bit, on every method."""

import json
import math
import shutil

import pytest
import torch
from PIL import Image

from reconverge.datasets.images.picture_store import open_store
from reconverge.datasets.images.supplied import supply
from reconverge.policy.continual.fisher import Rank1
from reconverge.policy.continual.loop import Distance, LoopSettings, Probing, Progress, learn_tasks
from reconverge.policy.continual.methods import METHODS
from reconverge.policy.images import judge
from reconverge.policy.images.distances import Distances, summarize_distances
from reconverge.policy.images.picture_options import ImageOptions, ModelReplayOptions
from reconverge.policy.images.picture_run import make_run
from reconverge.policy.images.unet2d import UNet2dOptions
from reconverge.policy.model.diffusion import DiffusionOptions
from reconverge.policy.reports.meta_gradient import measure_run
from reconverge.policy.reports.page import write_report
from reconverge.policy.reports.rows.comparison import write_comparison
from reconverge.policy.runs.checkpoint import CheckpointError
from reconverge.policy.runs.configuration import DemonstrationReplayOptions, EvaluationOptions
from reconverge.policy.runs.loading import load_policy
from reconverge.policy.runs.record import RunRecord
from reconverge.policy.runs.summary import read_summary
from reconverge.tools import images
from support.picture_files import make_folders
from support.tiny_run import call

OPTIONS = [
    "size=8",
    "network.channels=[8,8]",
    "updates_per_task=6",
    "batch_size=4",
    "checkpoint_every=4",
    "report=false",
    "device=cpu",
    "optimizer.precision=float32",
    "optimizer.warmup=2",
    "diffusion.num_train_timesteps=20",
    "diffusion.num_inference_steps=2",
    "evaluation.n_rollouts=6",
    "evaluation.probe_rollouts=4",
    "fisher.samples=8",
]
REPLAY = ["replay.batch_size=4", "replay.pool=8"]


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """A folder of class folders, and where its store and judge are, made by the first run."""
    return make_folders(tmp_path_factory.mktemp("brought") / "shapes"), tmp_path_factory.mktemp("s")


def options(pictures, folder, *extra):
    data, stores = pictures
    return [f"data={data}", f"pictures={stores}", f"hydra.run.dir={folder}", *OPTIONS, *extra]


@pytest.fixture(scope="module")
def run(pictures, tmp_path_factory):
    """A finished run of trust_region, two tasks of two classes."""
    folder = tmp_path_factory.mktemp("runs") / "whole"
    with pytest.MonkeyPatch.context() as patch:
        assert call(images.main, options(pictures, folder, *REPLAY), patch) == 0
    return folder


def test_a_run_leaves_what_a_policys_run_leaves(run):
    summary = read_summary(run)
    assert summary.tasks == ["bars+dots", "frames+rays"]
    assert (summary.method, summary.replay, summary.fisher) == ("trust_region", "model", "kfac")
    assert [len(curve.updates) for curve in summary.probes] == [3]
    names = sorted(path.name for path in (run / "checkpoints").iterdir())
    assert names == ["0_bars+dots", "1_frames+rays"]
    assert summary.judge["features"] == "classifier"


def test_distances_are_of_every_task_seen(run):
    found = Distances.from_json(read_summary(run).distances, "")
    matrix = found.matrix
    assert matrix[0][1] is None
    assert all(value >= 0 for value in (matrix[0][0], *matrix[1]))
    assert found.average == pytest.approx((matrix[1][0] + matrix[1][1]) / 2)
    assert found.forgetting.just_learned_without_last == pytest.approx(matrix[1][0] - matrix[0][0])
    assert [curve.updates for curve in found.probes] == [[2, 4, 6]]
    assert len(found.recovery) == 3


def test_distances_in_inceptions_features_are_named(pictures, tmp_path, monkeypatch):
    short = ["method=finetune", "replay=none", "updates_per_task=2", "evaluation.probe_rollouts=0"]
    folder = tmp_path / "fid"
    assert (
        call(images.main, options(pictures, folder, *short, "features=inception"), monkeypatch) == 0
    )
    summary = read_summary(folder)
    found = Distances.from_json(summary.distances, "summary.json")
    assert found.features == "inception"
    assert 10 < found.average < 1000
    write_report([folder], tmp_path / "report.html")
    assert "in the features of Inception" in (tmp_path / "report.html").read_text()


def test_sheets_have_a_row_for_every_task_seen(run):
    sizes = [Image.open(path).size for path in sorted((run / "samples").iterdir())]
    assert [height for _, height in sizes] == [2 + 18, 2 + 2 * 18]


def test_report_and_comparison_show_pictures(run, tmp_path):
    write_report([run], tmp_path / "report.html")
    text = (tmp_path / "report.html").read_text()
    assert text.count("data:image/png") == 2
    assert "Frechet distance in the features of the classifier" in text
    assert "tools.export_video" not in text
    assert "distance" in write_comparison([run], tmp_path)


def test_a_run_that_is_stopped_goes_on_bit_for_bit(pictures, run, tmp_path, monkeypatch):
    heard = RunRecord.updated

    def stop(self, progress, metrics):
        if (progress.task, progress.update) == (1, 5):
            raise KeyboardInterrupt
        heard(self, progress, metrics)

    folder = tmp_path / "stopped"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RunRecord, "updated", stop)
        assert call(images.main, options(pictures, folder, *REPLAY), patch) == 130
    assert (folder / "checkpoints" / "1_frames+rays@4").exists()
    assert call(images.main, [f"resume={folder}"], monkeypatch) == 0
    last = "checkpoints/1_frames+rays/model.safetensors"
    assert (folder / last).read_bytes() == (run / last).read_bytes()
    resumed, whole = read_summary(folder), read_summary(run)
    assert (resumed.success, resumed.distances) == (whole.success, whole.distances)


def test_a_run_goes_on_with_its_own_pictures_alone(pictures, run, tmp_path, monkeypatch, capsys):
    begun = shutil.copytree(run, tmp_path / "begun")
    (begun / "summary.json").unlink()
    added = pictures[0] / "bars/more.png"
    shutil.copy(pictures[0] / "bars/000.png", added)
    try:
        assert call(images.main, [f"resume={begun}"], monkeypatch) == 0
        assert read_summary(begun).success == read_summary(run).success
        assert measure_run(run, 1e-4, 8)
        elsewhere = [f"resume={begun}", f"pictures={tmp_path / 'elsewhere'}"]
        (begun / "summary.json").unlink()
        assert call(images.main, elsewhere, monkeypatch) == 2
        assert "holds other pictures than the run began with" in capsys.readouterr().err
    finally:
        added.unlink()


class Deaf:
    """An observer that hears nothing."""

    def __getattr__(self, name):
        return lambda *_, **__: None


def learn(pictures, **changes):
    """The method of a run of two updates a task, when it has learned both tasks."""
    data, stores = pictures
    chosen = {
        "method": METHODS["replay"](),
        "network": UNet2dOptions(channels=[8, 8]),
        "replay": ModelReplayOptions(batch_size=4, pool=8),
        "fisher": Rank1(samples=8),
        "diffusion": DiffusionOptions(num_train_timesteps=20, num_inference_steps=2),
    }
    options = ImageOptions(**chosen | {"size": 8, "batch_size": 4, "device": "cpu"} | changes)
    run = make_run(options, supply(str(data), 8, stores))
    sources = [lambda source=source: source for source in run.train]
    settings = LoopSettings(2, 4, 10, 0, 1, Probing())
    before = [part.clone() for part in run.method.model.parameters()]
    learn_tasks(run.method, sources, lambda *_: [True], Deaf(), settings, Progress())
    after = run.method.model.parameters()
    assert not all(map(torch.equal, before, after))
    return run.method


@pytest.mark.parametrize("name", sorted(METHODS))
def test_every_method_learns(pictures, name):
    chosen = METHODS[name](strength=1.0) if name == "trust_region" else METHODS[name]()
    method = learn(pictures, method=chosen)
    found = method.model_of(1).generate(1, 3, torch.Generator().manual_seed(0))
    assert found.pictures.isfinite().all()


def test_replay_of_the_model_keeps_nothing_and_of_demonstrations_its_budget(pictures):
    assert learn(pictures).memory_bytes == 0
    stored = DemonstrationReplayOptions(batch_size=4, pool=8, budget=6)
    method = learn(pictures, replay=stored)
    assert method.replay.source.kept(0).pictures.shape == (6, 1, 8, 8)


@pytest.mark.parametrize(
    ("extra", "said"),
    [
        ("classes_per_task=3", "no multiple of it"),
        ("classes=bars", "at least 2 are needed"),
        ("classes=bars,dotz", "did you mean 'dots'"),
        ("size=9", "size must be a multiple of 2, got 9"),
        ("data=fashion", "fashion_mnist"),
        ("network=unet1d", "unet2d"),
    ],
)
def test_what_cannot_be_learned_is_one_line(pictures, tmp_path, monkeypatch, capsys, extra, said):
    assert call(images.main, options(pictures, tmp_path / "run", extra), monkeypatch) == 2
    lines = capsys.readouterr().err.splitlines()
    assert said in lines[-1]
    assert not (tmp_path / "run").exists()


def test_a_task_of_one_test_picture_is_refused(tmp_path, monkeypatch, capsys):
    pictures = make_folders(tmp_path / "few", ("bars", "dots"), count=6), tmp_path / "stores"
    typed = options(pictures, tmp_path / "run", "classes_per_task=1")
    assert call(images.main, typed, monkeypatch) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert "one test picture of task bars" in line
    assert "choose more classes_per_task" in line


def test_distances_have_a_curve_of_the_tasks_that_were_probed_alone():
    evaluated = [(1, 0), (1, 1), (2, 0), (2, 1), (2, 2)]
    found = [Distance(later, 0, 3, 4, 2.0) for later in (1, 2)]  # probes
    found += [Distance(*at, 9, n, 1.0) for at in [(0, 0), *evaluated] for n in (4, 6)]
    probed = EvaluationOptions(n_rollouts=6, probe_rollouts=4, probe_tasks=1)
    summary = summarize_distances(Progress(distances=found), ["a", "b", "c"], "any", probed)
    curves = [(curve["task"], curve["while_learning"]) for curve in summary["probes"]]
    assert curves == [("a", "b"), ("a", "c")]
    assert {entry["task"] for entry in summary["recovery"]} == {"a"}


def test_a_generator_of_pictures_is_no_policy(run):
    with pytest.raises(CheckpointError, match="generates pictures") as refused:
        load_policy(run)
    assert "\n" not in str(refused.value)


def test_steps_are_compared_with_the_meta_gradient(run):
    facts, pairs = measure_run(run, 1e-4, 8)
    assert facts["names"] == ["bars+dots", "frames+rays"]
    assert [(pair["after"], pair["task"]) for pair in pairs] == [("frames+rays", "bars+dots")]
    numbers = [value for value in pairs[0].values() if isinstance(value, float)]
    assert numbers
    assert all(map(math.isfinite, numbers))


def test_options_of_the_data_cannot_change(run, monkeypatch, capsys):
    assert call(images.main, [f"resume={run}", "size=16"], monkeypatch) == 2
    assert "cannot change" in capsys.readouterr().err


def test_judge_tells_the_classes_apart_and_is_kept(pictures, run, monkeypatch):
    stores = pictures[1]
    manifest = json.loads((stores / "shapes_8.judge" / "judge.json").read_text())
    assert manifest["accuracy"] == read_summary(run).judge["test_accuracy"]
    assert manifest["accuracy"] > 0.9
    monkeypatch.delattr(judge, "train")  # it is not trained again
    assert judge.judge_of(open_store(stores / "shapes_8.zarr")).accuracy == manifest["accuracy"]
