"""`hyperjax serve`, as far as it is refused before a model is read."""

import socket
import sys

import pytest

from hyperjax import main, server

NOWHERE = ["serve", "--model=/nowhere", "--adapters"]


def refused(capsys, tmp_path, *options):
  assert main.main([*NOWHERE, str(tmp_path / "own"), *options]) == 1
  said = capsys.readouterr().err
  assert said.startswith("hyperjax serve: ") and said.count("\n") == 1
  return said


def test_other_machines_need_tokens(capsys, tmp_path):
  said = refused(capsys, tmp_path, "--host=0.0.0.0")
  assert "other machines" in said and "--token_file" in said


@pytest.mark.parametrize(
  ("content", "sentence"),
  [
    (None, "cannot be read"),
    (b"", "holds no token"),
    (b" \n\n", "holds no token"),
    (b"good\nnot good\n", "token 2 must be printable ASCII"),
    ("schlüssel\n".encode(), "token 1 must be printable ASCII"),
    (b"\xff\xfe", "cannot be read"),
  ],
)
def test_a_file_without_usable_tokens_is_refused(
  capsys, tmp_path, content, sentence
):
  if content is not None:
    (tmp_path / "tokens").write_bytes(content)
  option = f"--token_file={tmp_path / 'tokens'}"
  assert sentence in refused(capsys, tmp_path, option)


def test_a_file_in_place_of_the_folder_is_said_before_the_model_is_read(
  capsys, tmp_path
):
  (tmp_path / "own").write_bytes(b"")
  said = refused(capsys, tmp_path)
  assert f"--adapters {tmp_path / 'own'} is a file" in said


def test_a_port_that_is_taken_is_said_before_the_model_is_read(
  capsys, tmp_path
):
  with socket.create_server(("127.0.0.1", 0)) as other:
    port = other.getsockname()[1]
    said = refused(capsys, tmp_path, f"--port={port}")
  assert f"cannot listen at 127.0.0.1, port {port}" in said


def test_what_is_not_installed_is_named(capsys, tmp_path, monkeypatch):
  monkeypatch.delitem(sys.modules, "hyperjax.server.listening", raising=False)
  monkeypatch.delattr(server, "listening", raising=False)
  monkeypatch.setitem(sys.modules, "uvicorn", None)
  said = refused(capsys, tmp_path)
  assert "uvicorn" in said and "pip install 'hyperjax[serve]'" in said
