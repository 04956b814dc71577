"""Downloads with the real client from a hub on this machine.

Each download runs in its own process, because `huggingface_hub` reads its environment variables
when it is imported.
"""

import contextlib
import hashlib
import os
import pty
import random
import re
import shutil
import socket
import subprocess
import termios
import threading
from pathlib import Path

import pytest

from fetch_client import FILE, REPO, Client
from hub_server import Hub

WEIGHTS = random.Random(0).randbytes(3_000_000)
CHANGED = random.Random(1).randbytes(3_000_000)
CONFIG = b'{"sample_size": 32}'
TOKEN = "hf_abcSECRETabc"


def sha256(content):
    return hashlib.sha256(content).hexdigest()


@pytest.fixture
def hub():
    with Hub() as hub:
        hub.commit = hub.publish(REPO, {FILE: WEIGHTS, "config.json": CONFIG})
        yield hub


@pytest.fixture
def fetch(tmp_path, hub):
    return Client(tmp_path, hub.url)


# --- https ----------------------------------------------------------------------------------------


def test_a_hub_without_https_gets_no_request(hub, fetch):
    fetch.environment["HF_ENDPOINT"] = hub.url.replace("127.0.0.1", "192.0.2.1")
    fetch.environment["HF_TOKEN"] = TOKEN
    answer = fetch.fails()
    assert "requests to 192.0.2.1 would use http, ggf downloads over https only" in answer.message
    assert "https://" in answer.hint


def test_a_redirect_away_from_https_is_not_followed(hub, fetch):
    hub.store_url = "http://192.0.2.1"
    answer = fetch.fails()
    assert "requests to 192.0.2.1 would use http, ggf downloads over https only" in answer.message


# --- downloads ------------------------------------------------------------------------------------


def test_a_file_is_complete_and_is_not_downloaded_again(hub, fetch):
    first = fetch()
    assert first.path.read_bytes() == WEIGHTS
    assert first.path.is_relative_to(fetch.cache)
    assert fetch().path == first.path
    assert len(hub.transfers) == 1
    hub.stop()
    assert fetch().path == first.path


def test_a_small_file_is_downloaded_and_not_verified(hub, fetch):
    answer = fetch(file="config.json", verify=False)
    assert answer.path.read_bytes() == CONFIG
    assert not fetch.data.exists()


def test_the_newest_version_of_a_branch_is_downloaded(hub, fetch):
    fetch(verify=False)
    hub.publish(REPO, {FILE: CHANGED})
    assert fetch(verify=False).path.read_bytes() == CHANGED


@pytest.mark.parametrize("length", [7, 40])
def test_a_file_of_a_given_commit_is_not_requested_again(hub, fetch, length):
    revision = hub.commit[:length]
    first = fetch(revision=revision)
    hub.publish(REPO, {FILE: CHANGED})
    requests = len(hub.requests)
    assert fetch(revision=revision).path.read_bytes() == WEIGHTS
    assert first.path.parts[-3] == hub.commit
    assert len(hub.requests) == requests


def test_another_branch_is_another_file(hub, fetch):
    hub.publish(REPO, {FILE: CHANGED}, branch="refs/pr/1")
    assert fetch(revision="refs/pr/1").path.read_bytes() == CHANGED
    assert fetch().path.read_bytes() == WEIGHTS
    assert set(fetch.known) == {f"{REPO}@refs/pr/1/{FILE}", f"{REPO}@main/{FILE}"}


def test_two_processes_at_once_download_the_content_once(hub, fetch):
    hub.delay = 0.5
    answers = [fetch.finish(process) for process in [fetch.start(), fetch.start()]]
    assert [answer.path.read_bytes() == WEIGHTS for answer in answers] == [True, True]
    assert len(hub.transfers) == 1


