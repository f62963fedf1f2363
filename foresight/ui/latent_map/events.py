"""What happens in the Latent map tab: each method takes components' values and returns components' values."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator
from dataclasses import dataclass, replace
from typing import Any

import gradio as gr
from gradio.processing_utils import save_bytes_to_cache
from gradio.utils import get_upload_folder
from torch import Tensor

from foresight.data.images import to_pil
from foresight.data.render import render
from foresight.errors import InputError
from foresight.inspection.readout import Reconstruction, prepare
from foresight.maps.data import MapSpec
from foresight.maps.fit import LatentMap
from foresight.models.points import ExtractionPoint
from foresight.ui import generate
from foresight.ui import view_link as link
from foresight.ui.latent_map import address, panels, tiles
from foresight.ui.latent_map.form import spec_of, values_of
from foresight.ui.latent_map.runs import Mark, Run, Runs, noun, paced, told, what
from foresight.ui.latent_map.services import MapCalls
from foresight.ui.navigation import ImageSource, open_view
from foresight.ui.services import open_picture

PAGE = 60  # tiles of a selection shown at a time
HINT = (
    '<p class="fs-map-note">Hover over a point to see its picture. Click it for its reconstruction and its nearest '
    "neighbours in the latents.</p>"
)


@dataclass(frozen=True)
class Seen:
    """What is looked at: a point of the map, or (None) the picture brought in; and at which extraction point."""

    index: int | None
    point: str


class MapEvents:
    """The tab's handlers, on top of its calls."""

    def __init__(self, calls: MapCalls, starts: int) -> None:
        self.calls = calls
        self.runs = Runs(starts)

    def read(self, request: gr.Request, *form: Any) -> Iterator[list[Any]]:
        """The form → a map's run."""
        return self.runs.start(lambda: Run(self._checked(spec_of(*form))), request)

    def arrive(
        self, request: gr.Request, visited: dict[str, Any] | None, drawn: MapSpec | None, *form: Any
    ) -> Iterator[list[Any]]:
        """A picture from another tab, or the map that an address asks for → a map's run."""

        def asked() -> Run:
            if visited and link.TAB in visited:
                spec = self._checked(address.spec_of(visited, str(self.calls.default)))
                return Run(spec, ended=not self.calls.limits.links)
            if visited is None or visited["case"] is None:
                raise InputError("choose a picture first.")
            point = str(visited["point"])
            if drawn is None or point not in drawn.points:
                return Run(self._checked(spec_of([point], *form[1:])), Mark(visited["case"], point))
            return Run(drawn, Mark(visited["case"], point))

        return self.runs.start(asked, request)

    def _checked(self, spec: MapSpec) -> MapSpec:
        return self.calls.limits.check(replace(spec, points=self.calls.in_order(spec.points)))

    def fill(self, run: Run) -> list[Any]:
        """The form of a run's map."""
        return values_of(run.spec)

    def gather(self, run: Run, request: gr.Request) -> Iterator[list[Any]]:
        """Status and buttons while the latents are taken."""
        return self.runs.follow(run, paced(self.calls.gather(run.spec)), request)

    def fit(self, run: Run, request: gr.Request) -> Iterator[list[Any]]:
        """Status and buttons while the map is fitted."""

        def timed() -> Generator[list[Any], None, None]:
            start = time.perf_counter()
            yield from paced(self.calls.fit(run.spec))
            run.seconds = time.perf_counter() - start

        return self.runs.follow(run, timed(), request)

    def present(self, run: Run, before: MapSpec | None, reader: str | None, request: gr.Request) -> Iterator[list[Any]]:
        """The map that is now at hand: status, drawing, silhouettes, spec, layer, reader, picture brought in, what is
        looked at and its panel, and the selection with its gallery and buttons, which stay where the map is the one
        that was there; then the buttons."""

        def made() -> Generator[list[Any], None, None]:
            spec, mark = run.spec, run.mark
            found, point, seen = self.calls.find(spec), spec.points[0], None
            if mark is not None:
                point = mark.point
                mark = replace(mark, projected=self.calls.project(spec, look(mark.case)[0]))
                seen = Seen(None, point)
            if run.stopped:
                return
            drawing = panels.payload(found, self.calls.scores(found), mark.projected if mark else None, point)
            status = what(spec) + (f": fitted in {run.seconds:.1f} s." if run.seconds > 0.5 else ".")
            looked = [spec, *self.turn_to(point, reader), mark, seen, *self.explain(spec, seen, mark)]
            kept = [gr.skip()] * 5 if spec == before else self._selection(found, [], PAGE)
            self.runs.end(run, request)
            told_here = told(status, link=address.query(spec))
            yield [told_here, drawing, panels.silhouette_panel(found), *looked, *kept]

        return self.runs.follow(run, made(), request, others=14)

    def turn(self, reader: str | None, event: gr.EventData) -> list[Any]:
        """The layer that the slider has moved to, and the adapters there."""
        return self.turn_to(str(event.point), reader)

    def turn_to(self, point: str, reader: str | None) -> list[Any]:
        """A layer, and the choice of the adapters that read it."""
        return [point, gr.Radio(**self.readers(point, reader))]

    def readers(self, point: str, wish: str | None) -> dict[str, Any]:
        """The choice of the adapters at a point: the one that is wished for, or the first."""
        names = [record.name for record in self.calls.adapters(ExtractionPoint.parse(point))]
        use = "For the reconstruction of a point, and for scores to colour by."
        return {
            "choices": names,
            "value": wish if wish in names else names[0] if names else None,
            "label": f"Read latents of {point} with",
            "info": use if names else f"No adapter reads {point} yet.",
        }

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
        of, picture, _, note = self._look(found, seen, mark)
        return tiles.detail(found, seen.point, of, to_pil(picture), None, note), gr.Button(visible=True)

    def reconstruct(self, spec: MapSpec | None, seen: Seen | None, mark: Mark | None, name: str | None) -> Any:
        """The same, with what an adapter reads out of the latents, or why none does."""
        if seen is None:
            return gr.skip()
        found = self.calls.find(spec)
        of, picture, mask, note = self._look(found, seen, mark)
        made: Reconstruction | str
        try:
            made = self.calls.inspect(picture, self.calls.find_adapter(seen.point, name), mask).reconstructions[0]
        except InputError as error:
            made = str(error)
        return tiles.detail(found, seen.point, of, to_pil(picture), made, note)

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
        some, rest, size = len(indices), len(indices) - shown, found.spec.size
        exported = f"{some:,}" if some else f"all {size:,}"
        return [
            indices,
            shown,
            tiles.gallery(found, indices, shown),
            gr.Button(f"Show {min(rest, PAGE)} more of {some:,}", visible=rest > 0),
            gr.Button(f"Export {exported} {noun(found.spec, some or size)} (zip)", interactive=True),
        ]

    def export(self, spec: MapSpec | None, indices: list[int]) -> str:
        """The selection as a file; without one, the whole map."""
        found = self.calls.find(spec)
        wanted = indices or range(found.spec.size)
        drawn = min(len(wanted), self.calls.limits.pictures)
        data = panels.export(found, self.calls.scores(found), wanted, drawn)
        return save_bytes_to_cache(data, f"foresight-map-{found.spec.id}.zip", get_upload_folder())

    def ask_scores(
        self, request: gr.Request, spec: MapSpec | None, layer: str, name: str | None
    ) -> Iterator[list[Any]]:
        """The map that is shown → a run of scores."""

        def asked() -> Run:
            found, _ = self.calls.find(spec), self.calls.find_adapter(layer, name)
            return Run(found.spec)

        return self.runs.start(asked, request)

    def score(self, run: Run, layer: str, name: str | None, request: gr.Request) -> Iterator[list[Any]]:
        """Status and buttons while the map's scenes are read by an adapter."""

        def scored() -> Generator[list[Any], None, None]:
            found, record = self.calls.find(run.spec), self.calls.find_adapter(layer, name)
            yield from paced(self.calls.score(found, record, self.calls.limits.scored))
            self.runs.end(run, request)
            sentence = f"Scored by {name} at {layer}. “Colour by” has the scores now."
            yield [told(sentence, link=address.query(run.spec))]

        return self.runs.follow(run, scored(), request)

    def show_scores(self, spec: MapSpec | None, mark: Mark | None, layer: str, name: str | None) -> Any:
        """The map, coloured by what was scored so far; nothing where there is no map yet."""
        if spec is None:
            return gr.skip()
        found = self.calls.find(spec)
        scores, reader = self.calls.scores(found), f"{name} at {layer}"
        colour = f"lpips {reader}" if reader in scores else None
        return panels.payload(found, scores, mark.projected if mark else None, None, colour)

    def leave(self, spec: MapSpec | None, seen: Seen | None, mark: Mark | None, name: str | None) -> dict[str, Any]:
        """What is looked at, for the Inspect tab."""
        found = self.calls.find(spec)
        if seen is None:
            raise InputError("click a point of the map first.")
        data = found.data
        if seen.index is not None:
            case: ImageSource = data.scenes.describe(int(data.rows[seen.index]))
        else:
            case = mark.case if mark else None
        return open_view(case, seen.point, name)

    def thumbnail(self, asked: list[Any]) -> str:
        """[a map's id, a point] → its picture for a hover; "" where there is no such map or point."""
        name, index = asked
        found = self.calls.named(str(name))
        if found is None or not isinstance(index, int) or not 0 <= index < found.spec.size:
            return ""
        return tiles.data_url(tiles.pictures(found, [index], tiles.THUMBNAIL)[0])

    def _look(self, found: LatentMap, seen: Seen, mark: Mark | None) -> tuple[Any, Tensor, Tensor | None, str]:
        """What `detail` wants: the point or projected picture; its pixels (3, H, W), mask (H, W), and a warning."""
        if seen.index is None:
            if mark is None or mark.projected is None:
                raise InputError("this picture is no longer on the map: bring it in again.")
            return mark.projected, *look(mark.case), tiles.stranger(found.spec, mark.case)
        drawn = render(found.data.scenes[int(found.data.rows[seen.index])])
        return seen.index, drawn.images[0].float() / 255, drawn.mask[0], ""


def look(case: ImageSource) -> tuple[Tensor, Tensor | None]:
    """A case's pixels (3, H, W) and mask (H, W), where that is known, as the model sees them."""
    if isinstance(case, dict):
        drawn, mask = generate.draw(case)
        return prepare(drawn, mask)
    return prepare(open_picture(case))
