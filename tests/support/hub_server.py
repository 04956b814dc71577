"""A Hugging Face hub on 127.0.0.1 that supports downloads of single files.

    # Set HF_ENDPOINT to hub.url.
    with Hub() as hub:
        commit = hub.publish("a/b", {"model.bin": content})
        # The next transfer ends early.
        hub.cut(after=1000)
        ...
        assert hub.transfers[1].range == "bytes=1000-"

Like the real hub it sends small files itself, with the git hash as ETag, and redirects to a store
of another origin (here another port) for large files, with their sha256. It does not offer the xet
protocol.
"""

import hashlib
import os
import re
import socket
import struct
import threading
import time
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote

LARGE = 10_000


@dataclass
class Request:
    """One request and the status and size of its answer."""

    method: str
    path: str
    range: str | None
    authorization: str | None
    to_store: bool
    status: int = 0
    sent: int = 0


class Hub:
    """The server. It starts at once and stops at the end of its `with` block.

    Attributes:
        url: The value for HF_ENDPOINT.
        requests: All requests for files so far; requests for statistics are left out.
        gated: Repositories that answer 403 GatedRepo.
        delay: Seconds before the content of each transfer.
        trickles: The parts sent at twenty bytes a second: "HEAD" or "GET" for the headers of the
            answers to this method, "content" for the content.
        broken: How requests of a method, "HEAD" or "GET", are answered instead: "silent" (never),
            "closed" (the connection is closed), "page" (a web page) or "loop" (a redirect to the
            same address); {"content": "silent"} stops in the middle of the content.
    """

    def __init__(self):
        self.requests, self.gated, self.delay = [], set(), 0.0
        self._commits, self._branches, self._store = {}, {}, {}
        self._failures, self._cuts = [], []
        self.trickles, self.broken = set(), {}
        self._lock = threading.Lock()
        self._servers = [_Server(self, is_store) for is_store in (False, True)]
        self.url, self.store_url = (f"http://127.0.0.1:{s.server_port}" for s in self._servers)
        for server in self._servers:
            threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()

    def stop(self):
        """Stop listening: from now on connections are refused."""
        for server in self._servers:
            server.shutdown()
            server.server_close()
        self._servers = []

    def publish(self, repo, files, branch="main", commit=None):
        """Make a commit of these files, {path: bytes}, as head of the branch; return its hash."""
        text = repr((repo, branch, sorted(files.items())))
        commit = commit or hashlib.sha1(text.encode()).hexdigest()
        self._commits.setdefault(repo, {})[commit] = files
        self._branches[repo, branch] = commit
        self._store.update({hashlib.sha256(c).hexdigest(): c for c in files.values()})
        return commit

    def fail(self, status, *, code=None, method=None, times=1, headers=None):
        """Answer the next requests (of one method) with a status and an X-Error-Code."""
        headers = {**({"X-Error-Code": code} if code else {}), **(headers or {})}
        self._failures += [(status, headers, method)] * times

    def cut(self, *, after, times=1, reset=False):
        """End the next transfers after `after` bytes, by closing the connection or by a reset."""
        self._cuts += [(after, reset)] * times

    @property
    def transfers(self):
        """The requests for content."""
        return [request for request in self.requests if request.method == "GET"]

    @property
    def sent(self):
        """Bytes of content sent so far."""
        return sum(request.sent for request in self.transfers if request.status < 300)

    def find(self, repo, revision, file):
        """(commit, content) of a file, or the error code if there is no such file."""
        if repo not in self._commits:
            return "RepoNotFound"
        if (commit := self.commit_of(repo, revision)) is None:
            return "RevisionNotFound"
        files = self._commits[repo][commit]
        return (commit, files[file]) if file in files else "EntryNotFound"

    def commit_of(self, repo, revision):
        """The commit of a branch or of a shortened hash, or None."""
        commits = self._commits.get(repo, ())
        known = {
            branch: commit for (owner, branch), commit in self._branches.items() if owner == repo
        }
        known |= {commit[:length]: commit for commit in commits for length in range(7, 41)}
        return known.get(revision)

    def stored(self, name):
        """The content that the store holds for a sha256."""
        return self._store[name]

    def trickle(self, write, content):
        """Send twenty bytes a second, until the client disconnects or the server stops."""
        for byte in content:
            if self._servers:
                write(bytes([byte]))
                time.sleep(0.05)

    def stay_silent(self):
        """Wait until the server stops."""
        while self._servers:
            time.sleep(0.05)

    def take_failure(self, method):
        """Remove and return the next failure for this method, (status, headers), or None."""
        with self._lock:
            for failure in self._failures:
                if failure[2] in (None, method):
                    self._failures.remove(failure)
                    return failure[:2]
        return None

    def take_cut(self):
        """Remove and return the next cut, (bytes, reset), or None."""
        with self._lock:
            return self._cuts.pop(0) if self._cuts else None