def test_processes_at_once_record_every_hash(hub, fetch):
    files = {f"{i}.bin": random.Random(i).randbytes(20_000) for i in range(3)}
    hub.publish(REPO, files)
    slow = """
dumps = json.dumps
def pause_between_reading_and_writing(*arguments, **options):
    sleep(0.3)
    return dumps(*arguments, **options)
json.dumps = pause_between_reading_and_writing
"""
    for process in [fetch.start(file=file, before=slow) for file in files]:
        assert fetch.finish(process).path
    assert {key.rsplit("/", 1)[1]: e["sha256"] for key, e in fetch.known.items()} == {
        file: sha256(content) for file, content in files.items()
    }
    assert [f.name for f in fetch.data.glob("*.part")] == []


# --- network failures -----------------------------------------------------------------------------


def test_a_cut_connection_is_resumed(hub, fetch):
    # The client writes pieces of this size, and so loses at most one.
    piece = 10 * 2**20
    content = random.Random(2).randbytes(24_000_000)
    hub.publish(REPO, {FILE: content})
    hub.cut(after=piece + 1000, times=2)
    assert fetch().path.read_bytes() == content
    assert [t.range for t in hub.transfers] == [None, f"bytes={piece}-", f"bytes={2 * piece}-"]
    assert hub.sent == len(content) + 2000


def test_a_cut_small_file_is_complete_in_the_end(hub, fetch):
    hub.cut(after=700_000, times=3)
    assert fetch().path.read_bytes() == WEIGHTS
    assert len(hub.transfers) == 4


def test_a_reset_connection_is_retried(hub, fetch):
    hub.cut(after=700_000, times=2, reset=True)
    assert fetch().path.read_bytes() == WEIGHTS
    assert len(hub.transfers) == 3


def test_a_connection_that_is_always_reset_fails(hub, fetch):
    hub.cut(after=0, times=99, reset=True)
    answer = fetch.fails()
    assert re.search(
        f"cannot download {FILE} of {REPO} from 127.0.0.1: Connection reset", answer.message
    )
    assert "run the same command again" in answer.hint
    assert len(hub.transfers) == 4


@pytest.mark.parametrize("slow", ["HEAD", "GET", "content"])
def test_a_download_from_a_very_slow_server_fails(hub, fetch, slow):
    """Each byte comes within the client's timeout, so the client alone would wait for 40 hours."""
    hub.trickles = {slow}
    fetch.environment["GGF_DOWNLOAD_PATIENCE"] = "0.5"
    answer = fetch.fails()
    assert answer.message == (
        f"cannot download {FILE} of {REPO} from 127.0.0.1: the server sends too slowly,"
        " less than 500 bytes in 0.5 s of waiting"
    )
    assert "GGF_DOWNLOAD_PATIENCE" in answer.hint
    # There is no retry.
    assert len(hub.requests) <= 4
    hub.trickles = set()
    fetch.environment.pop("GGF_DOWNLOAD_PATIENCE")
    assert fetch().path.read_bytes() == WEIGHTS


def test_only_waiting_time_counts_and_a_burst_makes_up_for_a_pause():
    from ggf_cli.checkpoints.pace import TooSlow, _Pace

    pace = _Pace("x", 30.0)
    pace.count(1, 29.0)
    # 38 s of waiting, and more than 1,000 bytes for each of 30 s.
    pace.count(40_000, 9.0)
    pace.count(1, 29.0)
    with pytest.raises(TooSlow, match=r"less than 30,000 bytes in 30 s"):
        pace.count(1, 1.0)
    assert pace.slow


@pytest.mark.parametrize("text", ["x", "0", "-1", "nan"])
def test_an_invalid_patience_is_refused(monkeypatch, text):
    from ggf_cli.checkpoints.patience import patience
    from ggf_cli.errors import UsageError

    monkeypatch.setenv("GGF_DOWNLOAD_PATIENCE", text)
    with pytest.raises(UsageError, match="GGF_DOWNLOAD_PATIENCE is"):
        patience()


@pytest.mark.parametrize("method", ["HEAD", "GET"])
def test_a_temporary_server_error_is_retried(hub, fetch, method):
    hub.fail(500, method=method, times=2)
    assert fetch().path.read_bytes() == WEIGHTS


