"""What can happen to a file: each kind of damage, at random."""

import json
import shutil

import yaml


def flip(rng, file, files):
    """One bit of one byte."""
    content = bytearray(file.read_bytes()) or bytearray(b"\0")
    place = rng.randrange(len(content))
    content[place] ^= 1 << rng.randrange(8)
    file.write_bytes(content)


def overwrite(rng, file, files):
    """A run of up to 64 bytes, by zeros or by noise."""
    content = bytearray(file.read_bytes()) or bytearray(b"\0")
    start = rng.randrange(len(content))
    length = min(rng.randint(1, 64), len(content) - start)
    content[start : start + length] = rng.choice([bytes(length), rng.randbytes(length)])
    file.write_bytes(content)


def truncate(rng, file, files):
    content = file.read_bytes()
    file.write_bytes(content[: rng.randrange(len(content))] if content else b"")


def grow(rng, file, files):
    """Bytes after the end."""
    file.write_bytes(file.read_bytes() + rng.choice([b"\0", rng.randbytes(100), b"\n{}"]))


def empty(rng, file, files):
    file.write_bytes(b"")


def delete(rng, file, files):
    file.unlink()


def become_folder(rng, file, files):
    file.unlink()
    file.mkdir()


def swap(rng, file, files):
    """The content of another file, which gets this one's."""
    alike = [other for other in files if other.name == file.name] or files
    other = rng.choice(rng.choice([alike, files]))
    ours, theirs = file.read_bytes(), other.read_bytes()
    file.write_bytes(theirs)
    other.write_bytes(ours)


def add(rng, file, files):
    """A copy beside it under another name."""
    shutil.copy(file, file.with_name(f"copy_{file.name}"))


def edit(rng, file, files):
    """One value of JSON or YAML: another, of another type, or gone."""
    read = yaml.safe_load if file.suffix == ".yaml" else json.loads
    write = yaml.safe_dump if file.suffix == ".yaml" else json.dumps
    content = read(file.read_text())
    place, holder = rng.choice([*places(content)])
    value = holder[place]
    if rng.random() < 0.3:
        del holder[place]
    elif isinstance(value, bool) or not isinstance(value, int | float):
        holder[place] = rng.choice([None, 3, "other", [], {}, not value])
    else:
        holder[place] = rng.choice([value + 1, -value, 1e30, str(value), None])
    file.write_text(write(content))


def reshape(rng, file, files):
    """JSON or YAML of another shape altogether."""
    file.write_text(rng.choice(["null", "[]", "{}", "7", '"text"', "[[[[", '{"a": {"b": 1}}']))


EVERY = (flip, flip, overwrite, truncate, grow, empty, delete, become_folder, swap, add)
TEXT = (edit, edit, edit, reshape)


def places(content):
    """Every key or index of nested dictionaries and lists, with what holds it."""
    items = content.items() if isinstance(content, dict) else enumerate(content)
    for place, value in list(items):
        yield place, content
        if isinstance(value, dict | list):
            yield from places(value)


def damage(rng, root):
    """Damage one file of `root`, a file or a folder; say which and how."""
    files = sorted(path for path in root.rglob("*") if path.is_file()) if root.is_dir() else [root]
    file = rng.choice(files)
    kinds = EVERY + (TEXT if file.suffix in (".json", ".yaml") else ())
    kind = rng.choice(kinds)
    kind(rng, file, files)
    return f"{kind.__name__} {file.relative_to(root.parent)}"
