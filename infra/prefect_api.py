"""The Prefect server that the user's settings name: which it is, and whether it can be used.

Prefect is imported inside the functions, because it reads its settings from the environment when it is imported.
"""

from __future__ import annotations

import os
import tempfile
import warnings

from torl_core.errors import ConfigError, TorlError

_LOOPBACK = "127.0.0.1,localhost,::1"
_TIMEOUT_S = 5.0


class PrefectUnavailable(TorlError):
    """Prefect's server could not be started or did not answer."""


def prepare_environment() -> None:
    """Set what every command of ours wants of Prefect; what the user has set stays. Call before Prefect is imported.

    Prefect sends no telemetry and writes no log lines, since bars and errors say the same on stderr.
    """
    os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
    os.environ.setdefault("DO_NOT_TRACK", "1")
    os.environ.setdefault("PREFECT_LOGGING_LEVEL", "CRITICAL")
    keep_loopback_direct()


def keep_loopback_direct() -> None:
    """Have this process and its children reach this machine without a proxy, whatever HTTP_PROXY says.

    Both spellings are set: urllib prefers `no_proxy`, and other libraries read only one of the two.
    """
    without = os.environ.get("no_proxy") or os.environ.get("NO_PROXY") or ""
    os.environ["no_proxy"] = os.environ["NO_PROXY"] = ",".join(filter(None, [without, _LOOPBACK]))


def configured_url() -> str | None:
    """The server's address in the environment or in Prefect's active profile; None where a run starts its own.

    Raises ConfigError where Prefect cannot read its settings.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a home that cannot be made is `check_home`'s to report
            from prefect.settings import PREFECT_API_URL

            url: str | None = PREFECT_API_URL.value()
    except Exception as error:  # pydantic, tomllib and Prefect raise kinds of their own
        raise ConfigError(
            f"Prefect cannot read its settings ({type(error).__name__}: {' '.join(str(error).split())[:300]})",
            "they come from PREFECT_* variables, .env and profiles.toml in Prefect's home (~/.prefect)",
            "correct the one that is named here",
        ) from None
    return url


def check_server(url: str) -> None:
    """Have the configured server answer. Raises PrefectUnavailable within seconds where it does not, and where it is of
    another major version."""
    import prefect
    from packaging.version import Version
    from prefect.client.orchestration import get_client
    from prefect.settings import PREFECT_CLIENT_MAX_RETRIES, temporary_settings

    try:
        with (
            temporary_settings({PREFECT_CLIENT_MAX_RETRIES: 0}),
            get_client(sync_client=True, httpx_settings={"timeout": _TIMEOUT_S}) as client,
        ):
            served = Version(client.api_version())
    except Exception as error:  # addresses, networks and other servers fail in many ways
        raise PrefectUnavailable(
            f"Prefect's server at PREFECT_API_URL={url} cannot be used ({type(error).__name__}: {error})",
            "a run reports to the server that the environment or Prefect's active profile names",
            "start it with `prefect server start`, correct the address (it ends in /api), or unset it "
            "(`prefect config unset PREFECT_API_URL`), and the run starts a server of its own",
        ) from None
    if served.major != Version(prefect.__version__).major:
        raise PrefectUnavailable(
            f"Prefect's server at PREFECT_API_URL={url} has version {served}, and this one has {prefect.__version__}",
            "a server and its clients need the same major version",
            f"name a server of version {prefect.__version__}, or unset PREFECT_API_URL "
            "(`prefect config unset PREFECT_API_URL`), and the run starts a server of its own",
        )


def check_home() -> None:
    """Make Prefect's home, where a server of our own keeps its database. Raises PrefectUnavailable."""
    from prefect.settings import get_current_settings

    home = get_current_settings().home
    try:
        home.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=home):
            pass
    except OSError as error:
        raise PrefectUnavailable(
            f"Prefect's home {home} cannot be written ({error.strerror})",
            "a run without a configured server starts its own, which keeps its database there",
            "set PREFECT_HOME to a folder that you can write, or PREFECT_API_URL to a running server",
        ) from None
