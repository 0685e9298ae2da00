"""The classifier that judges generated pictures, trained on the data set's own pictures.

A generated picture is a success where the classifier finds the class that it was generated of; its
features are those of the Frechet distance. It is trained once for a store and kept beside it.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from reconverge.datasets.images.labelled import LabelledPictures
from reconverge.datasets.images.picture_store import PictureStore
from reconverge.policy.continual.denoising import random_stream
from reconverge.policy.images.class_tasks import as_values
from reconverge.policy.images.kept import Made, kept_beside
from reconverge.progress import progress_bar

WIDTH, FEATURES = 16, 64
EPOCHS, LEAST, BATCH, RATE = 3, 300, 128, 3e-3  # passes, but at least so many updates
AT_ONCE = 2000


class Classifier(nn.Module):
    """Two convolutions, 64 features and a class: forward returns logits."""

    def __init__(self, channels: int, size: int, classes: int):
        super().__init__()
        self.pictures = nn.Sequential(
            nn.Conv2d(channels, WIDTH, 3, padding=1),
            nn.SiLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(WIDTH, 2 * WIDTH, 3, padding=1),
            nn.SiLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(2 * WIDTH * (size // 4) ** 2, FEATURES),
            nn.SiLU(),
        )
        self.classes = nn.Linear(FEATURES, classes)

    def forward(self, pictures: Float[Tensor, "B C H W"]) -> Float[Tensor, "B K"]:
        return self.classes(self.pictures(pictures))


@dataclass(frozen=True)
class Judge:
    """A trained classifier and its accuracy on the test pictures."""

    classifier: Classifier
    accuracy: float

    @torch.no_grad()
    def classes(self, pictures: Float[Tensor, "B C H W"]) -> Int[Tensor, " B"]:
        """Return the class that every picture is taken for."""
        parts = [self.classifier(part).argmax(1) for part in pictures.split(AT_ONCE)]
        return torch.cat(parts)

    @torch.no_grad()
    def features(self, pictures: Float[Tensor, "B C H W"]) -> Float[Tensor, "B F"]:
        """Return what the classifier's last layer sees."""
        device = self.classifier.classes.weight.device
        parts = [self.classifier.pictures(part.to(device)) for part in pictures.split(AT_ONCE)]
        return torch.cat(parts)


def judge_of(store: PictureStore, device: torch.device | str = "cpu") -> Judge:
    """Return the judge of a store, trained where it is missing or of other pictures."""
    weights, about = kept_beside(store, "judge", "model.safetensors", lambda: _make(store))
    classifier = _untrained(store)
    classifier.load_state_dict(weights)
    classifier.requires_grad_(False).eval().to(device)
    return Judge(classifier, float(about["accuracy"]))


def _untrained(store: PictureStore) -> Classifier:
    channels, size = store.pictures.test.pictures.shape[1:3]
    return Classifier(channels, size, len(store.pictures.classes))


def _make(store: PictureStore) -> Made:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        classifier = _untrained(store)
    train(classifier, store.pictures.train)
    judge = Judge(classifier.eval(), 0.0)
    test = store.pictures.test
    right = judge.classes(as_values(torch.tensor(test.pictures))) == torch.tensor(test.labels)
    return dict(classifier.state_dict()), {"accuracy": float(right.float().mean())}


def train(classifier: Classifier, found: LabelledPictures) -> None:
    """Train a classifier for whole passes over the pictures, each in a random order."""
    pictures, labels = torch.tensor(found.pictures), torch.tensor(found.labels)
    stream = random_stream(torch.device("cpu"), 0)
    in_a_pass = -(-len(labels) // BATCH)
    passes = max(EPOCHS, -(-LEAST // in_a_pass))
    batches = passes * in_a_pass
    optimizer = torch.optim.Adam(classifier.parameters(), RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, batches)
    with progress_bar("classifier that judges", "batch", batches) as bar:
        for _ in range(passes):
            for rows in torch.randperm(len(labels), generator=stream).split(BATCH):
                logits = classifier(as_values(pictures[rows]))
                loss = nn.functional.cross_entropy(logits, labels[rows])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
                bar.update()
