from tasks.train import average
from torl_core.protocols import UpdateStats


def test_a_steps_metrics_are_means_of_its_updates_and_counts_are_sums() -> None:
    applied = UpdateStats(0.5, 1.0, 0.25, 0.02, 3.0, 100)
    without_signal = UpdateStats(0.0, 0.0, 0.0, 0.0, 1.0, 60, skipped=True)
    assert average([applied, without_signal, without_signal, applied]) == {
        "loss": 0.25, "grad_norm": 0.5, "clip_fraction": 0.125, "approx_kl": 0.01, "entropy": 2.0,
        "trained_tokens": 320.0, "skipped_updates": 2.0,
    }  # fmt: skip
