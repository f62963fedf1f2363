"""The latent map as JSON for its drawing and for programs, its silhouettes as HTML, a selection as a file."""

import base64
import csv
import io
import json
import math
import zipfile
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from html import escape
from typing import Any

import numpy as np

from foresight.data.scenes import COLORS
from foresight.maps.data import BACKGROUND, noun
from foresight.maps.fit import LatentMap, Projected
from foresight.maps.separability import Array, Silhouette
from foresight.metrics.scores import SCORES, Scores
from foresight.ui.cards import NAMES
from foresight.ui.image_maps import png
from foresight.ui.latent_map.tiles import images

ScoreTable = dict[str, list[Scores]]  # by what read them, such as "tokens at post-merge/6": the first scenes' scores

TITLES = {
    "shape": "Shape",
    "colour": "Colour",
    "size": "Size",
    "position": "Position",
    "background": "Background",
    "objects": "Number of objects",
    "radius": "Radius",
    "x": "Left to right",
    "y": "Top to bottom",
    "folder": "Folder",
    "detail": "Detail",
    "brightness": "Brightness",
    "aspect": "Aspect",
}
UNITS = {"radius": "px", "psnr": "dB"}


def payload(
    latent_map: LatentMap,
    scores: ScoreTable,
    image: Projected | None = None,
    layer: str | None = None,
    colour: str | None = None,
) -> str:
    """The map as tab.js reads it.

    Args:
        latent_map: The map.
        scores: To colour by.
        image: One that was projected in.
        layer, colour: What to show first; None leaves it as it is.
    """
    layers = [
        {
            "point": point,
            "places": _pack(map_layer.coordinates, np.float32),
            "marks": _pack(image.places[point], np.float32) if image else None,
        }
        for point, map_layer in latent_map.layers.items()
    ]
    data = latent_map.data
    columns: list[dict[str, Any] | None] = [
        _classes(name, TITLES[name], data.labels[name]) for name in data.labels if len(set(data.labels[name])) > 1
    ]
    for point, map_layer in latent_map.layers.items():
        columns.append(_classes(f"cluster {point}", f"Cluster at {point}", map_layer.clusters + 1))
    columns += [_numbers(name, TITLES[name], data.measures[name]) for name in data.measures]
    for reader, table in scores.items():
        for score in SCORES:
            values = np.full(latent_map.spec.scenes, np.nan)
            values[: len(table)] = [np.nan if row[score] is None else row[score] for row in table]
            if not np.isnan(values).all():
                columns.append(_numbers(f"{score} {reader}", f"{NAMES[score]}, {reader}", values[data.rows], score))
    return json.dumps(
        {
            "id": latent_map.spec.id,
            "count": latent_map.spec.size,
            "noun": noun(latent_map.spec, 2),
            "names": [data.pictures.name(row) for row in data.rows] if latent_map.spec.pictures else None,
            "dimensions": latent_map.spec.dimensions,
            "layers": layers,
            "columns": [c for c in columns if c],
            "layer": layer,
            "colour": colour,
        }
    )


def _pack(values: Array, kind: type) -> str:
    return base64.b64encode(np.ascontiguousarray(values, kind).tobytes()).decode()


def _classes(name: str, title: str, values: Array) -> dict[str, Any]:
    names, codes = np.unique(values, return_inverse=True)
    classes = [str(n) for n in names]
    colors = ["#{:02x}{:02x}{:02x}".format(*COLORS[c]) if c in COLORS else None for c in classes]
    return {"name": name, "title": title, "classes": classes, "colors": colors, "codes": _pack(codes, np.uint8)}


def _numbers(name: str, title: str, values: Array, kind: str = "") -> dict[str, Any] | None:
    known = values[np.isfinite(values)]
    if not len(known):
        return None
    low, high = color_range(known)
    return {
        "name": name,
        "title": title,
        "values": _pack(values, np.float32),
        "unit": UNITS.get(kind or name, ""),
        "low": low,
        "high": high,
        "least": float(known.min()),
        "most": float(known.max()),
    }


def color_range(values: Array) -> tuple[float, float]:
    """Between which of some values (N,) colours change: the 5 % and 95 % quantiles, so that no outlier takes them all.

    The ends are values that occur, and leave out at least the smallest and the largest of all; where nothing is left
    between them, they are these two.
    """
    low, high = np.quantile(values, 0.05, method="higher"), np.quantile(values, 0.95, method="lower")
    return (float(low), float(high)) if low < high else (float(values.min()), float(values.max()))


def as_json(latent_map: LatentMap) -> dict[str, Any]:
    """The map as plain values, for programs."""
    return {
        "map": asdict(latent_map.spec),
        "scene": latent_map.data.rows.tolist(),
        "token": None if latent_map.data.cells is None else latent_map.data.cells.tolist(),
        "labels": {name: column.tolist() for name, column in latent_map.data.labels.items()},
        "layers": {
            point: {
                "coordinates": layer.coordinates.round(4).tolist(),
                "change": layer.change,
                "clusters": (layer.clusters + 1).tolist(),
                "silhouettes": {name: s and asdict(s) for name, s in layer.silhouettes.items()},
            }
            for point, layer in latent_map.layers.items()
        },
    }


