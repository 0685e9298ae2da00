"""Action chunks over a local socket: `python -m policy.serve checkpoint=runs/<name> env=lift`."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from reconverge.configs import commandline
from reconverge.configs.store import Command
from reconverge.errors import ReconvergeError
from reconverge.options import option
from reconverge.policy.deployment.contract import make_contract
from reconverge.policy.deployment.session import Latency
from reconverge.policy.deployment.sockets import listen
from reconverge.policy.runs.loading import load_policy
from reconverge.process import leave_to_asyncio


@dataclass(frozen=True)
class ServeOptions:
    """Answer a robot's process."""

    env: list[str] = option(
        [], "the task to act on: env=lift (default: the only one of the policy)"
    )
    checkpoint: str | None = option(
        None, "folder of a run (its newest checkpoint) or of one checkpoint in it", text="path"
    )
    host: str = option(
        "127.0.0.1",
        "address to listen at; 0.0.0.0 lets in all machines of the network, without a password",
        text="free",
    )
    port: int = option(
        5555,
        "TCP port to listen at (0: any that is free, which is printed)",
        at_least=0,
        at_most=65_535,
    )
    device: str = option("cpu", "device of the policy: cpu | cuda | auto", text="free")


COMMAND = Command("serve", "python -m policy.serve checkpoint=runs/<name> env=lift", ServeOptions)


def main() -> None:
    commandline.run(COMMAND, run)


def run(options: ServeOptions) -> None:
    """Serve one task until Ctrl-C, then print the latency."""
    loaded = load_policy(options.checkpoint, options.device)
    tasks = loaded.select(options.env)
    if len(tasks) > 1:
        names = ",".join(task.label for task in tasks)
        raise ReconvergeError(f"env={names}: a server acts on one task; choose one of them")
    contract = make_contract(tasks[0], loaded.policy)
    latency = Latency()

    def on_start(host: str, port: int) -> None:
        print(f"serving {contract.task} at {host}:{port}; Ctrl-C ends it", flush=True)

    leave_to_asyncio()
    try:
        asyncio.run(listen(loaded.policy, contract, options.host, options.port, latency, on_start))
    finally:
        if latency.plans:
            found = latency.summary()
            print(
                f"{found['plans']} plans, {found['refused']} requests refused, "
                f"latency p50 {found['p50_ms']:.1f} ms, p99 {found['p99_ms']:.1f} ms"
            )


if __name__ == "__main__":
    main()
