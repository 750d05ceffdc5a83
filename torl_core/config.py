"""Everything a campaign can be told. Frozen models, unknown keys refused, a docstring under each field.

The same models are the parameters of the Prefect deployments (their docstrings are the forms' help texts), the YAML of
`torl campaign`, and part of every cache key.
"""

from __future__ import annotations

import hashlib
import json
import re
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationInfo, field_validator, model_validator

from torl_core.locations import store_address

PositiveInt = Annotated[int, Field(ge=1)]
Count = Annotated[int, Field(ge=0)]
Positive = Annotated[float, Field(gt=0)]
Share = Annotated[float, Field(ge=0, le=1)]
Decay = Annotated[float, Field(ge=0, lt=1)]
"""Of a moving average: 1 would never move."""
Seed = Annotated[int, Field(ge=0, lt=1 << 31)]
"""NumPy takes no negative seed; every library and every stored column takes one below 2**31."""


def _not_blank(location: str) -> str:
    if not location.strip():
        raise ValueError("a blank address would be the current folder: give a folder or a URL")
    return location


Location = Annotated[str, AfterValidator(_not_blank)]
"""A folder, a file or a URL."""
StoreAddress = Annotated[Location, AfterValidator(store_address)]


def _one_name(name: str) -> str:
    if not re.fullmatch(r"\w[\w .+-]{0,62}", name) or name != name.strip():
        raise ValueError(
            f"a benchmark's name is part of file names in the store, and {name!r} cannot be: begin with a letter or "
            "digit and use at most 63 letters, digits, blanks, dots, plus signs and hyphens"
        )
    return name


BenchmarkName = Annotated[str, AfterValidator(_one_name)]


class Config(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _truth_is_no_number(cls, value: Any, info: ValidationInfo) -> Any:
        """Python's True equals 1, so pydantic would read `steps: true` as one step."""
        if cls.model_fields[str(info.field_name)].annotation is not bool:
            for one in value if isinstance(value, list | tuple) else (value,):
                if isinstance(one, bool):
                    raise ValueError("true and false are for switches; if a text is meant, put it in quotes")
        return value

    def digest(self) -> str:
        """Twelve hex digits that change whenever any value does."""
        return _digest(self.model_dump(mode="json"))


def _digest(values: object) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:12]


class ProblemSource(Config):
    """Where problems come from, and which columns hold what."""

    location: Location
    """A .jsonl or .parquet file (path or URL), `hf:NAME` (a Hugging Face dataset), or `toy:SPLIT` (the demo's)."""
    split: str = "train"
    """Split of a Hugging Face dataset."""
    statement: str = "problem"
    """Column with the question. Dots reach into structs; for verl's schema: `prompt`, a list of chat messages."""
    answer: str = "answer"
    """Column with the gold answer. For verl's schema: `reward_model.ground_truth`."""
    problem_id: str | None = "id"
    """Column with an identifier; rows without one get a digest of their statement."""
    name: str | None = None
    """What the views call this source; the file's own name when left out."""
    limit: PositiveInt | None = None
    """Use only the first so many accepted rows."""
    skip_rejected: bool = False
    """Go on without rows that cannot be used. They are listed either way; without this, one such row stops the run."""


class ModelConfig(Config):
    path: Location
    """Hugging Face folder (local or in a store) or hub name of the base model."""
    dtype: Literal["float32", "bfloat16"] = "bfloat16"
    """Weights' type in the engine and in forward passes. The optimizer keeps float32 masters."""


class ToolConfig(Config):
    max_calls: Count = 1
    """C: the most calls executed in one response. Past it, requests are not executed and the model goes on in text."""
    observation_max_chars: PositiveInt = 2000
    """Longer tool output is shortened in the middle before the model sees it."""
    empty_output: str = "(no output: the code ran without error but printed nothing)"
    """What the model is shown when its code succeeded and printed nothing."""
    session: bool = False
    """A later call of a response sees the variables of its earlier calls, which are run again before it, unheard and
    within its time limit (the paper: every call starts afresh)."""


