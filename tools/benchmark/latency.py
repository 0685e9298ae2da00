"""Latency of one observation: torch and the ONNX sampler in turns, then the served policy, to one
client and to one beside another that sends requests as fast as it can.

python -m tools.benchmark.latency [option=value ...]      (options of policy.train)
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from reconverge.configs import commandline
from reconverge.envs.catalog import task_sequence
from reconverge.envs.workers import available_cores
from reconverge.errors import ReconvergeError
from reconverge.policy.deployment.client import PolicyClient, encode
from reconverge.policy.deployment.onnx import (
    SAMPLER,
    check_export,
    example_sampler,
    export_denoiser,
    export_sampler,
    open_session,
)
from reconverge.policy.model.policy import DiffusionPolicy
from reconverge.policy.runs.build import make_spec
from reconverge.policy.runs.checkpoint import Checkpoint, save
from reconverge.policy.runs.configuration import TRAIN, TrainOptions
from reconverge.policy.runs.loading import make_normalizer, make_policy
from reconverge.tools.benchmark.origin import origin, publish

ROUNDS, CALLS, WARM = 20, 25, 2
"""Rounds of torch and ONNX in turn, calls of each in a round, and first rounds left out."""

REQUESTS = 500
"""Of the client, alone and beside a flood."""


PATIENCE = 60
"""Seconds that a flood may take to begin."""

FLOOD = """
import socket, sys, threading

port, first, message = int(sys.argv[1]), *map(bytes.fromhex, sys.argv[2:])
with socket.create_connection(("127.0.0.1", port)) as connection:
    read = lambda: all(iter(lambda: connection.recv(65_536), b""))
    threading.Thread(target=read, daemon=True).start()
    connection.sendall(first)
    while True:
        connection.sendall(message * 100)
"""
"""Sends one episode's requests without end, ahead of the replies, which are not looked at."""


def main() -> None:
    usage = "python -m tools.benchmark.latency env=lift"
    commandline.run(replace(TRAIN, usage=usage), run, "hydra.run.dir=.")


def run(options: TrainOptions) -> None:
    """Time a policy with fresh weights on all cores; print one JSON line of milliseconds."""
    cores = available_cores()
    torch.set_num_threads(cores)
    tasks = task_sequence(options.env)
    torch.manual_seed(options.seed)
    spec = make_spec(options, tasks)
    policy = make_policy(spec, make_normalizer(spec, tasks)).eval()
    with tempfile.TemporaryDirectory() as folder:
        export_denoiser(policy, Path(folder) / "denoiser.onnx")
        export_sampler(policy, Path(folder) / "sampler.onnx")
        result = compare(policy, Path(folder), cores)
        manifest = {"policy": spec.to_json()}
        checkpoint = save(
            Path(folder), 0, tasks[0].name, None, Checkpoint(policy.state_dict(), {}, manifest)
        )
        result |= through_socket(checkpoint, tasks[0].name)
    result["parameters"] = sum(p.numel() for p in policy.network.parameters())
    publish({**result, "cores": cores, **origin(["torch", "onnxruntime"], "cpu")})


def compare(policy: DiffusionPolicy, folder: Path, cores: int) -> dict[str, object]:
    """Time torch and ONNX in turns, in one process."""
    error = check_export(policy, folder)
    session = open_session(folder / "sampler.onnx", cores)
    inputs = example_sampler(policy, 1, seed=0)
    feed = {name: value.numpy() for name, value in zip(SAMPLER[0], inputs, strict=True)}
    calls = {"torch": lambda: policy.plan(*inputs), "onnx": lambda: session.run(None, feed)}
    times: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(ROUNDS + WARM):
        for name, call in calls.items():
            found = [_timed(call) for _ in range(CALLS)]
            times[name] += found if turn >= WARM else []
    ratio = np.median(times["onnx"]) / np.median(times["torch"])
    shown = {f"{name}_ms": _percentiles(values) for name, values in times.items()}
    return {**shown, "onnx / torch": round(float(ratio), 3), "largest_difference": error}


def through_socket(checkpoint: Path, task: str) -> dict[str, object]:
    """Time whole requests to a server process, and the server's part of them, its plans."""
    with serving(checkpoint, task) as port, PolicyClient(port=port) as client:
        middle = {p["key"]: np.add(p["low"], p["high"]) / 2 for p in client.contract["observation"]}
        observation = {key: value.tolist() for key, value in middle.items()}
        client.reset(seed=0)
        request = {"type": "act", "observation": observation}
        alone = [_timed(lambda: client.request(request)) for _ in range(REQUESTS)]
        served = client.statistics()
        with flooding(port, request):
            until = time.monotonic() + PATIENCE
            while client.statistics()["plans"] < served["plans"] + 100:
                if time.monotonic() > until:
                    raise ReconvergeError(f"the flood was not served within {PATIENCE} s")
                time.sleep(0.1)
            beside = [_timed(lambda: client.request(request)) for _ in range(REQUESTS)]
    return {
        "socket_ms": _percentiles(alone),
        "beside_flood_ms": _percentiles(beside),
        "server_ms": {key: round(served[f"{key}_ms"], 2) for key in ("p50", "p99")},
    }


@contextmanager
def flooding(port: int, request: Mapping[str, Any]) -> Iterator[None]:
    """Let a process of its own flood the server until the block ends."""
    first = encode({"type": "reset", "seed": 0})
    arguments = [str(port), first.hex(), encode(request).hex()]
    process = subprocess.Popen([sys.executable, "-c", FLOOD, *arguments])
    try:
        yield
        if process.poll() is not None:
            raise ReconvergeError(f"the flood ended by itself with {process.returncode}")
    finally:
        process.terminate()
        process.wait()


@contextmanager
def serving(checkpoint: Path, task: str) -> Iterator[int]:
    """Run `policy.serve` in a process of its own until the block ends; yield its port."""
    command = [
        sys.executable,
        "-m",
        "reconverge.policy.serve",
        f"checkpoint={checkpoint}",
        f"env={task}",
        "port=0",
    ]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield int(process.stdout.readline().split(";")[0].rsplit(":", 1)[1])
    finally:
        process.terminate()
        process.wait()


def _timed(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def _percentiles(seconds: list[float]) -> dict[str, float]:
    p50, p99 = np.percentile(seconds, [50, 99])
    return {"p50": round(1e3 * p50, 2), "p99": round(1e3 * p99, 2)}


if __name__ == "__main__":
    main()
