"""The wheel: whole, and harmless to a distribution that has a top-level `datasets` of its own."""

import shutil
import subprocess
import sys
import tomllib
import venv
from importlib.metadata import PackageNotFoundError, version
from zipfile import ZipFile

import pytest

from support import ROOT

CONFIG = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
FOLDERS = CONFIG["package-dir"]  # of the top packages: name -> folder of the checkout
SOURCES = [*FOLDERS.values(), "pyproject.toml", "README.md", "LICENSE"]


def pip(*arguments):
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def has_setuptools(least):
    try:
        return int(version("setuptools").split(".")[0]) >= least
    except PackageNotFoundError:
        return False


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel of this checkout, built from a copy: setuptools writes beside what it builds."""
    folder = tmp_path_factory.mktemp("wheel")
    for name in SOURCES:
        source, target = ROOT / name, folder / "source" / name
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            target.parent.mkdir(exist_ok=True)
            shutil.copy(source, target)
    isolation = ["--no-build-isolation"] if has_setuptools(77) else []
    pip("wheel", "--no-deps", *isolation, "--wheel-dir", folder, folder / "source")
    (built,) = folder.glob("*.whl")
    return built


def in_wheel(path):
    """The place in the wheel of a file of the checkout."""
    for package, folder in sorted(FOLDERS.items(), key=lambda item: -len(item[1])):
        if path.is_relative_to(ROOT / folder):
            return f"{package.replace('.', '/')}/{path.relative_to(ROOT / folder).as_posix()}"
    raise AssertionError(f"{path} belongs to no package")


def test_wheel_holds_one_top_level_package(wheel):
    names = ZipFile(wheel).namelist()
    assert {name.split("/")[0] for name in names if ".dist-info/" not in name} == {"reconverge"}


def test_wheel_holds_every_file_of_the_packages(wheel):
    """A package that `packages` forgets, or data that `package-data` does, would be missing."""
    files = [
        path
        for folder in FOLDERS.values()
        for path in (ROOT / folder).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    ]
    kinds = {path.suffix for path in files}
    assert {".py", ".yaml", ".html", ".css", ".js", ".typed"} <= kinds
    missing = {in_wheel(path) for path in files} - set(ZipFile(wheel).namelist())
    assert not missing, "\n".join(sorted(missing))


@pytest.fixture(scope="module")
def foreign(tmp_path_factory):
    """The wheel of a distribution `datasets`, as Hugging Face's."""
    path = tmp_path_factory.mktemp("foreign") / "datasets-9.0-py3-none-any.whl"
    info = "datasets-9.0.dist-info"
    files = {
        "datasets/__init__.py": "WHOLE = True\n",
        "datasets/store.py": "WHOLE = True\n",
        f"{info}/METADATA": "Metadata-Version: 2.1\nName: datasets\nVersion: 9.0\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(f"{name},,\n" for name in [*files, f"{info}/RECORD"])
    with ZipFile(path, "w") as archive:
        for name, text in {**files, f"{info}/RECORD": record}.items():
            archive.writestr(name, text)
    return path


def test_wheel_and_a_foreign_datasets_leave_each_other_whole(wheel, foreign, tmp_path):
    venv.create(tmp_path / "venv", symlinks=True)
    python = tmp_path / "venv/bin/python"

    def run(code):
        command = [python, "-I", "-c", code]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)

    def foreign_is_whole():
        done = run("import datasets, datasets.store as s; assert datasets.WHOLE and s.WHOLE")
        return done.returncode == 0

    def ours_is_whole():
        done = run("import reconverge.policy, reconverge.datasets, reconverge.cli as c; c.main()")
        return done.returncode == 0 and "usage: reconverge COMMAND" in done.stdout

    def install(path):
        pip("--python", python, "install", "--no-deps", "--no-index", "--quiet", path)

    def uninstall(name):
        pip("--python", python, "uninstall", "--yes", "--quiet", name)

    assert not foreign_is_whole()
    assert not ours_is_whole()
    install(foreign)
    assert foreign_is_whole()
    install(wheel)
    assert foreign_is_whole()
    assert ours_is_whole()
    command = subprocess.run([tmp_path / "venv/bin/reconverge", "--version"], capture_output=True)
    assert command.stdout.decode().strip() == version("reconverge")
    uninstall("datasets")
    assert ours_is_whole()
    install(foreign)
    uninstall("reconverge")
    assert foreign_is_whole()
    assert not ours_is_whole()