class RolloutConfig(Config):
    template: str = "torl"
    """Prompt template, by name (see torl_core/prompts.py)."""
    problems_per_step: PositiveInt = 128
    samples_per_problem: Annotated[int, Field(ge=2)] = 16
    """Size of a group. A response alone has nothing to be compared with, so that its advantage would always be zero."""
    temperature: Positive = 1.0
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    max_new_tokens: PositiveInt = 3072
    """Budget of one response, tool output included."""
    max_concurrency: PositiveInt = 2048
    """Episodes in flight at once."""
    save_every_s: Annotated[float, Field(ge=0)] = 30.0
    """Groups that are finished are stored this often, so that an interrupted rollout samples only the others."""


class EngineConfig(Config):
    backend: Literal["vllm", "transformers"] = "vllm"
    max_num_seqs: PositiveInt = 256
    """Sequences the engine decodes together."""
    max_model_len: PositiveInt | None = None
    """Longest context in tokens; the model's own limit when left out."""
    gpu_memory_utilization: Share = 0.6
    """Share of GPU memory for the engine, which stays resident while training runs."""
    cpu_kv_cache_gib: PositiveInt = 1
    tensor_parallel_size: PositiveInt = 1
    enforce_eager: bool = True
    """Skip compilation and graph capture: starts sooner, decodes slower on a GPU."""


class SandboxConfig(Config):
    backend: Literal["local", "gvisor", "remote"] = "local"
    """local: warm interpreters in a jail. gvisor: the same in gVisor's kernel instead of the host's, several times
    slower. remote: `urls`."""
    urls: tuple[str, ...] = ()
    """Services of the remote backend, `torl sandbox serve` or SandboxFusion; their bearer token is in
    TORL_SANDBOX_TOKEN. Packages and the limits of memory, processes, /tmp and output are then theirs."""
    workers: Annotated[int, Field(ge=1, le=1024)] = 2
    """Warm interpreters. About one per core that generation and training leave free."""
    slots_per_worker: Annotated[int, Field(ge=1, le=256)] = 4
    """Snippets one worker runs at the same time, so that sleeping and looping code does not hold up the rest."""
    timeout_s: Annotated[float, Field(gt=0, le=3600)] = 5.0
    """Wall limit of one snippet."""
    memory_mib: Annotated[int, Field(ge=16, le=1 << 20)] = 512
    """What each process of a snippet may map; all of them together may use somewhat more, see docs/sandbox.md."""
    max_processes: Annotated[int, Field(ge=1, le=4096)] = 64
    """Processes and threads one snippet may have."""
    tmp_mib: Annotated[int, Field(ge=1, le=1 << 16)] = 64
    """Size of the snippet's own /tmp, the only place it can write."""
    packages: tuple[Annotated[str, Field(min_length=1)], ...] = ()
    """Further packages of torl's environment that snippets may import, by the names that pip knows them by. numpy,
    scipy, sympy, mpmath, pandas and networkx are always there."""
    max_output_bytes: Annotated[int, Field(ge=1, le=1 << 26)] = 65536
    """What is kept of stdout and of stderr, each. Longer output loses its middle; a note there says how much."""
    output_limit_bytes: Annotated[int, Field(ge=1, le=1 << 30)] = 1 << 24
    """A snippet that writes more than this to stdout or to stderr is ended (`output_limit`)."""
    max_retries: Count = 3
    """Times a call is run again elsewhere when its worker died, before the snippet is reported as `crash`."""
    dangerously_run_model_code_without_isolation: bool = False
    """Run code written by a model with the rights of this user, unjailed. It can read and delete everything you can."""

    @model_validator(mode="after")
    def _urls_fit_backend(self) -> SandboxConfig:
        if (self.backend == "remote") != bool(self.urls):
            raise ValueError(f"urls is {self.urls} with backend {self.backend}: remote needs some, the others none")
        for url in self.urls:
            parts = urlsplit(url)
            if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
                raise ValueError(f"urls has {url!r}: give http://host:port or https://host:port")
        if self.urls and self.packages:
            raise ValueError(f"packages is {self.packages} with backend remote: give it to the services instead")
        if self.backend != "local" and self.dangerously_run_model_code_without_isolation:
            raise ValueError(f"backend {self.backend} isolates: leave out the flag that turns isolation off")
        return self

    @model_validator(mode="after")
    def _limit_is_not_below_what_is_kept(self) -> SandboxConfig:
        if self.output_limit_bytes < self.max_output_bytes:
            raise ValueError(
                f"output_limit_bytes is {self.output_limit_bytes}, below max_output_bytes {self.max_output_bytes}: "
                "a snippet may write at least what is kept of it; raise the one or lower the other"
            )
        return self


