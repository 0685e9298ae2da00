"""Action chunks over TCP: `python -m policy.serve checkpoint=runs/<name> env=lift`."""

from __future__ import annotations

import asyncio
import signal
from contextlib import suppress
from dataclasses import dataclass

from reconverge.configs import commandline
from reconverge.configs.store import Command
from reconverge.envs.render.sight import Sight
from reconverge.errors import ReconvergeError
from reconverge.options import option
from reconverge.policy.deployment.access import read_secret
from reconverge.policy.deployment.client import address
from reconverge.policy.deployment.contract import Contract, make_contract
from reconverge.policy.deployment.session import Latency
from reconverge.policy.deployment.sockets import Limits, listen
from reconverge.policy.runs.loading import LoadedPolicy, load_policy
from reconverge.process import leave_to_asyncio


@dataclass(frozen=True)
class ServeOptions(Limits):
    """Answer robots' processes."""

    env: list[str] = option(
        [], "the task to act on: env=lift (default: the only one of the policy)"
    )
    checkpoint: str | None = option(
        None, "folder of a run (its newest checkpoint) or of one checkpoint in it", text="path"
    )
    host: str = option(
        "127.0.0.1",
        "address to listen at; any but this machine's own (0.0.0.0: all networks) wants a secret",
        text="free",
    )
    port: int = option(
        5555,
        "TCP port to listen at (0: any that is free, which is printed)",
        at_least=0,
        at_most=65_535,
    )
    secret_file: str | None = option(
        None,
        "file of the secret that clients must give (default: the environment variable "
        "RECONVERGE_SECRET, else none)",
        text="path",
    )
    device: str = option("cpu", "device of the policy: cpu | cuda | auto", text="free")


COMMAND = Command("serve", "python -m policy.serve checkpoint=runs/<name> env=lift", ServeOptions)


def main() -> None:
    commandline.run(COMMAND, run)


def run(options: ServeOptions) -> None:
    """Serve one task until Ctrl-C or SIGTERM, then print the latency."""
    secret = read_secret(options.secret_file)
    loaded = load_policy(options.checkpoint, options.device)
    tasks = loaded.select(options.env)
    if len(tasks) > 1:
        names = ",".join(task.label for task in tasks)
        raise ReconvergeError(f"env={names}: a server acts on one task; choose one of them")
    contract = make_contract(tasks[0], loaded.policy)
    latency = Latency()
    leave_to_asyncio()
    try:
        with suppress(asyncio.CancelledError):  # SIGTERM
            asyncio.run(_serve(loaded, contract, latency, options, secret, tasks[0].sight))
    finally:
        if latency.plans:
            found = latency.summary()
            print(
                f"plans: {found['plans']}, requests refused: {found['refused']}, "
                f"latency p50 {found['p50_ms']:.1f} ms, p99 {found['p99_ms']:.1f} ms"
            )


async def _serve(
    loaded: LoadedPolicy,
    contract: Contract,
    latency: Latency,
    options: ServeOptions,
    secret: str | None,
    sight: Sight | None,
) -> None:
    def on_start(host: str, port: int) -> None:
        print(f"serving {contract.task} at {address(host, port)}; Ctrl-C ends it", flush=True)

    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    await listen(
        loaded.policy,
        contract,
        options.host,
        options.port,
        latency,
        on_start,
        options,
        secret,
        sight,
    )


if __name__ == "__main__":
    main()
