"""The demo's tokenizer: every byte, and the phrases of its world as whole tokens.

Any folder that says `model_type: qwen2` is reloaded with Qwen2's own normaliser and pre-tokeniser, whatever its
`tokenizer.json` says, and ordinary merges across words and digits would not survive that. Added tokens do: they are cut
out of the text first, longest match from the left. They are not special, so they also apply to text in which the
spelling of special tokens is split. NFC normalisation comes with Qwen2; every text in that form survives a round trip.
"""

from __future__ import annotations

from tokenizers import AddedToken, pre_tokenizers
from transformers import PreTrainedTokenizerFast, Qwen2Tokenizer

from torl_core.config import ToolConfig

END_OF_TEXT = "<|endoftext|>"

DIGIT_PAIRS = tuple(f"{number:02}" for number in range(100))
"""Two digits are one token: an operand is copied in one step, and a long number has few repeated tokens."""

QUESTION = (
    "User: ",
    "\nAssistant:",
    "What is ",
    "Compute ",
    " * ",
    " + ",
    " and ",
    " mod ",
    "the sum of ",
    "the product of ",
    " boxes hold ",
    " pens each and ",
    " pens are taken out. How many are left?",
    "the least common multiple of ",
    "the sum of the squares from ",
    " to ",
    "the sum of the digits of ",
    "the inverse of ",
    " If there is none, give the greatest common divisor.",
)

CODE = (
    "\n```python\n",
    "```python\n",
    "\n```\n```output",
    "\n```\n",
    "print(",
    "\nprint(",
    "import math\n",
    "x = ",
    "math.lcm(",
    "math.gcd(",
    "pow(",
    ", -1, ",
    ", ",
    "**",
    " % ",
    "sum(i*i for i in range(",
    "sum(range(",
    "+1))",
    "sum(map(int, str(",
    "))",
    ")))",
    "))))",
    ") if math.gcd(",
    ") == 1 else math.gcd(",
)

ANSWER = (
    " Let me compute it.",
    " The answer is \\boxed{",
    "The answer is \\boxed{",
)

OBSERVATION = (
    "NameError: name '",
    "' is not defined",
    "SyntaxError: '(' was never closed",
    "ValueError: base is not invertible for the given modulus",
    ToolConfig().empty_output,
)


def build_tokenizer() -> PreTrainedTokenizerFast:
    """Ids 0-255 are bytes, 256 ends a text, the rest are whole chunks."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer: PreTrainedTokenizerFast = Qwen2Tokenizer(
        vocab={symbol: i for i, symbol in enumerate(alphabet)},
        merges=[],
        unk_token=None,
        eos_token=END_OF_TEXT,
        pad_token=END_OF_TEXT,
    )
    chunks = (*DIGIT_PAIRS, *QUESTION, *CODE, *ANSWER, *OBSERVATION)
    tokenizer.add_tokens([AddedToken(chunk, normalized=False, special=False) for chunk in chunks])
    return tokenizer
