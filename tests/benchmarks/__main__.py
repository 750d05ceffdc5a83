"""Every benchmark, one after another (`make bench`), as markdown tables; `--quick` leaves the five demos out."""

import subprocess
import sys

BENCHMARKS = {
    "Sandbox": ["sandbox"],
    "Grading": ["grading"],
    "Rollout under tool latency, simulated engine": ["rollout"],
    "Rollout under tool latency, vLLM": ["rollout", "--engine", "vllm"],
    "What a stored trajectory costs": ["store"],
    "A question about a store": ["views"],
    "The store on S3": ["s3"],
    "The demo over five seeds, and where a step's time goes": ["demo"],
}


def main() -> int:
    failed = 0
    for title, (name, *arguments) in BENCHMARKS.items():
        if name == "demo" and "--quick" in sys.argv:
            continue
        print(f"\n## {title}\n", flush=True)
        command = [sys.executable, "-m", f"tests.benchmarks.{name}", *arguments]
        failed += subprocess.run(command, check=False).returncode != 0
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
