"""The command line of tools.convert."""

import functools
import http.server
import json
import shutil
import threading
from itertools import pairwise

import h5py
import numpy as np
import pytest

from reconverge.datasets.store import DemonstrationStore, Episode
from reconverge.tools import convert
from support.broken import CASES
from support.foreign import (
    ENV_ARGS_14,
    ENV_ARGS_15,
    assert_same_stores,
    make_replay_buffer,
    make_robomimic,
    zipped,
)
from support.lerobot import make_foreign
from support.tiny_run import call


def run(monkeypatch, *arguments):
    return call(convert.main, arguments, monkeypatch)


def test_convert_tells_formats_from_paths(tmp_path, monkeypatch, capsys):
    make_robomimic(tmp_path / "low_dim.hdf5")
    steps = [
        "low_dim.hdf5",
        "first.zarr",
        "lerobot, with a comma",
        "second.h5",
        "buffer.zarr.zip",
        "third.zarr",
    ]
    for source, target in pairwise(steps):
        assert run(monkeypatch, f"source={tmp_path / source}", f"target={tmp_path / target}") == 0
        assert f"{target}: 3 episodes as" in capsys.readouterr().out
    assert_same_stores(tmp_path / "third.zarr", tmp_path / "first.zarr")
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(steps)


def test_convert_takes_named_formats(tmp_path, monkeypatch):
    make_robomimic(tmp_path / "data")
    arguments = [
        f"source={tmp_path / 'data'}",
        "source_format=robomimic",
        f"target={tmp_path / 'out.v3'}",
    ]
    assert run(monkeypatch, *arguments, "target_format=lerobot", "filter=train", "fps=10") == 0
    info = json.loads((tmp_path / "out.v3/meta/info.json").read_text())
    assert (info["total_episodes"], info["fps"]) == (2, 10)


@pytest.mark.parametrize(
    ("environment", "env_args", "options", "wanted"),
    [
        ("Lift", ENV_ARGS_14, [], ("lift", "world")),
        ("PickPlaceCan", ENV_ARGS_15, [], ("can", "base")),
        ("NutAssemblySquare", ENV_ARGS_14, [], ("square", "world")),
        ("ToolHang", ENV_ARGS_14, [], ("ToolHang", "world")),
        ("Lift", ENV_ARGS_14, ["task=cube", "input_frame=base"], ("cube", "base")),
    ],
)
def test_convert_records_task_and_input_frame(
    tmp_path, monkeypatch, environment, env_args, options, wanted
):
    make_robomimic(tmp_path / "a.hdf5", {**env_args, "env_name": environment})
    assert (
        run(monkeypatch, f"source={tmp_path / 'a.hdf5'}", f"target={tmp_path / 'a.zarr'}", *options)
        == 0
    )
    attributes = DemonstrationStore.open(tmp_path / "a.zarr").attributes
    assert (attributes["task"], attributes["input_frame"]) == wanted


def test_convert_records_the_convention_and_warns_of_another(tmp_path, monkeypatch, capsys):
    env_args = {**ENV_ARGS_14, "env_kwargs": {"robots": ["Sawyer"], "control_freq": 10}}
    source = make_robomimic(tmp_path / "a.hdf5", env_args)
    with h5py.File(source, "r+") as file:
        file["data/demo_0/actions"][2, 6] = -1.5
    target = tmp_path / "lift.zarr"
    assert run(monkeypatch, f"source={source}", f"target={target}") == 0
    said = capsys.readouterr().err
    both = "control_hz 10, robot Sawyer, lift takes control_hz 20, robot Panda; training refuses it"
    assert f"warning: {target}: actions are of {both}" in said
    assert "1 of 12 actions, in 1 of 3 episodes, are beyond [-1, 1]" in said
    assert "= -1.5 in episode 0, step 2" in said
    attributes = DemonstrationStore.open(target).attributes
    assert attributes["convention"] == {"robot": "Sawyer", "control_hz": 10}


