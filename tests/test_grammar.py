"""Text as it is typed, on its way through hydra; over all commands, so that none is forgotten."""

from dataclasses import fields, is_dataclass
from importlib import import_module
from pathlib import Path
from typing import get_type_hints

import hydra
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from reconverge.cli import COMMANDS
from reconverge.configs.grammar import LONGEST, in_grammar, quoted, short_name, unquoted
from reconverge.configs.store import Command, register
from reconverge.errors import ReconvergeError
from reconverge.options import text_options, with_paths_expanded

MODULES = [import_module(f"reconverge.{module}") for module, _ in COMMANDS.values()]
WITH_OPTIONS = {
    command.name: command
    for module in MODULES
    for command in vars(module).values()
    if isinstance(command, Command)
}
PATHS = [
    (command, name)
    for command in WITH_OPTIONS.values()
    for name, kind in text_options(command.options())
    if kind == "path"
]
HARD = ["it's", "a\\b", "a\\", "a\\'b", '"x"x', "#h", "(a)", "[a", "a]", "a,b", "a=b", " a b ", "ü"]
HARD += [
    "😀",
    "$x",
    "${x}",
    "\\${x}",
    "\\\\${x}",
    "$",
    "${",
    "'",
    '"',
    "\\\\",
    "a\nb",
    "{a:b}",
    "x:y",
]
HARD += [
    "true",
    "1",
    "1e3",
    "@",
    "&|;<>*?`^!%",
    "~a",
    "choice(a,b)",
    "$${a}",
    "${now:%Y}",
    "'a",
    "a'",
]


@pytest.fixture(scope="module")
def composed():
    """Returns the options of a command."""

    def compose(command, *arguments):
        register(command)
        return OmegaConf.to_object(hydra.compose(command.name, list(arguments)))

    with hydra.initialize_config_module("reconverge.configs", version_base="1.3"):
        yield compose


def text_fields(options, prefix=""):
    """The dotted names of all options of text."""
    hints = get_type_hints(type(options))
    for spec in fields(options):
        value = getattr(options, spec.name)
        if is_dataclass(value):
            yield from text_fields(value, f"{prefix}{spec.name}.")
        elif spec.metadata and hints[spec.name] in (str, str | None, list[str]):
            yield f"{prefix}{spec.name}", spec


@pytest.mark.parametrize("command", WITH_OPTIONS.values(), ids=WITH_OPTIONS)
def test_every_option_of_text_says_what_its_text_is(command):
    rows = [row() for table in command.groups.values() for row in table.values()]
    for options in (command.options(), *rows):
        for name, spec in text_fields(options):
            known = spec.metadata.get("choices") or spec.metadata.get("text")
            assert known or name == "env", f"{command.name}: {name}"


@pytest.mark.parametrize(("command", "name"), PATHS, ids=lambda x: getattr(x, "name", x))
def test_paths_are_expanded(composed, command, name, monkeypatch):
    monkeypatch.setenv("HOME", "/home/it's me")
    monkeypatch.setenv("DATA", "/data,1")
    for typed, meant in (("~/x", "/home/it's me/x"), ("$DATA/x", "/data,1/x"), ("'~/x'", None)):
        options = with_paths_expanded(composed(command, in_grammar(command, f"{name}={typed}")))
        value = options
        for part in name.split("."):
            value = getattr(value, part)
        wanted = meant or "/home/it's me/x"
        assert value in (wanted, [wanted])


@pytest.mark.parametrize(("command", "name"), PATHS, ids=lambda x: getattr(x, "name", x))
def test_an_empty_path_is_refused(command, name):
    if name != "store":
        with pytest.raises(ReconvergeError, match=f"^{name}= is empty"):
            in_grammar(command, f"{name}=")


def test_there_are_paths():
    found = {f"{command.name} {name}" for command, name in PATHS}
    assert found >= {
        "train resume",
        "train demonstrations.path",
        "evaluate checkpoint",
        "evaluate output",
        "serve checkpoint",
        "collect path",
        "convert source",
        "convert target",
        "check_store store",
        "export output",
        "export_video compare",
    }


@pytest.mark.parametrize("text", HARD)
def test_text_is_taken_literally(composed, text):
    train = WITH_OPTIONS["train"]
    options = composed(train, in_grammar(train, f"demonstrations.path={text}"))
    assert options.demonstrations.path == text


@settings(deadline=None, max_examples=200)
@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1))
def test_unquoted_returns_what_quoted_was_given(text):
    assert unquoted(quoted(text)) == text


def test_in_grammar_leaves_other_options_to_hydra():
    train = WITH_OPTIONS["train"]
    for argument in ("seed=0,1", "method=ewc", "resume=null", "-m", "~seed", "resume", "a=~/x"):
        assert in_grammar(train, argument) == argument
    assert in_grammar(train, "env=lift,can") == "env=[lift,can]"
    assert in_grammar(train, "++resume=a,b") == "resume='a,b'"


def test_short_name_keeps_short_names_and_tells_long_ones_apart():
    assert short_name("method=ewc,seed=0") == "method=ewc,seed=0"
    names = [f"{'ü' * 200}{end}" for end in "ab"]
    cut = [short_name(name) for name in names]
    assert len(set(cut)) == 2
    assert cut == [short_name(name) for name in names]
    assert all(len(name.encode(errors="surrogateescape")) <= LONGEST for name in cut)
    assert Path(cut[0]).name == cut[0]


def test_short_name_cuts_the_longest_options():
    name = f"demonstrations.path={'x' * 150},env=[lift,can],method=replay,seed=1"
    assert short_name(name).startswith("seed=1,method=replay,env=[lift,can],demonstrations.path=x")
