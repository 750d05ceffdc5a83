"""The `torl` command: the only argument parser. stdout is data, stderr is narration, exit codes are API.

Exit codes: 0 done; 1 something failed; 2 bad input; 3 this machine cannot isolate model-written code; 130, 143 and 129
interrupted by Ctrl-C, SIGTERM and SIGHUP.
Imports stand inside the commands, so that `torl grade` does not wait for Prefect.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.console import Console
from rich.text import Text

from flows.damage import naming_damage
from flows.prefect_server import leave, run_flow, start_prefect
from flows.store_commands import StoreAddress, store_app
from infra.terminal import harmless
from torl_core.errors import TorlError
from torl_core.launch import use_scratch
from torl_core.noise import only_errors

only_errors()  # here, because vLLM's engine process imports its parent's main module first, and then vLLM

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="ToRL: reinforcement learning that teaches a language model to use tools.\n\n"
    "Exit codes: 0 done, 1 failed, 2 bad input, 3 cannot isolate model-written code; 130, 143 and 129 when Ctrl-C, "
    "SIGTERM or SIGHUP ended it.",
)
sandbox_app = typer.Typer(no_args_is_help=True, help="The sandbox as a service.")
app.add_typer(sandbox_app, name="sandbox")
app.add_typer(store_app, name="store")
stderr = Console(stderr=True)

Overrides = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override one config value; repeatable.")
]
ConfigFile = Annotated[Path, typer.Argument(metavar="CONFIG.yaml", help="A campaign; see configs/.")]


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"torl {version('torl')}")
        raise typer.Exit


def _named(packages: list[str] | None) -> list[str] | None:
    if "" in (packages or ()):
        raise typer.BadParameter("a package has a name of at least one character")
    return packages


@app.callback()
def _options(
    _: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and end.")
    ] = False,
) -> None:
    pass


@app.command()
def demo(
    seed: Annotated[int, typer.Option(min=0, max=(1 << 31) - 1, help="Seeds base model, problems and sampling.")] = 0,
    out: Annotated[Path, typer.Option(help="Folder for the base model, the store and the report.")] = Path("runs/demo"),
    json: Annotated[bool, typer.Option("--json", help="Print the table as JSON.")] = False,
) -> None:
    """Build a tiny base model, train it with and without the tool, print the table, write the report."""
    # The base model is trained in this process; threads that spin while they wait are ten times slower on shared cores.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    from infra.sole_use import sole_use

    with _resumable(), sole_use(out):
        start_prefect(home=out / "prefect")
        from flows.demo import run_demo

        run_demo(out.resolve(), seed).print(as_json=json)


@app.command()
def campaign(
    config: ConfigFile,
    overrides: Overrides = None,
    fork: Annotated[
        str | None, typer.Option(metavar="STORE@STEP", help="Start from that step's policy and optimizer state.")
    ] = None,
    fork_campaign: Annotated[
        str | None, typer.Option(metavar="NAME", help="Its campaign, where the store has several.")
    ] = None,
) -> None:
    """Run a campaign; the same command again resumes it."""
    from infra.preflight import checked_ahead
    from infra.settings import load_campaign

    parsed = load_campaign(config, [*(overrides or []), *_fork_settings(fork, fork_campaign)])
    with _resumable(), checked_ahead(parsed) as ready:
        start_prefect()
        from flows.campaign import campaign as flow

        _print_json(run_flow(flow, ready))


@app.command()
def problems(
    target: Annotated[
        str,
        typer.Argument(
            metavar="LOCATION|CONFIG.yaml", help="A file, folder or pattern, hf:NAME or toy:SPLIT; or a campaign."
        ),
    ],
    overrides: Overrides = None,
    samples: Annotated[int, typer.Option(min=0, max=1000, help="How many prompts to show.")] = 2,
    json: Annotated[bool, typer.Option("--json", help="Print everything as JSON.")] = False,
) -> None:
    """What a campaign would make of its problems: rows, rejected rows, lengths, digest, samples. Nothing is started.

    --set takes the keys of a campaign, such as problems.answer=solution, and model.path=FOLDER to count tokens. Ends
    with 2 where a campaign would refuse the problems.
    """
    from flows.tables import print_surveys
    from infra.survey import survey

    found = survey(target, overrides or [], samples)
    if json:
        _print_json(found)
    else:
        print_surveys(found)
    raise typer.Exit(2 if any(one.refusals for one in found) else 0)


@app.command()
def evaluate(
    config: ConfigFile,
    overrides: Overrides = None,
    step: Annotated[
        int | None, typer.Option(help="Which stored policy; the last when left out, 0 is the base model.")
    ] = None,
) -> None:
    """Evaluate one of a campaign's policies on the config's benchmarks."""
    from infra.preflight import checked_ahead, step_to_evaluate
    from infra.settings import load_campaign

    parsed = load_campaign(config, overrides or [])
    with _resumable():
        step_to_evaluate(parsed, step)
        with checked_ahead(parsed, trains=False) as ready:
            start_prefect()
            from flows.evaluate import evaluate as flow

            _print_json(run_flow(flow, ready, step))


@app.command()
def replay(
    address: Annotated[str, typer.Argument(metavar="STORE@STEP", help="A finished step of a stored campaign.")],
    campaign: Annotated[str | None, typer.Option(help="Its campaign, where the store has several.")] = None,
    overrides: Overrides = None,
    save: Annotated[
        str | None, typer.Option(metavar="DIR", help="Folder or URL, empty so far, for the checkpoint it makes.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print everything as JSON.")] = False,
) -> None:
    """Train a stored step again, with --set algorithm.*, reward.* or trainer.* changed, without sampling anything.

    Ends with 1 when nothing was changed and the result is yet another than the step's.
    """
    from infra.lineage import parse_address

    store, step = parse_address(address)
    with _interruptible("nothing was written to its store"):
        from flows.replay import replay as run
        from flows.tables import print_replay

        result = run(store, step, campaign, overrides or [], save)
    if json:
        _print_json(result)
    else:
        print_replay(result)
    raise typer.Exit(0 if result.equal or result.changed else 1)


@app.command()
def report(
    store: StoreAddress, out: Annotated[Path, typer.Option(help="Where the page goes.")] = Path("report.html")
) -> None:
    """Write a self-contained HTML report over everything in a store."""
    from infra.analytics import report as write_report
    from infra.storage import existing_store

    with naming_damage() as on_damage:
        write_report(existing_store(store), out, on_damage)
        print(out)


@app.command(context_settings={"ignore_unknown_options": True})  # a query may begin with a comment: `-- ...`
def sql(
    store: StoreAddress,
    query: Annotated[str, typer.Argument(metavar="SELECT ...", help="SQL over the views; `SHOW TABLES` lists them.")],
    form: Annotated[
        Literal["table", "csv", "json"] | None, typer.Option("--format", help="table on a terminal, else csv.")
    ] = None,
    allow_files: Annotated[
        bool, typer.Option("--allow-files", help="Let the query read files outside the store too.")
    ] = False,
) -> None:
    """Ask DuckDB about a store's trajectories."""
    from flows.tables import print_answer
    from infra.analytics import answer
    from infra.storage import existing_store

    form = form or ("table" if sys.stdout.isatty() else "csv")
    with naming_damage() as on_damage:
        print_answer(answer(existing_store(store), query, form, on_damage, allow_files=allow_files), form)


