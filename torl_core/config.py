"""Everything a campaign can be told. Frozen models, unknown keys refused, a docstring under each field.

The same models are the parameters of the Prefect deployments (their docstrings are the forms' help texts), the YAML of
`torl campaign`, and part of every cache key.

Each field says where it is declared what another value does to the results: it `Decides` them, `Perturbs` them, or is
`Neutral`. A field whose type is a section says nothing: the fields in the section do.
"""

from __future__ import annotations

import hashlib
import json
import re
from enum import Enum
from typing import Annotated, Any, Literal, TypeVar
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationInfo, field_validator, model_validator

from torl_core.locations import problem_location, store_address

T = TypeVar("T")


class Effect(Enum):
    """What another value of a setting does to the results."""

    DECIDES = "decides"
    PERTURBS = "perturbs"
    NEUTRAL = "neutral"


Decides = Annotated[T, Effect.DECIDES]
"""Another value gives other results. A stored campaign or evaluation is only gone on with under the same one."""
Perturbs = Annotated[T, Effect.PERTURBS]
"""Another value gives results that are as valid, but not equal bit for bit. It may change whenever a campaign is
resumed, and each step's manifest records it."""
Neutral = Annotated[T, Effect.NEUTRAL]
"""Another value has no effect on results."""

LEAST, MOST = 1e-12, 1e9
"""Training computes in float32, which holds numbers from 1e-38 to 3e38: also products of settings within these bounds,
and sums of such products."""
PositiveInt = Annotated[int, Field(ge=1, lt=1 << 31)]
Count = Annotated[int, Field(ge=0, lt=1 << 31)]
Number = Annotated[float, Field(ge=-MOST, le=MOST)]
NonNegative = Annotated[float, Field(ge=0, le=MOST)]
Positive = Annotated[float, Field(ge=LEAST, le=MOST)]
Share = Annotated[float, Field(ge=0, le=1)]
PositiveShare = Annotated[float, Field(ge=LEAST, le=1)]
Decay = Annotated[float, Field(ge=0, le=0.999999)]
"""Of a moving average: 1 would never move, and float32 rounds what is closer to 1 than 3e-8 to it."""
Temperature = Annotated[float, Field(ge=0.01, le=MOST)]
"""vLLM samples at 0.01 where it is asked for less, so that the log-probabilities would be of another temperature."""
Seed = Annotated[int, Field(ge=0, lt=1 << 31)]
"""NumPy takes no negative seed; every library and every stored column takes one below 2**31."""


def _not_blank(location: str) -> str:
    if not location.strip():
        raise ValueError("a blank address would be the current folder: give a folder or a URL")
    return location


Dialect = Literal[1, 2]
"""Version of the rules by which a tool call is found in a text (`torl_core.tool_calls`)."""
NEWEST_DIALECT: Dialect = 2

Location = Annotated[str, AfterValidator(_not_blank)]
"""A folder, a file or a URL."""
StoreAddress = Annotated[Location, AfterValidator(store_address)]
ProblemLocation = Annotated[Location, AfterValidator(problem_location)]


def _one_name(name: str) -> str:
    if not re.fullmatch(r"\w[\w .+-]{0,62}", name) or name != name.strip():
        raise ValueError(
            f"a benchmark's name is part of file names in the store, and {name!r} cannot be: begin with a letter or "
            "digit and use at most 63 letters, digits, blanks, dots, plus signs and hyphens"
        )
    return name


BenchmarkName = Annotated[str, AfterValidator(_one_name)]


def _zero_or_a_temperature(value: float) -> float:
    if 0 < value < 0.01:
        raise ValueError("0 is greedy, and vLLM samples at 0.01 where it is asked for less: give 0, or 0.01 and more")
    return value


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

    def deciding(self) -> dict[str, Any]:
        """The settings that decide results, as JSON, in sections."""
        return self._having(Effect.DECIDES)

    def perturbing(self) -> dict[str, Any]:
        """The settings that perturb results, as JSON, in sections."""
        return self._having(Effect.PERTURBS)

    def _having(self, effect: Effect) -> dict[str, Any]:
        dumped = self.model_dump(mode="json")
        found: dict[str, Any] = {}
        for name, field in type(self).model_fields.items():
            value = getattr(self, name)
            if isinstance(value, Config):
                found |= {name: inner} if (inner := value._having(effect)) else {}
            elif effect in field.metadata:
                found[name] = dumped[name]
        return found


