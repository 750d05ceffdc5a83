"""A flow run that `prefect worker` started: its process ends soon after its work, whether or not the server answers."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from prefect.client.schemas import FlowRun
from prefect.context import FlowRunContext

from infra.progress import say

_LIMIT_S = 40.0
"""How long the server may take to hear how a run ended; one that restarts is back by then."""


@contextmanager
def ends_in_time() -> Iterator[None]:
    """Around all that a flow does: a worker's process ends within `_LIMIT_S` of it, with the exit code of the work.

    Prefect alone repeats its report to a lost server for minutes, waits for every event of the run without a limit, and
    ends with 1 whatever the flow returned. A signal is left to who sent it, since a worker kills what does not end.
    Elsewhere, as under `torl campaign`, this does nothing.
    """
    try:
        yield
    except Exception:
        _limit_the_end(1)
        raise
    _limit_the_end(0)


def _limit_the_end(code: int) -> None:
    context = FlowRunContext.get()
    run = context.flow_run if context else None
    if run and str(run.id) == os.environ.get("PREFECT__FLOW_RUN_ID"):
        limit = threading.Timer(_LIMIT_S, _leave, (run, code))
        limit.daemon = True
        limit.start()
        threading.Thread(target=_leave_unheard, args=(run, code)).start()


def _leave_unheard(run: FlowRun, code: int) -> None:
    """The interpreter waits for this thread before it ends with an exit code of Prefect's."""
    threading.main_thread().join()
    if not _is_heard(run):
        _leave(run, code)


def _leave(run: FlowRun, code: int) -> None:
    if not _is_heard(run):
        how = "its results are stored" if code == 0 else "it failed"
        say(
            f"Prefect's server did not hear how the run ended: {how}. Set the run's state there by hand, since the "
            "work pool's next run waits for as long as this one seems to be running",
            "yellow",
        )
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _is_heard(run: FlowRun) -> bool:
    return run.state is not None and run.state.is_final()
