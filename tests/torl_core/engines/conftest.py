"""Model folders with known behaviour, and one engine of each kind for the whole session on one event loop."""

from __future__ import annotations

import asyncio
import itertools
import threading
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from torl_core.codec import HfCodec
from torl_core.config import EngineConfig
from torl_core.engines import open_engine
from torl_core.engines.scripted import ScriptedEngine
from torl_core.protocols import Generate, Generated, Generator, Sampling
from torl_core.types import TokenIds

END, IM_END = 256, 257
ODD_TOKENS = ["```output", "```output\n", "``", "out", "put", "```out", "put s"]
WINDOW, VOCABULARY = 160, 288
CONFIG = EngineConfig(max_model_len=WINDOW, max_num_seqs=64)
Run = Callable[[Coroutine[Any, Any, Any]], Any]


def build_tokenizer() -> Any:
    from tokenizers import AddedToken, pre_tokenizers
    from transformers import Qwen2Tokenizer

    alphabet = {symbol: i for i, symbol in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    tokenizer = Qwen2Tokenizer(vocab=alphabet, merges=[], unk_token=None, eos_token="<|endoftext|>")
    tokenizer.add_tokens([AddedToken("<|im_end|>", special=True, normalized=False)], special_tokens=True)
    tokenizer.add_tokens([AddedToken(text, normalized=False) for text in ODD_TOKENS])
    return tokenizer


CODEC = HfCodec(build_tokenizer(), frozenset({IM_END}))


def token(text: str) -> int:
    """The one token of an odd token or a single-byte character."""
    (token_id,) = CODEC.tokenizer.encode(text, add_special_tokens=False)
    return int(token_id)


def byte(value: int) -> int:
    """The token of a byte that is no character on its own."""
    return next(i for i in CODEC.tokenizer.encode("Ãéâ–¼", add_special_tokens=False) if _is_byte(i, value))


def _is_byte(token_id: int, value: int) -> bool:
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    return bool(CODEC.tokenizer.convert_ids_to_tokens(token_id) == bytes_to_unicode()[value])


C3, A9, E2 = byte(0xC3), byte(0xA9), byte(0xE2)

PATHS = [
    [token("A"), token("```output"), token("h")],
    [token("B"), token("```output\n"), token("h")],
    [token("C"), token("``"), token("`"), token("out"), token("put"), token("h")],
    [token("D"), token("```out"), token("put s"), token("h")],
    [token("E"), token("e"), END],
    [token("F"), token("f"), IM_END],
    [token("q"), END],
    [token("G"), C3, A9, token("g"), token("h")],
    [token("H"), token("h"), token("h")],
    [token("I"), E2, token("``")],
]
NEXT = {a: b for path in PATHS for a, b in itertools.pairwise(path)}
"""What the chain model says after each token. A text goes on with `h` for ever unless END comes first."""


def chain(context: TokenIds) -> TokenIds:
    reply = [NEXT[context[-1]]]
    while len(reply) < WINDOW and reply[-1] in NEXT:
        reply.append(NEXT[reply[-1]])
    return tuple(reply)


def save_model(folder: Path, *, seed: int, tied: bool = False, chained: bool = False) -> Path:
    """A Qwen2 of about 240k parameters: random, or one whose next token depends on the last one by `NEXT` alone."""
    import torch
    from transformers import Qwen2Config, Qwen2ForCausalLM

    torch.manual_seed(seed)
    config = Qwen2Config(
        vocab_size=VOCABULARY, hidden_size=128, num_hidden_layers=2, intermediate_size=128, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=WINDOW, tie_word_embeddings=tied, eos_token_id=[END, IM_END],
        bos_token_id=None, initializer_range=0.15, dtype="float32",
    )  # fmt: skip
    model = Qwen2ForCausalLM(config).float()
    if chained:
        with torch.no_grad():
            for layer in model.model.layers:
                layer.self_attn.o_proj.weight.zero_()
                layer.mlp.down_proj.weight.zero_()
            embedding = model.model.embed_tokens.weight
            directions = embedding / embedding.square().mean(1, keepdim=True).sqrt()
            model.lm_head.weight.zero_()
            for said, then in NEXT.items():
                model.lm_head.weight[then] += directions[said]
    model.save_pretrained(folder)
    build_tokenizer().save_pretrained(folder)
    return folder


@dataclass(frozen=True)
class Folders:
    random: Path
    other: Path
    chain: Path
    tied: Path
    tied_other: Path


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Folders:
    root = tmp_path_factory.mktemp("models")
    return Folders(
        save_model(root / "random", seed=1),
        save_model(root / "other", seed=2),
        save_model(root / "chain", seed=3, chained=True),
        save_model(root / "tied", seed=4, tied=True),
        save_model(root / "tied_other", seed=5, tied=True),
    )


@pytest.fixture(scope="session")
def run() -> Iterator[Run]:
    """Runs a coroutine on the one loop that engines live on, and returns its result."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    yield lambda work: asyncio.run_coroutine_threadsafe(work, loop).result(400)
    loop.call_soon_threadsafe(loop.stop)
    thread.join(10)


class Handle:
    """An engine under test, called from outside its loop."""

    def __init__(self, kind: str, run: Run, engine: Generator) -> None:
        self.kind, self.run, self.engine = kind, run, engine

    def load(self, weights: Path, version: int = 0) -> None:
        self.run(self.engine.load_policy(weights, version))

    def __call__(self, context: TokenIds, limit: int = 8, stop: tuple[str, ...] = (), **sampling: Any) -> Generated:
        sampling.setdefault("temperature", 0.0)
        return self.run(self.engine.generate(Generate(tuple(context), limit, stop), Sampling(**sampling)))

    def all(self, *requests: tuple[Generate, Sampling]) -> list[Generated]:
        async def gather() -> list[Generated]:
            return await asyncio.gather(*(self.engine.generate(r, s) for r, s in requests))

        return self.run(gather())


@pytest.fixture(scope="session")
def opened(run: Run, folders: Folders) -> Iterator[Callable[[str], Handle]]:
    engines: dict[str, Handle] = {}

    def get(kind: str) -> Handle:
        if kind not in engines:
            if kind == "scripted":
                engine: Generator = ScriptedEngine(chain, CODEC, window=WINDOW, vocabulary=VOCABULARY)
            else:
                config = CONFIG.model_copy(update={"backend": kind})
                engine = run(open_engine(config, folders.random, 0, "float32", seed=0))
            engines[kind] = Handle(kind, run, engine)
        return engines[kind]

    yield get
    for handle in engines.values():
        run(handle.engine.close())


MODELS = ["transformers", pytest.param("vllm", marks=pytest.mark.slow)]


@pytest.fixture(params=["scripted", *MODELS])
def engine(request: pytest.FixtureRequest, opened: Callable[[str], Handle], folders: Folders) -> Handle:
    """Every kind of engine, each following the chain."""
    handle = opened(request.param)
    handle.load(folders.chain)
    return handle


@pytest.fixture(params=MODELS)
def model(request: pytest.FixtureRequest, opened: Callable[[str], Handle], folders: Folders) -> Handle:
    """Every engine that runs a model, with the random one in it."""
    handle = opened(request.param)
    handle.load(folders.random)
    return handle