def test_convert_reads_an_archive(tmp_path, monkeypatch):
    make_replay_buffer(tmp_path / "pusht.zarr", img=np.zeros((9, 2, 2, 3), np.uint8))
    archive = zipped(tmp_path / "pusht.zarr")
    arguments = [
        f"source={archive}",
        f"target={tmp_path / 'a.zarr'}",
        "leave_out=[img]",
        "task=pusht",
    ]
    assert run(monkeypatch, *arguments) == 0
    assert DemonstrationStore.open(tmp_path / "a.zarr").attributes["task"] == "pusht"


def test_convert_splits_a_vector_into_what_a_task_observes(tmp_path, monkeypatch):
    make_foreign(tmp_path / "so101")
    arguments = [f"source={tmp_path / 'so101'}", f"target={tmp_path / 'a.zarr'}"]
    assert run(monkeypatch, *arguments, "split=observation.state=left:1,right:1") == 0
    store = DemonstrationStore.open(tmp_path / "a.zarr")
    assert store.observation_sizes == {"left": 1, "right": 1}


def test_convert_warns_of_what_it_leaves_out_and_cannot_tell(tmp_path, monkeypatch, capsys):
    path = make_robomimic(tmp_path / "a.hdf5")
    with h5py.File(path, "r+") as file:
        del file["data"].attrs["env_args"]
        file["data/demo_0/inds"] = np.arange(2)
    assert run(monkeypatch, f"source={path}", f"target={tmp_path / 'a.zarr'}") == 0
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("warning: ")]
    assert lines[0] == f"warning: {path}: left out inds: not one row a step"
    assert "the task and the frame of the actions cannot be told" in lines[1]
    named = ["task=lift", "input_frame=base"]
    assert run(monkeypatch, f"source={path}", f"target={tmp_path / 'b.zarr'}", *named) == 0
    assert "cannot be told" not in capsys.readouterr().err


@pytest.fixture
def refused(tmp_path, monkeypatch, capsys):
    """Convert what must be refused, compare the folder before and after, return the one line."""

    def convert_and_read(source, *arguments, target="out/made.zarr"):
        before = sorted(tmp_path.rglob("*"))
        capsys.readouterr()
        assert run(monkeypatch, f"source={source}", f"target={tmp_path / target}", *arguments) == 2
        lines = [line for line in capsys.readouterr().err.splitlines() if "%|" not in line and line]
        assert len(lines) == 1, lines
        assert lines[0].startswith("error: ")
        assert [
            path
            for path in sorted(tmp_path.rglob("*"))
            if path not in before and path.name != "out"
        ] == []
        assert len(lines[0]) < 600
        assert ".partial" not in lines[0]
        return lines[0]

    return convert_and_read


@pytest.mark.parametrize("name", ["nan", "a chunk truncated", "frames lost", "attributes edited"])
def test_convert_of_a_broken_file_says_one_line(refused, tmp_path, name):
    make, said = CASES[name]
    assert said in refused(make(tmp_path))


def make_plain_store(path, **attributes):
    store = DemonstrationStore.create(path, {"arm": 2}, 1, attributes, absent=("reward", "success"))
    store.extend(
        [Episode({"arm": np.ones((3, 2), np.float32)}, action=np.zeros((3, 1), np.float32))]
    )
    return path


@pytest.mark.parametrize("target", ["a.hdf5", "a_lerobot", "a.zarr.zip"])
def test_convert_keeps_attributes_of_any_meaning(tmp_path, monkeypatch, target):
    attributes = {"simulator": "mine", "versions": "1", "env_args": "none", "fps": 10}
    source = make_plain_store(tmp_path / "a.zarr", **attributes)
    assert run(monkeypatch, f"source={source}", f"target={tmp_path / target}") == 0
    assert run(monkeypatch, f"source={tmp_path / target}", f"target={tmp_path / 'b.zarr'}") == 0
    assert_same_stores(source, tmp_path / "b.zarr")


