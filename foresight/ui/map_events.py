"""What happens in the Latent map tab: each method takes components' values and returns components' values."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from html import escape
from typing import Any

import gradio as gr
from gradio.processing_utils import save_bytes_to_cache
from gradio.utils import get_upload_folder
from torch import Tensor

from foresight.errors import InputError
from foresight.images import to_pil
from foresight.inspector import Reconstruction, prepare
from foresight.latent_map import LatentMap, Projected
from foresight.map_data import MapSpec, Progress
from foresight.render import render
from foresight.ui import generate, map_panels, map_tiles
from foresight.ui.calls import open_picture
from foresight.ui.doors import Case, visit
from foresight.ui.map_calls import MapCalls
from foresight.ui.map_form import spec_of
from foresight.ui.uploads import telling_each

PAGE = 60  # tiles of a selection shown at a time
HINT = (
    '<p class="fs-map-note">Hover over a point to see its picture. Click it for its reconstruction and its nearest '
    "neighbours in the latents.</p>"
)


@dataclass(frozen=True)
class Mark:
    """A picture brought in from elsewhere. projected: its place on the map, once that is known."""

    case: Case
    point: str
    projected: Projected | None = None


@dataclass(frozen=True)
class Seen:
    """What is looked at: a point of the map, or (None) the picture brought in; and at which extraction point."""

    index: int | None
    point: str


class MapEvents:
    """The tab's handlers, on top of its calls."""

    def __init__(self, calls: MapCalls) -> None:
        self.calls = calls

    def read(self, *form: Any) -> tuple[MapSpec, None, str]:
        """The form → what is to be drawn, nothing brought in, status."""
        spec = self.calls.limits.check(spec_of(*form))
        spec = replace(spec, points=self.calls.in_order(spec.points))
        return spec, None, told(f"{what(spec)}: waiting for the model.", 0, 0)

    def arrive(self, visited: dict[str, Any] | None, drawn: MapSpec | None, *form: Any) -> Any:
        """A picture from another tab → what is to be drawn, the picture, status, and the form's points."""
        if visited is None or visited["case"] is None:
            raise InputError("choose a picture first.")
        point = str(visited["point"])
        spec = drawn if drawn is not None and point in drawn.points else self.read([point], *form[1:])[0]
        status = told(f"{what(spec)}, with your picture: waiting for the model.", 0, 0)
        return spec, Mark(visited["case"], point), status, list(spec.points)

    def gather(self, spec: MapSpec) -> Iterator[str]:
        """Status while the latents are taken."""
        yield from paced(self.calls.gather(spec))

    def fit(self, spec: MapSpec) -> Iterator[str]:
        """Status while the map is fitted."""
        start = time.perf_counter()
        yield from paced(self.calls.fit(spec))
        seconds = time.perf_counter() - start
        yield told(f"{what(spec)}" + (f": fitted in {seconds:.1f} s." if seconds > 0.5 else "."))

    def present(self, spec: MapSpec, before: MapSpec | None, mark: Mark | None) -> Any:
        """The map that is now at hand: drawing, silhouettes, spec, layer, picture brought in, what is looked at,
        and the selection with its gallery and buttons, which stay where the map is the one that was there."""
        found, point, seen = self.calls.find(spec), spec.points[0], None
        if mark is not None:
            point = mark.point
            mark = replace(mark, projected=self.calls.project(spec, look(mark.case)[0]))
            seen = Seen(None, point)
        drawing = map_panels.payload(found, self.calls.scores(found), mark.projected if mark else None, point)
        kept = [gr.skip()] * 5 if spec == before else self._selection(found, [], PAGE)
        return drawing, map_panels.silhouette_panel(found), spec, point, mark, seen, *kept

    def turn(self, event: gr.EventData) -> str:
        """The layer that the slider has moved to."""
        return str(event.point)

    def click(self, spec: MapSpec | None, event: gr.EventData) -> Seen:
        """A point that was clicked on the map, in the gallery, or among neighbours."""
        found = self.calls.find(spec)
        index, point = int(event.index), str(event.point)
        if str(event.id) != found.spec.id or not 0 <= index < found.spec.size or point not in found.layers:
            raise InputError("this point is not on the map that is kept: draw it again.")
        return Seen(index, point)

    def explain(self, spec: MapSpec | None, seen: Seen | None, mark: Mark | None) -> Any:
        """The picture and its neighbours, at once: the model is not needed; and the button to Inspect."""
        if seen is None:
            return HINT, gr.Button(visible=False)
        found = self.calls.find(spec)
        of, picture, _ = self._look(found, seen, mark)
        return map_tiles.detail(found, seen.point, of, to_pil(picture), None), gr.Button(visible=True)

    def reconstruct(self, spec: MapSpec | None, seen: Seen | None, mark: Mark | None, name: str | None) -> Any:
        """The same, with what an adapter reads out of the latents, or why none does."""
        if seen is None:
            return gr.skip()
        found = self.calls.find(spec)
        of, picture, mask = self._look(found, seen, mark)
        made: Reconstruction | str
        try:
            made = self.calls.inspect(picture, self.calls.entry(seen.point, name), mask).reconstructions[0]
        except InputError as error:
            made = str(error)
        return map_tiles.detail(found, seen.point, of, to_pil(picture), made)

    def select(self, spec: MapSpec | None, event: gr.EventData) -> Any:
        """Points that were lassoed: the selection, its gallery and buttons."""
        found, indices = self.calls.find(spec), [int(i) for i in event.indices]
        if str(event.id) != found.spec.id or not all(0 <= i < found.spec.size for i in indices):
            raise InputError("these points are not on the map that is kept: draw it again.")
        return self._selection(found, indices, PAGE)

    def extend(self, spec: MapSpec | None, indices: list[int], shown: int) -> Any:
        """More of the selection."""
        return self._selection(self.calls.find(spec), indices, shown + PAGE)

    def _selection(self, found: LatentMap, indices: list[int], shown: int) -> list[Any]:
        some, rest = len(indices), len(indices) - shown
        return [
            indices,
            shown,
            map_tiles.gallery(found, indices, shown),
            gr.Button(f"Show {min(rest, PAGE)} more of {some:,}", visible=rest > 0),
            gr.Button(f"Export {some:,} {noun(found.spec, some)} (zip)", visible=some > 0),
        ]

    def export(self, spec: MapSpec | None, indices: list[int]) -> str:
        """The selection as a file."""
        found = self.calls.find(spec)
        if not indices:
            raise InputError("select points first: draw a line around them with the lasso.")
        drawn = min(len(indices), self.calls.limits.pictures)
        data = map_panels.export(found, self.calls.scores(found), indices, drawn)
        return save_bytes_to_cache(data, f"foresight-map-{found.spec.id}.zip", get_upload_folder())

    def score(self, spec: MapSpec | None, layer: str, name: str | None) -> Iterator[str]:
        """Status while the map's scenes are read by an adapter."""
        found, entry = self.calls.find(spec), self.calls.entry(layer, name)
        yield from paced(self.calls.score(found, entry, self.calls.limits.scored))
        yield told(f"Scored by {name} at {layer}. “Colour by” has the scores now.")

    def show_scores(self, spec: MapSpec | None, mark: Mark | None, layer: str, name: str | None) -> Any:
        """The map, coloured by what was scored so far; nothing where there is no map yet."""
        if spec is None:
            return gr.skip()
        found = self.calls.find(spec)
        scores, reader = self.calls.scores(found), f"{name} at {layer}"
        colour = f"lpips {reader}" if reader in scores else None
        return map_panels.payload(found, scores, mark.projected if mark else None, None, colour)

    def leave(self, spec: MapSpec | None, seen: Seen | None, mark: Mark | None, name: str | None) -> dict[str, Any]:
        """What is looked at, for the Inspect tab."""
        found = self.calls.find(spec)
        if seen is None:
            raise InputError("click a point of the map first.")
        data = found.data
        if seen.index is not None:
            case: Case = data.scenes.describe(int(data.rows[seen.index]))
        else:
            case = mark.case if mark else None
        return visit(case, seen.point, name)

    def thumbnail(self, asked: list[Any]) -> str:
        """[a map's id, a point] → its picture for a hover; "" where there is no such map or point."""
        name, index = asked
        found = self.calls.named(str(name))
        if found is None or not isinstance(index, int) or not 0 <= index < found.spec.size:
            return ""
        return map_tiles.data_url(map_tiles.pictures(found, [index], map_tiles.THUMBNAIL)[0])

    def _look(self, found: LatentMap, seen: Seen, mark: Mark | None) -> tuple[Any, Tensor, Tensor | None]:
        """What `detail` wants: the point or projected picture; its pixels (3, H, W) and mask (H, W)."""
        if seen.index is None:
            if mark is None or mark.projected is None:
                raise InputError("this picture is no longer on the map: bring it in again.")
            return mark.projected, *look(mark.case)
        drawn = render(found.data.scenes[int(found.data.rows[seen.index])])
        return seen.index, drawn.images[0].float() / 255, drawn.mask[0]


