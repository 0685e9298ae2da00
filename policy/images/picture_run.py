"""One run that learns to generate pictures: from options and a folder to a summary."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from reconverge.datasets.images.picture_store import PictureStore
from reconverge.datasets.images.supplied import supply
from reconverge.errors import ReconvergeError, one_line
from reconverge.policy.continual.learner import Method, Setting
from reconverge.policy.continual.loop import JointSource, Progress, learn_tasks
from reconverge.policy.continual.optimization import precision_on
from reconverge.policy.continual.rehearsal import (
    Budget,
    DrawnReplay,
    EpisodicMemory,
    Replay,
    ReplaySource,
)
from reconverge.policy.images.class_tasks import TaskPictures, as_values, class_tasks, task_pictures
from reconverge.policy.images.distances import summarize_distances
from reconverge.policy.images.frechet import Moments, moments
from reconverge.policy.images.inception import Features, features_of_tests, inception_features
from reconverge.policy.images.judge import Judge, judge_of
from reconverge.policy.images.measuring import PictureEvaluation
from reconverge.policy.images.picture_model import PictureDenoiser, PictureSpec, make_denoiser
from reconverge.policy.images.picture_options import ImageOptions, deciding
from reconverge.policy.images.sample_sheets import SampleSheets
from reconverge.policy.runs import checkpoint
from reconverge.policy.runs.configuration import check_run_options
from reconverge.policy.runs.execution import facts_of, loop_settings, resumable
from reconverge.policy.runs.folder import flat, record_options
from reconverge.policy.runs.loading import find_device
from reconverge.policy.runs.provenance import command
from reconverge.policy.runs.record import Reporter, RunRecord
from reconverge.policy.runs.resuming import Begun, find_begun, go_on
from reconverge.policy.runs.summary import Summary

PACKAGES = ("diffusers",)  # whose versions decide a result, beside those of every run
TESTS_AT_ONCE = 2000  # pictures whose features are taken together
MANIFEST_KEY = "pictures"  # of a checkpoint's manifest, where a policy has "policy"


@dataclass(frozen=True)
class PictureRun:
    """The objects of a run."""

    spec: PictureSpec
    train: Sequence[TaskPictures]
    method: Method


MakeReporter = Callable[[Sequence[str]], Reporter]
"""make_reporter(labels of the tasks), which are known once the pictures are"""


def learn_pictures(options: ImageOptions, folder: Path, make_reporter: MakeReporter) -> Summary:
    """Learn what is left of the run in `folder`, and write its summary."""
    started = time.perf_counter()
    check_run_options(options)
    with resumable(options, folder, "images"):
        begun = find_begun(folder, read_spec)
        store = supplied(options, begun)
        return _learn_all(options, folder, make_reporter, store, begun, started)


def _learn_all(
    options: ImageOptions,
    folder: Path,
    make_reporter: MakeReporter,
    store: PictureStore,
    begun: Begun | None,
    started: float,
) -> Summary:
    run = make_run(options, store)
    device = find_device(options.device)
    judge = judge_of(store, device)
    facts = _facts(options, run.method, store)
    facts["judge"] = {"features": options.features, "test_accuracy": judge.accuracy}
    features, real = _features_and_moments(options.features, store, judge, run.spec, device)
    progress, state = Progress(demonstration_seconds=time.perf_counter() - started), None
    if begun is not None:
        progress, facts = go_on(begun, run.spec, facts, options, command())
        state = begun.state
    record_options(options, folder)  # with those that were typed anew
    evaluation = PictureEvaluation(judge, features, real, options.evaluation, progress)
    reporter = make_reporter(run.spec.tasks)
    sheets = SampleSheets(reporter, folder, run.method.model_of, evaluation, run.spec)
    record = RunRecord(
        folder,
        run.spec.tasks,
        options.updates_per_task,
        lambda: run.method.model.state_dict(),
        {MANIFEST_KEY: asdict(run.spec), "facts": facts, "options": flat(options)},
        facts,
        progress,
        sheets,
        started,
        options.logger,
    )
    try:
        sources = [lambda source=source: source for source in run.train]
        settings = loop_settings(options)
        learn_tasks(run.method, sources, evaluation, record, settings, progress, state)
    except BaseException:
        record.close()
        raise
    distances = summarize_distances(progress, run.spec.tasks, options.features, options.evaluation)
    return record.finish(progress, run.method.memory_bytes, distances=distances)


def _features_and_moments(
    name: str, store: PictureStore, judge: Judge, spec: PictureSpec, device: torch.device
) -> tuple[Features, list[Moments]]:
    """Return the features of that name, and the moments of every task's test pictures in them."""
    test = store.pictures.test
    if name == "inception":
        features = inception_features(device)
        found = features_of_tests(store, features)
    else:
        features = judge.features
        parts = torch.tensor(test.pictures).split(TESTS_AT_ONCE)
        found = torch.cat([features(as_values(part)).cpu() for part in parts])
    labels = torch.tensor(test.labels)
    rows = [torch.isin(labels, torch.tensor(task)) for task in spec.classes]
    return features, [moments(found[row], labels[row]) for row in rows]


