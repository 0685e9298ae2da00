"""The quadratic form of a Kronecker-factored Fisher: (W - W*) in the eigenbases of every layer.

F is block-diagonal, G (x) A for the weights [W | b] of a layer, with A = U_A diag(a) U_A^T and
G = U_G diag(g) U_G^T. In the eigenbases, E = U_G^T (W - W*) U_A, a layer's value is
sum (g a^T) E^2, so that proximal step and projection are divisions of every entry: four small
products a layer, no P x P matrix. Martens, Grosse 2015, arXiv 1503.05671.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from reconverge.policy.continual.quadratic import INSIDE, least_step


@dataclass(frozen=True)
class Block:
    """Where [W | b] of a layer lies in the parameter vector; `bias` is None for a layer without."""

    weight: int  # first entry
    bias: int | None
    rows: int  # O
    columns: int  # I, without the bias

    def matrix(self, theta: Float[Tensor, P]) -> Float[Tensor, "O J"]:
        """Copy [W | b] out of the parameter vector."""
        size = self.rows * self.columns
        W = theta[self.weight : self.weight + size].view(self.rows, self.columns)
        if self.bias is None:
            return W.clone()
        return torch.cat([W, theta[self.bias : self.bias + self.rows, None]], dim=1)

    def write(self, theta: Float[Tensor, P], matrix: Float[Tensor, "O J"]) -> None:
        """Copy [W | b] into the parameter vector."""
        size = self.rows * self.columns
        theta[self.weight : self.weight + size] = matrix[:, : self.columns].reshape(-1)
        if self.bias is not None:
            theta[self.bias : self.bias + self.rows] = matrix[:, -1]


@dataclass(frozen=True)
class Factors:
    """One layer's Fisher in eigenbases, around `centre`; what they do not span is left free."""

    block: Block
    centre: Float[Tensor, "O J"]
    U_A: Float[Tensor, "J q"]
    U_G: Float[Tensor, "O p"]
    curvatures: Float[Tensor, "p q"]  # g a^T, or second moments of gradients in the eigenbases

    def displacement(self, theta: Float[Tensor, P]) -> Float[Tensor, "p q"]:
        """Return E = U_G^T (W - W*) U_A."""
        return self.U_G.T @ ((self.block.matrix(theta) - self.centre) @ self.U_A)

    def move(self, theta: Float[Tensor, P], E: Float[Tensor, "p q"]) -> None:
        """Add U_G E U_A^T to W in the parameter vector."""
        self.block.write(theta, self.block.matrix(theta) + (self.U_G @ E) @ self.U_A.T)

    def scaled(self, factor: float) -> Factors:
        """Return the same Fisher times a factor."""
        return replace(self, curvatures=factor * self.curvatures)

    def around(self, theta: Float[Tensor, P]) -> Factors:
        """Return the same Fisher around theta."""
        return Factors(self.block, self.block.matrix(theta), self.U_A, self.U_G, self.curvatures)


@dataclass(frozen=True)
class Kronecker:
    """One past task, or a mixture of several."""

    layers: tuple[Factors, ...]


