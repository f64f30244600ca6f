"""Artefacts of a report as files, and as a page shows them: pictures inlined, plots in the text's own colour."""

import base64
import html
import io
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup
from matplotlib import rc_context
from matplotlib.figure import Figure as Drawing
from matplotlib.legend import Legend
from matplotlib.ticker import MaxNLocator
from PIL import Image as Picture

from vivace.base.drawing import PALETTE
from vivace.base.images import to_uint8, write_image
from vivace.base.report import Artefact, Curve, Figure, File, Image, Images, Mesh, Page, Table, Video, number


def write_artefact(artefact: Artefact, folder: Path, *, prefix: str) -> tuple[str, Markup]:
    """Write an artefact's file or files; their names, and how a page shows it (`prefix` keeps a page's ids apart)."""
    match artefact:
        case Image():
            name = write_image(folder / f"{artefact.name}.png", artefact.image).name
            return name, _inlined(Picture.fromarray(to_uint8(artefact.image)), artefact.name)
        case Images():
            names = []
            for i, (label, image) in enumerate(artefact.images.items()):
                stem = re.sub(r"[^a-z0-9]+", "-", label.lower()).strip("-") or str(i)
                names.append(write_image(folder / f"{artefact.name}-{i:02}-{stem[:40]}.png", image).name)
            cells = [
                Markup("<figure>{}<figcaption>{}</figcaption></figure>").format(
                    _inlined(Picture.fromarray(to_uint8(image)), label), label
                )
                for label, image in artefact.images.items()
            ]
            rows = artefact.columns and f"grid-template-columns: repeat({artefact.columns}, minmax(0, 1fr))"
            strip = Markup('<div class="strip" style="{}">{}</div>').format(rows or "", Markup("").join(cells))
            return ", ".join(names), strip
        case Video():
            frames = [Picture.fromarray(to_uint8(frame)) for frame in artefact.frames]
            data = io.BytesIO()
            frames[0].save(data, "WEBP", save_all=True, append_images=frames[1:], duration=round(1000 / artefact.fps),
                           loop=0, quality=80)  # fmt: skip
            name = f"{artefact.name}.webp"
            (folder / name).write_bytes(data.getvalue())
            return name, _data_image(data.getvalue(), "webp", artefact.name, frames[0].size)
        case Curve():
            return _plot(_drawn(artefact), artefact.name, folder, prefix)
        case Figure():
            return _plot(artefact.figure, artefact.name, folder, prefix)
        case Mesh():
            name = f"{artefact.name}.obj"
            (folder / name).write_text(_obj(artefact), encoding="ascii")
            return name, _plot(_drawn_mesh(artefact), artefact.name, folder, prefix)[1]
        case Table():
            name = f"{artefact.name}.csv"
            lines = [artefact.columns, *artefact.rows]
            (folder / name).write_text("".join(_csv_line(line) for line in lines), encoding="utf-8")
            return name, _table(artefact)
        case File():
            name = f"{artefact.name}{artefact.path.suffix}"
            shutil.copyfile(artefact.path, folder / name)
            size = f"{artefact.path.stat().st_size / 1e6:.2f} MB"
            return name, Markup('<p class="file"><a href="{}">{}</a> {}</p>').format(name, name, size)
        case Page():  # its script runs apart from our page, without a right to anything
            name = f"{artefact.name}.html"
            (folder / name).write_text(artefact.html, encoding="utf-8")
            return name, Markup(
                '<iframe class="inner" sandbox="allow-scripts" loading="lazy" title="{}" srcdoc="{}"></iframe>'
            ).format(artefact.name, artefact.html)


def _inlined(picture: Picture.Image, name: str) -> Markup:
    """A picture as WebP inside the page; small ones are enlarged by whole pixels so that each can be seen."""
    data = io.BytesIO()
    small = max(picture.size) < 128
    picture.save(data, "WEBP", quality=90, lossless=small)
    return _data_image(data.getvalue(), "webp", name, picture.size, "pixels" if small else "")


def _data_image(data: bytes, kind: str, name: str, size: tuple[int, int], style: str = "") -> Markup:
    url = f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
    return Markup('<img class="{}" src="{}" alt="{}" width="{}" height="{}">').format(style, url, name, *size)


def _table(table: Table) -> Markup:
    numeric = [all(isinstance(row[i], int | float) for row in table.rows) for i in range(len(table.columns))]
    head = Markup("").join(
        Markup('<th class="{}">{}</th>').format("n" if n else "", c)
        for c, n in zip(table.columns, numeric, strict=True)
    )
    cells = [
        Markup("").join(
            Markup('<td class="{}">{}</td>').format("n" if n else "", _cell(value))
            for value, n in zip(row, numeric, strict=True)
        )
        for row in table.rows
    ]
    body = Markup("").join(Markup("<tr>{}</tr>").format(row) for row in cells)
    return Markup('<div class="scroll"><table><thead><tr>{}</tr></thead><tbody>{}</tbody></table></div>').format(
        head, body
    )