def test_convert_refuses_what_would_leave_no_store(refused, tmp_path, monkeypatch):
    DemonstrationStore.create(tmp_path / "empty.zarr", {"arm": 2}, 1, {})
    assert "holds no episode" in refused(tmp_path / "empty.zarr", target="out/made.hdf5")
    source = make_plain_store(tmp_path / "a.zarr", fps=10)
    assert run(monkeypatch, f"source={source}", f"target={tmp_path / 'a_lerobot'}") == 0
    line = refused(tmp_path / "a_lerobot", "leave_out=[observation.state]")
    assert "leave_out=observation.state would leave no whole store" in line
    assert "fps=10: a store records none" in refused(source, "fps=10")
    assert "videos=false: a store records none" in refused(source, "videos=false")
    make_replay_buffer(tmp_path / "v2.zarr")
    assert "source_format=diffusion_policy" in refused(tmp_path / "v2.zarr", "source_format=store")


def test_convert_with_an_unknown_option_says_one_line(refused, tmp_path):
    assert "'sorce'" in refused(tmp_path, "sorce=x")


def test_convert_help_names_every_option(monkeypatch, capsys):
    assert run(monkeypatch, "--help") == 0
    said = capsys.readouterr().out
    assert all(
        f"{name}:" in said
        for name in ("source", "target_format", "filter", "leave_out", "input_frame", "fps")
    )


def test_convert_overwrites_nothing(refused, tmp_path):
    path = make_robomimic(tmp_path / "good.hdf5")
    (tmp_path / "mine.zarr").mkdir()
    assert "mine.zarr: exists already" in refused(path, target="mine.zarr")
    assert "its format cannot be told" in refused(tmp_path, target="x.zarr")
    assert "d4rl: is only read" in refused(path, "target_format=d4rl")
    assert "its format cannot be told" in refused(tmp_path / "mine.zarr", target="x.zarr")
    assert "a store has no filter keys" in refused(
        make_plain_store(tmp_path / "a.zarr"), "filter=x", target="x.zarr"
    )
    lost = refused(tmp_path / "none.zarr", target="x.zarr")
    assert "none.zarr: is not there; give the path" in lost


@pytest.fixture
def registry(monkeypatch):
    """Copy robomimic's registry, to change in it where a data set is."""
    import robomimic

    monkeypatch.setattr(
        robomimic, "DATASET_REGISTRY", json.loads(json.dumps(robomimic.DATASET_REGISTRY))
    )
    return robomimic.DATASET_REGISTRY


def test_convert_downloads_robomimics_data_sets(tmp_path, monkeypatch, registry):
    make_robomimic(tmp_path / "low_dim_v141.hdf5")
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        registry["lift"]["ph"]["low_dim"]["url"] = (
            f"http://127.0.0.1:{server.server_port}/low_dim_v141.hdf5"
        )
        code = run(
            monkeypatch, "source=robomimic://lift/ph/low_dim", f"target={tmp_path / 'lift.zarr'}"
        )
        server.shutdown()
        thread.join()
    assert code == 0
    assert DemonstrationStore.open(tmp_path / "lift.zarr").attributes["task"] == "lift"


def test_convert_says_one_line_if_nothing_can_be_downloaded(refused, registry):
    registry["lift"]["ph"]["low_dim"]["url"] = (
        "http://127.0.0.1:9/low_dim_v141.hdf5"  # nobody answers there
    )
    line = refused("robomimic://lift/ph/low_dim")
    assert "http://127.0.0.1:9/low_dim_v141.hdf5 cannot be downloaded" in line
    assert "connect to the network" in line
    for address, said in (
        ("robomimic://lft/ph/low_dim", "'lft': choose one of lift, can"),
        ("robomimic://lift/xx/low_dim", "'xx': choose one of ph, mh"),
        ("robomimic://lift/ph", "robomimic://lift/ph/low_dim"),
        ("robomimic://lift/ph/image", "no download"),
    ):
        assert said in refused(address)


