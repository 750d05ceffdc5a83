"""`torl store`: what is in a store, whether it is whole, and its upkeep."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import timedelta
from threading import Lock
from typing import TYPE_CHECKING, Annotated

import typer

from flows.damage import naming_damage
from infra.terminal import harmless

if TYPE_CHECKING:
    from infra.storage.listing import CampaignLine, EvaluationLine, StepLine

store_app = typer.Typer(no_args_is_help=True, help="What is in a store, whether it is whole, and its upkeep.")

StoreAddress = Annotated[str, typer.Argument(metavar="STORE", help="Folder or URL of a store.")]
CampaignName = Annotated[str | None, typer.Option("--campaign", metavar="NAME", help="Only this campaign.")]


@store_app.command()
def ls(
    store: StoreAddress,
    json: Annotated[bool, typer.Option("--json", help="One object per line: campaigns, steps, evaluations.")] = False,
) -> None:
    """Campaigns with their steps, rows, bytes, policies and evaluations."""
    from infra.storage import existing_store
    from infra.storage.listing import lines

    opened = existing_store(store)
    with naming_damage() as on_damage:
        if json:
            from json import dumps

            for line in lines(opened, on_damage):
                print(dumps(asdict(line)), flush=True)
            return
        listed = list(lines(opened, on_damage))
        _print_listing(listed)


@store_app.command()
def verify(store: StoreAddress, campaign: CampaignName = None) -> None:
    """Read back everything the manifests name. Exit code 1, and a line for each object, if something is damaged.

    A config that this version of torl refuses and an earlier one took is named on stderr, and is not damaged."""
    from infra.storage import existing_store
    from infra.storage.verification import plan
    from infra.storage.verification import verify as read_back

    opened = existing_store(store)
    planned = plan(opened, campaign)
    for key, why in planned.notes.items():
        _say(f"{key} was recorded under other rules: {why}. The campaign can be read and forked, and not trained on")
    damages = list(planned.damaged)
    with _bytes_bar("verify", planned.bytes) as on_bytes:
        damages += filter(None, read_back(opened, planned, on_bytes))
    for damage in damages:
        print(harmless(str(damage)))
    whole = f"{len(planned.objects)} objects, {_size(planned.bytes)}"
    _say(f"{len(damages)} damaged of {whole}" if damages else f"{whole}: all whole")
    raise typer.Exit(1 if damages else 0)


@store_app.command()
def cp(
    source: Annotated[str, typer.Argument(metavar="SRC", help="Folder or URL of a store.")],
    target: Annotated[str, typer.Argument(metavar="DST", help="Folder or URL of the store to copy into.")],
    campaign: CampaignName = None,
) -> None:
    """Copy campaigns into another store, verified on the way. The same command again goes on where it stopped."""
    from infra.storage import Store, existing_store
    from infra.storage.copying import copy, plan

    read, opened = existing_store(source), Store.open(target)
    opened.check_writable()
    planned = plan(read, opened, campaign)
    with _bytes_bar("cp", planned.bytes) as on_bytes:
        copied = copy(planned, opened, on_bytes)
    names = ", ".join(one.name for one in planned.campaigns)
    _say(f"{names}: {copied.objects} objects copied, {copied.skipped} skipped, {len(planned.manifests)} manifests")


@store_app.command()
def compact(
    store: StoreAddress,
    campaign: Annotated[
        str, typer.Option("--campaign", metavar="NAME", help="The campaign, which must not be running.")
    ],
) -> None:
    """Merge the small files of each step's rows; readers see the same rows in the same order."""
    from infra.progress import bar
    from infra.storage import existing_store
    from infra.storage.compaction import compact as merge
    from infra.storage.verification import choose

    (chosen,) = choose(existing_store(store), campaign)
    with chosen.hold("torl store compact"), bar("compact", chosen.last_step()) as progress:
        done = []
        for one in merge(chosen):
            done.append(one)
            progress.update(one.step)
    if not done:
        _say(f"nothing to merge: no step of {campaign} has small files that were not merged before")
        return
    before, after = (sum(getattr(one, name) for one in done) for name in ("files_before", "files_after"))
    _say(f"{len(done)} steps: {before} files are now {after}; `torl store gc` removes the old ones after a while")


