import numpy as np
import pytest
from rich.console import Console

from reconverge.datasets.checks import Dimension
from reconverge.datasets.store import DemonstrationStore, Episode
from reconverge.envs.catalog import TASKS
from reconverge.tools import check_store
from support.stores import rewrite
from support.tiny_run import call

pytestmark = pytest.mark.usefixtures("made_simulators")


def check(monkeypatch, capsys, *arguments):
    capsys.readouterr()
    code = call(check_store.main, arguments, monkeypatch)
    output = capsys.readouterr()
    return code, " ".join(output.out.split()), output.err


def test_check_store_reports_sound_stores(demonstrations, monkeypatch, capsys, made_simulators):
    code, out, _ = check(monkeypatch, capsys, f"store={demonstrations}", "playback=2", "workers=1")
    assert code == 0
    assert out.count("2 of 2 successes again") == 2
    assert "lift.zarr" in out
    assert "robot0_gripper_qpos[1]" in out
    assert "│ wrong │" not in out
    assert made_simulators == [("can", "base"), ("lift", "base")]


def test_check_store_says_what_is_wrong_and_exits_with_1(
    demonstrations, tmp_path, monkeypatch, capsys
):
    source = DemonstrationStore.open(demonstrations / "lift.zarr")
    rewrite(source, tmp_path / "idle.zarr", lambda actions: 0 * actions)
    DemonstrationStore.create(tmp_path / "lift.zarr", TASKS["lift"].sizes, 7, {})
    (tmp_path / "no.zarr").mkdir()
    (tmp_path / "no.zarr" / "zarr.json").write_text("{}")
    code, out, err = check(
        monkeypatch,
        capsys,
        f"store={tmp_path}/idle.zarr,{tmp_path}/lift.zarr,{tmp_path}/no.zarr",
        "playback=2",
        "dimensions=false",
    )
    assert (code, err) == (1, "")
    assert "0 of 2 successes again" in out
    assert out.count("│ wrong │") == 3
    assert "least" not in out


def test_check_store_names_a_folder_with_brackets(tmp_path, monkeypatch, capsys):
    """rich would take them for markup."""
    path = tmp_path / "q [/b].zarr"
    DemonstrationStore.create(path, {"state": 2}, 2, {})
    code, out, err = check(monkeypatch, capsys, f"store='{path}'")
    assert (code, err) == (1, "")
    assert "q [/b].zarr" in "".join(out.split("\n")).replace("  ", " ")


def test_check_store_shows_no_escapes_of_a_stranger(tmp_path, monkeypatch, capsys):
    """A terminal would act on those of a folder's name and of an array that is not declared."""
    path = tmp_path / "q\x1b]0;mine\x07.zarr"
    DemonstrationStore.create(path, {"state": 2}, 2, {})
    code, out, err = check(monkeypatch, capsys, f"store={tmp_path}")
    assert (code, err) == (1, "")
    assert "q\\x1b]0;mine\\x07.zarr" in "".join(out.split("\n")).replace("  ", " ")
    (path / "data" / "state").rename(path / "data" / "\x1b[2Jx")
    code, stray, _ = check(monkeypatch, capsys, f"store={tmp_path}")
    assert code == 1
    assert out.isprintable()
    assert stray.isprintable()


def test_dimension_table_shows_names_as_they_are(capsys):
    rows = [Dimension(name, 0.0, 1.0, 0.5, None, 0, 0.0) for name in ("[red]", "\x1b[2J")]
    Console().print(check_store.dimension_table(rows))
    said = capsys.readouterr().out
    assert "[red]" in said
    assert "\\x1b[2J" in said


def test_check_store_says_what_playback_lacks(tmp_path, monkeypatch, capsys):
    store = DemonstrationStore.create(tmp_path / "mine.zarr", {"state": 2}, 2, {})
    store.append(
        Episode(
            {"state": np.eye(2, dtype=np.float32)},
            np.eye(2, dtype=np.float32),
            np.ones(2),
            np.ones(2, bool),
        )
    )
    code, out, _ = check(monkeypatch, capsys, f"store={store.path}", "playback=1")
    assert code == 1
    assert "names no task that can be simulated" in out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "store= is missing"),
        (["store=nowhere"], "store=nowhere: no directory"),
        (["store=."], "holds none"),
        (["store=.", "playback=-1"], "playback=-1: must be at least 0"),
        (["store=.", "playback=x"], "whole number"),
        (["stor=."], "did you mean 'store'"),
    ],
)
def test_check_store_refuses_bad_options(tmp_path, monkeypatch, capsys, arguments, said):
    monkeypatch.chdir(tmp_path)
    code, _, err = check(monkeypatch, capsys, *arguments)
    assert code == 2
    assert said in err
    assert err.count("\n") == 1


def test_check_store_help_names_every_option(monkeypatch, capsys):
    code, out, _ = check(monkeypatch, capsys, "--help")
    assert code == 0
    assert all(f"{name}:" in out for name in ("store", "playback", "dimensions", "workers"))
