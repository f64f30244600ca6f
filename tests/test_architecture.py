"""The house's rules (DESIGN.md section 2), held by reading the source."""

import ast
import csv
import re
import subprocess
import sys
import tomllib
from importlib import import_module
from pathlib import Path

import pytest

from vivace import index
from vivace.base.parameters import parameters
from vivace.exam import bank

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "vivace"
FILES = sorted(SOURCE.rglob("*.py"))
METHODS = index.methods()
EXPERIMENTS = index.experiments()
ALLOWED: dict[tuple[str, str], str] = {
    # (importing room, imported room): why a method can't ask for it as an argument
}
BUDGET = {"method": 300, "function": 60, "reachable": 6}
GROUND = {"base", "experiments", "exam", "studio"}


def module_of(path: Path) -> str:
    parts = path.relative_to(SOURCE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports_of(path: Path) -> set[str]:
    """The vivace modules that a file imports, wherever in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            found |= {f"{node.module}.{alias.name}" for alias in node.names} | {node.module}
        elif isinstance(node, ast.ImportFrom) and node.level:
            raise AssertionError(f"{path}: relative import; write the module's whole name")
    return {name for name in found if name.startswith("vivace")}


def storey(module: str) -> int:
    """base 0, rooms 1, experiments 2, front doors 3."""
    part = [*module.split("."), ""][1]
    return {"base": 0, "experiments": 2}.get(part, 1 if (SOURCE / part).is_dir() and part and part not in GROUND else 3)


@pytest.mark.parametrize("path", FILES, ids=module_of)
def test_imports_point_down(path: Path) -> None:
    module = module_of(path)
    for imported in imports_of(path) - {"vivace"}:
        if imported.startswith("vivace.__version__"):
            continue
        assert storey(imported) <= storey(module), f"{module} imports {imported}, which stands above it"
        here, there = module.split(".")[1:2], imported.split(".")[1:2]
        if storey(module) == storey(imported) == 1 and here != there:
            assert (here[0], there[0]) in ALLOWED, f"room {here[0]} imports room {there[0]}"


@pytest.mark.parametrize("method", METHODS, ids=lambda m: m.key)
def test_a_method_is_small_and_needs_little_else(method: index.Entry) -> None:
    lines = method.path.read_text(encoding="utf-8").count("\n")
    assert lines <= BUDGET["method"], (
        f"{method.place}: {lines} lines; one method, one file of {BUDGET['method']} at most"
    )
    reached, ahead = {method.path}, [method.path]
    while ahead:
        for name in imports_of(ahead.pop()):
            path = SOURCE.parent / (name.replace(".", "/") + ".py")
            if path.exists() and path not in reached:
                reached.add(path)
                ahead.append(path)
    assert len(reached) - 1 <= BUDGET["reachable"], f"{method.key} needs {sorted(map(module_of, reached))}"


@pytest.mark.parametrize("path", FILES, ids=module_of)
def test_functions_are_short(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            doc = node.body[0].end_lineno - node.body[0].lineno + 1 if ast.get_docstring(node) else 0  # type: ignore[operator]
            length = (node.end_lineno or node.lineno) - node.lineno + 1 - doc
            assert length <= BUDGET["function"], (
                f"{path.name}:{node.lineno} {node.name} has {length} lines without its docstring"
            )


def test_no_import_cycles_between_rooms() -> None:
    edges = {(m.split(".")[1], i.split(".")[1]) for p in FILES for m in [module_of(p)] for i in imports_of(p)
             if storey(m) == 1 and storey(i) == 1 and m.split(".")[1] != i.split(".")[1]}  # fmt: skip
    assert not {edge for edge in edges if edge[::-1] in edges}


def test_names_say_what_is_inside() -> None:
    vague = {"utils", "util", "helpers", "helper", "common", "misc", "tools"}
    assert not [path for path in SOURCE.rglob("*") if path.stem in vague]


def test_there_are_methods() -> None:
    assert {"linear_regression", "mlp", "efficientnet_lite", "grad_cam", "cam", "gram", "gatys"} <= {
        m.name for m in METHODS
    }


@pytest.mark.parametrize("method", METHODS, ids=lambda m: m.key)
def test_a_method_opens_with_four_facts(method: index.Entry) -> None:
    doc = ast.get_docstring(ast.parse(method.path.read_text(encoding="utf-8"))) or ""
    assert re.match(r"[^\n:]+: [^\n]+\.\n\n", doc), "first line: `Name: one plain sentence.`"
    assert re.search(r"\d{4}", method.paper), "then the paper with its year, and section or equation"
    assert re.search(r"^In: .*Out: ", doc, re.MULTILINE | re.DOTALL), "then `In: ... Out: ...`"
    assert re.search(r"^Departs from the paper: ", doc, re.MULTILINE), "then `Departs from the paper: ...`"


@pytest.mark.parametrize("method", METHODS, ids=lambda m: m.key)
def test_a_method_has_the_whole_pipe(method: index.Entry) -> None:
    assert (ROOT / "tests" / method.room / f"test_{method.name}.py").exists(), "its test"
    assert index.experiments_of(method), "an experiment that runs it"
    assert index.questions_of(method), "a question that leads to it"
    assert hasattr(import_module(f"vivace.{method.room}"), method.symbol), f"room {method.room} offers {method.symbol}"


@pytest.mark.parametrize("method", METHODS, ids=lambda m: m.key)
def test_a_methods_test_has_a_mutant(method: index.Entry) -> None:
    text = (ROOT / "tests" / method.room / f"test_{method.name}.py").read_text(encoding="utf-8")
    assert "mutant" in text.lower(), "a plausible wrong version that the test rejects"


@pytest.mark.parametrize("method", METHODS, ids=lambda m: m.key)
def test_a_method_neither_prints_nor_touches_global_randomness(method: index.Entry) -> None:
    text = method.path.read_text(encoding="utf-8")
    for wrong in ("print(", "manual_seed(", "np.random.seed", "set_default_", "plt.", "open("):
        assert wrong not in text, f"{method.place}: {wrong}"


@pytest.mark.parametrize("entry", EXPERIMENTS, ids=lambda e: e.key)
def test_an_experiment_documents_every_parameter(entry: index.Entry) -> None:
    module = import_module(f"vivace.experiments.{entry.key}")
    known = parameters(module.run)
    assert known, "a parameter"
    assert all(parameter.help for parameter in known), [p.name for p in known if not p.help]
    assert set(module.QUICK) <= {p.name for p in known}
    for parameter in known:
        parameter.check(parameter.default)
        parameter.check(module.QUICK.get(parameter.name, parameter.default))
    assert f"vivace run {entry.name}" in (module.run.__doc__ or ""), "the command, its time and what it reaches"


def test_experiment_names_are_unique() -> None:
    names = [entry.name for entry in EXPERIMENTS]
    assert len(names) == len(set(names)), "`vivace run NAME` must mean one experiment"


def test_readme_table_is_complete() -> None:
    rows = re.findall(r"^\| .*?`(\w+\.\w+)`", (ROOT / "README.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert sorted(rows) == sorted(method.key for method in METHODS)


def test_every_experiment_answers_a_question() -> None:
    named = {key for question in bank.questions().values() for key in question.experiments}
    assert named == {entry.key for entry in EXPERIMENTS}


def test_coverage_names_real_code() -> None:
    with (ROOT / "docs" / "coverage.tsv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    assert rows and len({row[0] for row in rows}) == len(rows)
    for feature, name, target in rows:
        assert re.fullmatch(r"F\d{3}", feature) and not name.isdigit()
        module = target if target.startswith("vivace.") else f"vivace.{target}"
        assert (SOURCE.parent / (module.replace(".", "/") + ".py")).exists(), f"{feature} {name}: no {target}"


def test_dependencies_have_lower_bounds_only_and_are_pinned_in_constraints() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    needed = project["dependencies"] + [d for group in project["optional-dependencies"].values() for d in group]
    pins = dict(re.findall(r"^([\w.-]+)==(\S+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE))
    plain = {re.sub(r"[-_.]+", "-", name).lower() for name in pins}
    for requirement in needed:
        assert re.fullmatch(r"[\w.\-\[\]]+>=[\d.]+", requirement), requirement
        assert re.sub(r"[-_.]+", "-", re.split(r"[>\[]", requirement)[0]).lower() in plain, requirement
    assert pins["torch"].startswith("2.13") and "+" not in pins["torch"]


@pytest.mark.parametrize("arguments", ([], ["--help"], ["list"], ["where", "grad cam"], ["run", "--help"], ["version"]))
def test_finding_things_loads_nothing_heavy(arguments: list[str]) -> None:
    code = (
        "import sys; from vivace.cli import _main; _main(sys.argv[1:]);"
        "heavy = {'torch', 'gradio', 'sklearn', 'matplotlib', 'numpy', 'lightning_fabric'} & set(sys.modules);"
        "sys.exit(f'loaded {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
