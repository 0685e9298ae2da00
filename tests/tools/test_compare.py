"""tools.compare and tools.stress on the command line."""

import pytest

from reconverge.tools import compare, report, stress
from support.summaries import two_tasks, write_summary
from support.tiny_run import call

BAD = {
    "missing": (None, "no summary.json"),
    "half": ('{"method": ', "is no JSON"),
    "other": ("{}", "lacks 'method'"),
    "list": ("[]", "must be a map, got []"),
    "unfinished": (two_tasks(average_success=None), "average_success: must be a number, got None"),
}


@pytest.mark.parametrize("name", BAD)
def test_main_names_a_bad_run_in_one_line(tmp_path, monkeypatch, capsys, name):
    content, message = BAD[name]
    path = tmp_path / name
    if content is not None:
        write_summary(path, content)
    out = tmp_path / "out"
    assert call(compare.main, [path, "--output", out], monkeypatch) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert str(path) in error
    assert message in error
    assert not out.exists()


def test_main_prints_the_tables(tmp_path, monkeypatch, capsys):
    run = write_summary(tmp_path / "run", two_tasks())
    out = tmp_path / "out"
    assert call(compare.main, [run, "--output", out], monkeypatch) == 0
    said = capsys.readouterr().out
    assert (out / "comparison.md").read_text() in said
    assert f"everything is in {out}" in said


def test_stress_main_prints_its_table_or_one_line(tmp_path, monkeypatch, capsys):
    write_summary(tmp_path / "hard" / "r", two_tasks(method="replay", fisher="none"))
    arguments = [tmp_path / "hard", "--output", tmp_path / "out"]
    assert call(stress.main, arguments, monkeypatch) == 2
    assert "add the missing one" in capsys.readouterr().err
    write_summary(tmp_path / "hard" / "t", two_tasks())
    assert call(stress.main, arguments, monkeypatch) == 0
    assert (tmp_path / "out" / "stress.md").read_text() in capsys.readouterr().out


@pytest.fixture
def sweep(tmp_path):
    """A sweep's folder: a run that is finished, one that is not, and what hydra leaves."""
    write_summary(tmp_path / "runs" / "done", two_tasks())
    (tmp_path / "runs" / "begun").mkdir()
    (tmp_path / "runs" / "begun" / "config.yaml").write_text("seed: 0\n")
    (tmp_path / "runs" / "multirun.yaml").write_text("hydra: {}\n")
    (tmp_path / "runs" / "notes").mkdir()
    return sorted((tmp_path / "runs").iterdir())


@pytest.mark.parametrize("tool", [compare, report])
def test_main_leaves_out_what_is_no_finished_run(sweep, tmp_path, monkeypatch, capsys, tool):
    output = tmp_path / "out" if tool is compare else tmp_path / "out.html"
    assert call(tool.main, [*sweep, "--output", output], monkeypatch) == 0
    assert capsys.readouterr().err == f"left out, not finished: {tmp_path / 'runs' / 'begun'}\n"
    assert output.exists()


@pytest.mark.parametrize("tool", [compare, report])
def test_main_without_a_finished_run_says_one_line(sweep, tmp_path, monkeypatch, capsys, tool):
    rest = [path for path in sweep if path.name != "done"]
    assert call(tool.main, [*rest, "--output", tmp_path / "out.html"], monkeypatch) == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("error: ")
    assert "give folders of finished runs" in last


@pytest.mark.parametrize("tool", [compare, stress])
def test_main_finds_an_output_that_cannot_be_written_first(
    sweep, tmp_path, monkeypatch, capsys, tool
):
    (tmp_path / "file").write_text("kept")
    assert call(tool.main, ["nowhere", "--output", tmp_path / "file"], monkeypatch) == 2
    assert capsys.readouterr().err.startswith(f"error: --output={tmp_path / 'file'}: is no folder")
    assert (tmp_path / "file").read_text() == "kept"


@pytest.mark.parametrize("tool", [compare, report, stress])
@pytest.mark.parametrize("arguments", [[], ["--nope"], ["x", "--output"], ["x", "--outp=y"], [""]])
def test_main_says_wrong_arguments_in_one_line(tmp_path, monkeypatch, capsys, tool, arguments):
    monkeypatch.chdir(tmp_path)
    assert call(tool.main, arguments, monkeypatch) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("error: ")
    assert said.err.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_main_expands_paths(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("HOME", str(tmp_path))
    write_summary(tmp_path / "run", two_tasks())
    assert call(compare.main, ["~/run", "--output=$HOME/out"], monkeypatch) == 0
    assert (tmp_path / "out" / "comparison.md").exists()