@pytest.mark.parametrize("method", ["HEAD", "GET"])
def test_a_permanent_server_error_fails(hub, fetch, method):
    hub.fail(503, method=method, times=99)
    answer = fetch.fails()
    assert answer.message == f"cannot download {FILE} of {REPO} from 127.0.0.1: HTTP 503"
    assert "run the same command again" in answer.hint
    assert answer.stderr == ""
    assert sum(request.method == method for request in hub.requests) == 4
    # Nothing incomplete is left behind.
    assert fetch().message
    assert not list(fetch.cache.rglob("*.incomplete"))


# The pauses of the client would take 23 s. This ends the test at the first of them.
NO_PAUSE = "time.sleep = None"
SHORT_CONNECT = "from ggf_cli.checkpoints import patience; patience.CONNECT_S = 0.3"
# Print the sum of the pauses.
PAUSES = """
pauses, short = [], time.sleep
time.sleep = lambda seconds: (pauses.append(seconds), short(seconds))
import atexit
atexit.register(lambda: sys.stderr.write(str(sum(pauses))))
"""


@pytest.mark.parametrize("how", [500, 503, "closed"])
@pytest.mark.parametrize("method", ["HEAD", "GET"])
def test_a_server_that_fails_is_given_up_within_seconds(hub, fetch, method, how):
    """The pauses between the attempts, which the other tests shorten, are 3 s at most."""
    if how == "closed":
        hub.broken = {method: how}
    else:
        hub.fail(how, method=method, times=99)
    answer = fetch.fails(before=PAUSES)
    reason = f"HTTP {how}" if how != "closed" else "the server closes the connection"
    assert reason in answer.message
    assert "run the same command again" in answer.hint
    assert float(answer.stderr) <= 3.0
    assert sum(request.method == method for request in hub.requests) == 4


def test_a_slow_server_error_is_not_repeated(hub, fetch):
    hub.fail(500, times=99)
    before = "from ggf_cli.checkpoints import attempts; attempts.FAIL_S = 0"
    assert fetch.fails(before=before).message.endswith("HTTP 500")
    assert len(hub.requests) == 1


@pytest.mark.parametrize("part", ["HEAD", "GET", "content"])
def test_a_server_that_sends_nothing_is_given_up(hub, fetch, part):
    hub.broken = {part: "silent"}
    fetch.environment["HF_HUB_DOWNLOAD_TIMEOUT"] = "1"
    answer = fetch.fails(before=NO_PAUSE)
    assert answer.message == (
        f"cannot download {FILE} of {REPO} from 127.0.0.1: the server sent no byte for 1 s"
    )
    assert "HF_HUB_DOWNLOAD_TIMEOUT" in answer.hint
    assert answer.stderr == ""
    assert len(hub.requests) == (1 if part == "HEAD" else 2)


def test_a_silent_server_is_given_up_after_ten_seconds_by_default(hub, fetch):
    hub.broken = {"HEAD": "silent"}
    before = """
from huggingface_hub import constants
assert constants.HF_HUB_DOWNLOAD_TIMEOUT == 10
constants.HF_HUB_DOWNLOAD_TIMEOUT = 0.3
"""
    answer = fetch.fails(before=before)
    assert answer.message.endswith("the server sent no byte for 0.3 s")


@pytest.mark.parametrize("method", ["HEAD", "GET"])
def test_a_server_that_asks_for_a_pause_is_not_waited_for(hub, fetch, method):
    hub.fail(429, method=method, headers={"Retry-After": "3600"})
    answer = fetch.fails(before=NO_PAUSE)
    assert answer.message.endswith("too many requests from this address (HTTP 429)")
    assert answer.hint.startswith("wait 3600 s, then run the same command again")
    assert answer.stderr == ""
    hub.fail(429, method=method, headers={"Retry-After": "Wed, 21 Oct 2026 07:28:00 GMT"})
    assert fetch.fails(before=NO_PAUSE).hint.startswith("wait, then run")


@pytest.mark.parametrize("method", ["HEAD", "GET"])
def test_a_web_page_in_place_of_the_file_is_refused(hub, fetch, method):
    hub.broken = {method: "page"}
    answer = fetch.fails(before=NO_PAUSE)
    assert answer.message.endswith("it sends a web page instead of the file")
    assert "login" in answer.hint
    assert answer.stderr == ""


