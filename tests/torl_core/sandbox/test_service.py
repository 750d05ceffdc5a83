"""SandboxFusion's format over real HTTP, and the client against services that fail."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import signal
import socket
import subprocess
import sys
import threading
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import pytest
from pydantic import ValidationError

from tests.torl_core.sandbox.conftest import service
from torl_core.config import SandboxConfig
from torl_core.errors import ConfigError, SandboxUnavailable
from torl_core.sandbox import check_service, open_sandbox
from torl_core.sandbox.service.app import _listening, serve


def post(url, **body):
    return httpx.post(f"{url}/run_code", json={"language": "python", **body}, timeout=30, trust_env=False)


def test_ping(service_url):
    reply = httpx.get(f"{service_url}/v1/ping", trust_env=False)
    assert (reply.status_code, reply.json()) == (200, "pong")


def test_the_shape_of_an_answer(service_url):
    answer = post(service_url, code="print(1 + 1)").json()
    assert 0 <= answer["run_result"].pop("execution_time") < 10
    del answer["torl"]
    assert answer == {
        "status": "Success",
        "message": "",
        "compile_result": None,
        "run_result": {"status": "Finished", "return_code": 0, "stdout": "2\n", "stderr": ""},
        "executor_pod_name": None,
        "files": {},
    }


@pytest.mark.parametrize(
    ("code", "run_status", "return_code", "stdout"),
    [
        ("print(1); 1/0", "Finished", 1, "1\n"),
        ("import sys; sys.exit(3)", "Finished", 3, ""),
        ("import ctypes; ctypes.string_at(0)", "Finished", -11, ""),
        ("print('so far')\nwhile True: pass", "TimeLimitExceeded", None, "so far\n"),
    ],
)
def test_code_that_fails(service_url, code, run_status, return_code, stdout):
    answer = post(service_url, code=code, run_timeout=1).json()
    assert answer["status"] == "Failed"
    result = answer["run_result"]
    assert (result["status"], result["return_code"], result["stdout"]) == (run_status, return_code, stdout)


def test_stdin_and_files(service_url):
    code = (
        "import sys, os\nprint(input(), sys.stdin.read().strip(), os.read(0, 1))\n"
        "print(open('a/b.txt').read())\nopen('c.bin', 'wb').write(b'\\xff\\x00')"
    )
    given = {"a/b.txt": base64.b64encode(b"inside").decode()}
    answer = post(service_url, code=code, stdin="one\ntwo\n", files=given, fetch_files=["c.bin", "missing"]).json()
    assert answer["run_result"]["stdout"] == "one two b''\ninside\n"
    assert answer["files"] == {"c.bin": base64.b64encode(b"\xff\x00").decode()}


def test_fetched_files_are_whole_beside_output_that_is_shortened(service_url):
    code = "print('x' * 300_000)\nopen('c.bin', 'wb').write(bytes(200_000))"
    answer = post(service_url, code=code, fetch_files=["c.bin"]).json()
    assert answer["torl"]["status"] == "ok"
    assert answer["run_result"]["stdout"].count("x") == 65501
    assert "\n[... 234499 bytes left out ...]\n" in answer["run_result"]["stdout"]
    assert base64.b64decode(answer["files"]["c.bin"]) == bytes(200_000)


def test_a_traceback_with_stdin_shows_the_code_alone(service_url):
    answer = post(service_url, code="x = 1\nx/0", stdin="").json()
    lines = answer["run_result"]["stderr"].splitlines()
    assert lines[:3] == ["Traceback (most recent call last):", '  File "<snippet>", line 2, in <module>', "    x/0"]
    assert lines[-1] == "ZeroDivisionError: division by zero"
    assert len(lines) <= 5


ALLOCATE = "x = bytearray({} << 20)\nprint(len(x) >> 20)"


@pytest.mark.parametrize(
    ("limit", "mib", "printed"),
    [
        (-1, 200, "200\n"),
        (64, 32, "32\n"),
        (64, 200, ""),  # under the service's own 256 MiB, over what is asked for
        (4096, 200, "200\n"),
        (4096, 400, ""),  # nobody raises the service's own
    ],
)
def test_a_memory_limit_lowers_the_services_own(service_url, limit, mib, printed):
    answer = post(service_url, code=ALLOCATE.format(mib), memory_limit_MB=limit).json()
    result = answer["run_result"]
    assert (result["stdout"], answer["torl"]["status"]) == (printed, "ok" if printed else "memory")
    assert result["stderr"].endswith("" if printed else "MemoryError\n")


def test_a_snippet_cannot_raise_the_memory_limit_it_was_given(service_url):
    code = "import resource\nresource.setrlimit(resource.RLIMIT_AS, (1 << 40, 1 << 40))\n" + ALLOCATE.format(200)
    answer = post(service_url, code=code, memory_limit_MB=64).json()
    assert answer["run_result"]["stderr"].endswith("ValueError: not allowed to raise maximum limit\n")


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"code": 5},
        {"code": "a\0b"},
        {"code": "#" * (20 << 20)},
        {"code": "1", "language": "cobol"},
        {"code": "1", "language": None},
        {"code": "1", "run_timeout": -1},
        {"code": "1", "run_timeout": 1e9},
        {"code": "1", "memory_limit_MB": 0},
        {"code": "1", "memory_limit_MB": 10**12},
        {"code": "1", "files": {"../x": "YQ=="}},
        {"code": "1", "files": {"a/../../x": "YQ=="}},
        {"code": "1", "files": {"/etc/x": "YQ=="}},
        {"code": "1", "files": {"x": "not base64"}},
        {"code": "1", "fetch_files": ["../../etc/passwd"]},
    ],
)
def test_a_bad_body_is_422(service_url, body):
    reply = post(service_url, **body)
    assert reply.status_code == 422
    assert all(set(entry) >= {"type", "loc", "msg"} for entry in reply.json()["detail"])


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff", b"[" * 100000])
def test_what_is_no_request_is_422(service_url, content):
    assert httpx.post(f"{service_url}/run_code", content=content, trust_env=False).status_code == 422


def test_a_full_queue_is_429_and_metrics_count_it_and_sigterm_drains():
    with service("--slots-per-worker", "1", "--max-waiting", "0", token="secret") as (process, url):
        with httpx.Client(base_url=url, trust_env=False, timeout=30) as stranger:
            assert stranger.post("/run_code", json={"code": "1", "language": "python"}).status_code == 401
            assert stranger.get("/metrics").status_code == 401

        async def work():
            headers = {"Authorization": "Bearer secret"}
            async with httpx.AsyncClient(base_url=url, headers=headers, trust_env=False, timeout=30) as client:
                body = {"code": "import time\ntime.sleep(3)\nprint('done')", "language": "python"}
                slow = asyncio.create_task(client.post("/run_code", json=body))
                while "torl_sandbox_held_calls 1.0" not in (await client.get("/metrics")).text:
                    assert not slow.done()
                busy = await client.post("/run_code", json=body)
                counted = (await client.get("/metrics")).text
                process.send_signal(signal.SIGTERM)
                while await _accepts(url):
                    assert not slow.done()
                return busy, counted, await slow

        busy, counted, slow = asyncio.run(work())
        assert (busy.status_code, busy.headers["retry-after"]) == (429, "1")
        assert 'torl_sandbox_refused_total{reason="busy"} 1.0' in counted
        assert slow.json()["run_result"]["stdout"] == "done\n"
        assert process.wait(30) == 0


async def _accepts(url):
    """Whether another connection is taken. One that the listener was closing on is reset."""
    try:
        _, writer = await asyncio.open_connection(httpx.URL(url).host, httpx.URL(url).port)
    except ConnectionError:
        return False
    writer.close()
    return True


@pytest.mark.slow
def test_no_call_is_lost_when_one_of_two_services_is_ended(service_url):
    async def work(process, url):
        sandbox = await open_sandbox(SandboxConfig(backend="remote", urls=(url, service_url)))
        code = "import time\ntime.sleep(0.1)\nprint({})"
        calls = [asyncio.create_task(sandbox.execute(code.format(i))) for i in range(40)]
        try:
            await asyncio.wait(calls, return_when=asyncio.FIRST_COMPLETED)
            process.send_signal(signal.SIGTERM)
            return await asyncio.gather(*calls)
        finally:
            await sandbox.close()

    with service("--slots-per-worker", "2") as (process, url):
        calls = asyncio.run(work(process, url))
    assert [(call.status, call.stdout) for call in calls] == [("ok", f"{i}\n") for i in range(40)]


def test_beyond_loopback_a_token_is_required():
    with pytest.raises(ConfigError, match="TORL_SANDBOX_TOKEN"):
        asyncio.run(serve(SandboxConfig(), host="0.0.0.0", port=0, token="", max_waiting=1, drain_s=1))


def test_a_port_in_use_is_refused_at_once_with_our_own_words_and_exit_code_2():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        words = [sys.executable, "-m", "flows.cli", "sandbox", "serve", "--port", str(port)]
        done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    said = " ".join(done.stderr.split())
    assert f"cannot listen on port {port} of 127.0.0.1: Address already in use. It" in said
    assert "Choose another --port" in said


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_an_address_that_can_be_listened_on(host):
    with _listening(host, 0) as sock:
        assert sock.getsockname()[1] > 0


@pytest.mark.parametrize("host", ["203.0.113.1", "no such host"])
def test_an_address_that_is_not_of_this_machine_is_refused(host):
    with pytest.raises(ConfigError, match=f"port 0 of {host}"):
        _listening(host, 0)


class _Failing(BaseHTTPRequestHandler):
    """Answers pings; every call gets the server's next scripted answer."""

    def do_GET(self):
        self._say(200, b'"pong"')

    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        self.server.asked += 1
        self._say(*self.server.script)

    def _say(self, status, body):
        self.send_response(status)
        self.send_header("content-length", str(len(body)))
        if status == 429:
            self.send_header("retry-after", "0.05")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