def _digest(values: object) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:12]


class _RowsConfig(Config):
    """Which columns of a source hold what, and which of its rows are used."""

    split: Neutral[str] = "train"
    """Split of a Hugging Face dataset."""
    statement: Neutral[str | None] = None
    """Column with the question; when left out, the first that the source has of problem, question, prompt, statement,
    query. Dots reach into structs. Of a list of chat messages, the user's last message is taken."""
    answer: Neutral[str | None] = None
    """Column with the gold answer; when left out, the first that the source has of answer, final_answer,
    reward_model.ground_truth (verl's schema), ground_truth, expected_answer, gold, target, solution."""
    answer_format: Neutral[Literal["plain", "boxed", "gsm8k"] | None] = None
    """Where the gold stands in that column: it is the whole value (plain), the content of the last \\boxed in a
    solution (boxed: MATH), or what follows the last #### (gsm8k). When left out, the rule that most rows follow."""
    problem_id: Neutral[str | None] = "id"
    """Column with an identifier; rows without one get a digest of their statement."""
    origin: Neutral[str | None] = None
    """Column that names the source of each row, for files that have rows of several; when left out, data_source or
    source, if such a column has at most 32 different values."""
    name: Neutral[str | None] = None
    """What the views and metrics call this source; when left out, the names in `origin`, else the file's own name."""
    limit: Neutral[PositiveInt | None] = None
    """Use only the first so many accepted rows."""
    skip_rejected: Neutral[bool] = False
    """Go on without rows that cannot be used. They are listed either way; without this, one such row stops the run."""


class ProblemSource(_RowsConfig):
    """Where problems come from. What is found there decides results, not where it lies."""

    location: Neutral[ProblemLocation]
    """A file (.jsonl, .json, .csv, .tsv, .parquet; also compressed: .gz, .zst, .bz2), a folder of such files or a
    pattern like part-*.parquet, each as a path or URL; `hf:NAME` (a Hugging Face dataset); `toy:SPLIT` (the demo's)."""


class ProblemsConfig(_RowsConfig):
    """The problems of a campaign or a benchmark: of one source, whose keys stand here, or of several."""

    location: Neutral[ProblemLocation | None] = None
    """The one source: a file, folder or pattern, `hf:NAME` or `toy:SPLIT`. See docs/problems.md."""
    sources: Neutral[tuple[ProblemSource, ...]] = ()
    """Several sources, instead of `location` and the keys that describe its rows."""
    weights: Decides[dict[str, Positive]] = {}
    """Share of each step's problems by the name of their source, relative to one another; every source has one. Empty:
    all problems are one pool, so that a source's share is its share of the rows."""
    digest: Neutral[str | None] = None
    """Digest of the problems' identifiers, statements and answers, in their order: other problems are refused. A
    campaign's own is filled in when it is first started; to go on with other problems, give theirs here. It changes
    nothing itself, since whatever depends on the problems names them too."""

    @model_validator(mode="after")
    def _one_source_or_several(self) -> ProblemsConfig:
        if not self.sources:
            if self.location is None:
                raise ValueError("location is missing: give it, or several under sources")
            return self
        fields = type(self).model_fields
        own = [n for n in ("location", *_RowsConfig.model_fields) if getattr(self, n) != fields[n].default]
        if own:
            raise ValueError(
                f"{', '.join(own)} and sources are both given: with several sources, each has its own keys, so move "
                f"{', '.join(own)} into the entries of sources"
            )
        return self

    @property
    def each(self) -> tuple[ProblemSource, ...]:
        """The sources, also where there is one."""
        if self.location is None:
            return self.sources
        rows = {name: getattr(self, name) for name in _RowsConfig.model_fields}
        return (ProblemSource(location=self.location, **rows),)

    @property
    def where(self) -> str:
        """The locations, for messages."""
        return ", ".join(source.location for source in self.each)


class ModelConfig(Config):
    path: Decides[Location]
    """Hugging Face folder (local or in a store) or hub name of the base model."""
    dtype: Decides[Literal["float32", "bfloat16"]] = "bfloat16"
    """Weights' type in the engine and in forward passes. The optimizer keeps float32 masters."""