class _Server(ThreadingHTTPServer):
    def __init__(self, hub, is_store):
        self.hub, self.is_store = hub, is_store
        super().__init__(("127.0.0.1", 0), _Handler)

    def handle_error(self, request, client_address):
        # Tests disconnect clients.
        pass


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 20

    def do_HEAD(self):
        hub, headers = self.server.hub, self.headers
        asked = re.fullmatch("/(.+)/resolve/([^/]+)/(.+)", self.path)
        self.request_ = Request(
            method=self.command,
            path=self.path,
            range=headers["Range"],
            authorization=headers["Authorization"],
            to_store=self.server.is_store,
        )
        if not (asked or self.server.is_store):
            self._answer(404, {})
            return
        hub.requests.append(self.request_)
        if self.command in hub.trickles:
            hub.trickle(self.wfile.write, b"HTTP/1.1 200 OK\r\nX-A: " + b"a" * 60_000)
        if how := hub.broken.get(self.command):
            self._break(how)
        elif failure := hub.take_failure(self.command):
            self._answer(*failure)
        elif self.server.is_store:
            self._send_content(hub.stored(self.path.removeprefix("/")), {})
        else:
            self._resolve(*map(unquote, asked.groups()))

    do_GET = do_HEAD

    def _break(self, how):
        match how:
            case "silent":
                self.server.hub.stay_silent()
                self.close_connection = True
            case "closed":
                self.close_connection = True
            case "page":
                page = b"<html>Welcome to the hotel</html>"
                self._answer(200, {"Content-Type": "text/html", "Content-Length": len(page)})
                self.wfile.write(b"" if self.command == "HEAD" else page)
            case "loop":
                self._answer(302, {"Location": self.path})

    def _resolve(self, repo, revision, file):
        if repo in self.server.hub.gated:
            self._answer(403, {"X-Error-Code": "GatedRepo"})
            return
        found = self.server.hub.find(repo, revision, file)
        if isinstance(found, str):
            commit = self.server.hub.commit_of(repo, revision)
            headers = {"X-Repo-Commit": commit} if commit else {}
            self._answer(404, {"X-Error-Code": found, **headers})
            return
        commit, content = found
        headers = {"X-Repo-Commit": commit}
        if len(content) < LARGE:
            blob = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
            self._send_content(content, {**headers, "ETag": f'"{blob}"'})
            return
        sha256 = hashlib.sha256(content).hexdigest()
        headers |= {"X-Linked-Etag": f'"{sha256}"', "X-Linked-Size": str(len(content))}
        self._answer(302, {**headers, "Location": f"{self.server.hub.store_url}/{sha256}"})

    def _answer(self, status, headers, body=b""):
        self.request_.status = status
        self.send_response(status)
        for name, value in {"Content-Length": len(body), **headers}.items():
            self.send_header(name, str(value))
        self.end_headers()

    def _send_content(self, content, headers):
        match = re.match(r"bytes=(\d+)-$", self.headers["Range"] or "")
        start = int(match[1]) if match else 0
        part = content[start:]
        headers |= {"Content-Length": len(part), "Accept-Ranges": "bytes"}
        if start:
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        self._answer(206 if start else 200, headers)
        if self.command == "HEAD":
            return
        time.sleep(self.server.hub.delay)
        after, reset = self.server.hub.take_cut() or (None, False)
        self.request_.sent = len(part[:after])
        if "content" in self.server.hub.broken:
            self.wfile.write(part[: len(part) // 2])
            self.server.hub.stay_silent()
        if "content" in self.server.hub.trickles:
            self.server.hub.trickle(self.wfile.write, part)
        self.wfile.write(part[:after])
        if after is not None:
            self.close_connection = True
        if reset:
            self._reset()

    def _reset(self):
        """Close the connection such that the client receives ECONNRESET."""
        # A reset discards the bytes that the client has not read yet.
        time.sleep(0.1)
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        os.close(self.connection.detach())

    def log_message(self, *_):
        pass
