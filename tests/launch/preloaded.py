"""Commands without their imports: a process that has imported the libraries forks for each command.

``python -m fewlabels.train`` spends most of its time on them. fewlabels itself is imported anew in each fork, which
has the arguments, the environment and the folder that it is given, and ends as any process does.
"""

from __future__ import annotations

import atexit
import json
import os
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path

SERVER = """
import json, os, runpy, sys, tempfile

sys.modules["wandb"] = None  # as in fewlabels.models.timm_import
import timm.utils
del sys.modules["wandb"]
import filelock, hydra, scipy.optimize, sklearn.cluster, sklearn.datasets, torch, torch._dynamo, torchvision, yaml

print("ready", flush=True)
for line in sys.stdin:
    task = json.loads(line)
    if "wait" in task:
        print(os.waitstatus_to_exitcode(os.waitpid(task["wait"], 0)[1]), flush=True)
        continue
    if number := os.fork():
        print(number, flush=True)
        continue
    for descriptor, place in enumerate((os.devnull, *task["output"])):
        os.dup2(os.open(place, os.O_RDONLY if descriptor == 0 else os.O_WRONLY), descriptor)
    os.chdir(task["folder"])
    os.environ.clear()
    os.environ.update(task["environment"])
    tempfile.tempdir = None  # it is looked up anew
    sys.path[:1] = ["", *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    sys.argv = ["-m", *task["arguments"]]
    runpy.run_module(task["module"], run_name="__main__", alter_sys=True)
    break
"""


def run(module: str, *arguments: str, folder: Path, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """``python -m module arguments``, as ``subprocess.run`` would with ``capture_output=True, text=True``."""
    return Command(module, *arguments, folder=folder, environment=environment).wait()


class Command:
    """``python -m module arguments``, which runs beside others; its process is ``pid``."""

    def __init__(self, module: str, *arguments: str, folder: Path, environment: dict[str, str]) -> None:
        self._arguments, self._place = arguments, tempfile.TemporaryDirectory()
        self.output = [Path(self._place.name, "stdout"), Path(self._place.name, "stderr")]
        for file in self.output:
            file.touch()
        task = {"module": module, "arguments": arguments, "folder": str(folder), "environment": environment}
        self.pid = _ask(task | {"output": list(map(str, self.output))})

    def wait(self) -> subprocess.CompletedProcess[str]:
        code = _ask({"wait": self.pid})
        with self._place:
            return subprocess.CompletedProcess(self._arguments, code, *(file.read_text() for file in self.output))


def _ask(task: dict[str, object]) -> int:
    server = _server()
    assert server.stdin is not None
    assert server.stdout is not None
    server.stdin.write(json.dumps(task) + "\n")
    server.stdin.flush()
    return int(server.stdout.readline())


@cache
def _server() -> subprocess.Popen[str]:
    """One for each of pytest's workers; it ends with it."""
    environment = {**os.environ, "PYTHONWARNINGS": "ignore"}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    server = subprocess.Popen([sys.executable, "-c", SERVER], env=environment, text=True, **pipes)  # type: ignore[call-overload]
    assert server.stdout.readline() == "ready\n"

    def end() -> None:
        server.stdin.close()
        server.stdout.close()
        server.wait()

    atexit.register(end)
    return server