class ToolConfig(Config):
    max_calls: Decides[Count] = 1
    """C: the most calls executed in one response. Past it, requests are not executed and the model goes on in text."""
    dialect: Decides[Dialect | None] = None
    """Which blocks are code: 1 knows ```` ```python ```` alone; 2 knows every spelling that can only mean Python (py,
    Python, python3, tildes), takes an indented fence's indentation from its code, and after 8 call marks without code
    in a response stops no more at marks. Filled in and recorded when the campaign starts: 2 for a new campaign."""
    blocks: Decides[Literal["latest", "joined"]] = "latest"
    """What a call runs: the latest block before its mark, or every block since the call before it, joined in order."""
    error_output: Decides[Literal["last_line", "output_and_last_line", "output_and_traceback"]] = "last_line"
    """What the model is shown of a call that failed: the last line of the error alone (the paper), what was printed
    before and that line, or what was printed and the whole traceback."""
    observation_max_tokens: Decides[PositiveInt] = 512
    """Longer tool output is shortened in the middle before the model sees it."""
    observation_ends_chars: Decides[PositiveInt | None] = None
    """Of tool output that is more than twice as long, show this many characters of each end (the original's code: 128).
    """
    observation_max_chars: Decides[PositiveInt | None] = None
    """The limit of dialect 1, in characters, instead of `observation_max_tokens`."""
    empty_output: Decides[str] = "(no output: the code ran without error but printed nothing)"
    """What the model is shown when its code succeeded and printed nothing."""
    session: Decides[bool] = False
    """A later call of a response sees the variables of its earlier calls, which are run again before it, unheard and
    within its time limit (the paper: every call starts afresh)."""

    @model_validator(mode="after")
    def _characters_are_of_dialect_1(self) -> ToolConfig:
        if self.observation_max_chars is not None and self.dialect != 1:
            raise ValueError(
                f"observation_max_chars is {self.observation_max_chars}: output is limited in tokens now; set "
                "tool.observation_max_tokens instead (a campaign that was started with the old key goes on without it)"
            )
        return self


class RolloutConfig(Config):
    template: Decides[str] = "torl"
    """Prompt template, by name (see torl_core/prompts.py)."""
    problems_per_step: Decides[PositiveInt] = 128
    samples_per_problem: Decides[Annotated[int, Field(ge=2, lt=1 << 31)]] = 16
    """Size of a group. A response alone has nothing to be compared with, so that its advantage would always be zero."""
    temperature: Decides[Temperature] = 1.0
    top_p: Decides[PositiveShare] = 1.0
    max_new_tokens: Decides[PositiveInt] = 3072
    """Budget of one response, tool output included."""
    max_concurrency: Perturbs[PositiveInt] = 2048
    """Episodes in flight at once."""
    save_every_s: Neutral[NonNegative] = 30.0
    """Groups that are finished are stored this often, so that an interrupted rollout samples only the others."""


class EngineConfig(Config):
    backend: Perturbs[Literal["vllm", "transformers"]] = "vllm"
    max_num_seqs: Perturbs[PositiveInt] = 256
    """Sequences the engine decodes together."""
    max_model_len: Perturbs[PositiveInt | None] = None
    """Longest context in tokens; the model's own limit when left out."""
    gpu_memory_utilization: Perturbs[PositiveShare] = 0.6
    """Share of GPU memory for the engine, which stays resident while training runs."""
    cpu_kv_cache_gib: Perturbs[PositiveInt] = 1
    tensor_parallel_size: Perturbs[PositiveInt] = 1
    enforce_eager: Perturbs[bool] = True
    """Skip compilation and graph capture: starts sooner, decodes slower on a GPU."""


