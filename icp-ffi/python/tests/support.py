"""A receiver on loopback."""

from __future__ import annotations

import http.server
import json
import threading


class Receiver:
    """Takes every request, and keeps its header fields and its body."""

    def __init__(self) -> None:
        received: list[object] = []
        headers: list[dict[str, str]] = []

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                length = int(self.headers["content-length"])
                headers.append({name.lower(): value for name, value in self.headers.items()})
                received.append(json.loads(self.rfile.read(length)))
                self.send_response(200)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self.received = received
        self.headers = headers
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}/hook"

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def http_target(url: str) -> dict[str, object]:
    return {"events": ["order.*"], "target": {"kind": "http", "url": url}}


def order(number: int) -> dict[str, object]:
    return {"org": "acme", "type": "order.paid", "data": {"order": number}}