@pytest.mark.parametrize("method", ["HEAD", "GET"])
def test_a_loop_of_redirects_is_refused(hub, fetch, method):
    hub.broken = {method: "loop"}
    answer = fetch.fails(before=NO_PAUSE)
    assert answer.message.endswith("the server redirects in a loop")
    assert answer.stderr == ""


def test_a_store_that_cannot_be_reached_is_named(hub, fetch):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        hub.store_url = f"http://localhost:{free.getsockname()[1]}"
    answer = fetch.fails(before=NO_PAUSE)
    assert "it names the server localhost, which cannot be reached: Connection refused" in (
        answer.message
    )
    assert answer.stderr == ""


@pytest.mark.parametrize("how", [500, 429, "silent", "closed", "page"])
def test_a_cached_file_of_a_branch_is_used_if_the_look_up_fails(hub, fetch, how):
    path = fetch(file="config.json", verify=False).path
    fetch.environment["HF_HUB_DOWNLOAD_TIMEOUT"] = "1"
    if isinstance(how, int):
        hub.fail(how, times=99)
    else:
        hub.broken = {"HEAD": how}
    answer = fetch(file="config.json", verify=False)
    assert answer.message is None
    assert (answer.path, answer.stderr) == (path, "")


def test_a_hub_that_failed_is_not_asked_again_at_once(hub, fetch):
    path = fetch(file="config.json", verify=False).path
    requests = len(hub.requests)
    hub.broken = {"HEAD": "silent"}
    fetch.environment["HF_HUB_DOWNLOAD_TIMEOUT"] = "1"
    twice = f"fetch.fetch_file({REPO!r}, 'config.json', verify=False)"
    assert fetch(file="config.json", verify=False, before=twice).path == path
    assert len(hub.requests) == requests + 1


def test_a_new_version_that_cannot_be_downloaded_is_an_error(hub, fetch):
    fetch(verify=False)
    hub.publish(REPO, {FILE: CHANGED})
    hub.broken = {"GET": "page"}
    assert "web page" in fetch.fails(verify=False).message


def test_failures_count_in_a_row_and_progress_starts_the_count_again():
    from ggf_cli.checkpoints.attempts import PROGRESS, Attempts, Failing

    attempts = Attempts("x", 10.0, "http://127.0.0.1")
    for _ in range(20):
        attempts.broken(ConnectionResetError(104, "Connection reset"))
        attempts.received(PROGRESS)
    for _ in range(3):
        attempts.broken(ConnectionResetError(104, "Connection reset"))
        attempts.received(PROGRESS - 1)
    with pytest.raises(Failing, match="cannot download x: Connection reset"):
        attempts.broken(ConnectionResetError(104, "Connection reset"))


def test_without_a_server_the_message_has_the_reason(hub, fetch):
    hub.stop()
    answer = fetch.fails()
    assert answer.message == f"cannot download {FILE} of {REPO} from 127.0.0.1: Connection refused"
    assert "ggf list-models --here" in answer.hint


@pytest.fixture
def silent_port():
    """A port that answers no request for a connection: its queue is full."""
    with socket.socket() as server, contextlib.ExitStack() as stack:
        server.bind(("127.0.0.1", 0))
        server.listen(0)
        for _ in range(8):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(server.getsockname())
        yield server.getsockname()[1]


def test_without_a_server_there_is_one_attempt_and_no_line_on_stderr(hub, fetch):
    hub.stop()
    answer = fetch.fails(before=NO_PAUSE)
    assert answer.stderr == ""
    fetch.environment["HF_ENDPOINT"] = "https://no-such-host.invalid"
    answer = fetch.fails(before=NO_PAUSE)
    assert "from no-such-host.invalid: " in answer.message
    assert answer.stderr == ""