class SandboxConfig(Config):
    backend: Decides[Literal["local", "gvisor", "remote"]] = "local"
    """local: warm interpreters in a jail. gvisor: the same in gVisor's kernel instead of the host's, several times
    slower. remote: `urls`."""
    urls: Perturbs[tuple[str, ...]] = ()
    """Services of the remote backend, `torl sandbox serve` or SandboxFusion; their bearer token is in
    TORL_SANDBOX_TOKEN. Packages and the limits of memory, processes, /tmp and output are then theirs."""
    workers: Perturbs[Annotated[int, Field(ge=1, le=1024)]] = 2
    """Warm interpreters. About one per core that generation and training leave free."""
    slots_per_worker: Perturbs[Annotated[int, Field(ge=1, le=256)]] = 4
    """Snippets one worker runs at the same time, so that sleeping and looping code does not hold up the rest."""
    timeout_s: Decides[Annotated[float, Field(ge=0.01, le=3600)]] = 5.0
    """Wall limit of one snippet."""
    memory_mib: Decides[Annotated[int, Field(ge=16, le=1 << 20)]] = 512
    """What each process of a snippet may map; all of them together may use somewhat more, see docs/sandbox.md."""
    max_processes: Decides[Annotated[int, Field(ge=1, le=4096)]] = 64
    """Processes and threads one snippet may have."""
    tmp_mib: Decides[Annotated[int, Field(ge=1, le=1 << 16)]] = 64
    """Size of the snippet's own /tmp, the only place it can write."""
    packages: Decides[tuple[Annotated[str, Field(min_length=1)], ...]] = ()
    """Further packages of torl's environment that snippets may import, by the names that pip knows them by. numpy,
    scipy, sympy, mpmath, pandas and networkx are always there."""
    max_output_bytes: Decides[Annotated[int, Field(ge=1, le=1 << 26)]] = 65536
    """What is kept of stdout and of stderr, each. Longer output loses its middle; a note there says how much."""
    output_limit_bytes: Decides[Annotated[int, Field(ge=1, le=1 << 30)]] = 1 << 24
    """A snippet that writes more than this to stdout or to stderr is ended (`output_limit`)."""
    max_retries: Perturbs[Count] = 3
    """Times a call is run again elsewhere when its worker died, before the snippet is reported as `crash`."""
    dangerously_run_model_code_without_isolation: Decides[bool] = False
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
    correct: Decides[Number] = 1.0
    wrong: Decides[Number] = -1.0
    code_error: Decides[Number] = 0.0
    """Added when at least one executed call failed (the paper's ablation: -0.5)."""
    grader: Neutral[Annotated[str, Field(coerce_numbers_to_str=True)] | None] = None
    """Version of the grader that judges responses. A campaign's own is filled in when it is first started, and another
    one is refused; to go on with the version that this torl has, give it here. It changes nothing itself: there is one
    version in a torl, and each row, step and evaluation names the one that judged it."""

    @model_validator(mode="after")
    def _correct_differs_from_wrong(self) -> RewardConfig:
        if abs(self.correct - self.wrong) < LEAST:
            raise ValueError(
                f"reward.correct is {self.correct} and reward.wrong is {self.wrong}: then correctness has no effect on "
                f"training; give them values that differ by {LEAST:g} at least"
            )
        return self


class AlgorithmConfig(Config):
    """GRPO: advantages within a group, clipped token-level policy gradient, no KL by default."""

    normalise_by_std: Decides[bool] = True
    """Divide by the group's standard deviation; False is Dr. GRPO's choice."""
    clip_low: Decides[Positive] = 0.2
    clip_high: Decides[Positive] = 0.2
    """The ratio is clipped to [1 - clip_low, 1 + clip_high]; DAPO raises the upper one."""
    updates_per_step: Decides[PositiveInt] = 1
    """Optimizer updates per step; the step's groups are dealt into so many mini-batches."""


class TrainerConfig(Config):
    backend: Perturbs[Literal["deepspeed", "reference"]] = "deepspeed"
    learning_rate: Decides[Positive] = 1e-6
    final_learning_rate_share: Decides[Share] = 1.0
    """Linear decay to this share of learning_rate over schedule_steps; 1 keeps it constant."""
    schedule_steps: Decides[PositiveInt | None] = None
    """Step at which the decay ends; later steps keep the final rate. When left out, it is the campaign's `steps` at its
    first start, and it stays that when `steps` is raised."""
    warmup_steps: Decides[Count] = 0
    betas: Decides[tuple[Decay, Decay]] = (0.9, 0.999)
    weight_decay: Decides[NonNegative] = 0.0
    max_grad_norm: Decides[Positive] = 1.0
    row_tokens: Perturbs[PositiveInt] = 4096
    """L: length of a packed row; at least prompt plus response, or the sample would not fit."""
    rows_per_micro_batch: Perturbs[PositiveInt] = 1
    zero_stage: Perturbs[Literal[0, 1, 2, 3]] = 1
    processes: Perturbs[PositiveInt] = 1
    """Ranks; one per GPU, or gloo processes on a CPU."""
    threads: Perturbs[PositiveInt] = 2
    """CPU threads per rank."""
    gradient_checkpointing: Perturbs[bool] = False


