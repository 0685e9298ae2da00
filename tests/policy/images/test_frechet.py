"""The Frechet distance against scipy's root of a product, and where it is known."""

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm

from reconverge.policy.images.frechet import Moments, frechet_distance, moments


def features(seed, n=40, size=5):
    generator = torch.Generator().manual_seed(seed)
    mix = torch.randn(size, size, generator=generator)
    return torch.randn(n, size, generator=generator) @ mix + seed


def test_distance_is_that_of_its_formula():
    first, second = features(1).numpy(), features(2).numpy()
    mean = np.square(first.mean(0) - second.mean(0)).sum()
    a, b = np.cov(first.T), np.cov(second.T)
    expected = mean + np.trace(a + b - 2 * sqrtm(a @ b).real)
    found = frechet_distance(moments(features(1)), moments(features(2)))
    assert found == pytest.approx(expected, rel=1e-5)


def test_distance_of_normals_on_a_line():
    """(m - m')^2 + (s - s')^2."""
    first = Moments(torch.zeros(1).double(), torch.full((1, 1), 2.0).double())
    second = Moments(torch.full((1,), 3.0).double(), torch.full((1, 1), 1.0).double())
    assert frechet_distance(first, second) == pytest.approx(9 + 1)


def test_distance_of_fewer_pictures_than_features():
    first, second = features(1, n=4), features(2, n=40)
    a, b = np.cov(first.numpy().T), np.cov(second.numpy().T)
    mean = float((first.mean(0) - second.mean(0)).square().sum())
    expected = mean + np.trace(a + b) - 2 * np.sqrt(np.linalg.eigvals(a @ b).real.clip(0)).sum()
    assert moments(first).root.shape == (4, 5)
    assert frechet_distance(moments(first), moments(second)) == pytest.approx(expected, rel=1e-5)


def test_distance_of_the_same_is_zero_also_where_a_feature_never_changes():
    flat = torch.cat([features(1), torch.ones(40, 2)], dim=1)
    assert frechet_distance(moments(flat), moments(flat)) == pytest.approx(0, abs=1e-6)


def test_every_class_counts_the_same_in_moments_with_labels():
    values, labels = features(1), torch.tensor([0] * 36 + [1] * 4)
    found = moments(values, labels)
    means = [values[labels == label].double().mean(0) for label in (0, 1)]
    torch.testing.assert_close(found.mean, (means[0] + means[1]) / 2)
    weights = np.array([1 / 36] * 36 + [1 / 4] * 4)
    covariance = np.cov(values.double().numpy().T, aweights=weights, ddof=0) * 40 / 39
    np.testing.assert_allclose((found.root.T @ found.root).numpy(), covariance, rtol=1e-9)


def test_labels_of_equally_large_classes_change_nothing():
    labels = torch.arange(40) % 4
    first, second = moments(features(1)), moments(features(1), labels)
    assert frechet_distance(first, second) == pytest.approx(0, abs=1e-6)
