"""Sealed folders: whatever happens to a file is noticed, and said in one line."""

import json
import math
import os

import pytest

from reconverge.errors import ReconvergeError
from reconverge.seal import (
    OtherSchemaError,
    SealError,
    check_signed,
    read_sealed,
    seal,
    signed,
)

CONTENT = {"about": {"b": [1, 2.5, None, True], "a": "é"}, "rate": 0.1, "odd": math.inf}


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "a.bin").write_bytes(bytes(range(256)))
    (tmp_path / "b.bin").write_bytes(b"")
    seal(tmp_path, "about.json", 4, CONTENT)
    return tmp_path


def refused(folder, said):
    with pytest.raises(SealError, match=said) as caught:
        read_sealed(folder, "about.json", 4)
    assert "\n" not in str(caught.value)


def test_read_sealed_gives_what_was_sealed(folder):
    found = read_sealed(folder, "about.json", 4)
    assert {name: found[name] for name in CONTENT} == CONTENT
    assert found["files"]["b.bin"].startswith("e3b0c44298fc1c149afbf4c8996fb924")  # of nothing


def test_seal_of_keys_and_values_that_json_turns_into_others(tmp_path):
    seal(tmp_path, "about.json", 1, {"table": {10: (1,), 9: ()}})
    assert read_sealed(tmp_path, "about.json", 1)["table"] == {"10": [1], "9": []}


def test_any_changed_byte_of_a_file_is_noticed(folder):
    for place in range(256):
        content = bytearray(range(256))
        content[place] ^= 1 << place % 8
        (folder / "a.bin").write_bytes(content)
        refused(folder, "a.bin is not as it was written")


def test_any_changed_byte_of_the_seal_is_noticed_or_changes_no_value(folder):
    file = folder / "about.json"
    whole, value = file.read_bytes(), read_sealed(folder, "about.json", 4)
    noticed = 0
    for place in range(len(whole)):
        for bit in range(8):
            content = bytearray(whole)
            content[place] ^= 1 << bit
            file.write_bytes(content)
            try:
                assert read_sealed(folder, "about.json", 4) == value
            except SealError:
                noticed += 1
    assert noticed > 0.9 * 8 * len(whole)  # the others are white space


@pytest.mark.parametrize("name", ["a.bin", "b.bin", "about.json"])
def test_a_file_that_is_gone_or_no_file_is_noticed(folder, name):
    (folder / name).unlink()
    refused(folder, f"{name} is missing")
    (folder / name).mkdir()
    refused(folder, f"{name} is missing")
    (folder / name).rmdir()
    os.mkfifo(folder / name)  # reading it would wait for ever
    refused(folder, f"{name} is missing")


def test_a_file_that_was_added_is_noticed_unless_hidden_or_pythons_cache(folder):
    (folder / "._a.bin").write_bytes(b"of another system")
    (folder / "__pycache__").mkdir()
    assert read_sealed(folder, "about.json", 4)
    for name in ("c.bin", "__pycache__x.py"):
        (folder / name).mkdir()
        refused(folder, f"{name} does not belong to it")
        (folder / name).rmdir()


def test_files_that_changed_places_are_noticed(folder):
    (folder / "a.bin").rename(folder / "c.bin")
    (folder / "b.bin").rename(folder / "a.bin")
    (folder / "c.bin").rename(folder / "b.bin")
    refused(folder, "a.bin is not as it was written")


SHAPES = [
    (b"", "is no JSON"),
    (b"\xff\xfe", "is no JSON"),
    (b"\x00" * 40, "is no JSON"),
    (b"[" * 100_000, "is no JSON"),
    (b"7" * 5_000, "is no JSON"),
    (b"[1]", r"is no map: \[1\]"),
    (b"null", "is no map: None"),
    (b"{}", "has schema None, this version reads 4"),
    (b'{"schema": 4}', "is not as it was written"),
    (b'{"schema": [[1]]}', r"has schema \[\[1\]\]"),
    (b'{"schema": 4, "files": 3, "sha256": null}', "is not as it was written"),
]


@pytest.mark.parametrize(("text", "said"), SHAPES, ids=range(len(SHAPES)))
def test_a_seal_of_any_shape_is_one_line(folder, text, said):
    (folder / "about.json").write_bytes(text)
    refused(folder, f"about.json {said}")


def test_values_as_deep_as_json_reads_are_one_line(folder):
    for depth in range(100, 1200, 7):
        value = {"schema": 4, "deep": json.loads("[" * 90 + "]" * 90)}
        text = json.dumps(value).replace("[" * 90, "[" * depth).replace("]" * 90, "]" * depth)
        (folder / "about.json").write_text(text)
        refused(folder, "about.json")


def test_another_schema_is_told_from_damage(folder):
    with pytest.raises(OtherSchemaError, match="has schema 4, this version reads 5"):
        read_sealed(folder, "about.json", 5)
    file = folder / "about.json"
    file.write_text(file.read_text().replace('"schema": 4', '"schema": 5'))
    refused(folder, "about.json is not as it was written")
    file.write_text('{"schema": 2, "rate": 0.1}')  # of before there were digests
    with pytest.raises(OtherSchemaError, match="has schema 2, this version reads 4"):
        read_sealed(folder, "about.json", 4)


def test_an_edit_that_changes_no_value_is_no_damage(folder):
    file = folder / "about.json"
    file.write_text(json.dumps(json.loads(file.read_text())))
    assert read_sealed(folder, "about.json", 4)["rate"] == 0.1


def test_signed_json_tells_of_every_change():
    value = signed({"rate": 0.5, "tasks": ["lift"], "none": None})
    check_signed(value, "summary.json")
    check_signed({"of": "before"}, "summary.json")
    for change in ({"rate": 0.6}, {"tasks": []}, {"more": 1}, {"sha256": "0"}):
        with pytest.raises(ReconvergeError, match=r"^summary.json: is not as it was written"):
            check_signed({**value, **change}, "summary.json")