@app.command()
def show(store: StoreAddress, trajectory_id: Annotated[str, typer.Argument(metavar="TRAJECTORY_ID")]) -> None:
    """One trajectory in colour: what the model wrote, what the tool answered, what is trained."""
    from flows.tables import out
    from infra.analytics import show as render
    from infra.storage import existing_store

    with naming_damage() as on_damage:
        out().print(render(existing_store(store), trajectory_id, on_damage))


@app.command()
def grade(workers: Annotated[int, typer.Option(min=1)] = 2) -> None:
    """JSON lines {id, gold, response} in; {id, correct, extracted, reason} out, in any order."""
    from flows.lines import serve_lines, text_of
    from torl_core.grading import open_grader, prose

    async def serve() -> int:
        grader = await open_grader(workers)

        async def answer(request: dict[str, Any]) -> dict[str, Any]:
            verdict = await grader.grade(text_of(request, "gold"), prose(text_of(request, "response")))
            return {"correct": verdict.correct, "extracted": verdict.extracted, "reason": verdict.reason}

        try:
            return await serve_lines(answer)
        finally:
            await grader.close()

    raise typer.Exit(2 if asyncio.run(serve()) else 0)


@app.command(name="exec")
def execute(
    workers: Annotated[int, typer.Option(min=1, max=1024, help="Warm interpreters.")] = 2,
    timeout_s: Annotated[
        float, typer.Option(min=0.01, max=3600, help="Wall limit of a snippet that names none.")
    ] = 5.0,
    memory_mib: Annotated[int, typer.Option(min=64, max=1 << 20)] = 512,
    gvisor: Annotated[bool, typer.Option("--gvisor", help="In gVisor's kernel instead of this machine's.")] = False,
    dangerously_run_model_code_without_isolation: Annotated[bool, typer.Option(help="No jail at all.")] = False,
) -> None:
    """JSON lines {id, code, timeout_s?} in; {id, status, stdout, stderr, duration_s} out, in any order."""
    from flows.lines import language_of, positive_of, serve_lines, text_of
    from torl_core.config import SandboxConfig
    from torl_core.errors import SandboxUnavailable
    from torl_core.sandbox import open_sandbox

    config = SandboxConfig(
        backend="gvisor" if gvisor else "local",
        workers=workers,
        timeout_s=timeout_s,
        memory_mib=memory_mib,
        dangerously_run_model_code_without_isolation=dangerously_run_model_code_without_isolation,
    )

    async def serve() -> int:
        sandbox = await open_sandbox(config)

        async def answer(request: dict[str, Any]) -> dict[str, Any]:
            language_of(request)
            code, limit_s = text_of(request, "code"), positive_of(request, "timeout_s", most=3600)
            try:
                call = await sandbox.execute(code, limit_s)
            except SandboxUnavailable as error:
                return {"status": "unavailable", "stdout": "", "stderr": str(error), "duration_s": 0.0}
            return {
                "status": call.status,
                "stdout": call.stdout,
                "stderr": call.stderr,
                "duration_s": call.duration_s,
                "queued_s": call.queued_s,
                "exit_code": call.exit_code,
                "cpu_s": call.cpu_s,
                "peak_memory_bytes": call.peak_memory_bytes,
            }

        try:
            return await serve_lines(answer)
        finally:
            await sandbox.close()

    raise typer.Exit(2 if asyncio.run(serve()) else 0)