def test_a_server_that_accepts_no_connection_is_given_up(fetch, silent_port):
    fetch.environment["HF_ENDPOINT"] = f"https://127.0.0.1:{silent_port}"
    before = f"{NO_PAUSE}; {SHORT_CONNECT}"
    answer = fetch.fails(before=before)
    assert answer.message == (
        f"cannot download {FILE} of {REPO} from 127.0.0.1: no answer in 0.3 s"
    )
    fetch.environment["GGF_DOWNLOAD_PATIENCE"] = "40"
    assert fetch.fails(before=before).message.endswith(": no answer in 0.4 s")


def test_a_server_that_is_silent_in_the_tls_handshake_is_given_up(fetch):
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(8)
        fetch.environment["HF_ENDPOINT"] = f"https://127.0.0.1:{server.getsockname()[1]}"
        answer = fetch.fails(before=f"{NO_PAUSE}; {SHORT_CONNECT}")
    assert answer.message.endswith("from 127.0.0.1: the server does not answer")
    assert answer.stderr == ""


def test_a_name_server_that_does_not_answer_is_given_up(hub, fetch):
    hang = "import socket; socket.getaddrinfo = lambda *_, **__: sleep(600)"
    answer = fetch.fails(before=f"{hang}; {NO_PAUSE}; {SHORT_CONNECT}")
    assert answer.message.endswith(": no answer in 0.3 s")


def test_the_time_for_a_connection_is_three_seconds():
    from ggf_cli.checkpoints.patience import connect_s

    assert connect_s() == 3.0


def test_one_address_of_several_is_enough(hub, silent_port, monkeypatch):
    from ggf_cli.checkpoints import hub_connection
    from ggf_cli.checkpoints.hub_errors import Unreachable

    ports = [silent_port]
    monkeypatch.setattr(
        hub_connection.socket,
        "getaddrinfo",
        lambda *_, **__: [
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port)) for port in ports
        ],
    )
    monkeypatch.setattr("ggf_cli.checkpoints.patience.CONNECT_S", 0.2)
    with pytest.raises(Unreachable):
        hub_connection.check_connection("http://localhost")
    monkeypatch.undo()
    monkeypatch.setattr(
        hub_connection.socket,
        "getaddrinfo",
        lambda *_, **__: [
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))
            for port in (silent_port, int(hub.url.rpartition(":")[2]))
        ],
    )
    hub_connection.check_connection("http://localhost")


def test_a_proxy_that_cannot_be_reached_is_named_without_its_password(hub, fetch):
    hub.stop()
    del fetch.environment["NO_PROXY"]
    port = hub.url.rpartition(":")[2]
    fetch.environment["HTTPS_PROXY"] = f"http://user:{TOKEN}@127.0.0.1:{port}"
    fetch.environment["HF_ENDPOINT"] = "https://example.org"
    answer = fetch.fails(before=NO_PAUSE)
    assert answer.message.endswith(
        f" from example.org: the proxy 127.0.0.1:{port}: Connection refused"
    )
    assert answer.stderr == ""


def test_a_server_without_tls_is_not_tried_again(hub, fetch):
    fetch.environment["HF_ENDPOINT"] = hub.url.replace("http:", "https:")
    answer = fetch.fails(before=NO_PAUSE)
    assert f"cannot download {FILE} of {REPO} from 127.0.0.1: " in answer.message
    assert "SSL" in answer.message
    assert answer.stderr == ""


def test_without_a_server_the_cached_file_of_a_branch_is_used(hub, fetch):
    path = fetch(file="config.json", verify=False).path
    hub.stop()
    answer = fetch(file="config.json", verify=False, before=NO_PAUSE)
    assert (answer.path, answer.stderr) == (path, "")


def test_a_server_that_is_not_a_hub_is_refused(hub, fetch):
    hub.fail(404, times=99)
    answer = fetch.fails()
    assert "does not answer like a Hugging Face hub" in answer.message
    assert "HF_ENDPOINT" in answer.hint


def test_offline_a_cached_file_is_used(hub, fetch):
    fetch()
    requests = len(hub.requests)
    fetch.environment["HF_HUB_OFFLINE"] = "1"
    for options in (
        {},
        {"revision": hub.commit},
        {"revision": hub.commit[:8]},
        {"sha256": sha256(WEIGHTS)},
    ):
        assert fetch(**options).path.read_bytes() == WEIGHTS
    assert len(hub.requests) == requests