@store_app.command()
def gc(
    store: StoreAddress,
    delete: Annotated[bool, typer.Option("--delete", help="Remove it; without this it is only listed.")] = False,
    older_than: Annotated[
        float, typer.Option(min=0, metavar="HOURS", help="What is younger may be work in progress and is left alone.")
    ] = 1.0,
) -> None:
    """List what crashes left behind, or remove it. Campaigns held by a living run and unknown files are left alone."""
    from infra.storage import existing_store
    from infra.storage.garbage import Garbage, collect, find

    opened, age = existing_store(store), timedelta(hours=older_than)

    def show(one: Garbage) -> None:
        said = f"{'removed' if delete else 'garbage'} {one.key} ({_size(one.bytes)}; {one.why})"
        print(harmless(said), flush=True)

    if delete:
        found = collect(opened, age, show)
    else:
        found = find(opened, age)
        for one in found.garbage:
            show(one)
    for key in found.unknown:
        print(harmless(f"unknown {key}"))
    for name, why in found.spared.items():
        _say(f"campaign {name} is left alone: {why}")
    if found.resumable:
        _say(f"{len(found.resumable)} parts of unfinished steps are kept: the same campaign resumes from them")
    if found.young:
        _say(f"{len(found.young)} younger than {older_than:g} h are left alone; see --older-than")
    total = f"{len(found.garbage)} pieces of garbage, {_size(sum(one.bytes for one in found.garbage))}"
    _say(f"{total}, removed" if delete else f"{total}; --delete removes them" if found.garbage else "no garbage")
    raise typer.Exit(1 if found.unreadable else 0)


@contextmanager
def _bytes_bar(label: str, total: int) -> Iterator[Callable[[int], None]]:
    """A bar in MiB, fed with numbers of bytes from any thread."""
    from infra.progress import bar

    done, lock = 0, Lock()
    with bar(f"{label} (MiB)", _mib(total)) as progress:

        def on_bytes(count: int) -> None:
            nonlocal done
            with lock:
                before, done = _mib(done), done + count
                if _mib(done) > before:
                    progress.update(_mib(done))

        yield on_bytes


def _mib(count: int) -> int:
    return -(-count >> 20) if count else 0


def _print_listing(lines: list[CampaignLine | StepLine | EvaluationLine]) -> None:
    from rich.table import Table

    from flows.tables import out, plain

    console, table = out(), None
    for line in lines:
        if line.kind == "campaign":
            if table:
                console.print(table)
            console.print(plain(_heading(line)), soft_wrap=True)
            columns = ("step", "what", "rows", "bytes", "policy", "checkpoint", "accuracy", "reward")
            table = Table(*columns, box=None, header_style="dim")
        elif table:
            table.add_row(*map(plain, _cells(line)))
    if table:
        console.print(table)


def _heading(line: CampaignLine) -> str:
    held = f"; held by {line.held_by}" if line.held_by else ""
    judged = f"; judged by graders {' and '.join(line.graders)}" if len(line.graders) > 1 else ""
    return (
        f"{line.campaign}: {line.steps} steps, {line.rows} rows in {_size(line.bytes)}, {line.checkpoints} checkpoints "
        f"in {_size(line.checkpoint_bytes)}, {line.evaluations} evaluations{judged}{held}"
    )


def _cells(line: StepLine | EvaluationLine) -> Iterator[str]:
    yield str(line.step)
    yield "training" if line.kind == "step" else _what(line)
    yield from (str(line.rows), _size(line.bytes), line.policy[:8])
    is_stored = line.kind == "step" and line.checkpoint == "stored"
    yield "" if line.kind == "evaluation" else _size(line.checkpoint_bytes) if is_stored else line.checkpoint
    yield from (f"{line.metrics[name]:.3f}" if name in line.metrics else "" for name in ("accuracy", "reward"))


def _what(line: EvaluationLine) -> str:
    """Short, for a terminal of 80 columns; --json has what else tells evaluations apart."""
    facts = {"T": f"{line.temperature:g}", "C": line.max_calls, "samples": line.samples if line.samples > 1 else None}
    return " ".join([line.benchmark, *(f"{name}={value}" for name, value in facts.items() if value is not None)])


def _size(count: float) -> str:
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"


def _say(text: str) -> None:
    print(harmless(text), file=sys.stderr)
