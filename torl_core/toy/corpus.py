"""The synthetic mixture the base model is pretrained on: it sometimes writes code, often broken, and mostly guesses.

A document has the shape of an episode: a prompt, then what the model wrote and what the environment answered, in turn.
Every observation is what the document's code really does: the snippets are made here from templates and integers, so
they are run in this process, unlike anything a model writes. Answers given without a tool are right, so that the base
has every chance to do the arithmetic itself.
"""

from __future__ import annotations

import contextlib
import io
import traceback
from dataclasses import dataclass

from torl_core.config import ToolConfig
from torl_core.prompts import TEMPLATES
from torl_core.tool_calls import CALL_MARK, framed, result
from torl_core.toy.problems import KINDS, Draws, Kind, draw_operands
from torl_core.types import Author, ToolCall

Segment = tuple[Author, str]

CODE_PERCENT = 38
"""Documents that write code."""

BROKEN_PERCENT = 50
"""Of those, documents whose first snippet is broken."""

REPAIRED_PERCENT = 50
"""Of snippets that showed no answer, those that a second snippet follows."""

BREAKAGES = ("mistake", "mistake", "unprinted", "unclosed", "undefined")


@dataclass(frozen=True, slots=True)
class Document:
    """A prompt, and the response's segments by author. The model's end of text is not spelled out."""

    prompt: str
    segments: tuple[Segment, ...]


def document(seed: int, index: int) -> Document:
    """The `index`-th document of the corpus numbered `seed`, on operands of the train split."""
    draws = Draws("document", seed, index)
    kind = draws.choice(KINDS)
    operands = draw_operands(kind, "train", seed, index)
    prompt = TEMPLATES["short"].replace("<question>", draws.choice(kind.questions).format(*operands))
    if draws.chance(CODE_PERCENT):
        return Document(prompt, _with_code(kind, operands, draws))
    return Document(prompt, (("model", f" The answer is {_boxed(kind, operands)}"),))


def _with_code(kind: Kind, operands: tuple[int, ...], draws: Draws) -> tuple[Segment, ...]:
    call = run(_snippet(kind, draws).format(*operands))
    first: tuple[Segment, ...] = (("model", f" Let me compute it.\n{_request(call)}"), _shown(call))
    printed = call.stdout.strip()
    if printed:
        return (*first, ("model", f"The answer is \\boxed{{{printed}}}"))
    answer: Segment = ("model", f"The answer is {_boxed(kind, operands)}")
    if not draws.chance(REPAIRED_PERCENT):
        return (*first, answer)
    second = run(f"{kind.setup}print({kind.expression})".format(*operands))
    return (*first, ("model", _request(second)), _shown(second), answer)


def _snippet(kind: Kind, draws: Draws) -> str:
    """A format string over the operands: code that solves the problem, or broken code."""
    if not draws.chance(BROKEN_PERCENT):
        if kind.naive and draws.chance(50):
            return f"print({kind.naive})"
        return kind.setup + draws.choice((f"print({kind.expression})", f"x = {kind.expression}\nprint(x)"))
    breakage = draws.choice((*BREAKAGES, "unimported") if kind.setup else BREAKAGES)
    if breakage == "mistake":
        return f"{kind.setup}print({draws.choice(kind.mistakes)})"
    return {
        "unprinted": f"{kind.setup}{kind.expression}",
        "unclosed": f"{kind.setup}print({kind.expression}",
        "undefined": f"{kind.setup}x = {kind.expression}\nprint(y)",
        "unimported": f"print({kind.expression})",
    }[breakage]


def run(code: str) -> ToolCall:
    """What the sandbox would answer to a snippet made here, which is run in this process."""
    stdout, stderr = io.StringIO(), ""
    try:
        with contextlib.redirect_stdout(stdout):
            exec(code, {"__name__": "__main__"})
    except Exception as error:
        stderr = "".join(traceback.format_exception(error))
    return ToolCall(code, "error" if stderr else "ok", stdout.getvalue(), stderr, duration_s=0.0)


def _request(call: ToolCall) -> str:
    return f"```python\n{call.code}\n```\n{CALL_MARK}"


def _shown(call: ToolCall) -> Segment:
    return "tool", framed(result(call, ToolConfig()), after_mark="")


def _boxed(kind: Kind, operands: tuple[int, ...]) -> str:
    return f"\\boxed{{{kind.answer(*operands)}}}"