class BenchmarkConfig(Config):
    problems: ProblemsConfig
    """Every one of them is asked, so that they have no weights."""
    temperature: Decides[Annotated[NonNegative, AfterValidator(_zero_or_a_temperature)]] = 0.0
    """0 is greedy."""
    samples: Decides[PositiveInt] = 1
    """Responses per problem; more than one makes sense only at temperature > 0."""
    max_calls: Decides[Count | None] = None
    """C during evaluation; the campaign's own when left out."""

    @model_validator(mode="after")
    def _every_problem_is_asked(self) -> BenchmarkConfig:
        if self.problems.weights:
            raise ValueError(
                "problems.weights is given: an evaluation asks every problem once, so weights are for training only; "
                "remove them here"
            )
        return self


class EvaluationConfig(Config):
    benchmarks: Neutral[dict[BenchmarkName, BenchmarkConfig]] = {}
    """By name. Empty: no evaluation."""
    every: Neutral[Count] = 0
    """Evaluate after every so many steps; 0 only before the first and after the last."""

    def is_due(self, step: int, last: int) -> bool:
        """Whether policy `step` of a campaign of `last` steps is evaluated."""
        return step in (0, last) or bool(self.every and step % self.every == 0)


class RetentionConfig(Config):
    """Which checkpoints stay once later steps are committed. Trajectories and manifests always do."""

    last: Neutral[PositiveInt | None] = None
    """Keep those of the last so many steps, from which the campaign resumes; every one when left out."""
    every: Neutral[Count] = 0
    """Keep also that of each so-many-th step; 0: none."""
    best: Neutral[Count] = 0
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
    wandb_project: Neutral[str | None] = None
    """Log to this Weights & Biases project; runs offline when no API key is set. None: off."""


class ForkConfig(Config):
    """A finished step of another campaign whose policy and optimizer state this campaign starts from."""

    store: Neutral[StoreAddress]
    """Folder or URL of the store that holds it."""
    step: Neutral[PositiveInt]
    campaign: Neutral[str | None] = None
    """The other campaign; needed where several in that store have the step."""
    policy: Decides[str | None] = None
    """Digest of the step's policy. Filled in and recorded when the campaign starts."""
    optimizer: Decides[str | None] = None
    """Digest of the step's optimizer state. Filled in and recorded when the campaign starts."""


class CampaignConfig(Config):
    """One campaign: a base model, problems, and how often to roll out, execute, score and train."""

    name: Decides[Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,62}$")]]
    """Names the campaign in the store and the views. The same name resumes."""
    store: Neutral[StoreAddress]
    """Folder or URL (s3://bucket/prefix) that holds everything the campaign makes."""
    seed: Decides[Seed] = 0
    steps: Neutral[PositiveInt]
    model: ModelConfig
    fork: Decides[ForkConfig | None] = None
    """Start from a step of another campaign; model.path is then not read. Seed, data cursor, step numbers and the
    learning rate's schedule are this campaign's own and start anew."""
    problems: ProblemsConfig
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

    def conditions(self) -> str:
        """Digest of the settings that decide or perturb results: what was made under others is not made again bit for
        bit under these."""
        return _digest([self.deciding(), self.perturbing()])

    def identity(self) -> str:
        """Digest of what decides the campaign's results; a stored campaign resumes only under the same one."""
        return _digest(self.deciding())

    def with_schedule(self, steps: int) -> CampaignConfig:
        """The schedule ends at `steps`, unless the config itself says where."""
        if self.trainer.schedule_steps is not None:
            return self
        return self.model_copy(update={"trainer": self.trainer.model_copy(update={"schedule_steps": steps})})

    def learning_rate(self, step: int) -> float:
        """Of 1-based `step`: linear warm-up from 0, then linear decay to the final share, which it keeps."""
        t = self.trainer
        if step <= t.warmup_steps:
            return t.learning_rate * step / (t.warmup_steps + 1)
        end = t.schedule_steps or self.steps
        progress = min(1.0, (step - t.warmup_steps) / max(1, end - t.warmup_steps))
        return t.learning_rate * (1 - (1 - t.final_learning_rate_share) * progress)
