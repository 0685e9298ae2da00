import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler

from policy.diffusion import Diffusion, mean_square

B, L, D, C = 3, 4, 2, 5
SCHEDULE = {"squared_cosine": "squaredcos_cap_v2", "linear": "linear"}
PREDICTION = {"epsilon": "epsilon", "sample": "sample", "velocity": "v_prediction"}


def network(x, k, condition):
    """A fixed nonlinear denoiser that depends on every argument."""
    return torch.tanh(0.7 * x + 0.01 * k[:, None, None] + condition.mean(1)[:, None, None])


def draw(seed=0):
    generator = torch.Generator().manual_seed(seed)
    x0 = torch.rand(B, L, D, generator=generator) * 2 - 1
    noise = torch.randn(B, L, D, generator=generator)
    return x0, noise, torch.randn(B, C, generator=generator)


def reference(kind, schedule="squared_cosine", train_steps=100, **options):
    ours = "squaredcos_cap_v2" if schedule == "squared_cosine" else "linear"
    scale = 1000 / train_steps
    return kind(train_steps, 1e-4 * scale, 0.02 * scale, ours, **options)


@pytest.mark.parametrize("schedule", SCHEDULE)
@pytest.mark.parametrize("train_steps", [100, 1000])
def test_add_noise_and_velocity_equal_diffusers(schedule, train_steps):
    x0, noise, _ = draw()
    scheduler = reference(DDPMScheduler, schedule, train_steps)
    diffusion = Diffusion(train_steps=train_steps, schedule=schedule, prediction="velocity")
    for k in (0, 1, train_steps // 2, train_steps - 1):
        steps = torch.full((B,), k)
        torch.testing.assert_close(diffusion.add_noise(x0, noise, steps), scheduler.add_noise(x0, noise, steps))
        velocity = scheduler.get_velocity(x0, noise, steps)
        torch.testing.assert_close(diffusion.target(x0, noise, steps), velocity, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("prediction", PREDICTION)
@pytest.mark.parametrize("spacing", ["leading", "trailing"])
@pytest.mark.parametrize("clip", [None, 1.0, 0.5])
@pytest.mark.parametrize(("train_steps", "inference_steps"), [(100, 10), (100, 1), (1000, 50), (20, 20)])
def test_every_sampling_step_equals_diffusers(prediction, spacing, clip, train_steps, inference_steps):
    _, noise, condition = draw()
    scheduler = reference(
        DDIMScheduler,
        train_steps=train_steps,
        clip_sample=clip is not None,
        clip_sample_range=clip or 1.0,
        prediction_type=PREDICTION[prediction],
        timestep_spacing=spacing,
    )
    scheduler.set_timesteps(inference_steps)
    diffusion = Diffusion(
        train_steps=train_steps,
        inference_steps=inference_steps,
        prediction=prediction,
        spacing=spacing,
        clip=clip,
    )
    seen = []

    def recording(x, k, condition):
        seen.append((x, k))
        return network(x, k, condition)

    sample = diffusion.sample(recording, noise, condition)
    x = noise
    scale = 1.0
    for (ours, k), expected_k in zip(seen, scheduler.timesteps, strict=True):
        assert (k == expected_k).all()
        # Unclipped, the estimate at the noisiest step reaches 1e3 and float32 rounding is relative to that.
        torch.testing.assert_close(ours, x, rtol=2e-4, atol=2e-5 * scale)
        output = network(x, torch.full((B,), int(expected_k)), condition)
        x = scheduler.step(output, expected_k, x, eta=0.0).prev_sample
        scale = max(scale, x.abs().max().item())
    torch.testing.assert_close(sample, x, rtol=2e-4, atol=2e-5 * scale)


@pytest.mark.parametrize("prediction", PREDICTION)
@pytest.mark.parametrize("inference_steps", [1, 7, 10])
def test_sampling_with_the_true_denoiser_recovers_a_point(prediction, inference_steps):
    """For data at a single point every estimate of x_0 is that point, however few the steps."""
    x0, noise, condition = draw()
    diffusion = Diffusion(prediction=prediction, inference_steps=inference_steps, spacing="trailing")

    def denoiser(x, k, condition):
        signal, sigma = diffusion.sqrt_abar[k][:, None, None], diffusion.sqrt_one_minus_abar[k][:, None, None]
        return diffusion.target(x0, (x - signal * x0) / sigma, k)

    torch.testing.assert_close(diffusion.sample(denoiser, noise, condition), x0, rtol=0, atol=2e-3)


@pytest.mark.parametrize("prediction", PREDICTION)
def test_the_target_is_what_the_prediction_names(prediction):
    x0, noise, _ = draw()
    k = torch.tensor([0, 50, 99])
    abar = reference(DDPMScheduler).alphas_cumprod[k].view(B, 1, 1)
    velocity = abar.sqrt() * noise - (1 - abar).sqrt() * x0
    wanted = {"epsilon": noise, "sample": x0, "velocity": velocity}[prediction]
    torch.testing.assert_close(Diffusion(prediction=prediction).target(x0, noise, k), wanted, rtol=1e-4, atol=1e-6)


def test_mean_square_is_of_every_sample():
    error = torch.arange(12.0).view(2, 2, 3)
    torch.testing.assert_close(mean_square(error), torch.tensor([55.0 / 6, (506.0 - 55.0) / 6]))


def test_drawn_steps_are_uniform_and_follow_the_generator():
    diffusion = Diffusion(train_steps=8, inference_steps=1)
    k = diffusion.draw_steps(8000, torch.Generator().manual_seed(0))
    assert torch.equal(k, diffusion.draw_steps(8000, torch.Generator().manual_seed(0)))
    counts = torch.bincount(k, minlength=8)
    assert len(counts) == 8
    assert (counts - 1000).abs().max() < 150  # five standard deviations


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"schedule": "squared_cosin"}, "did you mean 'squared_cosine'"),
        ({"prediction": "noise"}, "epsilon, sample, velocity"),
        ({"spacing": "linspace"}, "leading, trailing"),
        ({"train_steps": 0}, "train_steps=0"),
        ({"inference_steps": 101}, "1 to train_steps=100"),
        ({"inference_steps": 0}, "inference_steps=0"),
        ({"clip": 0.0}, "clip=0.0"),
    ],
)
def test_bad_options_name_the_legal_ones(options, message):
    with pytest.raises(ValueError, match=message):
        Diffusion(**options)
