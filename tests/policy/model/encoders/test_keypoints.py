import torch

from reconverge.policy.model.encoders.keypoints import keypoints, standardised


def test_a_channel_is_where_it_responds():
    features = torch.zeros(1, 2, 9, 9)
    features[0, 0, 0, 4] = features[0, 1, 8, 0] = 1.0  # above the middle; bottom left
    vertical, horizontal = keypoints(standardised(features))[0].unflatten(0, (2, 2))
    assert vertical[0] < -0.9
    assert abs(horizontal[0]) < 1e-6
    assert vertical[1] > 0.9
    assert horizontal[1] < -0.9


def test_a_flat_channel_is_in_the_middle():
    torch.testing.assert_close(
        keypoints(standardised(torch.full((1, 3, 5, 7), 2.5))), torch.zeros(1, 6)
    )


def test_scale_and_offset_of_a_channel_do_not_count():
    features = torch.randn(2, 4, 6, 6, generator=torch.Generator().manual_seed(0))
    places, again = (keypoints(standardised(each)) for each in (features, 50 * features - 3))
    torch.testing.assert_close(places, again, atol=1e-2, rtol=0)
