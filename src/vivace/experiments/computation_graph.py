"""A computation that our engine has noted, drawn: operands on the left, the result on the right."""

from typing import Any

from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

from vivace.base.drawing import BLUE, GREY, ORANGE
from vivace.optimization import Variable

SIGNS = {"*": "×", "-": "−", "^2": "( )²"}


def draw_graph(result: Variable) -> Figure:
    """Each node with its name, its value and, if there is one, its gradient: numbers only.

    A node stands one column right of its last operand, a leaf just left of where it is first used.
    """
    nodes, edges = result.graph()
    column = [0] * len(nodes)
    for start, end in sorted(edges, key=lambda edge: edge[1]):
        column[end] = max(column[end], column[start] + 1)
    for i, node in enumerate(nodes):
        if not node.edges:
            column[i] = min(column[end] for start, end in edges if start == i) - 1
    row, filled = [0] * len(nodes), [0] * (max(column) + 1)
    for i in sorted(range(len(nodes)), key=lambda i: not nodes[i].edges):  # operations in the first row
        row[i] = filled[column[i]]
        filled[column[i]] += 1
    figure = Figure(figsize=(1.3 * len(filled), 1.5 * max(filled)), layout="constrained")
    axes = figure.subplots()
    for start, end in edges:
        axes.annotate("", (column[end] - 0.37, -row[end]), (column[start] + 0.37, -row[start]),
                      arrowprops={"arrowstyle": "-|>", "color": GREY, "shrinkA": 0, "shrinkB": 0})  # fmt: skip
    for i, node in enumerate(nodes):
        _draw_node(axes, column[i], -row[i], node)
    axes.set(xlim=(-0.5, len(filled) - 0.5), ylim=(0.5 - max(filled), 0.5), aspect="equal")
    axes.set_axis_off()
    return figure


def _draw_node(axes: Any, x: float, y: float, node: Variable) -> None:
    axes.add_patch(FancyBboxPatch((x - 0.34, y - 0.3), 0.68, 0.6, facecolor="white", edgecolor=GREY,
                                  boxstyle=f"round,pad=0.04,rounding_size={0.15 if node.edges else 0.02}"))  # fmt: skip
    name = " ".join(SIGNS.get(word, word) for word in node.name.split())
    lines = [(name, "black", 0.2, "bold"), (f"{node.value.item():.4f}", BLUE, 0.0, "normal")]
    if node.grad is not None:
        lines.append((f"{node.grad.item():+.4f}", ORANGE, -0.2, "normal"))
    for text, color, up, weight in lines:
        axes.text(x, y + up, text, ha="center", va="center", fontsize=9, color=color, weight=weight)
