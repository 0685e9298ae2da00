"""tools.compare and tools.stress on the command line."""

import pytest

from reconverge.tools import compare, stress
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