@sandbox_app.command()
def serve(
    host: Annotated[str, typer.Option(help="Beyond loopback a token is required.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 8080,
    workers: Annotated[int, typer.Option(min=1, max=1024, help="Warm interpreters; about one per core.")] = 2,
    slots_per_worker: Annotated[int, typer.Option(min=1, max=256)] = 4,
    memory_mib: Annotated[int, typer.Option(min=64, max=1 << 20, help="What one snippet may use.")] = 512,
    package: Annotated[
        list[str] | None,
        typer.Option(callback=_named, help="A further installed package that snippets may import. Repeatable."),
    ] = None,
    max_waiting: Annotated[int, typer.Option(min=0, help="Calls that may wait; one more gets 429.")] = 1024,
    drain_s: Annotated[int, typer.Option(min=1, help="After SIGTERM, time for the calls in flight.")] = 60,
    gvisor: Annotated[bool, typer.Option("--gvisor", help="In gVisor's kernel instead of this machine's.")] = False,
) -> None:
    """Serve SandboxFusion's /run_code and /v1/ping, and /metrics. The bearer token is in TORL_SANDBOX_TOKEN.

    Prints its address on stdout once it answers.
    """
    from torl_core.config import SandboxConfig
    from torl_core.sandbox.service.app import serve as run

    config = SandboxConfig(
        backend="gvisor" if gvisor else "local",
        workers=workers,
        slots_per_worker=slots_per_worker,
        memory_mib=memory_mib,
        packages=tuple(package or ()),
    )
    token = os.environ.get("TORL_SANDBOX_TOKEN", "")
    asyncio.run(run(config, host=host, port=port, token=token, max_waiting=max_waiting, drain_s=drain_s))


@app.command()
def doctor(
    store: Annotated[str | None, typer.Option(help="Also check that this store can be written.")] = None,
    sandbox_url: Annotated[
        list[str] | None, typer.Option(help="Also run a snippet on the service there. May be repeated.")
    ] = None,
    json: Annotated[bool, typer.Option("--json")] = False,
) -> None:
    """What works on this machine, and the remedy for what does not."""
    from flows.tables import print_checks
    from infra.doctor import examine

    checks = examine(store, sandbox_url or [])
    print_checks(checks, as_json=json)
    raise typer.Exit(0 if all(check.ok or not check.required for check in checks) else 1)


def _fork_settings(address: str | None, campaign: str | None) -> list[str]:
    """The two options as `--set`s."""
    from json import dumps

    from infra.lineage import parse_address

    named = [f"fork.campaign={dumps(campaign)}"] if campaign else []
    if address is None:
        return named
    store, step = parse_address(address)
    return [f"fork.store={dumps(store)}", f"fork.step={step}", *named]


class _Terminated(KeyboardInterrupt):
    """SIGTERM or SIGHUP, which end a command as Ctrl-C does."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


@contextlib.contextmanager
def _interruptible(said: str) -> Iterator[None]:
    """End on Ctrl-C, SIGTERM and SIGHUP with one line, and the exit code that shells give: 128 and the signal.

    Nothing is left in the temporary folder, also after SIGKILL.
    """
    use_scratch()
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    for number, handler in before.items():
        if handler != signal.SIG_IGN:  # as under nohup
            signal.signal(number, _terminate)
    try:
        yield
    except KeyboardInterrupt as error:
        signum = error.number if isinstance(error, _Terminated) else int(signal.SIGINT)
        name = "interrupted" if signum == signal.SIGINT else f"ended by {signal.Signals(signum).name}"
        stderr.print(f"{name}; {said}")
        raise typer.Exit(128 + signum) from None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _terminate(number: int, _frame: object) -> None:
    raise _Terminated(number)


def _resumable() -> contextlib.AbstractContextManager[None]:
    """Around commands that run flows."""
    return _interruptible("the same command again goes on from the last finished task")


def _print_json(value: Any) -> None:
    import json

    from pydantic import TypeAdapter

    print(json.dumps(TypeAdapter(type(value)).dump_python(value, mode="json"), indent=2))


def main() -> None:
    try:
        app()
    except TorlError as error:
        stderr.print(Text.assemble(("error:", "bold red"), " ", harmless(str(error))), soft_wrap=True)
        leave(error.exit_code)
    except SystemExit as end:  # how typer ends every command
        leave(end.code if isinstance(end.code, int) else int(end.code is not None))
    except BrokenPipeError:  # who read the answers has gone, as `head` does; so has stdout's buffer
        os._exit(1)


if __name__ == "__main__":
    main()
