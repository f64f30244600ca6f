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
PEERS = ("torch", "captum", "grad-cam", "scikit-learn", "faiss-cpu")


SLOWER = """## Where ours takes longer, and why

- **autodiff**: written to be read, on NumPy. At batch 128 the matrix products decide, and it keeps up with torch; at
  batch 1 the cost of a Python call for each operation shows (2 times), and its convolution gathers patches where
  torch's kernel (oneDNN) does not.
- **Lloyd's steps**: ours to be read and watched, in NumPy; `KMeans.fit` runs scikit-learn's own, in C (1.0).
- **softmax regression, ten classes, tol 1e-4**: ours solves to 1e-6 of the coefficients, scikit-learn stops at 1e-2;
  at equal exactness ours takes half of the time.
- **PCA, 60,000 x 64**: ours centres each block of rows before it multiplies, which keeps the digits of data far from
  zero.
- **perceptron, 64 pixels**: one mistake after the other, each a NumPy call of some microseconds; with longer rows it
  is even.
- **lasso's path**: a hundred small problems, each some sweeps of a Python loop, against one loop in C; a single fit
  of many rows is three times as fast as scikit-learn's, since the rows are multiplied once.
- **im2col, and the convolution's gradients by hand**: patches are copied, then multiplied (im2col), or two convolutions
  and a correlation are called one by one (gradients); torch's kernel (oneDNN) does neither copy. Ours are to be read.
- **guided backpropagation**: captum's passes, and a few milliseconds for finding each ReLU, functions too.
- **Score-CAM**: forward passes, one for each map, and nothing else to save.
- **nearest neighbours in NumPy**: all distances are written down before the nearest are picked; scikit-learn keeps only
  the nearest of each block, in C.
- **style attention's block**: four 1 x 1 convolutions; `nn.MultiheadAttention` projects rows that lie in memory as its
  products want them.
- **start-up**: against a bare `import typer`, which finds and prints nothing.
"""


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

{SLOWER}""",
        encoding="utf-8",
    )


if __name__ == "__main__":
    main(sys.argv[1:])
