"""The demo's world: arithmetic problems, a byte tokenizer with whole chunks, and a tiny base model."""
