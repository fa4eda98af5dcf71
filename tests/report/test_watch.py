"""The report served to this machine, and built again when records change."""

import json
import logging
import os
import threading
import urllib.request
from http.client import HTTPConnection

import pytest

from fewlabels.report import __main__ as command
from fewlabels.report import watch as module
from fewlabels.report.run_list import run_lines
from fewlabels.report.watch import Server, stamps, watch
from fewlabels.runs import record
from fewlabels.types import UserError
from tests.report.helpers import finished


def write(folder, accuracy=50.0, **changes):
    folder.mkdir(parents=True, exist_ok=True)
    record.write(finished(None, None, accuracy, table=None, **changes), folder / "record.json")


@pytest.fixture
def server(tmp_path):
    (tmp_path / "index.html").write_text("<body>ü</body>\n", encoding="utf-8")
    (tmp_path / "tables.md").write_text("text")
    found = Server(tmp_path, 0)
    thread = threading.Thread(target=found.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield found
    found.shutdown()
    thread.join()
    found.server_close()


def get(server, path, host=None):
    connection = HTTPConnection(*server.server_address, timeout=10)
    connection.request("GET", path, headers={"Host": host} if host else {})
    answer = connection.getresponse()
    text = answer.read().decode()
    connection.close()
    return answer.status, text


def test_the_page_asks_whether_it_changed_and_the_file_does_not(server, tmp_path):
    assert server.server_address[0] == "127.0.0.1"
    for path in ("/", "/index.html?x"):
        status, page = get(server, path)
        assert status == 200
        assert page.startswith("<body>ü<script>")
        assert 'fetch("changed")' in page
    assert "script" not in (tmp_path / "index.html").read_text(encoding="utf-8")
    assert get(server, "/changed") == (200, "0")
    server.builds = 3
    assert get(server, "/changed") == (200, "3")
    assert get(server, "/tables.md") == (200, "text")


def test_nothing_beside_the_report_is_served_nor_anything_to_a_name_of_elsewhere(server, tmp_path):
    (tmp_path.parent / "secret").write_text("secret")
    assert get(server, "/../secret")[0] == 404
    assert get(server, "/%2e%2e/secret")[0] == 404
    assert get(server, "/", host="evil.example:80")[0] == 403
    assert get(server, "/", host="localhost:80")[0] == get(server, "/", host="127.0.0.1")[0] == 200


def test_before_the_first_run_the_page_says_so(server, tmp_path):
    (tmp_path / "index.html").unlink()
    status, page = get(server, "/")
    assert status == 200
    assert "No run yet" in page
    assert 'fetch("changed")' in page


class Ended(Exception):
    pass


def test_the_report_is_built_once_for_each_change_and_a_mistake_is_said_once(tmp_path, monkeypatch, caplog):
    root = tmp_path / "out"
    built = []

    def build():
        built.append(len(stamps(root)))
        if len(built) < 3:
            raise UserError("there is no record")

    looks = [0]

    def sleep(seconds):
        """In the place of time that passes: what happens between one look and the next."""
        assert seconds >= module.SECONDS
        looks[0] += 1
        if looks[0] == 3:
            write(root / "a")
        elif looks[0] == 6:
            (root / "a" / "metrics.jsonl").write_text("{}\n")
        elif looks[0] == 8:
            os.utime(root / "a" / "record.json", (1, 1))
        elif looks[0] == 10:
            raise Ended

    monkeypatch.setattr(module.time, "sleep", sleep)
    with caplog.at_level(logging.INFO), pytest.raises(Ended):
        watch(root, tmp_path / "report", 0, build)
    assert built == [0, 1, 2, 2]
    assert caplog.text.count("there is no record") == 1
    assert "http://127.0.0.1:" in caplog.text


def test_a_long_build_is_followed_by_a_longer_rest(tmp_path, monkeypatch):
    clock = iter([0.0, 7.0])
    monkeypatch.setattr(module.time, "monotonic", lambda: next(clock))

    def sleep(seconds):
        assert seconds == 21.0
        raise Ended

    monkeypatch.setattr(module.time, "sleep", sleep)
    with pytest.raises(Ended):
        watch(tmp_path, tmp_path / "report", 0, lambda: None)


def test_a_port_that_another_has_is_named(server, tmp_path):
    with pytest.raises(UserError, match=f"port {server.server_address[1]} cannot be had: .*--port"):
        watch(tmp_path, tmp_path, server.server_address[1], lambda: None)


def test_the_command_serves_its_report_and_ends_at_once(tmp_path, monkeypatch):
    write(tmp_path / "out" / "a")
    write(tmp_path / "out" / "b", status="running", metrics={}, curve=[], seed=1)
    (tmp_path / "out" / "b" / "metrics.jsonl").write_text(
        '{"epoch": 6, "test_accuracy": 1.0}\n{"epoch": 7, "test_accuracy": 61.5}\n'
    )
    seen = []

    def sleep(_):
        """As Ctrl-C does between two looks."""
        with urllib.request.urlopen(seen[0].url) as answer:
            seen.append(answer.read().decode())
        raise SystemExit(130)

    class Told(Server):
        def __init__(self, *arguments):
            super().__init__(*arguments)
            seen.append(self)

    def leave(code):
        raise Ended(code)

    monkeypatch.setattr(module.os, "_exit", leave)
    monkeypatch.setattr(module, "Server", Told)
    monkeypatch.setattr(module.time, "sleep", sleep)
    monkeypatch.setattr("sys.argv", ["report", str(tmp_path / "out"), "--to", str(tmp_path / "page"), "--watch"])
    with pytest.raises(Ended, match="130"):  # at once, without what an interpreter does in its end
        command.main()
    assert "50.00 (n = 1)" in seen[1]
    assert "so far epoch 7" in seen[1]
    assert "61.50" in seen[1]
    assert f'href="{os.path.relpath(tmp_path / "out", tmp_path / "page")}' not in seen[1]  # which is not served
    assert seen[0].builds == 1


def test_no_folder_and_a_port_without_watch_are_mistakes(tmp_path, monkeypatch, capsys):
    for arguments, said in (
        ([str(tmp_path / "no"), "--watch"], "there is no folder"),
        ([".", "--port", "1"], "--port is of"),
    ):
        monkeypatch.setattr("sys.argv", ["report", *arguments])
        with pytest.raises(SystemExit) as end:
            command.main()
        assert end.value.code == 2
        assert said in capsys.readouterr().err


@pytest.mark.parametrize("text", ["", "{", "[1]", '{"epoch": "x"}', '{"epoch": 1e300}', json.dumps({"test_accuracy": None})])
def test_metrics_that_are_being_written_say_nothing(text, tmp_path):
    (tmp_path / "metrics.jsonl").write_text(text)
    run = finished(None, None, 50.0, table=None, status="running", metrics={}, curve=[])
    run.folder = tmp_path
    (line,) = run_lines([run])
    assert (line.result, line.length) == ("", "")
