"""A session of one trajectory: a later call sees the variables of the earlier ones.

Nothing stays alive between calls. A later call is sent as a script that first runs the earlier ones again, unheard, in
the same interpreter: snippets are deterministic (hash seed and random states are fixed), so what they built is built
again, in whichever worker and on whichever backend. So a dead worker loses no session, a trajectory that ends leaves
nothing to drop, and nobody else could ever see its variables. The price is the earlier calls' run time, within the
later call's time limit; with the few calls of a response that is less than an interpreter held for each of thousands.
"""

from __future__ import annotations

from collections.abc import Sequence

from torl_core.types import ToolCall

_SCRIPT = """
def _session(earlier, code, main):
    import atexit, io, linecache, os, sys, threading
    main_process, own, kept, ends = os.getpid(), (sys.stdout, sys.stderr), (os.dup(1), os.dup(2)), os._exit
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1), os.dup2(null, 2)
    sys.stdout = sys.stderr = sys.__stdout__ = sys.__stderr__ = os.fdopen(null, "w")
    os._exit = lambda status: sys.exit(status) if os.getpid() == main_process else ends(status)
    def run(source):
        try:
            exec(compile(source, "<earlier call>", "exec", dont_inherit=True), main)
        finally:
            workers = getattr(sys.modules.get("concurrent.futures.thread"), "_threads_queues", ())
            for thread in threading.enumerate():
                if not (thread is threading.current_thread() or thread.daemon or thread in workers):
                    thread.join()
            atexit._run_exitfuncs()
    for source in earlier:
        try:
            run(source)
        except BaseException:
            pass
        if os.getpid() != main_process:
            ends(0)
    os._exit = ends
    for end, fd in enumerate(kept, start=1):
        os.dup2(fd, end), os.close(fd)
    still = set(threading.enumerate()) - {threading.current_thread()}
    class Heard(io.TextIOWrapper):
        def write(self, text):
            return len(text) if threading.current_thread() in still else super().write(text)
    for name, stream in zip(("stdout", "stderr"), own):
        if still:
            stream = Heard(stream.buffer, stream.encoding, stream.errors, line_buffering=True)
        setattr(sys, name, stream), setattr(sys, f"__{name}__", stream)
    lines = code.decode(errors="replace").splitlines(keepends=True)
    linecache.cache["<snippet>"] = (len(code), None, lines, "<snippet>")
    exec(compile(code, "<snippet>", "exec", dont_inherit=True), main)
"""
"""Each earlier call ends as it did the first time: its threads are waited for and its exit functions run. To wait for
daemon threads and idle workers of an executor would be in vain: they go on, and what they print is discarded. A process
that an earlier call forked ends with that call's code and never comes to the later one."""


def with_earlier(calls: Sequence[ToolCall], code: str) -> str:
    """`code` in the session of `calls`, as one script; `code` itself where there is nothing to run again.

    Calls that ended in an exception left what they had built by then. Those that were killed (time, memory, output,
    crash) are left out: they would end the same way again, so what they built is lost. Code with a NUL byte never
    compiles, so it builds nothing and sees nothing.
    """
    earlier = [_source(call.code) for call in calls if call.status in ("ok", "error") and "\0" not in call.code]
    if not earlier or "\0" in code:
        return code
    return f"{_SCRIPT}globals().pop('_session')({earlier!r}, {_source(code)!r}, globals())\n"


def _source(code: str) -> bytes:
    """What the sandbox compiles for `code`; a text with lone surrogates is then a SyntaxError here, too."""
    return code.encode(errors="surrogatepass")
