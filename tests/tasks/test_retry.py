"""Which failures of a task are tried again."""

from __future__ import annotations

import errno
import pickle
from pathlib import Path

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError
from prefect.states import Failed

from infra.storage.remote import may_pass
from tasks.rollout import rollout
from tasks.step import is_worth_retrying
from torl_core.engines.vllm import _did_not_start
from torl_core.errors import (
    ConfigError,
    DamagedError,
    DataError,
    EngineError,
    GraderUnavailable,
    LearnerError,
    SandboxCannotIsolate,
    SandboxUnavailable,
    StoreError,
    TorlError,
)

WORDS = ("a window of 8 tokens is too short", "a prompt must fit", "raise it")


def tried_again(error: Exception) -> bool:
    return is_worth_retrying(rollout, None, Failed(data=error))  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", [EngineError, SandboxUnavailable, GraderUnavailable, LearnerError])
def test_a_part_that_failed_is_tried_again_unless_the_error_says_that_it_is_of_no_use(kind: type[TorlError]) -> None:
    assert tried_again(kind(*WORDS))
    assert not tried_again(kind(*WORDS, retryable=False))


@pytest.mark.parametrize("kind", [ConfigError, DataError, SandboxCannotIsolate, StoreError])
def test_bad_input_is_not_tried_again_unless_the_error_says_that_it_may_pass(kind: type[TorlError]) -> None:
    assert not tried_again(kind(*WORDS))
    assert tried_again(kind(*WORDS, retryable=True))


def test_of_other_errors_mistakes_of_the_code_are_not_tried_again() -> None:
    assert [tried_again(error) for error in (KeyError("x"), TypeError("x"), ImportError("x"))] == [False] * 3
    assert [tried_again(error) for error in (OSError("x"), RuntimeError("x"), MemoryError())] == [True] * 3


def test_an_error_from_another_process_still_says_whether_it_is_tried_again() -> None:
    there = [EngineError(*WORDS), EngineError(*WORDS, retryable=False), StoreError(*WORDS, retryable=True)]
    assert [pickle.loads(pickle.dumps(error)).retryable for error in there] == [True, False, True]
    assert str(pickle.loads(pickle.dumps(there[1]))) == str(there[1])


def s3_error(code: str) -> ClientError:
    return ClientError({"Error": {"Code": code, "Message": code}}, "PutObject")


@pytest.mark.parametrize(
    ("error", "may"),
    [
        (s3_error("NoSuchBucket"), False),
        (s3_error("AccessDenied"), False),
        (s3_error("403"), False),
        (s3_error("InvalidAccessKeyId"), False),
        (s3_error("InvalidBucketName"), False),
        (FileNotFoundError(errno.ENOENT, "No such file or directory"), False),
        (PermissionError(errno.EACCES, "Permission denied"), False),
        (OSError(errno.ENOSPC, "No space left on device"), False),
        (s3_error("SlowDown"), True),
        (s3_error("503"), True),
        (EndpointConnectionError(endpoint_url="http://s3.example"), True),
        (ConnectionResetError(errno.ECONNRESET, "Connection reset by peer"), True),
        (OSError(errno.EIO, "Input/output error"), True),
    ],
)
def test_a_store_is_asked_again_only_where_it_did_not_answer_or_failed(error: Exception, may: bool) -> None:
    assert may_pass(error) is may


def test_vllm_says_why_it_did_not_start_in_one_line_and_whether_another_try_can_help(tmp_path: Path) -> None:
    cause = tmp_path / "cause"
    cause.write_text("ValueError: Head size 7 is not supported.")
    error = _did_not_start(RuntimeError("Engine core initialization failed. See root cause above."), cause)
    assert str(error).startswith("vLLM did not start: ValueError: Head size 7 is not supported. The engine needs")
    assert not error.retryable
    cause.write_text("OutOfMemoryError: CUDA out of memory")
    assert _did_not_start(RuntimeError("Engine core initialization failed"), cause).retryable
    cause.unlink()
    killed = _did_not_start(RuntimeError("Engine core initialization failed"), cause)
    assert (killed.what, killed.retryable) == ("vLLM did not start: its process was killed", True)
    refused = _did_not_start(ValueError("max_num_seqs\nis 0"), cause)
    assert (refused.what, refused.retryable) == ("vLLM did not start: ValueError: max_num_seqs is 0", False)


def test_a_damaged_object_is_not_read_again() -> None:
    assert not DamagedError.retryable
