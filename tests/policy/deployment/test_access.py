"""Secrets, and where a server may do without one."""

import socket

import pytest

from reconverge.errors import ReconvergeError
from reconverge.policy.deployment.access import is_admitted, open_listener, read_secret

SECRET = "correct horse battery staple"


def test_read_secret_prefers_the_file(tmp_path, monkeypatch):
    monkeypatch.delenv("RECONVERGE_SECRET", raising=False)
    assert read_secret(None) is None
    monkeypatch.setenv("RECONVERGE_SECRET", "of the environment")
    assert read_secret(None) == "of the environment"
    path = tmp_path / "secret.txt"
    path.write_text(f"{SECRET}\n")
    assert read_secret(str(path)) == SECRET


@pytest.mark.parametrize("text", ["", "short", "fifteen letters", "two lines\nof enough", "ü" * 20])
def test_read_secret_refuses_what_is_none(tmp_path, monkeypatch, text):
    path = tmp_path / "secret.txt"
    path.write_text(text)
    with pytest.raises(ReconvergeError, match="at least 16 ASCII characters; make one by: openssl"):
        read_secret(str(path))
    monkeypatch.setenv("RECONVERGE_SECRET", text)
    with pytest.raises(ReconvergeError, match="RECONVERGE_SECRET: a secret is one line"):
        read_secret(None)


def test_read_secret_names_a_file_that_is_missing(tmp_path):
    with pytest.raises(ReconvergeError, match=r"nowhere\.txt: cannot be read.*; make one by"):
        read_secret(str(tmp_path / "nowhere.txt"))


@pytest.mark.parametrize(
    "given", [None, "", SECRET[:-1], SECRET + " ", SECRET.encode(), 5, "ü", "\udcff"]
)
def test_is_admitted_wants_the_very_secret(given):
    assert not is_admitted(given, SECRET)
    assert is_admitted(given, None)
    assert is_admitted(SECRET, SECRET)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "127.3.2.1"])
def test_open_listener_lets_this_machine_in_without_a_secret(host):
    with open_listener(host, 0, None) as listener:
        socket.create_connection(listener.getsockname(), 5).close()


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1"])
def test_open_listener_wants_a_secret_from_other_machines(host):
    with pytest.raises(ReconvergeError, match="clients must share a secret: give secret_file="):
        open_listener(host, 0, None)


def test_open_listener_listens_to_other_machines_with_a_secret():
    with open_listener("0.0.0.0", 0, SECRET) as listener:
        assert listener.getsockname()[0] == "0.0.0.0"


@pytest.mark.parametrize("host", ["", "192.0.2.1", "no.such.host.invalid", "a" * 300])
def test_open_listener_says_what_it_cannot_have(host):
    with pytest.raises(ReconvergeError, match=rf"host={host} port=0: cannot listen there \("):
        open_listener(host, 0, SECRET)
