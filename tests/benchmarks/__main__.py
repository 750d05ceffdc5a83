"""Every benchmark, one after another (`make bench`), as markdown tables; `--quick` leaves the five demos out."""

import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent

BENCHMARKS = {
    "Sandbox": ["sandbox.py"],
    "Rollout under tool latency, simulated engine": ["rollout.py"],
    "Rollout under tool latency, vLLM": ["rollout.py", "--engine", "vllm"],
    "What a stored trajectory costs": ["store.py"],
    "The store on S3": ["s3.py"],
    "The demo over five seeds, and where a step's time goes": ["demo.py"],
}


def main() -> int:
    failed = 0
    for title, (script, *arguments) in BENCHMARKS.items():
        if script == "demo.py" and "--quick" in sys.argv:
            continue
        print(f"\n## {title}\n", flush=True)
        failed += subprocess.run([sys.executable, HERE / script, *arguments], check=False).returncode != 0
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