def make_run(options: ImageOptions, store: PictureStore) -> PictureRun:
    """Make the objects of a run from its options and pictures."""
    device = find_device(options.device)
    found = store.pictures
    tasks = class_tasks(found.classes, options.classes, options.classes_per_task)
    spec = PictureSpec(
        tasks=[task.label for task in tasks],
        classes=[list(task.classes) for task in tasks],
        names=found.classes,
        shape=list(found.train.pictures.shape[1:]),
        network=asdict(options.network),
        diffusion=asdict(options.diffusion),
    )
    train = [task_pictures(found.train, task, device) for task in tasks]
    for task in tasks:
        if len(found.test.of(task.classes).labels) < 2:
            raise ReconvergeError(
                f"data={options.data}: one test picture of task {task.label}, and a Frechet "
                "distance needs two; add some, or choose more classes_per_task"
            )
    torch.manual_seed(options.seed)
    precision = precision_on(device, options.optimizer.precision)
    denoiser = make_denoiser(spec, device, precision)
    return PictureRun(spec, train, _make_method(options, denoiser, train))


def _make_method(
    options: ImageOptions, denoiser: PictureDenoiser, train: Sequence[TaskPictures]
) -> Method:
    setting = Setting(
        denoiser=denoiser,
        optimizer=options.optimizer,
        replay=_make_replay(options, train),
        fisher=options.fisher,
        all_tasks=lambda: JointSource(train),
        batch_size=options.batch_size,
        tasks=len(train),
        seed=options.seed,
    )
    method: Method = options.method.build(setting)
    return method


def _make_replay(options: ImageOptions, train: Sequence[TaskPictures]) -> Replay | None:
    chosen = options.replay
    if chosen.name == "none":
        return None
    source: ReplaySource = DrawnReplay(lambda teacher, *what: teacher.generate(*what))
    if chosen.name == "demonstrations":
        budget = Budget(chosen.budget, chosen.budget_unit, options.seed)
        source = EpisodicMemory(lambda task: train[task], budget)
        budget.check([each.episode_bytes for each in train[:-1]])
    return Replay(source, chosen.batch_size, chosen.pool)


def _facts(options: ImageOptions, method: Method, store: PictureStore) -> dict[str, Any]:
    pictures = {"source": store.source, "identity": store.identity}
    facts = facts_of(options, deciding(options), method, {store.path.name: pictures})
    facts["versions"] |= {name: version(name) for name in PACKAGES}
    return facts


def read_spec(manifest: dict[str, Any], file: Path) -> PictureSpec:
    """Return the spec of a checkpoint's model; CheckpointError where it is none of pictures."""
    return PictureSpec.from_json(manifest.get(MANIFEST_KEY), file)


def load_generator(folder: Path) -> PictureDenoiser:
    """Return the model of a checkpoint, on the processor; CheckpointError where it is none."""
    found = checkpoint.load(folder)
    spec = read_spec(found.manifest, folder / checkpoint.MANIFEST)
    model = make_denoiser(spec, "cpu")
    try:
        model.load_state_dict(found.weights)
    except RuntimeError as error:
        raise checkpoint.CheckpointError(
            f"{folder}: the weights do not fit the architecture it describes ({one_line(error)})"
        ) from error
    return model.eval()


def supplied(options: ImageOptions, begun: Begun | None) -> PictureStore:
    """Return the pictures of a run; ReconvergeError where those that it began with are gone."""
    known = list(begun.facts["demonstrations"].values()) if begun is not None else []
    identity = known[0]["identity"] if known else None
    store = supply(options.data, options.size, Path(options.pictures), identity)
    if identity not in (None, store.identity):
        raise ReconvergeError(
            f"{store.path}: holds other pictures than the run began with; restore them, or begin "
            "a new run"
        )
    return store
