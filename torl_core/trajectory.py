"""A response under construction. Tokens are only ever appended, by their author, so the loss mask cannot be wrong."""

from __future__ import annotations

from torl_core.types import Prompt, Segment, Stop, TokenIds, ToolCall, Trajectory


class TrajectoryBuilder:
    """Segments of one response within a budget of `max_new_tokens`, which model and tool tokens share.

    Neighbouring runs of the model become one segment. Appending more than `remaining` raises ValueError.
    """

    def __init__(self, prompt: Prompt, max_new_tokens: int) -> None:
        if max_new_tokens < 1:
            raise ValueError(f"max_new_tokens is {max_new_tokens}; a response has room for at least one token")
        self.prompt = prompt
        self.remaining = max_new_tokens
        self.tool_calls: list[ToolCall] = []
        self._segments: list[Segment] = []

    @property
    def context(self) -> TokenIds:
        """(T) everything so far: what the engine goes on from."""
        return self.prompt.token_ids + tuple(i for s in self._segments for i in s.token_ids)

    @property
    def model_run(self) -> TokenIds:
        """(t) what the model sampled since the last tool output."""
        last = self._segments[-1] if self._segments else None
        return last.token_ids if last is not None and last.author == "model" else ()

    def append_sampled(self, token_ids: TokenIds, logprobs: tuple[float, ...]) -> None:
        """Tokens the model sampled, with their log-probabilities: the only way to a trained token."""
        if len(token_ids) != len(logprobs):
            raise ValueError(f"{len(token_ids)} tokens have {len(logprobs)} log-probabilities")
        if self._segments and self._segments[-1].author == "model":
            run = self._segments.pop()
            token_ids_before, logprobs_before = run.token_ids, run.logprobs or ()
        else:
            token_ids_before, logprobs_before = (), ()
        self._spend(len(token_ids))
        self._segments.append(Segment("model", token_ids_before + token_ids, logprobs_before + logprobs))

    def append_observation(self, call: ToolCall, token_ids: TokenIds) -> None:
        """An executed call and the tokens shown of it."""
        self._spend(len(token_ids))
        self.tool_calls.append(call)
        self._segments.append(Segment("tool", token_ids, None))

    def finish(
        self,
        trajectory_id: str,
        group_id: str,
        policy_version: int,
        stop: Stop,
        refused_calls: int,
        discarded_tokens: int,
        dialect: int,
    ) -> Trajectory:
        return Trajectory(
            trajectory_id=trajectory_id,
            group_id=group_id,
            policy_version=policy_version,
            prompt=self.prompt,
            segments=tuple(self._segments),
            tool_calls=tuple(self.tool_calls),
            stop=stop,
            refused_calls=refused_calls,
            discarded_tokens=discarded_tokens,
            dialect=dialect,
        )

    def _spend(self, tokens: int) -> None:
        if tokens > self.remaining:
            raise ValueError(f"{tokens} tokens do not fit into the remaining budget of {self.remaining}")
        self.remaining -= tokens
