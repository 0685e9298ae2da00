"""The house rules that a parser can check: who imports whom, nothing unpickled, no long file."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("configs", "datasets", "envs", "policy", "tools")
FILES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
ENTRY_POINTS = {"policy/train.py", "policy/options.py", "policy/assembly.py", "policy/evaluate.py", "policy/serve.py"}
SIMULATION = {
    "envs", "tools", "zarr", "robosuite", "metaworld", "mujoco", "hydra", "omegaconf", "gymnasium", "robomimic",
}  # fmt: skip
FORBIDDEN = {
    "envs": {"datasets", "policy", "tools", "configs", "hydra", "omegaconf"},
    "datasets": {"envs", "policy", "tools", "configs", "hydra", "omegaconf"},
    "policy": SIMULATION | {"configs"},
    "configs": {"datasets", "envs", "policy", "tools"},
}


def name(path):
    return path.relative_to(ROOT).as_posix()


def imports(source):
    """Top-level names of all packages imported anywhere in the source."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            found.add((node.module or "").split(".")[0])
    return found


def calls(source):
    """Dotted names of everything called, and imported names with their module."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call):
            found.add(ast.unparse(node.func))
        elif isinstance(node, ast.ImportFrom):
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return found


def is_unsafe(called):
    return called in {"eval", "exec", "torch.load", "torch.save", "np.load", "numpy.load"} or called.split(".")[0] in {
        "pickle", "cloudpickle", "dill", "joblib", "marshal", "shelve",
    }  # fmt: skip


def test_there_is_something_to_check():
    names = {name(path) for path in FILES}
    assert names >= ENTRY_POINTS
    assert {"envs/tasks.py", "datasets/store.py", "policy/methods/base.py", "tools/collect.py"} <= names
    assert imports("def f():\n    from envs.tasks import x\nimport os.path as p") == {"envs", "os"}
    assert any(map(is_unsafe, calls("import torch\ntorch.load('x')")))
    assert any(map(is_unsafe, calls("from torch import load")))
    assert any(map(is_unsafe, calls("import pickle")))
    assert not any(map(is_unsafe, calls("network.eval()\nsafetensors.torch.load_file(x)")))


@pytest.mark.parametrize("path", FILES, ids=name)
def test_imports_go_one_way(path):
    if name(path) in ENTRY_POINTS:
        return
    found = imports(path.read_text()) & FORBIDDEN.get(path.relative_to(ROOT).parts[0], set())
    assert not found, f"{name(path)} imports {', '.join(sorted(found))}"


@pytest.mark.parametrize("path", FILES, ids=name)
def test_nothing_is_unpickled_or_evaluated(path):
    assert not [called for called in calls(path.read_text()) if is_unsafe(called)]


@pytest.mark.parametrize("path", FILES, ids=name)
def test_files_are_short(path):
    assert len(path.read_text().splitlines()) < 350


def test_packages_say_nothing_on_import():
    """`__init__.py` is empty, or a table and the function that looks a name up in it."""
    for path in FILES:
        if path.name == "__init__.py":
            kinds = {type(node) for node in ast.parse(path.read_text()).body}
            assert kinds <= {
                ast.Expr,
                ast.Import,
                ast.ImportFrom,
                ast.Assign,
                ast.AnnAssign,
                ast.FunctionDef,
                ast.ClassDef,
            }
            assert len(path.read_text().splitlines()) < 60, name(path)