def _cell(value: object) -> str:
    return number(value) if isinstance(value, int | float) and not isinstance(value, bool) else str(value)


def _csv_line(values: Sequence[object]) -> str:
    quoted = (
        '"' + str(value).replace('"', '""') + '"' if re.search(r'[",\n]', str(value)) else str(value)
        for value in values
    )
    return ",".join(quoted) + "\n"


def _plot(figure: Drawing, name: str, folder: Path, prefix: str) -> tuple[str, Markup]:
    """A matplotlib figure as a PNG file, and as SVG in the page's own text colour."""
    figure.savefig(folder / f"{name}.png", dpi=150, facecolor="white", bbox_inches="tight")
    text = io.StringIO()
    figure.savefig(text, format="svg", transparent=True, bbox_inches="tight", metadata={"Date": None})
    svg = text.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"#000000|(?<=[ :\"])black\b", "currentColor", svg)
    svg = re.sub(r'\b(id="|url\(#|href="#)', rf"\g<1>{prefix}-{name}-", svg)
    svg = svg.replace("<svg ", f'<svg role="img" aria-label="{html.escape(name)}" ', 1)
    return f"{name}.png", Markup('<div class="plot">{}</div>').format(Markup(svg))  # noqa: S704 (drawn here)


def _drawn(curve: Curve) -> Drawing:
    with rc_context({"font.size": 10, "axes.spines.top": False, "axes.spines.right": False}):
        figure = Drawing(figsize=(6.4, 3.6), layout="constrained")
        axes = figure.subplots()
        for (label, (x, y)), color in zip(curve.lines.items(), PALETTE * (1 + len(curve.lines) // 8), strict=False):
            style = (
                {"linestyle": "", "marker": "o", "markersize": 3, "alpha": 0.7} if curve.points else {"linewidth": 1.8}
            )
            axes.plot(np.asarray(x, float), np.asarray(y, float), label=label, color=color, **style)
        axes.set(xlabel=curve.x, ylabel=curve.y)
        axes.set_xscale("log" if curve.log_x else "linear")
        axes.set_yscale("log" if curve.log_y else "linear")
        places = sorted({float(value) for x, _ in curve.lines.values() for value in np.asarray(x, float)})
        if curve.log_x and len(places) <= 8:  # a handful of sizes: name them, rather than powers of ten
            axes.set_xticks(places, [number(place) for place in places])
            axes.minorticks_off()
        elif not curve.log_x and all(place.is_integer() for place in places):  # no tick at half an epoch
            axes.xaxis.set_major_locator(MaxNLocator("auto", integer=True, steps=(1, 2, 5, 10)))
        axes.grid(alpha=0.2, color="#888888")
        if len(curve.lines) > 1 and _covers_lines(legend := axes.legend(frameon=False), figure):
            legend.remove()
            columns = 3 if max(map(len, curve.lines)) < 24 else 2
            figure.legend(loc="outside lower center", ncols=columns, frameon=False)
    return figure


def _covers_lines(legend: Legend, figure: Drawing) -> bool:
    """Whether a legend, where it is drawn, lies on a line."""
    figure.draw_without_rendering()
    box = legend.get_window_extent()
    paths = (line.get_path().transformed(line.get_transform()) for line in legend.axes.lines)
    return any(path.intersects_bbox(box, filled=False) for path in paths)


def _drawn_mesh(mesh: Mesh) -> Drawing:
    """The mesh from the front and above, lit from the camera."""
    figure = Drawing(figsize=(5, 5))
    axes: Any = figure.add_subplot(projection="3d")
    x, z, y = mesh.vertices.double().numpy().T  # y is up in meshes, z in matplotlib
    axes.plot_trisurf(x, -y, z, triangles=mesh.faces.numpy(), color=PALETTE[0], linewidth=0)
    axes.set_box_aspect((np.ptp(x), np.ptp(y), np.ptp(z)))
    axes.set_axis_off()
    return figure


def _obj(mesh: Mesh) -> str:
    vertices = ("v {:.6g} {:.6g} {:.6g}\n".format(*vertex) for vertex in mesh.vertices.tolist())
    faces = ("f {} {} {}\n".format(*(index + 1 for index in face)) for face in mesh.faces.tolist())
    return "".join([*vertices, *faces])
