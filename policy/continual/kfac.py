"""Kronecker factors of the Fisher of every linear and convolutional layer, by hooks.

For a linear layer y = W [x; 1], F = E[(g g^T) (x) (a a^T)], a = [x; 1] and g the gradient of one
sample's loss at y; K-FAC takes E[g g^T] (x) E[a a^T] (Martens, Grosse 2015, arXiv 1503.05671). Of
a convolution, a are the patches that it sees, summed over positions, and g g^T is a mean over
positions (Grosse, Martens 2016, arXiv 1602.01407). Against forgetting: Ritter, Botev, Barber 2018,
arXiv 1805.07810. Scales of norms have no factors: they are left free.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from reconverge.errors import ReconvergeError
from reconverge.options import option
from reconverge.policy.continual.kronecker import Block, Factors, Kronecker, KroneckerForm
from reconverge.policy.continual.parameter_vector import concatenate

TARGETS = ("demonstrations", "policy")
SAMPLES_MEANING = "windows from which the Fisher is estimated, in batches of 512"
TARGETS_MEANING = (
    "policy: the policy's own predictions plus noise, the proper Fisher | demonstrations: the "
    "data's actions, the empirical Fisher (Kunstner et al. 2019, arXiv 1905.12558)"
)
ROUNDING = 1e-7  # of sums in float32, relative to the largest curvature of a layer
Layer = nn.Linear | nn.Conv1d | nn.Conv2d | nn.ConvTranspose1d


@dataclass
class _Moments:
    """Sums over the samples met so far: of a batch in its own precision, of batches in float64."""

    A: Tensor | float = 0.0
    G: Tensor | float = 0.0


@dataclass(frozen=True)
class Kfac:
    """Kronecker factors of every layer (Martens, Grosse 2015, arXiv 1503.05671)."""

    name: str = "kfac"
    samples: int = option(8192, SAMPLES_MEANING, at_least=1)
    targets: str = option("policy", TARGETS_MEANING, choices=TARGETS)
    corrected: bool = option(
        False,
        "true: use second moments of the gradients in the eigenbases, not products of "
        "eigenvalues (EKFAC, George et al. 2018, arXiv 1806.03884)",
    )

    def estimate(
        self, per_sample_loss: Any, params: Mapping[str, Tensor], batches: Sequence[tuple]
    ) -> Kronecker:
        """Return the anchor at theta* = params; the loss tells its `network`."""
        network = per_sample_loss.network
        layers = {name: m for name, m in network.named_modules() if isinstance(m, Layer)}
        moments = {name: _Moments() for name in layers}
        count = _visit(per_sample_loss, params, batches, layers, _add_moments(moments))
        # What is done with is dropped layer by layer: of a wide network all of it takes gigabytes.
        bases = {name: _eigenbases(moments.pop(name), count) for name in layers}
        corrected: dict[str, Tensor | float] = dict.fromkeys(layers, 0.0)
        if self.corrected:
            _visit(per_sample_loss, params, batches, layers, _add_corrected(corrected, bases))
        theta, starts = concatenate(params), _starts(params)
        found = []
        for name, layer in layers.items():
            U_A, a, U_G, g = bases.pop(name)
            curvatures = torch.outer(g, a)
            if self.corrected:
                curvatures = torch.as_tensor(corrected.pop(name)) / count
            block = _block(name, layer, starts)
            rounded = [part.to(theta) for part in _felt(U_A, U_G, curvatures)]
            found.append(Factors(block, block.matrix(theta), *rounded))
        return Kronecker(tuple(found))

    def form(self) -> KroneckerForm:
        return KroneckerForm()


Accumulate = Callable[[str, Tensor, Tensor], None]
"""accumulate(layer, a [B, T, J], g [B, T, O]): inputs and gradients of all positions"""


def _visit(
    per_sample_loss: Any,
    params: Mapping[str, Tensor],
    batches: Sequence[tuple],
    layers: Mapping[str, Layer],
    accumulate: Accumulate,
) -> int:
    """Show the inputs and output gradients of every layer and batch; return the samples met.

    What a layer is shown of a sample in several rows, one after another, counts as positions.
    """
    samples = 0

    def by_sample(name: str, a: Tensor, g: Tensor) -> None:
        a, g = (rows.unflatten(0, (samples, -1)).flatten(1, 2) for rows in (a, g))
        accumulate(name, a, g)

    hooks = [layer.register_forward_hook(_show(name, by_sample)) for name, layer in layers.items()]
    leaves = {name: p.detach().clone().requires_grad_() for name, p in params.items()}
    count = 0
    try:
        for batch in batches:
            samples = len(batch[0])
            with torch.enable_grad():
                losses = per_sample_loss(leaves, batch)
                torch.autograd.grad(losses.sum(), list(leaves.values()), allow_unused=True)
            count += len(losses)
    finally:
        for hook in hooks:
            hook.remove()
    return count


def _show(name: str, accumulate: Accumulate) -> Callable[[Any, tuple, Tensor], None]:
    """Return a forward hook that shows a layer's input when its output's gradient is known."""

    def forward(layer: Layer, inputs: tuple, output: Tensor) -> None:
        x = inputs[0].detach()

        def backward(gradient: Tensor) -> None:
            accumulate(name, *_positions(layer, x, gradient.detach()))

        output.register_hook(backward)

    return forward


def _positions(layer: Layer, x: Tensor, gradient: Tensor) -> tuple[Tensor, Tensor]:
    """Return a [B, T, J] and g [B, T, O], such that the gradient of [W | b] is sum_t g_t a_t^T.

    Of a transposed convolution the roles are exchanged, as its weights are, and the bias is left
    out: a are patches of the output's gradient, g are inputs.
    """
    if isinstance(layer, nn.Linear):
        a, g = x.reshape(len(x), -1, x.shape[-1]), gradient.reshape(len(x), -1, gradient.shape[-1])
    elif isinstance(layer, nn.ConvTranspose1d):
        return _patches(layer, gradient, x.shape[2:]), x.transpose(1, 2)
    else:
        a, g = _patches(layer, x, gradient.shape[2:]), gradient.flatten(2).transpose(1, 2)
    if layer.bias is None:
        return a, g
    return torch.cat([a, torch.ones_like(a[..., :1])], dim=-1), g


def _patches(
    layer: Any, x: Float[Tensor, "B C *L"], positions: Sequence[int]
) -> Float[Tensor, "B T J"]:
    """Return what the kernel sees at every position, [C * kernel] in the order of the weights."""
    n = len(positions)
    windows = nn.functional.pad(x, [side for p in reversed(layer.padding) for side in (p, p)])
    for i, count in enumerate(positions):
        windows = windows.unfold(2 + i, layer.kernel_size[i], layer.stride[i])
        windows = windows.narrow(2 + i, 0, count)
    return windows.movedim(1, 1 + n).flatten(1 + n).flatten(1, n)


def _add_moments(moments: dict[str, _Moments]) -> Accumulate:
    def accumulate(name: str, a: Tensor, g: Tensor) -> None:
        kept = moments[name]
        a, g, positions = a.flatten(0, 1), g.flatten(0, 1), a.shape[1]
        kept.A += (a.T @ a).double()
        kept.G += (g.T @ g).double() / positions

    return accumulate


def _add_corrected(sums: dict[str, Tensor | float], bases: Mapping[str, tuple]) -> Accumulate:
    def accumulate(name: str, a: Tensor, g: Tensor) -> None:
        U_A, _, U_G, _ = bases[name]
        each = torch.einsum("bto,bti->boi", g @ U_G.to(g), a @ U_A.to(a))
        sums[name] += each.square().sum(0).double()

    return accumulate


def _eigenbases(moments: _Moments, count: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return U_A, a, U_G, g of the mean factors, eigenvalues at least 0."""
    A, G = torch.as_tensor(moments.A) / count, torch.as_tensor(moments.G) / count
    if not (A.ndim == 2 and torch.isfinite(A).all() and torch.isfinite(G).all()):
        raise ReconvergeError("the gradients are not finite: check the loss and the parameters")
    a, U_A = torch.linalg.eigh(A)
    g, U_G = torch.linalg.eigh(G)
    return U_A, a.clamp(min=0.0), U_G, g.clamp(min=0.0)


def _felt(U_A: Tensor, U_G: Tensor, curvatures: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Leave out directions without a curvature above rounding: inputs that are always zero, say."""
    floor = ROUNDING * float(curvatures.max())
    rows, columns = curvatures.amax(1) > floor, curvatures.amax(0) > floor
    return U_A[:, columns], U_G[:, rows], curvatures[rows][:, columns]


def _starts(params: Mapping[str, Tensor]) -> dict[str, int]:
    """Return where every parameter begins in the vector."""
    starts, start = {}, 0
    for name, p in params.items():
        starts[name] = start
        start += p.numel()
    return starts


def _block(name: str, layer: Layer, starts: Mapping[str, int]) -> Block:
    prefix = f"{name}." if name else ""
    weight = layer.weight
    transposed = isinstance(layer, nn.ConvTranspose1d)
    rows, columns = weight.shape[0], weight[0].numel()
    bias = None if layer.bias is None or transposed else starts[f"{prefix}bias"]
    return Block(starts[f"{prefix}weight"], bias, rows, columns)
