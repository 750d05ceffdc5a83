"""The report page of a store, beside what it reports on."""

from __future__ import annotations

from prefect import task
from prefect.artifacts import create_link_artifact
from prefect.cache_policies import NO_CACHE

from infra.analytics import report as write_report
from infra.progress import console
from infra.storage import Store
from infra.storage.damage import Damage


@task(cache_policy=NO_CACHE, persist_result=False)
def report(store_uri: str, key: str) -> str:
    """Write the page to `report.html` in the store and link it as the artifact `key`; returns its address."""
    store = Store.open(store_uri)
    with store.scratch() as folder:
        write_report(store, folder / "report.html", _name)
        store.write("report.html", (folder / "report.html").read_bytes())
    address = store.uri_of("report.html")
    create_link_artifact(link=address if "://" in address else f"file://{address}", link_text="report", key=key)
    return address


def _name(damage: Damage) -> None:
    """What is damaged in another campaign of the store is no reason to fail this one."""
    console.print(f"left out of the report: {damage}", style="yellow", markup=False)
