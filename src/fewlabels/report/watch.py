"""The report served on this machine alone, and built again when records change, while runs go on."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable
from functools import partial
from http import HTTPStatus
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NoReturn

from fewlabels.report.collect import record_files
from fewlabels.system.layout import METRICS
from fewlabels.system.terminal import one_line
from fewlabels.types import UserError

logger = logging.getLogger("fewlabels.report")

HOST = "127.0.0.1"
SECONDS = 2.0  # between two looks at the records
REST = 3  # times as long as the last build took: on a busy machine the runs come first
CHANGED = "/changed"  # answers with the number of the build
RELOAD = """<script>
(() => {
  let seen = null;
  setInterval(async () => {
    try {
      const now = await (await fetch("changed")).text();
      if (seen !== null && now !== seen) location.reload();
      seen = now;
    } catch { /* the report was ended: the page stays as it is */ }
  }, 2000);
})();
</script>
"""


class Server(ThreadingHTTPServer):
    """Serves a folder and says how often the report in it was built."""

    daemon_threads = True

    def __init__(self, folder: Path, port: int) -> None:
        self.folder, self.builds = folder, 0
        super().__init__((HOST, port), partial(_Handler, directory=str(folder)))

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.server_address[1]}/"


class _Handler(SimpleHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if self.headers.get("Host", "").partition(":")[0] not in (HOST, "localhost"):
            # A page from elsewhere, whose name was made to lead here.
            self.send_error(HTTPStatus.FORBIDDEN, "not a name of this machine")
        elif path == CHANGED:
            self._send(str(self.server.builds), "text/plain")
        elif path in ("/", "/index.html"):
            index = self.server.folder / "index.html"
            page = index.read_text(encoding="utf-8") if index.exists() else "<!doctype html>\n<p>No run yet.</p>\n</body>"
            self._send(page.replace("</body>", f"{RELOAD}</body>"), "text/html")
        else:
            super().do_GET()

    def _send(self, text: str, kind: str) -> None:
        content = text.encode()
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", f"{kind}; charset=utf-8")
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        """The terminal is for what becomes of the report."""


def watch(root: Path, to: Path, port: int, build: Callable[[], object]) -> NoReturn:
    """Serve the report and build it whenever a record, or the metrics of a run that goes on, changed. Ends by a signal.

    Args:
        root: The folder of the runs.
        to: Where ``build`` writes the report.
        port: 0 for any that is free.
        build: Writes the report; its UserError is said once, and the next change tries again.

    Raises:
        UserError: The port cannot be had.
    """
    to.mkdir(parents=True, exist_ok=True)
    try:
        server = Server(to, port)
    except (OSError, OverflowError) as error:
        raise UserError(f"port {port} cannot be had: {error}; give another --port, or none for one that is free") from error
    threading.Thread(target=server.serve_forever, daemon=True).start()
    logger.info(f"{server.url} shows the report, and is kept up to date; Ctrl-C ends it")
    try:
        _keep_up_to_date(server, root, build)
    except SystemExit as end:
        # Of a signal. All that was held is let go by now, and to take down torch would be seconds of waiting.
        os._exit(end.code if isinstance(end.code, int) else 1)


def _keep_up_to_date(server: Server, root: Path, build: Callable[[], object]) -> NoReturn:
    seen, said = None, ""
    while True:
        began, now = time.monotonic(), stamps(root)
        if now != seen:
            seen = now
            try:
                build()
                server.builds, said = server.builds + 1, ""
            except UserError as error:
                if str(error) != said:
                    logger.error(one_line(str(error)))
                said = str(error)
        time.sleep(max(SECONDS, REST * (time.monotonic() - began)))


def stamps(root: Path) -> dict[Path, tuple[int, int]]:
    """Time and size of each record and of its run's metrics."""
    found = {}
    for record in record_files(root, tell=False):
        for path in (record, record.with_name(METRICS)):
            try:
                state = os.stat(path)
            except OSError:  # there is none, or it was moved away
                continue
            found[path] = state.st_mtime_ns, state.st_size
    return found