def silhouette_panel(latent_map: LatentMap | None) -> str:
    """What the latents keep apart: each label's silhouette at each layer, above its shuffled floor."""
    if latent_map is None:
        return '<p class="fs-map-note">Silhouettes appear with the map.</p>'
    layers = latent_map.layers
    names = [name for name in latent_map.data.labels if any(layer.silhouettes[name] for layer in layers.values())]
    floor = "floor " if len(layers) <= 2 else ""  # elsewhere there is no room for the word
    cells = {(point, name): _cell(layer.silhouettes[name], floor) for point, layer in layers.items() for name in names}
    if len(layers) <= 2:
        heads = [escape(point) for point in layers]
        lines = [(TITLES[name], [cells[point, name] for point in layers]) for name in names]
    else:
        heads = [TITLES[name] for name in names]
        lines = [(escape(point), [cells[point, name] for name in names]) for point in layers]
    head = "".join(f"<th scope=col>{title}</th>" for title in heads)
    body = "".join(f"<tr><th scope=row>{title}</th>{''.join(row)}</tr>" for title, row in lines)
    count = max((s.count for layer in layers.values() for s in layer.silhouettes.values() if s), default=0)
    changes = [f"{point} {layer.change:.2f}" for point, layer in layers.items() if layer.change is not None]
    moved = f"<p>Moved since the layer before (Procrustes, 0 to 1): {', '.join(changes)}.</p>" if changes else ""
    return (
        '<div class="fs-map-note"><h4>What the latents keep apart</h4>'
        f'<div class="fs-map-wide"><table><thead><tr><th scope=col>Silhouette</th>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
        f"<p>1 is far apart, 0 no difference, less than 0 mixed up. Small: the floor, the mean of shuffled labels; ✓ "
        f"above every shuffle, however mixed. Of {count:,} latents themselves, by the cosine, not of the map, whose "
        f"distances tell less than they seem to.{_left_out(latent_map)}</p>"
        f"{moved}{''.join(_by_class(point, layer.silhouettes) for point, layer in layers.items())}</div>"
    )


def _left_out(latent_map: LatentMap) -> str:
    """How many tokens show no object, and so are not among the silhouettes."""
    empty = int((latent_map.data.labels["shape"] == BACKGROUND).sum()) if "shape" in latent_map.data.labels else 0
    return f" Left out: {empty:,} of {latent_map.spec.size:,} tokens, which show only background." if empty else ""


def _cell(silhouette: Silhouette | None, floor: str) -> str:
    if silhouette is None:
        return "<td>–</td>"
    mark = '<b title="above every shuffle">✓</b> ' if silhouette.stands_out else ""
    return f"<td>{mark}{silhouette.value:.3f}<small>{floor}{silhouette.floor:.3f}</small></td>"


def _by_class(point: str, silhouettes: dict[str, Silhouette | None]) -> str:
    """Each class's silhouette at a point, and how far its labels agree with the clusters."""
    parts = []
    for name, silhouette in silhouettes.items():
        if silhouette is not None:
            rows = "".join(f"<li>{escape(c)} <span>{value:.3f}</span></li>" for c, value in silhouette.classes.items())
            agreement = (
                "" if silhouette.agreement is None else f" (as the clusters: {max(0.0, silhouette.agreement):.2f})"
            )
            parts.append(f"<h5>{TITLES[name]}{agreement}</h5><ul>{rows}</ul>")
    return f"<details><summary>{escape(point)} by class, and clusters</summary>{''.join(parts)}</details>"


def export(
    latent_map: LatentMap,
    scores: ScoreTable,
    indices: Sequence[int],
    drawn: int,
) -> bytes:
    """A selection as a zip: points.csv, map.json and the pictures of the first `drawn` points."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        table = io.StringIO()
        rows = list(_lines(latent_map, scores, indices, drawn))
        writer = csv.DictWriter(table, rows[0])
        writer.writeheader()
        writer.writerows(rows)
        archive.writestr("points.csv", table.getvalue())
        archive.writestr("map.json", json.dumps({**vars(latent_map.spec), "selected": len(rows)}, indent=2))
        for start in range(0, drawn, 32):
            part = list(indices[start : min(start + 32, drawn)])
            for index, image in zip(part, images(latent_map, part), strict=True):
                archive.writestr(_file(index), png(image))
    return file.getvalue()


def _file(index: int) -> str:
    return f"pictures/{index:05d}.png"


def _lines(latent_map: LatentMap, scores: ScoreTable, indices: Sequence[int], drawn: int) -> Iterable[dict[str, Any]]:
    data = latent_map.data
    for n, i in enumerate(indices):
        scene = int(data.rows[i])
        line: dict[str, Any] = {"point": i, "scene": scene, "hash": data.pictures.name(scene)}
        line["picture"] = _file(i) if n < drawn else ""
        if data.cells is not None:
            line |= {"row": int(data.cells[i, 0]), "column": int(data.cells[i, 1])}
        line |= {name: str(data.labels[name][i]) for name in data.labels}
        line |= {n: "" if math.isnan(v := float(data.measures[n][i])) else round(v, 4) for n in data.measures}
        for point, layer in latent_map.layers.items():
            places = zip("xyz", layer.coordinates[i].tolist(), strict=False)
            line |= {f"{point} map {axis}": round(v, 4) for axis, v in places}
            line[f"{point} cluster"] = int(layer.clusters[i]) + 1
        for reader, table in scores.items():
            known = table[scene] if scene < len(table) else dict.fromkeys(SCORES)
            line |= {f"{score} {reader}": "" if known[score] is None else known[score] for score in SCORES}
        yield line
