"""Every option of learning to generate pictures."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from reconverge.configs.store import Command
from reconverge.datasets.images.supplied import DATA, is_folder
from reconverge.options import option
from reconverge.paths import expanded
from reconverge.policy.continual.fisher import FISHERS
from reconverge.policy.continual.kfac import Kfac
from reconverge.policy.continual.methods import METHODS
from reconverge.policy.continual.optimization import OptimizerOptions
from reconverge.policy.images.unet2d import UNETS
from reconverge.policy.model.diffusion import DiffusionOptions
from reconverge.policy.runs.configuration import (
    LARGEST_BATCH,
    LARGEST_POOL,
    TRAIN,
    DemonstrationReplayOptions,
    EvaluationOptions,
    NoReplayOptions,
    RunOptions,
)
from reconverge.policy.runs.folder import OPTIONS_FILE
from reconverge.schema import read_text


@dataclass(frozen=True)
class ModelReplayOptions:
    """The frozen previous model's own pictures: nothing is kept of earlier tasks."""

    name: str = "model"
    batch_size: int = option(
        64, "replayed pictures of each update", at_least=1, at_most=LARGEST_BATCH
    )
    pool: int = option(
        1000,
        "pictures generated of each earlier task when a task begins",
        at_least=1,
        at_most=LARGEST_POOL,
    )


@dataclass(frozen=True)
class PictureKfac(Kfac):
    """Kronecker factors of every layer, from few pictures: each has many positions."""

    samples: int = option(1024, "pictures from which the Fisher is estimated", at_least=1)


FEATURES = ("classifier", "inception")
PICTURE_REPLAYS: dict[str, type] = {
    "model": ModelReplayOptions,
    "demonstrations": DemonstrationReplayOptions,
    "none": NoReplayOptions,
}


@dataclass(frozen=True)
class ImageOptions(RunOptions):
    """Learn to generate pictures, some classes after others."""

    data: str = option(
        "fashion_mnist",
        f"{' | '.join(DATA)} | a folder of class folders of PNG or JPEG files, or one with train/ "
        "and test/ of them",
        text="free",
    )
    classes_per_task: int = option(2, "classes that are learned together", at_least=1)
    classes: list[str] = option(
        [],
        "the classes in the order of learning ([]: all, in the order of the data set)",
        text="free",
    )
    size: int = option(
        16,
        "pixels of a picture on each side: larger ones are shrunk, smaller ones framed black",
        at_least=8,
        at_most=256,
    )
    pictures: str = option(
        "pictures",
        "folder of the stores <data>_<size>.zarr, which are made where they are missing",
        text="path",
    )
    updates_per_task: int = option(1000, "gradient updates on each task", at_least=1)
    batch_size: int = option(
        64, "pictures of the current task in each update", at_least=1, at_most=LARGEST_BATCH
    )
    diffusion: DiffusionOptions = option(
        DiffusionOptions(
            num_train_timesteps=1000, num_inference_steps=10, prediction_type="v_prediction"
        ),
        "the diffusion process of pictures",
    )
    optimizer: OptimizerOptions = option(
        OptimizerOptions(learning_rate=1e-3), "the model's optimiser, AdamW"
    )
    evaluation: EvaluationOptions = option(
        EvaluationOptions(n_rollouts=500, probe_rollouts=100, slots=500),
        "how generated pictures are judged; an episode is a picture",
    )
    features: str = option(
        "classifier",
        "of the Frechet distance: classifier: of the one that judges | inception: FID; "
        "pip install -e '.[fid]'",
        choices=FEATURES,
    )
    report: bool = option(True, "true: end with report.html, a page with everything about the run")


IMAGES_GROUPS: dict[str, Mapping[str, type]] = {
    "method": METHODS,
    "network": UNETS,
    "replay": PICTURE_REPLAYS,
    "fisher": FISHERS | {"kfac": PictureKfac},
}

IMAGES = Command(
    name="images",
    usage="python -m tools.images data=fashion_mnist",
    options=ImageOptions,
    groups=IMAGES_GROUPS,
    chosen={"method": "trust_region", "network": "unet2d", "replay": "model", "fisher": "kfac"},
    hydra=TRAIN.hydra,
    free_in_a_sweep=TRAIN.free_in_a_sweep,
)


def absolute_data(options: ImageOptions) -> ImageOptions:
    """Return the options with a folder of pictures that holds from any directory."""
    data = expanded(options.data)
    return replace(options, data=str(Path(data).absolute()) if is_folder(data) else options.data)


def generates_pictures(run: Path) -> bool:
    """Whether the options that the run in a folder recorded are these."""
    file = run / OPTIONS_FILE
    return file.exists() and re.search("^pictures:", read_text(file), re.MULTILINE) is not None


def deciding(options: ImageOptions) -> dict[str, Any]:
    """Return the options that decide the result beside the seed, as JSON for summary.json."""
    groups = (*IMAGES_GROUPS, "diffusion", "optimizer")
    decided = {name: asdict(getattr(options, name)) for name in groups}
    single = ("data", "classes_per_task", "classes", "size", "features", "batch_size")
    return decided | {name: getattr(options, name) for name in single}
