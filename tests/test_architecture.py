"""The house rules that a parser can check: who imports whom, names, lengths, nothing unpickled."""

import ast
import subprocess
import sys
from collections import defaultdict
from itertools import combinations
from pathlib import Path

import pytest

from support import ROOT

FOLDERS = ("configs", "datasets", "envs", "policy", "reconverge", "tools")
FILES = sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("*.py"))

FLOORS = {
    "reconverge/errors.py": 0,
    "reconverge/files.py": 0,
    "reconverge/options.py": 0,
    "reconverge/paths.py": 0,
    "reconverge/plugins.py": 0,
    "reconverge/process.py": 0,
    "reconverge/progress.py": 0,
    "reconverge/schema.py": 0,
    "reconverge/seal.py": 0,
    "configs": 1,
    "envs": 1,
    "datasets": 1,
    "policy/model": 2,
    "policy/continual": 2,
    "policy/demonstrations": 2,
    "policy/runs": 3,
    "policy/images": 3,
    "policy/deployment": 3,
    "policy/reports": 4,
    "tools/benchmark/stock.py": 4,
    "tools/benchmark/origin.py": 4,
    "policy": 5,
    "tools": 5,
    "reconverge": 6,
}
"""Floor of a room, which is a folder or a file; a file belongs to the longest that it is in."""

SAME_FLOOR = {
    ("reconverge/files.py", "reconverge/errors.py"),
    ("reconverge/options.py", "reconverge/errors.py"),
    ("reconverge/options.py", "reconverge/paths.py"),
    ("reconverge/paths.py", "reconverge/errors.py"),
    ("reconverge/plugins.py", "reconverge/errors.py"),
    ("reconverge/schema.py", "reconverge/errors.py"),
    ("reconverge/seal.py", "reconverge/errors.py"),
    ("reconverge/seal.py", "reconverge/files.py"),
    ("policy/continual", "policy/model"),
    ("policy/deployment", "policy/runs"),
    ("policy/images", "policy/runs"),
}
"""Rooms of one floor of which the first may import from the second."""

OF_ROWS = {
    "datasets/formats",
    "envs/suites/robosuite",
    "policy/continual/methods",
    "policy/model/networks",
}
"""Folders with a file for every row of a table, however many rows it has."""

SIMULATORS = {"gymnasium", "metaworld", "mujoco", "robosuite"}
STORES = {"h5py", "pyarrow", "robomimic", "zarr"}
CONFIGURATION = {"hydra", "omegaconf"}
FORBIDDEN = {
    "reconverge/errors.py": SIMULATORS | STORES | {"torch"},
    "reconverge/files.py": SIMULATORS | STORES | {"torch"},
    "envs": STORES | {"torch"},
    "datasets": SIMULATORS,
    "policy/model": SIMULATORS | STORES,
    "policy/continual": SIMULATORS | STORES,
}
"""Packages of others that a room may not import; CONFIGURATION is only for CONFIGURED."""

CONFIGURED = ("configs/", "policy/runs/configuration.py", "reconverge/launch.py")
ROBOSUITES = ("sim.model", "sim.data")  # objects of robosuite, whose MuJoCo handles are private
BEFORE_ENCODING = {"read_text": 0, "write_text": 1, "open": 3}  # arguments before it
ENDINGS = ("s", "r", "er", "ing", "ings", "ed", "ion")


def name(path):
    return path.relative_to(ROOT).as_posix()


def room(file):
    """The room of a file, by its name."""
    return max((r for r in FLOORS if file == r or file.startswith(f"{r}/")), key=len)


def is_front_door(path):
    """A file with a `main`, which a user starts."""
    return any(
        isinstance(node, ast.FunctionDef) and node.name == "main"
        for node in ast.parse(path.read_text()).body
    ) and name(path).startswith(("policy/", "tools/"))


