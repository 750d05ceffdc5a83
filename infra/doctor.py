"""What works on this machine, each thing tried rather than assumed."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from infra.prefect_api import check_home, check_server, configured_url, prepare_environment
from infra.storage import Store
from torl_core.errors import TorlError
from torl_core.sandbox import check_gvisor, check_isolation, check_service, check_worker


@dataclass(frozen=True, slots=True)
class Check:
    """`required`: a campaign cannot run without it."""

    name: str
    ok: bool
    detail: str
    remedy: str = ""
    required: bool = True


def examine(store: str | None, sandbox_urls: Sequence[str] = ()) -> list[Check]:
    """Every check, in the order in which a campaign would trip over them. A few seconds."""
    return [
        *_sandbox(sandbox_urls),
        _vllm(),
        _deepspeed(),
        _gpu(),
        *([_store(store)] if store else []),
        _prefect(),
    ]


def _sandbox(urls: Sequence[str]) -> Iterator[Check]:
    """The local backend, gVisor as the option it is, and the services at `urls`."""
    local = (*check_isolation(), check_worker())
    gvisor = dataclasses.replace(check_gvisor()[-1], required=False)
    for check in (*local, gvisor, *(check_service(url) for url in urls)):
        yield Check(f"sandbox: {check.name}", check.ok, check.detail, check.remedy, check.required)


def _vllm() -> Check:
    """In a process of its own: importing it takes seconds and sets up logging."""
    code = "import vllm; from vllm.platforms import current_platform as p; print(vllm.__version__, 'on', p.device_type)"
    return _in_process("vLLM", code, "install the cpu or the cuda extra: make setup")


def _deepspeed() -> Check:
    code = "import deepspeed, torch; print(deepspeed.__version__, 'with torch', torch.__version__)"
    return _in_process("DeepSpeed", code, "run make setup")


def _gpu() -> Check:
    import torch

    if torch.cuda.is_available():
        cards = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
        return Check("GPU", True, ", ".join(cards), required=False)
    return Check(
        "GPU", False, "none seen by torch", "fine for the demo; models of a billion parameters need one", required=False
    )


def _store(uri: str) -> Check:
    try:
        Store.open(uri).check_writable()
    except TorlError as error:
        return Check("store", False, error.what, error.remedy)
    return Check("store", True, f"{uri} can be written, read and deleted in")


def _prefect() -> Check:
    """The server that a campaign would report to, by Prefect's own settings."""
    prepare_environment()
    try:
        url = configured_url()
        if url is None:
            check_home()
            return Check("Prefect API", True, "no server is configured: each run starts one of its own")
        check_server(url)
    except TorlError as error:
        return Check("Prefect API", False, error.what, error.remedy)
    return Check("Prefect API", True, f"{url} answers")


def _in_process(name: str, code: str, remedy: str) -> Check:
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300, check=False)
    if result.returncode:
        return Check(name, False, result.stderr.strip().splitlines()[-1], remedy)
    return Check(name, True, result.stdout.strip().splitlines()[-1])