def test_offline_a_file_that_is_not_cached_is_refused_at_once(hub, fetch):
    fetch.environment["HF_HUB_OFFLINE"] = "1"
    answer = fetch.fails()
    assert FILE in answer.message
    assert "HF_HUB_OFFLINE" in answer.hint
    assert hub.requests == []


# --- absent or restricted files -------------------------------------------------------------------


def test_the_message_for_a_repository_that_does_not_exist(hub, fetch):
    answer = fetch.fails(repo="some/nothing")
    assert "has no repository some/nothing" in answer.message


def test_the_message_for_a_revision_that_does_not_exist(hub, fetch):
    answer = fetch.fails(revision="v9")
    assert f"{REPO} at 127.0.0.1 has no revision 'v9'" in answer.message


def test_the_message_for_a_file_that_does_not_exist(hub, fetch):
    answer = fetch.fails(file="nothing.bin")
    assert "has no file 'nothing.bin' at revision main" in answer.message
    assert answer.hint == f"see 127.0.0.1/{REPO}/tree/main"


def test_the_message_for_a_gated_repository(hub, fetch):
    hub.gated.add(REPO)
    answer = fetch.fails()
    assert "accept the terms of" in answer.message
    assert f"127.0.0.1/{REPO}" in answer.hint
    assert "HF_TOKEN" in answer.hint


@pytest.mark.parametrize("status", [401, 403])
def test_the_message_for_a_refused_request(hub, fetch, status):
    hub.fail(status, times=99)
    answer = fetch.fails()
    assert answer.message == f"127.0.0.1 refuses {FILE} of {REPO} (HTTP {status})"
    assert "HF_TOKEN" in answer.hint
    assert len(hub.requests) == 1


@pytest.mark.parametrize(
    "repo", ["model", "a/b/c", "../b", "a/..", "a--b/c", "a/b?", "/a/b", "a/b\n", "-a/b"]
)
def test_unsafe_names_of_repositories_are_refused_before_any_request(hub, fetch, repo):
    assert repr(repo) in fetch.fails(repo=repo).message
    assert fetch.fails("cached_file", repo=repo).exit_code == 3
    assert hub.requests == []


@pytest.mark.parametrize(
    "name", ["", "/etc/passwd", "../x", "a/../../x", "a//b", "a\\b", "C:/x", "a\0b", "."]
)
def test_unsafe_names_of_files_and_revisions_are_refused_before_any_request(name):
    from ggf_cli.checkpoints.fetch import fetch_file
    from ggf_cli.checkpoints.hub_cache import cached_file
    from ggf_cli.errors import CheckpointError

    for function in (fetch_file, cached_file):
        with pytest.raises(CheckpointError, match="is not the name of a file"):
            function(REPO, name)
        if name:
            with pytest.raises(CheckpointError, match="is not the name of a revision"):
                function(REPO, FILE, revision=name)


# --- hashes ---------------------------------------------------------------------------------------


def test_the_expected_hash_is_accepted_and_nothing_is_recorded(hub, fetch):
    assert fetch(sha256=sha256(WEIGHTS).upper()).path.read_bytes() == WEIGHTS
    assert not fetch.data.exists()


def test_another_hash_than_expected_is_refused_with_both(hub, fetch):
    answer = fetch.fails(sha256=sha256(CHANGED))
    for part in (FILE, REPO, sha256(WEIGHTS), sha256(CHANGED)):
        assert part in answer.message


def test_a_file_of_known_hash_is_not_requested_again(hub, fetch):
    first = fetch(sha256=sha256(WEIGHTS))
    hub.publish(REPO, {FILE: CHANGED})
    requests = len(hub.requests)
    assert fetch(sha256=sha256(WEIGHTS)).path == first.path
    assert len(hub.requests) == requests
    assert fetch(sha256=sha256(CHANGED)).path.read_bytes() == CHANGED


