"""The Compare tab: one picture at many layers, read by many adapters, beside each other."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.components import Component
from PIL import Image
from torch import Tensor

from foresight.adapters.registry import AdapterRecord
from foresight.data.factors import ANY
from foresight.data.images import load_mask, resize, to_pil, to_tensor, vlm_size
from foresight.data.scenes import MAX_OBJECTS
from foresight.errors import InputError
from foresight.inspection.inspector import Inspector
from foresight.inspection.readout import Reconstruction
from foresight.ui import cards, generate, stopping
from foresight.ui import view_link as link
from foresight.ui.compare import grids
from foresight.ui.compare.grids import Sheet, Shown, title
from foresight.ui.error_handling import error_place, show_errors, show_errors_in
from foresight.ui.image_input import example_pictures, example_row, file_image, picture_input
from foresight.ui.image_maps import png
from foresight.ui.inputs import FreeSlider
from foresight.ui.navigation import ImageSource, Navigation, on_open, open_view, updated_choices
from foresight.ui.plots import depth_chart
from foresight.ui.services import MODEL_QUEUE, open_picture
from foresight.ui.uploads import keep

Sides = tuple[str | None, str | None]  # titles of the tiles that were chosen to be left and right


@dataclass(frozen=True)
class CompareCalls:
    """adapters: all that fit. sweep_layers: picture, adapters, mask → tiles, each when it is ready.

    public: strangers come, so that a run starts on a click alone, and not by a link.
    """

    adapters: Callable[[], list[AdapterRecord]]
    sweep_layers: Callable[[Image.Image, Sequence[AdapterRecord], Tensor | None], Iterator[Reconstruction]]
    public: bool = False

    @classmethod
    def of(cls, inspector: Inspector, public: bool = False) -> CompareCalls:
        """The calls of one inspector and its models."""
        return cls(inspector.adapters, inspector.sweep_layers, public)

    def names(self) -> list[str]:
        """The adapters' names, each once."""
        return list(dict.fromkeys(record.name for record in sorted(self.adapters(), key=lambda e: not e.bundled)))

    def records(self, names: Sequence[str]) -> list[AdapterRecord]:
        """All adapters of these names, in order of depth. Raises InputError where one is not known."""
        known = self.names()
        if strange := [name for name in names if name not in known]:
            raise InputError(f"there is no adapter {strange[0]!r}: choose from {', '.join(known)}.")
        return [record for record in self.adapters() if record.name in names]