def imported(source):
    """Dotted names of everything imported anywhere in the source; imports are absolute."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def file_of(dotted):
    """The file of the checkout that a dotted name of ours is or is in, by its name; else None."""
    parts = dotted.split(".")
    if parts[0] != "reconverge":
        return None
    for n in range(len(parts), 0, -1):
        inside = parts[1:n] if parts[1:2] and parts[1] in FOLDERS else parts[:n]
        for place in (Path(*inside).with_suffix(".py"), Path(*inside, "__init__.py")):
            if (ROOT / place).exists():
                return place.as_posix()
    raise AssertionError(f"{dotted}: no such module")


def is_downwards(file, other):
    """Whether the floors let `file` import from `other`."""
    here, there = room(file), room(other)
    if FLOORS[here] == 5 or here != there:
        below = FLOORS[there] < FLOORS[here]
        return below or (here, there) in SAME_FLOOR
    return True


def calls(source):
    """Dotted names of everything called, and imported names with their module."""
    tree = ast.walk(ast.parse(source))
    found = [n for n in tree if isinstance(n, ast.Call) and not of_weights_only(n)]
    return {ast.unparse(n.func) for n in found} | imported(source)


def of_the_locale(source):
    """Calls that read or write text in whatever encoding the locale has."""
    found = [n for n in ast.walk(ast.parse(source)) if isinstance(n, ast.Call)]
    return [ast.unparse(n) for n in found if is_of_the_locale(n)]


def is_of_the_locale(call):
    owner, _, called = ast.unparse(call.func).rpartition(".")
    if called not in BEFORE_ENCODING or bool(owner) == (called == "open"):
        return False
    binary = called == "open" and any(is_text(a) and "b" in a.value for a in call.args[1:2])
    told = any(keyword.arg == "encoding" for keyword in call.keywords)
    return not (binary or told or len(call.args) > BEFORE_ENCODING[called])


def of_weights_only(call):
    """Whether torch reads tensors and nothing else."""
    return "weights_only=True" in [ast.unparse(keyword) for keyword in call.keywords]


def is_unsafe(called):
    functions = {"eval", "exec", "torch.load", "torch.save", "np.load", "numpy.load"}
    modules = {"pickle", "cloudpickle", "dill", "joblib", "marshal", "shelve"}
    return called in functions or called.split(".")[0] in modules


def bars(source):
    """What the source calls to make a progress bar; `tqdm.write`, which prints beside one, is not
    among them.
    """
    makers = {"tqdm", "trange", "tqdm.tqdm", "tqdm.trange"}
    tree = ast.walk(ast.parse(source))
    return {ast.unparse(node.func) for node in tree if isinstance(node, ast.Call)} & makers


def shortened(stem):
    """A stem, and what is left of it without one of the endings."""
    return {stem} | {
        stem.removesuffix(ending) for ending in ENDINGS if len(stem.removesuffix(ending)) > 2
    }


def rhymes(a, b):
    """Whether two modules could be taken for each other: their names differ by an ending at most.

    Alternatives may have the same parts: `envs/suites/*/simulator.py`.
    """
    if a.stem == b.stem and a.parent != b.parent and a.parent.parent == b.parent.parent:
        return False
    return bool(shortened(a.stem) & shortened(b.stem))


def test_there_is_something_to_check():
    assert {room(name(path)) for path in FILES} >= set(FLOORS)
    assert imported("def f():\n    from reconverge.envs.catalog import x\nimport os.path as p") == {
        "reconverge.envs.catalog.x",
        "os.path",
    }
    assert file_of("reconverge.envs.catalog.TASKS") == "envs/catalog.py"
    assert file_of("reconverge.errors.unknown") == file_of("reconverge.errors")
    assert file_of("reconverge.train") == "reconverge/__init__.py"
    assert is_downwards("policy/train.py", "policy/runs/checkpoint.py")
    assert is_downwards("policy/continual/loop.py", "policy/model/policy.py")
    assert not is_downwards("policy/model/policy.py", "policy/continual/loop.py")
    assert not is_downwards("policy/runs/checkpoint.py", "policy/reports/page.py")
    assert not is_downwards("envs/catalog.py", "datasets/store.py")
    assert not is_downwards("tools/collect.py", "tools/convert.py")
    assert any(map(is_unsafe, calls("import torch\ntorch.load('x')")))
    assert any(map(is_unsafe, calls("from torch import load")))
    assert any(map(is_unsafe, calls("import pickle")))
    assert not any(map(is_unsafe, calls("network.eval()\nsafetensors.torch.load_file(x)")))
    assert bars("for x in tqdm(y): pass\ntqdm.tqdm(z)") == {"tqdm", "tqdm.tqdm"}
    assert not bars("tqdm.write(x)")
    assert len(of_the_locale("p.read_text(); p.write_text(x); open(p); open(p, 'a')")) == 4
    assert not of_the_locale("p.read_text('utf-8'); open(p, 'rb'); open(p, encoding='utf-8')")
    for a, b in (("train", "training"), ("serve", "server"), ("task", "tasks"), ("run", "run")):
        assert rhymes(ROOT / "a" / a, ROOT / "b/c" / b)
    assert not rhymes(ROOT / "loading", ROOT / "loop")


@pytest.mark.parametrize("path", FILES, ids=name)
def test_imports_go_downwards(path):
    others = {file_of(dotted) for dotted in imported(path.read_text())} - {None}
    upwards = sorted(other for other in others if not is_downwards(name(path), other))
    assert not upwards, f"{name(path)} imports {', '.join(upwards)}"


def test_nothing_imports_a_front_door():
    """But the command and the interface, on the floor above."""
    doors = {name(path) for path in FILES if is_front_door(path)}
    assert {"policy/train.py", "policy/evaluate.py", "policy/serve.py"} <= doors
    found = [
        f"{name(path)}: {file_of(dotted)}"
        for path in FILES
        for dotted in imported(path.read_text())
        if file_of(dotted) in doors and FLOORS[room(name(path))] <= 5
    ]
    assert not found, "\n".join(sorted(found))


@pytest.mark.parametrize("path", FILES, ids=name)
def test_third_party_imports_are_those_of_the_room(path):
    top = {dotted.split(".")[0] for dotted in imported(path.read_text())}
    assert not top & set(FOLDERS) - {"reconverge"}, "imports are of reconverge.<folder>"
    assert not top & FORBIDDEN.get(room(name(path)), set())
    if not is_front_door(path) and not name(path).startswith(CONFIGURED):
        assert not top & CONFIGURATION


@pytest.mark.parametrize("path", FILES, ids=name)
def test_one_module_alone_makes_progress_bars(path):
    assert not bars(path.read_text()) or name(path) == "reconverge/progress.py"


@pytest.mark.parametrize("path", FILES, ids=name)
def test_text_is_utf_8_in_every_locale(path):
    assert not of_the_locale(path.read_text())


@pytest.mark.parametrize("path", FILES, ids=name)
def test_nothing_is_unpickled_or_evaluated(path):
    assert not [called for called in calls(path.read_text()) if is_unsafe(called)]


@pytest.mark.parametrize("path", FILES, ids=name)
def test_files_and_functions_are_short(path):
    assert len(path.read_text().splitlines()) < 350
    long = [
        f"{node.name}: {node.end_lineno - node.lineno + 1} lines"
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef) and node.end_lineno - node.lineno + 1 > 65
    ]
    assert not long


def test_folders_are_small():
    modules = defaultdict(list)
    for path in FILES:
        if path.name != "__init__.py":
            modules[name(path.parent)].append(path.name)
    full = [name for name, files in modules.items() if len(files) > 13 and name not in OF_ROWS]
    assert not full, f"more than 13 files in {', '.join(full)}: make a folder in it of those akin"


def test_no_two_modules_rhyme():
    modules = [path for path in FILES if not path.stem.startswith("__")]
    found = [f"{name(a)} and {name(b)}" for a, b in combinations(modules, 2) if rhymes(a, b)]
    assert not found, "\n".join(sorted(found))


def test_importing_is_quick_and_silent():
    """No heavy package is loaded by the interface, or to look a task up."""
    code = (
        "import sys, reconverge, reconverge.cli, reconverge.envs.catalog as c; c.get_task('lift');"
        "print({'torch', 'mujoco', 'robosuite', 'metaworld', 'zarr', 'hydra'} & set(sys.modules))"
    )
    command = [sys.executable, "-W", "error", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("set()\n", "")


@pytest.mark.parametrize("path", TESTS, ids=name)
def test_tests_import_no_test(path):
    modules = {part for dotted in imported(path.read_text()) for part in dotted.split(".")[:-1]}
    assert not [module for module in modules if module.startswith("test_") or module == "tests"]


def privates(source):
    """Names with one leading underscore that the source defines or sets on an object."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            found.add(node.attr)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found.add(node.id)
    return {n for n in found if n.startswith("_") and not n.startswith("__") and n != "_"}


def reached(source):
    """Names with one leading underscore that the source takes from a module or an object."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Attribute):
            owner = ast.unparse(node.value)
            if owner not in ("self", "cls") and not owner.endswith(ROBOSUITES):
                found.add(node.attr)
        elif isinstance(node, ast.ImportFrom):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("setattr"):
            found |= {a.value.rpartition(".")[2] for a in node.args if is_text(a)}
    return {n for n in found if n.startswith("_") and not n.startswith("__")}


def is_text(node):
    return isinstance(node, ast.Constant) and isinstance(node.value, str)


OURS = set().union(*(privates(path.read_text()) for path in FILES))


@pytest.mark.parametrize("path", TESTS, ids=name)
def test_tests_reach_into_no_privates(path):
    source = path.read_text()
    found = (reached(source) & OURS) - privates(source)
    assert not found, f"{name(path)} reaches for {', '.join(sorted(found))}"