def test_a_file_that_changed_since_its_first_download_is_refused(hub, fetch):
    fetch()
    (entry,) = fetch.known.values()
    assert fetch.known == {f"{REPO}@main/{FILE}": entry}
    assert entry["sha256"] == sha256(WEIGHTS)
    hub.publish(REPO, {FILE: CHANGED})
    answer = fetch.fails()
    assert entry["date"] in answer.message
    assert sha256(CHANGED) in answer.message
    assert str(fetch.data / "known_hashes.json") in answer.hint

    # The entry is removed, as in the hint.
    (fetch.data / "known_hashes.json").write_text("{}")
    assert fetch().path.read_bytes() == CHANGED


@pytest.mark.parametrize(
    "options", [{}, {"sha256": sha256(WEIGHTS)}, {"revision": "main"}], ids=str
)
def test_a_corrupted_file_is_refused_and_the_hint_helps(hub, fetch, options):
    path = fetch(**options).path
    with path.open("r+b") as file:
        file.write(b"damage")
    answer = fetch.fails(**options)
    assert sha256(WEIGHTS) in answer.message

    Path(re.fullmatch("delete (.+) and run the same command again", answer.hint)[1]).unlink()
    assert fetch(**options).path.read_bytes() == WEIGHTS


def test_a_corrupted_small_file_is_refused(hub, fetch):
    fetch(file="config.json").path.write_bytes(b"damage")
    assert sha256(CONFIG) in fetch.fails(file="config.json").message


@pytest.mark.parametrize(
    "content", ["not json", "[]", '{"some/model@main/weights/model.safetensors": 3}']
)
def test_the_message_for_damaged_records(hub, fetch, content):
    fetch.data.mkdir()
    (fetch.data / "known_hashes.json").write_text(content)
    answer = fetch.fails()
    assert answer.message == f"{fetch.data / 'known_hashes.json'} is damaged"


def test_the_message_for_records_that_cannot_be_written(hub, fetch):
    fetch.data.write_text("a file where the folder should be")
    answer = fetch.fails()
    assert "cannot record the sha256" in answer.message
    assert "GGF_HOME" in answer.hint


# --- the disk -------------------------------------------------------------------------------------


def test_the_message_for_a_full_disk(hub, fetch):
    before = """
import errno, huggingface_hub.file_download as library
def full(url, file, **_):
    raise OSError(errno.ENOSPC, "No space left on device")
library.http_get = full
"""
    answer = fetch.fails(before=before)
    assert (
        answer.message == f"cannot store {FILE} of {REPO} in {fetch.cache}: No space left on device"
    )
    assert str(fetch.cache) in answer.hint
    assert "HF_HOME" in answer.hint


def on_a_small_disk(fetch, before=""):
    """Download into a cache on a disk of 1 MB, mounted for that process only."""
    fetch.cache.mkdir(parents=True)
    shell = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c"]
    mount = f"mount -t tmpfs -o size=1m tmpfs '{fetch.cache}'"
    if (
        not shutil.which("unshare")
        or subprocess.run([*shell, mount], check=False, capture_output=True).returncode
    ):
        pytest.skip("this system does not permit mounts in a namespace of their own")
    return fetch.finish(fetch.start(before=before, shell=[*shell, f'{mount} && exec "$@"', "sh"]))


def test_a_disk_that_is_too_small_is_refused_before_the_download(hub, fetch):
    answer = on_a_small_disk(fetch)
    assert answer.message == f"cannot store {FILE} of {REPO} in {fetch.cache}: not enough space"
    assert "Warning" not in answer.stderr
    assert hub.transfers == []


def test_the_message_for_a_disk_that_fills_during_the_download(hub, fetch):
    plenty = (
        "import shutil; shutil.disk_usage = lambda path: shutil._ntuple_diskusage(9**9, 0, 9**9)"
    )
    answer = on_a_small_disk(fetch, before=plenty)
    assert (
        answer.message == f"cannot store {FILE} of {REPO} in {fetch.cache}: No space left on device"
    )
    assert len(hub.transfers) == 1


