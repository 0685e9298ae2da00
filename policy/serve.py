"""Action chunks over a local socket: `python -m policy.serve checkpoint=runs/<name> env=lift`."""

from __future__ import annotations

import asyncio

from omegaconf import DictConfig

from configs import commandline
from envs.tasks import task_sequence
from policy.choices import unknown
from policy.loading import find_checkpoint, load_policy, tasks_of
from policy.server import Latency, serve
from tools.contract import task_contract


def main() -> None:
    commandline.run("serve", run)


def run(config: DictConfig) -> None:
    """Serve one task until Ctrl-C, then print the latency."""
    if config.checkpoint is None:
        raise ValueError("checkpoint= is missing; give runs/<name> or a folder in its checkpoints/")
    if not 0 <= config.port <= 65_535:
        raise ValueError(f"port={config.port}: must be 1 to 65535, or 0 for any that is free")
    checkpoint = find_checkpoint(config.checkpoint)
    policy, spec = load_policy(checkpoint, config.device)
    known = tasks_of(checkpoint, spec)
    tasks = task_sequence(list(config.env) or known)
    if len(tasks) > 1:
        raise ValueError(f"env={','.join(task.name for task in tasks)}: a server acts on one task; choose one of them")
    label = tasks[0].label
    if label not in known:
        raise unknown("task of this checkpoint", label, known)
    contract = task_contract(tasks[0], policy, spec.tasks.index(label), spec.input_frame(label))
    latency = Latency()

    def started(host: str, port: int) -> None:
        print(f"serving {label} at {host}:{port}; Ctrl-C ends it", flush=True)

    try:
        asyncio.run(serve(policy, contract, config.host, config.port, latency, started))
    finally:
        if latency.plans:
            found = latency.summary()
            print(
                f"{found['plans']} plans, {found['refused']} requests refused, "
                f"latency p50 {found['p50_ms']:.1f} ms, p99 {found['p99_ms']:.1f} ms"
            )


if __name__ == "__main__":
    main()
