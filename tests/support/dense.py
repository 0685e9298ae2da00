"""The Fisher as one dense matrix."""

import torch


def dense_fisher(loss, params, batches):
    """Mean gradient and E[g g^T] from one backward pass a sample."""
    leaves = {name: p.clone().requires_grad_() for name, p in params.items()}
    rows = []
    for x, y in batches:
        for i in range(len(x)):
            value = loss(leaves, (x[i : i + 1], y[i : i + 1]))[0]
            gradients = torch.autograd.grad(value, list(leaves.values()))
            rows.append(torch.cat([g.flatten() for g in gradients]))
    G = torch.stack(rows)
    return G.mean(0), G.T @ G / len(G)