def build(calls: CompareCalls, navigation: Navigation) -> None:
    """Builds the tab inside the current layout."""
    gallery = generate.examples()
    pictures = example_pictures()
    sheet, case = gr.State(), gr.State(gallery[1][1])
    wished = gr.State((None, None))  # the tiles last chosen to be side by side; the next comparison keeps them
    awaited = cards.awaiting("The last comparison, of another picture")
    with gr.Row(equal_height=False):
        with gr.Column(scale=3, min_width=280):
            source = picture_input(pictures[1][0], 220, "to compare", "compare-source")
            refused = error_place("compare-refused")
            picks = example_row(pictures, "compare-examples")
            with gr.Group():
                objects = FreeSlider(1, MAX_OBJECTS, value=3, step=1, label="Objects of a new scene")
                dice = gr.Button("New scene", elem_id="compare-dice")
            names = calls.names()
            adapters = gr.CheckboxGroup(
                names,
                value=names[:1],
                label="Adapters",
                info="Each makes a row of pictures in each stage.",
                elem_id="compare-adapters",
            )
            with gr.Row():
                go = gr.Button("Compare", variant="primary", min_width=100, elem_id="compare-go")
                stop = gr.Button("Stop", min_width=80, interactive=False, elem_id="compare-stop")
            stuck = error_place("compare-stuck")
        with gr.Column(scale=8, min_width=320, elem_classes="fs-compared"):
            head = _html("", "compare-head", js_on_load=link.ADDRESS)
            stale = _html("", "compare-stale")
            grid = _html(grids.EMPTY, "compare-grid", js_on_load=grids.PICK)
            with gr.Row(visible=False, elem_id="compare-sides") as sides:
                left = gr.Dropdown([], label="Left", min_width=150, elem_id="compare-left")
                right = gr.Dropdown([], label="Right", min_width=150, elem_id="compare-right")
            pair = _html("", "compare-pair", js_on_load=grids.SLIDE)
            chart = gr.Plot(
                label="Scores against depth", visible=False, elem_id="compare-chart", elem_classes="fs-plot"
            )

    @show_errors_in(stuck)
    def run(case: ImageSource, chosen: list[str], wished: Sides) -> Iterator[dict[Component, Any]]:
        picture, mask = generate.look(case)
        made = Sheet(case, _seen(picture, grid), calls.records(chosen))
        made.left, made.right = wished
        # The last comparison stays until there is a tile to show.
        yield dict(zip([go, dice, stop], stopping.going(2), strict=True))
        for tile in calls.sweep_layers(picture, made.records, mask):
            made.shown.append(_shown(tile, grid))
            yield {sheet: made, head: grids.head(made), grid: grids.grid(made), stale: grids.PAIR_STALE}
        made.end()

    def finish(made: Sheet | None, case: ImageSource) -> list[Any]:
        """Ends the clock, also of a run that was stopped; what was made can be looked at side by side.

        A comparison stays dimmed where it is of another picture than the one that stands beside it.
        """
        if made is None:
            return [gr.skip()] * 8 + stopping.idle(2)
        made.end()
        views: list[Any] = [gr.skip()] * 5
        if made.read:
            figure = depth_chart([shown.tile for shown in made.shown])
            titles, (first, second) = [shown.title for shown in made.shown], made.sides
            views = [gr.Row(visible=True), gr.Dropdown(titles, value=first), gr.Dropdown(titles, value=second)]
            views += [grids.pair(made), gr.Plot(figure, visible=True)]
        return [grids.head(made), "" if made.case == case else awaited, grids.grid(made), *views, *stopping.idle(2)]

    @show_errors
    def act(made: Sheet | None, event: gr.EventData) -> dict[Component, Any]:
        wanted = next((shown for shown in made.shown if shown.title == event.tile), None) if made else None
        if made is None or wanted is None or wanted.tile.record is None:
            raise InputError("that tile is no longer here: compare again.")
        if event.do == "inspect":
            record = wanted.tile.record
            return {navigation.inspect: open_view(made.case, str(record.point), record.name)}
        side = {"left": left, "right": right}[event.do]
        return {side: gr.Dropdown(value=wanted.title), **put(made, event.do, wanted.title)}

    def put(made: Sheet, side: str, title: str) -> dict[Component, Any]:
        """A tile on one side; the other may just be chosen anew, and its control is left alone."""
        if side == "left":
            made.left = title
        else:
            made.right = title
        return {pair: grids.pair(made), head: grids.head(made), wished: (made.left, made.right)}

    def choose(side: str, made: Sheet | None, title: str) -> Any:
        return [gr.skip()] * 3 if made is None else put(made, side, title)

    @show_errors_in(refused)
    def accept(path: str | None) -> Any:
        return open_picture(path), path, "", awaited

    def put_back(case: ImageSource) -> Image.Image | None:
        return None if case is None else generate.look(case)[0]

    def pick(event: gr.SelectData) -> Any:
        return generate.draw(gallery[event.index][1])[0], gallery[event.index][1], "", awaited

    @show_errors_in(refused)
    def roll(objects: int) -> Any:
        any_ = ANY
        scene = generate.make_scene(any_, any_, objects, any_, any_, any_, True, generate.roll())
        return generate.draw(scene)[0], scene, "", awaited

    @show_errors_in(refused)
    def arrive(asked: dict[str, Any]) -> Any:
        """A link's picture, adapters and tiles, or another tab's; where there is no picture, the one there stays."""
        names = calls.names()
        sides: Sides = (None, None)
        if link.TAB in asked:
            found = link.case_of(asked)
            chosen = link.fields_of(asked, {"adapters": names[:1]}, {"adapters": names})["adapters"]
            sides = link.compare_sides(asked, ["oracle", "blank", *map(title, calls.records(chosen))])
        else:
            found, name = asked["case"], asked["adapter"]
            chosen = [name] if name in names else names[:1]
        picture, kept = (gr.skip(), gr.skip()) if found is None else (put_back(found), found)
        return picture, kept, "", awaited, gr.CheckboxGroup(names, value=chosen), "", sides

    def offer(chosen: list[str]) -> gr.CheckboxGroup:
        names = calls.names()  # training may have added some
        kept = [name for name in chosen if name in names] or names[:1]
        return updated_choices(gr.CheckboxGroup, names, chosen, kept)

    quiet: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
    running: dict[str, Any] = {
        "inputs": [case, adapters, wished],
        "outputs": [sheet, head, stale, grid, go, dice, stop, stuck],
        **MODEL_QUEUE,
        **quiet,
    }
    given = [source, case, refused, stale]
    upload = source.upload(accept, source, given, **quiet, trigger_mode="always_last")
    upload.failure(put_back, case, source, **quiet)
    source.clear(lambda: (None, "", grids.REMOVED), None, [case, refused, stale], **quiet)
    runs = [
        go.click(run, **running),
        upload.success(run, **running),
        picks.select(pick, None, given, **quiet, trigger_mode="always_last").success(run, **running),
        dice.click(roll, objects, given, **quiet).success(run, **running),
    ]
    arrived = navigation.compare.change(arrive, navigation.compare, [*given, adapters, stuck, wished], **quiet)
    if not calls.public:
        runs.append(arrived.success(run, **running))
    ended = [head, stale, grid, sides, left, right, pair, chart, go, dice, stop]
    for each in runs:
        each.then(finish, [sheet, case], ended, **quiet)  # which Gradio's page does not do after a failure
        each.failure(finish, [sheet, case], ended, **quiet)
    stop.click(stopping.stopping, None, stop, cancels=runs, **quiet)
    turned = [pair, head, wished]
    grid.click(act, sheet, [navigation.inspect, left, right, *turned], **quiet, trigger_mode="multiple")
    for name, side in (("left", left), ("right", right)):
        side.input(partial(choose, name), [sheet, side], turned, **quiet, trigger_mode="always_last")
    on_open(offer, adapters, adapters)