def test_find_url_reads_robomimics_registry():
    from reconverge.datasets.formats.download import find_url

    assert find_url("robomimic://square/mh/low_dim").endswith("/square/mh/low_dim_v141.hdf5")


def test_convert_takes_resizes_and_leaves_out_pictures(tmp_path, monkeypatch, capsys):
    make_robomimic(tmp_path / "image.hdf5")
    with h5py.File(tmp_path / "image.hdf5", "r+") as file:
        for demo in file["data"].values():
            demo["obs/agentview_image"] = np.full((len(demo["actions"]), 12, 16, 3), 7, np.uint8)

    def convert_to(target, *arguments, source="image.hdf5"):
        given = (f"source={tmp_path / source}", f"target={tmp_path / target}", *arguments)
        assert run(monkeypatch, *given) == 0
        return capsys.readouterr().err

    assert "warning" not in convert_to("image.zarr", "leave_out=[states]")
    assert DemonstrationStore.open(tmp_path / "image.zarr").pictures == {"agentview": (12, 16, 3)}
    convert_to("small.zarr", "picture_size=4", source="image.zarr")
    small = DemonstrationStore.open(tmp_path / "small.zarr")
    assert small.pictures == {"agentview": (4, 4, 3)}
    assert (small.read_pictures("agentview", 0, small.n_steps) == 7).all()
    assert ": pictures\n" in convert_to("blind.zarr", "pictures=false", source="image.zarr")
    assert not DemonstrationStore.open(tmp_path / "blind.zarr").pictures


def test_convert_asks_for_the_room_of_png_where_there_are_no_videos(refused, tmp_path, monkeypatch):
    kept = {"pictures": {"top": (50, 50, 3)}, "absent": ("reward", "success")}
    store = DemonstrationStore.create(tmp_path / "a.zarr", {"x": 1}, 1, {"fps": 10}, **kept)
    rows, pictures = np.ones((4, 1), np.float32), np.zeros((4, 50, 50, 3), np.uint8)
    store.append(Episode({"x": rows}, rows, pictures={"top": pictures}))
    room = shutil.disk_usage(tmp_path)._replace(free=pictures.nbytes // 5)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: room)
    made = refused(tmp_path / "a.zarr", "videos=false", target="out/lerobot")
    assert "the pictures of 4 steps take about 9e-06 GB, 6e-06 GB are free" in made
    assert run(monkeypatch, f"source={tmp_path / 'a.zarr'}", f"target={tmp_path / 'films'}") == 0


@pytest.mark.parametrize("videos", ["true", "false"])
def test_convert_takes_pictures_to_lerobot_and_back(tmp_path, monkeypatch, capsys, videos):
    make_robomimic(tmp_path / "image.hdf5")
    with h5py.File(tmp_path / "image.hdf5", "r+") as file:
        for demo in file["data"].values():
            demo["obs/agentview_image"] = np.full((len(demo["actions"]), 12, 16, 3), 77, np.uint8)
    steps = [
        ("image.hdf5", "image.zarr"),
        ("image.zarr", "a_lerobot", f"videos={videos}"),
        ("a_lerobot", "back.zarr"),
    ]
    for source, target, *more in steps:
        given = (f"source={tmp_path / source}", f"target={tmp_path / target}", *more)
        assert run(monkeypatch, *given) == 0
    assert "left out" not in capsys.readouterr().err
    found = DemonstrationStore.open(tmp_path / "back.zarr")
    if videos == "false":
        assert_same_stores(tmp_path / "image.zarr", tmp_path / "back.zarr")
    assert len(list((tmp_path / "a_lerobot").rglob("*.mp4"))) == (videos == "true")
    assert abs(found.read_pictures("agentview", 0, found.n_steps).astype(int) - 77).max() <= 2