def test_the_message_for_a_cache_that_cannot_be_written(hub, fetch):
    fetch.cache.parent.mkdir()
    fetch.cache.write_text("a file where the folder should be")
    answer = fetch.fails()
    assert "cannot store" in answer.message
    assert "HF_HOME" in answer.hint


# --- cached files ---------------------------------------------------------------------------------


def test_a_cached_file_is_found_by_branch_and_commit(hub, fetch):
    commit = hub.commit
    for revision in (None, "main", commit, commit[:8]):
        assert fetch("cached_file", revision=revision).path is None
    path = fetch().path
    requests = len(hub.requests)
    for revision in (None, "main", commit, commit[:8]):
        assert fetch("cached_file", revision=revision).path == path
    for options in ({"revision": "v9"}, {"revision": "0" * 40}, {"file": "other"}, {"repo": "a/b"}):
        assert fetch("cached_file", **options).path is None
    assert len(hub.requests) == requests


def test_cached_file_imports_no_client(hub, fetch):
    modules = {name.split(".")[0] for name in fetch("cached_file").modules}
    assert "huggingface_hub" in modules
    assert not modules & {"httpx2", "httpx", "requests", "filelock", "tqdm"}


# --- the token and the terminal -------------------------------------------------------------------


def test_the_token_is_sent_only_to_the_hub(hub, fetch):
    fetch.environment["HF_TOKEN"] = TOKEN
    answer = fetch()
    sent = {(request.to_store, request.authorization) for request in hub.requests}
    assert sent == {(False, f"Bearer {TOKEN}"), (True, None)}
    assert TOKEN not in answer.stderr


def test_without_a_token_none_is_sent(hub, fetch):
    fetch()
    assert {request.authorization for request in hub.requests} == {None}


@pytest.mark.parametrize(
    "token", [TOKEN, f"{TOKEN}\x01bad", f"{TOKEN}\nbad", f"{TOKEN}é"], ids=ascii
)
def test_no_message_contains_the_token(hub, fetch, token):
    fetch.environment["HF_TOKEN"] = token
    hub.fail(403, times=99)
    answer = fetch.fails()
    assert TOKEN not in answer.message + answer.hint + answer.stderr


def on_a_terminal(fetch, **options):
    """The output of a download to a terminal that is its stderr."""
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 100))
    seen = []

    def listen():
        try:
            while data := os.read(ours, 4096):
                seen.append(data)
        except OSError:
            # On Linux, this error means that the other side is closed.
            pass

    listener = threading.Thread(target=listen)
    listener.start()
    process = fetch.start(stderr=theirs, **options)
    os.close(theirs)
    assert fetch.finish(process).path
    listener.join()
    os.close(ours)
    return b"".join(seen).decode()


def test_a_terminal_gets_a_progress_bar_unless_quiet(hub, fetch):
    assert "100%" in on_a_terminal(fetch, file=FILE)
    hub.publish(REPO, {"other.bin": CHANGED})
    hub.fail(500, times=1)
    hub.cut(after=1000)
    assert on_a_terminal(fetch, file="other.bin", quiet=True) == ""


def test_quiet_restores_the_settings_of_the_library(hub, fetch):
    after = """
import logging, atexit
import huggingface_hub.file_download
from huggingface_hub.utils import are_progress_bars_disabled
level = logging.getLogger("huggingface_hub").level
def check():
    same = logging.getLogger("huggingface_hub").level == level and not are_progress_bars_disabled()
    sys.stderr.write("as it was" if same else "changed")
atexit.register(check)
"""
    assert fetch(before=after, quiet=True).stderr == "as it was"
    assert fetch(repo="some/nothing", before=after, quiet=True).stderr == "as it was"


def test_the_data_folder_is_that_of_the_user_unless_ggf_home_is_set(monkeypatch, tmp_path):
    from ggf_cli.checkpoints.hashes import data_folder

    monkeypatch.setenv("GGF_HOME", str(tmp_path))
    assert data_folder() == tmp_path
    monkeypatch.delenv("GGF_HOME")
    assert data_folder().name == "ggf"
