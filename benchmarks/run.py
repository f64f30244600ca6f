"""Run every benchmark and write README.md: `make bench`, or `python run.py bench_grad_cam` for one without writing."""

import os
import platform
import sys
from importlib import import_module
from importlib.metadata import version
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch

from harness import Row

HERE = Path(__file__).parent
PEERS = ("torch", "captum", "grad-cam", "scikit-learn")


def table(rows: list[Row]) -> str:
    lines = ["| what | peer | ours | peer | ours / peer | agreement |", "|---|---|---:|---:|---:|---|"]
    for row in rows:
        times = f"{seconds(row.ours_s)} | {seconds(row.peer_s)} | **{row.ratio:.2f}**"
        lines.append(f"| {row.what} | {row.peer} | {times} | {row.agree} |")
    return "\n".join(lines)


def seconds(value: float) -> str:
    return f"{value:.2f} s" if value >= 1 else f"{value * 1e3:.1f} ms"


def main(names: list[str]) -> None:
    torch.set_num_threads(1)
    rows = []
    for name in names or sorted(path.stem for path in HERE.glob("bench_*.py")):
        for row in import_module(name).rows():
            print(f"{row.what:60} {row.peer:20} {row.ratio:6.2f}  {row.agree}")
            rows.append(row)
    if names:
        return
    versions = ", ".join(f"{peer} {version(peer)}" for peer in PEERS)
    (HERE / "README.md").write_text(
        f"""# Benchmarks

Ours against the library a user would pick instead: one process, one thread, alternating runs, medians.
Below 1 ours is faster.

{table(rows)}

Measured with `make bench` on {platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}:
{versions}. Start-up rows time a whole Python process.
`harness.py` says how a row is measured; each `bench_*.py` what it runs.
""",
        encoding="utf-8",
    )


if __name__ == "__main__":
    main(sys.argv[1:])