def endpoint(calls: CompareCalls) -> None:
    """Adds /compare to the current Blocks; nothing of it is seen on the page."""

    @show_errors
    def compare(image: str, adapters: list[str] | None = None, mask: str | None = None) -> Iterator[Any]:
        """Reads one picture at every extraction point that the adapters serve.

        adapters: names; none means all. mask: white where the picture shows an object; without it, the objects
        found there. Yields {"done", "of"} after each tile, so that it ends soon after the client cancels or goes
        away; then {"oracle", "blank", "tiles": scores by point and adapter}, and the tiles' pictures.
        """
        given = None if mask is None else load_mask(mask)
        picture, records = open_picture(image), calls.records(adapters or calls.names())
        made = list[Reconstruction]()
        for tile in calls.sweep_layers(picture, records, given):
            made.append(tile)
            yield {"done": len(made), "of": 2 + len(records)}, []
        oracle, blank, *tiles = made
        told = {"oracle": oracle.as_json(), "blank": blank.as_json(), "tiles": [tile.as_json() for tile in tiles]}
        shown = [(to_pil(tile.image), title(tile.record)) for tile in tiles if tile.record]
        # A blank page is even, so its reason can only be the original's.
        yield told | {"mask_reason": blank.mask_reason}, shown

    with gr.Row(visible=False):
        trigger = gr.Button()
        image, mask = file_image("image"), file_image("mask: white where there is an object (optional)")
        names = gr.JSON(label="adapters: a list of names, or none for all")
        told, pictures = gr.JSON(label="scores"), gr.Gallery(label="pictures", format="png")
    trigger.click(compare, [image, names, mask], [told, pictures], api_name="compare", **MODEL_QUEUE)


def _seen(picture: Image.Image, keeper: gr.HTML) -> str:
    """The file of a picture at the size at which the VLM sees it."""
    size = vlm_size(picture.height, picture.width)
    return keep(png(to_pil(resize(to_tensor(picture)[None], size)[0])), "original.png", keeper)


def _shown(tile: Reconstruction, keeper: gr.HTML) -> Shown:
    name = f"{title(tile.record)}.png".replace("/", "-") if tile.record else f"{tile.name}.png"
    path = keep(png(to_pil(tile.image)), Path(name).name, keeper)
    return Shown(tile.without_pixels(), path)  # the file is enough


def _html(value: str, name: str, **more: Any) -> gr.HTML:
    return gr.HTML(value, elem_id=name, elem_classes="fs-plain", apply_default_css=False, **more)
