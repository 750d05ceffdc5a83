import pytest

from torl_core.engines.window import engine_window, window_of
from torl_core.errors import DataError


@pytest.mark.parametrize(
    ("config", "window"),
    [
        ({"max_position_embeddings": 4096}, 4096),
        ({"n_positions": 1024}, 1024),
        ({"text_config": {"max_position_embeddings": 2048}}, 2048),
        ({"max_position_embeddings": 4096, "rope_scaling": {"type": "linear", "factor": 2.0}}, 8192),
        ({"max_position_embeddings": 4096, "rope_parameters": {"rope_type": "dynamic", "factor": 4}}, 16384),
        ({"max_position_embeddings": 4096, "rope_parameters": {"rope_type": "default", "rope_theta": 1e4}}, 4096),
        ({"max_position_embeddings": 131072, "rope_scaling": {"rope_type": "llama3", "factor": 8.0}}, 131072),
        ({"max_position_embeddings": 32768, "rope_scaling": {"type": "yarn", "factor": 4.0}}, 32768),
        ({"model_type": "qwen2"}, None),
    ],
)
def test_the_window_is_the_one_that_vllm_allows(config: dict[str, object], window: int | None) -> None:
    assert window_of(config) == window


def test_an_engine_needs_a_window() -> None:
    assert engine_window(64, {"max_position_embeddings": 4096}) == 64
    assert engine_window(None, {"max_position_embeddings": 4096}) == 4096
    with pytest.raises(DataError, match=r"Set engine\.max_model_len"):
        engine_window(None, {"model_type": "qwen2"})