class RewardConfig(Config):
    correct: float = 1.0
    wrong: float = -1.0
    code_error: float = 0.0
    """Added when at least one executed call failed (the paper's ablation: -0.5)."""

    @model_validator(mode="after")
    def _correct_differs_from_wrong(self) -> RewardConfig:
        if self.correct == self.wrong:
            raise ValueError(
                f"reward.correct and reward.wrong are both {self.correct}: then correctness has no effect on training; "
                "give them different values"
            )
        return self


class AlgorithmConfig(Config):
    """GRPO: advantages within a group, clipped token-level policy gradient, no KL by default."""

    normalise_by_std: bool = True
    """Divide by the group's standard deviation; False is Dr. GRPO's choice."""
    clip_low: Positive = 0.2
    clip_high: Positive = 0.2
    """The ratio is clipped to [1 - clip_low, 1 + clip_high]; DAPO raises the upper one."""
    updates_per_step: PositiveInt = 1
    """Optimizer updates per step; the step's groups are dealt into so many mini-batches."""


class TrainerConfig(Config):
    backend: Literal["deepspeed", "reference"] = "deepspeed"
    learning_rate: Positive = 1e-6
    final_learning_rate_share: Share = 1.0
    """Linear decay to this share of learning_rate over the campaign; 1 keeps it constant."""
    warmup_steps: Count = 0
    betas: tuple[Decay, Decay] = (0.9, 0.999)
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    max_grad_norm: Positive = 1.0
    row_tokens: PositiveInt = 4096
    """L: length of a packed row; at least prompt plus response, or the sample would not fit."""
    rows_per_micro_batch: PositiveInt = 1
    zero_stage: Literal[0, 1, 2, 3] = 1
    processes: PositiveInt = 1
    """Ranks; one per GPU, or gloo processes on a CPU."""
    threads: PositiveInt = 2
    """CPU threads per rank. Part of what decides the bits of the result."""
    gradient_checkpointing: bool = False


class BenchmarkConfig(Config):
    problems: ProblemSource
    temperature: Annotated[float, Field(ge=0)] = 0.0
    """0 is greedy."""
    samples: PositiveInt = 1
    """Responses per problem; more than one makes sense only at temperature > 0."""
    max_calls: Count | None = None
    """C during evaluation; the campaign's own when left out."""


class EvaluationConfig(Config):
    benchmarks: dict[BenchmarkName, BenchmarkConfig] = {}
    """By name. Empty: no evaluation."""
    every: Count = 0
    """Evaluate after every so many steps; 0 only before the first and after the last."""

    def is_due(self, step: int, last: int) -> bool:
        """Whether policy `step` of a campaign of `last` steps is evaluated."""
        return step in (0, last) or bool(self.every and step % self.every == 0)


class RetentionConfig(Config):
    """Which checkpoints stay once later steps are committed. Trajectories and manifests always do."""

    last: PositiveInt | None = None
    """Keep those of the last so many steps, from which the campaign resumes; every one when left out."""
    every: Count = 0
    """Keep also that of each so-many-th step; 0: none."""
    best: Count = 0
    """Keep also the best so many: by accuracy on the first benchmark where evaluation.every evaluates policies on the
    way, otherwise by the mean reward of the responses that the next step sampled from them."""

    @model_validator(mode="after")
    def _last_is_given(self) -> RetentionConfig:
        if self.last is None and (self.every or self.best):
            raise ValueError(
                f"retention.every is {self.every} and retention.best is {self.best} without retention.last, so that "
                "every checkpoint is kept: set last too"
            )
        return self

    def __str__(self) -> str:
        parts = [f"the last {self.last}" if self.last else "all"]
        parts += [f"multiples of {self.every}"] if self.every else []
        parts += [f"the best {self.best}"] if self.best else []
        return " and ".join([", ".join(parts[:-1]), parts[-1]] if parts[1:] else parts) + " steps"


class TrackingConfig(Config):
    wandb_project: str | None = None
    """Log to this Weights & Biases project; runs offline when no API key is set. None: off."""


class ForkConfig(Config):
    """A finished step of another campaign whose policy and optimizer state this campaign starts from."""

    store: StoreAddress
    """Folder or URL of the store that holds it."""
    step: PositiveInt
    campaign: str | None = None
    """The other campaign; needed where several in that store have the step."""
    policy: str | None = None
    """Digest of the step's policy. Filled in and recorded when the campaign starts."""
    optimizer: str | None = None
    """Digest of the step's optimizer state. Filled in and recorded when the campaign starts."""