class KroneckerForm:
    """sum_i (theta - theta*_i)^T F_i (theta - theta*_i), every F_i Kronecker-factored by layer.

    A sum of Kronecker products is none: with several past tasks a proximal step is taken towards
    each in turn, which is exact for one and leans to the last where a step is long. `project` is
    for one alone.
    """

    def __init__(self) -> None:
        self.anchors: list[Kronecker] = []

    def __len__(self) -> int:
        return len(self.anchors)

    def add(self, anchor: Kronecker) -> None:
        """Hold one more past task."""
        self.anchors.append(anchor)

    def _layers(self) -> list[Factors]:
        """Return the layers of all past tasks, in the order of the tasks."""
        return [layer for anchor in self.anchors for layer in anchor.layers]

    def scale(self, factor: float) -> None:
        """Multiply the form by a factor."""
        self.anchors = [
            Kronecker(tuple(layer.scaled(factor) for layer in anchor.layers))
            for anchor in self.anchors
        ]

    def recentre(self, theta: Float[Tensor, P]) -> None:
        """Take theta for the optimum of every past task."""
        at = theta.detach()
        self.anchors = [
            Kronecker(tuple(layer.around(at) for layer in anchor.layers)) for anchor in self.anchors
        ]

    def value(self, theta: Float[Tensor, P]) -> float:
        """Return the form at theta."""
        at = theta.detach()
        return _value((layer.curvatures, layer.displacement(at)) for layer in self._layers())

    def gradient(self, theta: Float[Tensor, P]) -> Float[Tensor, P]:
        """Return 2 sum_i F_i (theta - theta*_i)."""
        at, total = theta.detach(), torch.zeros_like(theta)
        for layer in self._layers():
            layer.move(total, 2.0 * layer.curvatures * layer.displacement(at))
        return total

    @torch.no_grad()
    def shrink(self, theta: Float[Tensor, P], step: float) -> float:
        """theta <- argmin_x |x - theta|^2 + step value(x), in place; return the value there.

        With several past tasks: towards each in turn, and the sum of the values found on the way.
        """
        found = []
        for layer in self._layers():
            before = layer.displacement(theta)
            E = before / (1.0 + step * layer.curvatures)
            found.append((layer.curvatures, E))
            layer.move(theta, E - before)
        return _value(found)

    @torch.no_grad()
    def project(self, theta: Float[Tensor, P], radius: float) -> float:
        """theta <- the nearest x with value(x) <= radius, in place; return the value there.

        By the one unknown of the dual, as in the other forms (eq. 6 of arXiv 2602.02417).
        """
        assert len(self.anchors) <= 1, "a TrustRegion with a radius holds one mixture"
        found = [(layer, layer.displacement(theta)) for layer in self._layers()]
        now = _value((layer.curvatures, E) for layer, E in found)
        if now <= radius:
            return now
        curvatures, way = self.spectrum(), torch.cat([E.flatten() for _, E in found])

        def value(step: float) -> float:
            return _value([(curvatures, way / (1.0 + step * curvatures))])

        step = least_step(value, INSIDE * radius)
        for layer, E in found:
            layer.move(theta, E / (1.0 + step * layer.curvatures) - E)
        return self.value(theta)

    def spectrum(self) -> Float[Tensor, " n"]:
        """Return the curvatures of all layers, the eigenvalues where there is one past task."""
        found = [layer.curvatures.flatten() for layer in self._layers()]
        return torch.cat(found) if found else torch.zeros(0)

    def state_dict(self) -> dict[str, Tensor]:
        """Return the anchors as tensors; empty without any."""
        state = {}
        for i, anchor in enumerate(self.anchors):
            for j, layer in enumerate(anchor.layers):
                block = layer.block
                bias = -1 if block.bias is None else block.bias
                state[f"{i}.{j}.block"] = torch.tensor(
                    [block.weight, bias, block.rows, block.columns]
                )
                for name in ("centre", "U_A", "U_G", "curvatures"):
                    state[f"{i}.{j}.{name}"] = getattr(layer, name)
        return state

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Take the anchors that `state_dict` returned in place of those held."""
        layers: dict[int, list[Factors]] = {}
        keys = {tuple(map(int, name.split(".")[:2])) for name in state}
        for i, j in sorted(keys):
            weight, bias, rows, columns = state[f"{i}.{j}.block"].tolist()
            block = Block(weight, None if bias < 0 else bias, rows, columns)
            names = ("centre", "U_A", "U_G", "curvatures")
            layers.setdefault(i, []).append(
                Factors(block, *(state[f"{i}.{j}.{name}"] for name in names))
            )
        self.anchors = [Kronecker(tuple(layers[i])) for i in sorted(layers)]


def _value(layers: Iterable[tuple[Tensor, Tensor]]) -> float:
    """Return the sum over layers of curvatures times squares: one transfer from a GPU."""
    found = [(curvatures * E * E).sum() for curvatures, E in layers]
    return float(torch.stack(found).sum()) if found else 0.0