class _Relay(_Failing):
    """Hands every call on to the server's `target`, but keeps it while the server's gate is closed."""

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        self.server.asked += 1
        self.server.gate.wait(60)
        request = urllib.request.Request(f"{self.server.target}/run_code", body)
        with urllib.request.urlopen(request, timeout=30) as reply, contextlib.suppress(ConnectionError):
            self._say(reply.status, reply.read())  # refused where the asker has had an answer from elsewhere


@contextlib.contextmanager
def _serving(handler):
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.asked, server.gate = 0, threading.Event()
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server, f"http://127.0.0.1:{server.server_port}"
    finally:
        server.gate.set()
        server.shutdown()
        thread.join()
        server.server_close()


def test_a_call_at_an_address_that_became_slow_is_answered_by_another(service_url):
    """First both are quick, so that the client knows what is usual; then one of them answers nobody any more."""

    async def work(relay, urls):
        sandbox = await open_sandbox(SandboxConfig(backend="remote", urls=urls))
        few_at_once = asyncio.Semaphore(4)

        async def printed(i):
            async with few_at_once:
                return (await sandbox.execute(f"print({i})")).stdout

        try:
            before = await asyncio.gather(*(printed(i) for i in range(48)))
            asked = relay.asked
            relay.gate.clear()
            async with asyncio.timeout(45):
                after = await asyncio.gather(*(printed(i) for i in range(8)))
            return before, asked, after
        finally:
            await sandbox.close()

    with _serving(_Relay) as (relay, url):
        relay.target = service_url
        relay.gate.set()
        before, asked, after = asyncio.run(work(relay, (url, service_url)))
        assert 0 < asked < 48
        assert relay.asked > asked
    assert before == [f"{i}\n" for i in range(48)]
    assert after == before[:8]


