"""Start-up: how long until the command answers, and what an import costs."""

import subprocess
import sys
from collections.abc import Callable, Iterator

from harness import Row, compare


def python(code: str) -> Callable[[], None]:
    """A whole Python process that runs the code."""
    return lambda: subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL) and None


def command(*words: str) -> Callable[[], None]:
    return python(f"import sys; from vivace.cli import _main; sys.exit(_main({list(words)!r}))")


def rows() -> Iterator[Row]:
    nothing = python("import typer")
    yield compare("`vivace --help`", command("--help"), nothing, peer_name="`import typer`", repeats=11)
    yield compare("`vivace list`", command("list"), nothing, peer_name="`import typer`", repeats=11)
    yield compare(
        '`vivace where "grad cam"`', command("where", "grad cam"), nothing, peer_name="`import typer`", repeats=11
    )
    explain, captum = python("from vivace.explain import grad_cam"), python("from captum.attr import LayerGradCam")
    yield compare("`from vivace.explain import grad_cam`", explain, captum, peer_name="captum", repeats=5)
    code = "from {} import LinearRegression"
    ours, sklearn = python(code.format("vivace.learning")), python(code.format("sklearn.linear_model"))
    yield compare("`from vivace.learning import LinearRegression`", ours, sklearn, peer_name="scikit-learn", repeats=5)
