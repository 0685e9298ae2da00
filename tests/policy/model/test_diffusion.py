import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler

from reconverge.errors import ReconvergeError
from reconverge.policy.model.diffusion import (
    PREDICTION_TYPES,
    Diffusion,
    DiffusionOptions,
    mean_square,
)

B, L, D, C = 3, 4, 2, 5


def network(x, k, condition):
    """A fixed nonlinear denoiser that depends on every argument."""
    return torch.tanh(0.7 * x + 0.01 * k[:, None, None] + condition.mean(1)[:, None, None])


def draw(seed=0):
    generator = torch.Generator().manual_seed(seed)
    x0 = torch.rand(B, L, D, generator=generator) * 2 - 1
    noise = torch.randn(B, L, D, generator=generator)
    return x0, noise, torch.randn(B, C, generator=generator)


def make_diffusion(**options):
    return Diffusion(DiffusionOptions(**options))


def reference(kind, num_train_timesteps=100, **options):
    return kind(num_train_timesteps, beta_schedule="squaredcos_cap_v2", **options)


@pytest.mark.parametrize("num_train_timesteps", [100, 1000])
def test_add_noise_and_target_equal_diffusers(num_train_timesteps):
    x0, noise, _ = draw()
    scheduler = reference(DDPMScheduler, num_train_timesteps)
    diffusion = make_diffusion(
        num_train_timesteps=num_train_timesteps, prediction_type="v_prediction"
    )
    for k in (0, 1, num_train_timesteps // 2, num_train_timesteps - 1):
        steps = torch.full((B,), k)
        torch.testing.assert_close(
            diffusion.add_noise(x0, noise, steps), scheduler.add_noise(x0, noise, steps)
        )
        velocity = scheduler.get_velocity(x0, noise, steps)
        torch.testing.assert_close(
            diffusion.target(x0, noise, steps), velocity, rtol=1e-5, atol=1e-5
        )


@pytest.mark.parametrize("prediction_type", PREDICTION_TYPES)
@pytest.mark.parametrize("clip", [None, 1.0, 0.5])
@pytest.mark.parametrize(
    ("num_train_timesteps", "num_inference_steps"), [(100, 10), (100, 2), (1000, 50), (20, 20)]
)
def test_sample_equals_diffusers_at_every_step(
    prediction_type, clip, num_train_timesteps, num_inference_steps
):
    _, noise, condition = draw()
    scheduler = reference(
        DDIMScheduler,
        num_train_timesteps,
        clip_sample=clip is not None,
        clip_sample_range=clip or 1.0,
        prediction_type=prediction_type,
        timestep_spacing="leading",
    )
    scheduler.set_timesteps(num_inference_steps)
    diffusion = make_diffusion(
        num_train_timesteps=num_train_timesteps,
        num_inference_steps=num_inference_steps,
        prediction_type=prediction_type,
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
        # Unclipped, the estimate at the noisiest step reaches 1e3 and float32 rounding is relative
        # to that.
        torch.testing.assert_close(ours, x, rtol=2e-4, atol=2e-5 * scale)
        output = network(x, torch.full((B,), int(expected_k)), condition)
        x = scheduler.step(output, expected_k, x, eta=0.0).prev_sample
        scale = max(scale, x.abs().max().item())
    torch.testing.assert_close(sample, x, rtol=2e-4, atol=2e-5 * scale)


@pytest.mark.parametrize("prediction_type", PREDICTION_TYPES)
@pytest.mark.parametrize("num_inference_steps", [2, 7, 10])
def test_sample_recovers_a_point_with_its_true_denoiser(prediction_type, num_inference_steps):
    """For data at a single point every estimate of x_0 is that point, however few the steps."""
    x0, noise, condition = draw()
    diffusion = make_diffusion(
        prediction_type=prediction_type, num_inference_steps=num_inference_steps
    )

    def denoiser(x, k, condition):
        signal, sigma = (
            diffusion.sqrt_abar[k][:, None, None],
            diffusion.sqrt_one_minus_abar[k][:, None, None],
        )
        return diffusion.target(x0, (x - signal * x0) / sigma, k)

    torch.testing.assert_close(diffusion.sample(denoiser, noise, condition), x0, rtol=0, atol=2e-3)


@pytest.mark.parametrize("num_inference_steps", [34, 50, 51, 60])
def test_sampling_begins_in_noise_for_any_number_of_steps(num_inference_steps):
    """Samples of a normal distribution with its true denoiser have its mean and deviation."""
    mean, deviation = 0.4, 0.3
    diffusion = make_diffusion(num_inference_steps=num_inference_steps, clip=None)
    steps = torch.tensor(diffusion.inference_timesteps())
    assert (-steps.diff()).max() - (-steps.diff()).min() <= 1

    def denoiser(x, k, condition):
        signal, sigma = diffusion.sqrt_abar[k][0], diffusion.sqrt_one_minus_abar[k][0]
        share = signal * deviation**2 / (signal**2 * deviation**2 + sigma**2)
        return mean + share * (x - signal * mean)

    noise = torch.randn(20_000, 1, 1, generator=torch.Generator().manual_seed(0))
    drawn = diffusion.sample(denoiser, noise, torch.zeros(20_000, 1))
    assert abs(drawn.mean() - mean) < 0.015
    assert abs(drawn.std() - deviation) < 0.03


@pytest.mark.parametrize("prediction_type", PREDICTION_TYPES)
def test_target_is_what_the_prediction_type_names(prediction_type):
    x0, noise, _ = draw()
    k = torch.tensor([0, 50, 99])
    abar = reference(DDPMScheduler).alphas_cumprod[k].view(B, 1, 1)
    velocity = abar.sqrt() * noise - (1 - abar).sqrt() * x0
    wanted = {"epsilon": noise, "sample": x0, "v_prediction": velocity}[prediction_type]
    torch.testing.assert_close(
        make_diffusion(prediction_type=prediction_type).target(x0, noise, k),
        wanted,
        rtol=1e-4,
        atol=1e-6,
    )


def test_mean_square_is_one_number_a_sample():
    error = torch.arange(12.0).view(2, 2, 3)
    torch.testing.assert_close(mean_square(error), torch.tensor([55.0 / 6, (506.0 - 55.0) / 6]))


def test_draw_steps_is_uniform_and_follows_the_generator():
    diffusion = make_diffusion(num_train_timesteps=8, num_inference_steps=2)
    k = diffusion.draw_steps(8000, torch.Generator().manual_seed(0))
    assert torch.equal(k, diffusion.draw_steps(8000, torch.Generator().manual_seed(0)))
    counts = torch.bincount(k, minlength=8)
    assert len(counts) == 8
    assert (counts - 1000).abs().max() < 150  # five standard deviations


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"prediction_type": "noise"}, "choose one of epsilon, sample, v_prediction"),
        ({"num_train_timesteps": 1}, "diffusion.num_train_timesteps=1: must be at least 2"),
        ({"num_inference_steps": 101}, "num_inference_steps=101: choose 2 to num_train_timesteps"),
        ({"num_inference_steps": 1}, "num_inference_steps=1: must be at least 2"),
        ({"clip": 0.0}, "clip=0.0: must be above 0"),
    ],
)
def test_diffusion_refuses_bad_options(options, message):
    with pytest.raises(ReconvergeError, match=message):
        make_diffusion(**options)