@pytest.fixture
def failing(request):
    with _serving(_Failing) as (server, _):
        server.script = request.param
        yield server


ERRORS = [
    (500, b"oops"),
    (429, b""),
    (200, b"not json"),
    (200, b'{"status": "SandboxError", "message": "no"}'),
    (200, json.dumps({"status": "Failed", "run_result": {"status": "Error"}}).encode()),
]


@pytest.mark.parametrize("failing", ERRORS, indirect=True)
def test_a_service_that_fails_is_left_for_another(failing, service_url):
    async def work():
        bad = f"http://127.0.0.1:{failing.server_port}"
        sandbox = await open_sandbox(SandboxConfig(backend="remote", urls=(bad, service_url)))
        try:
            return await asyncio.gather(*(sandbox.execute(f"print({i})") for i in range(8)))
        finally:
            await sandbox.close()

    assert [call.stdout for call in asyncio.run(work())] == [f"{i}\n" for i in range(8)]
    assert failing.asked > 0


SAYS_MUCH = {"status": "Finished", "return_code": 0, "stdout": "a" * 50 + "b" * 900 + "c" * 50, "stderr": "d" * 99}


@pytest.mark.parametrize(
    "failing", [(200, json.dumps({"status": "Success", "run_result": SAYS_MUCH}).encode())], indirect=True
)
def test_what_a_service_of_another_kind_says_is_shortened_here(failing):
    config = SandboxConfig(backend="remote", urls=(f"http://127.0.0.1:{failing.server_port}",), max_output_bytes=131)

    async def work():
        sandbox = await open_sandbox(config)
        try:
            return await sandbox.execute("print(1)")
        finally:
            await sandbox.close()

    call = asyncio.run(work())
    assert (call.status, call.stderr) == ("ok", "d" * 99)
    assert call.stdout == "a" * 50 + "\n[... 900 bytes left out ...]\n" + "c" * 50