class CampaignConfig(Config):
    """One campaign: a base model, problems, and how often to roll out, execute, score and train."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,62}$")]
    """Names the campaign in the store and the views. The same name resumes."""
    store: StoreAddress
    """Folder or URL (s3://bucket/prefix) that holds everything the campaign makes."""
    seed: Seed = 0
    steps: PositiveInt
    model: ModelConfig
    fork: ForkConfig | None = None
    """Start from a step of another campaign; model.path is then not read. Seed, data cursor, step numbers and the
    learning rate's schedule are this campaign's own and start anew."""
    problems: ProblemSource
    rollout: RolloutConfig = RolloutConfig()
    tool: ToolConfig = ToolConfig()
    engine: EngineConfig = EngineConfig()
    sandbox: SandboxConfig = SandboxConfig()
    reward: RewardConfig = RewardConfig()
    algorithm: AlgorithmConfig = AlgorithmConfig()
    trainer: TrainerConfig = TrainerConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    retention: RetentionConfig = RetentionConfig()
    tracking: TrackingConfig = TrackingConfig()

    @model_validator(mode="after")
    def _divides(self) -> CampaignConfig:
        problems, updates = self.rollout.problems_per_step, self.algorithm.updates_per_step
        if problems % updates:
            raise ValueError(
                f"rollout.problems_per_step is {problems} and algorithm.updates_per_step is {updates}: whole groups "
                "are dealt into equal mini-batches, so the first must be a multiple of the second; "
                f"try {-(-problems // updates) * updates}"
            )
        return self

    @model_validator(mode="after")
    def _logprobs_are_whole(self) -> CampaignConfig:
        if self.rollout.top_p < 1 and self.engine.backend == "vllm":
            raise ValueError(
                f"rollout.top_p is {self.rollout.top_p} and engine.backend is vllm, which gives log-probabilities "
                "after top_p's truncation where training needs them before it; set top_p to 1 or the backend to "
                "transformers"
            )
        return self

    @model_validator(mode="after")
    def _row_holds_a_response(self) -> CampaignConfig:
        if self.trainer.row_tokens <= self.rollout.max_new_tokens:
            raise ValueError(
                f"trainer.row_tokens is {self.trainer.row_tokens} and rollout.max_new_tokens is "
                f"{self.rollout.max_new_tokens}: a packed row must hold a prompt and its whole response; "
                "raise the first or lower the second"
            )
        return self

    @model_validator(mode="after")
    def _masters_are_float32(self) -> CampaignConfig:
        t = self.trainer
        if t.backend == "deepspeed" and t.zero_stage == 0 and self.model.dtype == "bfloat16":
            raise ValueError(
                "trainer.zero_stage is 0 and model.dtype is bfloat16: DeepSpeed keeps float32 masters and sums "
                "gradients in float32 from stage 1 on; set trainer.zero_stage to 1, which costs nothing on one rank"
            )
        return self

    def deciding(self) -> dict[str, Any]:
        """What decides the campaign's results.

        Left out: where results go, how many steps there are (each step is told its own learning rate), what is kept of
        them, where a fork's source lies (its digests decide), and how fast the machine is asked to be.
        """
        elsewhere = {"store", "steps", "engine", "evaluation", "retention", "tracking"}
        machine = {"workers", "slots_per_worker", "max_retries"}
        source = {"store", "campaign", "step"}
        exclude: dict[str, Any] = dict.fromkeys(elsewhere, True)
        exclude |= {"sandbox": machine, "fork": source, "rollout": {"save_every_s"}}
        return self.model_dump(mode="json", exclude=exclude)

    def identity(self) -> str:
        """Digest of `deciding`; a stored campaign resumes only under the same one."""
        return _digest(self.deciding())

    def learning_rate(self, step: int) -> float:
        """Of 1-based `step`: linear warm-up from 0, then linear decay to the final share at the last step."""
        t = self.trainer
        if step <= t.warmup_steps:
            return t.learning_rate * step / (t.warmup_steps + 1)
        progress = (step - t.warmup_steps) / max(1, self.steps - t.warmup_steps)
        return t.learning_rate * (1 - (1 - t.final_learning_rate_share) * progress)