def telling_status(steps: Callable[..., Iterator[str]]) -> Callable[..., Iterator[str]]:
    """Status steps whose InputErrors are told in the status too, where they stay."""

    @functools.wraps(steps)
    def followed(*values: Any) -> Iterator[str]:
        try:
            yield from steps(*values)
        except InputError as error:
            sentence = str(error)
            yield told(f"{sentence[0].upper()}{sentence[1:]} Nothing else has changed.")
            raise

    return telling_each(followed)


def look(case: Case) -> tuple[Tensor, Tensor | None]:
    """A case's pixels (3, H, W) and mask (H, W), where that is known, as the model sees them."""
    if isinstance(case, dict):
        drawn, mask = generate.draw(case)
        return prepare(drawn, mask)
    return prepare(open_picture(case))


def noun(spec: MapSpec, count: int) -> str:
    return ("token" if spec.tokens else "scene") + ("" if count == 1 else "s")


def what(spec: MapSpec) -> str:
    """A map in words."""
    where = spec.points[0] if len(spec.points) == 1 else f"{len(spec.points)} points"
    return f"{spec.size:,} {noun(spec, spec.size)} at {where}"


def paced(steps: Iterator[Progress]) -> Iterator[str]:
    """Progress as status with the remaining time, at most four a second."""
    stage, start, first, last = "", 0.0, 0, 0.0
    for step in steps:
        now = time.perf_counter()
        if step.stage != stage:
            stage, start, first, last = step.stage, now, step.done, 0.0
        if now - last < 0.25:
            continue
        last, made = now, step.done - first
        left = (now - start) / made * (step.total - step.done) if made > 0 else None
        rest = "" if left is None else f", {left:.0f} s left" if left < 100 else f", {left / 60:.0f} min left"
        number = f"{step.done:,} of {step.total:,}{rest}" if step.total else "at work"
        yield told(f"{step.stage[0].upper()}{step.stage[1:]}: {number}", step.done, step.total)


def told(text: str, done: int | None = None, total: int = 0) -> str:
    """A line of status, with a bar while something runs: of unknown length where total is 0."""
    bar = (
        ""
        if done is None
        else f'<progress max="{total}" value="{done}"></progress>'
        if total
        else "<progress></progress>"
    )
    return f'<div class="fs-map-status"><p role="status">{escape(text)}</p>{bar}</div>'