@pytest.mark.parametrize("failing", ERRORS[:1], indirect=True)
def test_when_all_fail_the_sandbox_is_unavailable(failing):
    async def work():
        sandbox = await open_sandbox(
            SandboxConfig(backend="remote", urls=(f"http://127.0.0.1:{failing.server_port}",), max_retries=2)
        )
        try:
            await sandbox.execute("print(1)")
        finally:
            await sandbox.close()

    with pytest.raises(SandboxUnavailable, match="HTTP 500"):
        asyncio.run(work())
    assert failing.asked == 3


def test_an_address_where_nobody_answers():
    with pytest.raises(SandboxUnavailable, match="No sandbox service answers"):
        asyncio.run(open_sandbox(SandboxConfig(backend="remote", urls=("http://127.0.0.1:9",))))


def test_the_doctors_check_runs_a_snippet_there(service_url):
    check = check_service(service_url)
    assert (check.ok, check.detail[:7]) == (True, "ok: 42 ")


@pytest.mark.parametrize(
    ("url", "remedy"), [("http://127.0.0.1:9", "torl sandbox serve"), ("nonsense", "http://host:port")]
)
def test_the_doctors_check_names_the_remedy(url, remedy):
    check = check_service(url)
    assert not check.ok
    assert remedy in check.remedy


@pytest.mark.parametrize(
    "options",
    [
        {"backend": "remote"},
        {"urls": ("http://a",)},
        {"backend": "remote", "urls": ("ftp://a",)},
        {"backend": "remote", "urls": ("http://a",), "dangerously_run_model_code_without_isolation": True},
        {"max_output_bytes": 2000, "output_limit_bytes": 1999},
    ],
)
def test_configs_that_make_no_sense(options):
    with pytest.raises(ValidationError):
        SandboxConfig(**options)
