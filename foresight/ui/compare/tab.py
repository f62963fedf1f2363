"""The Compare tab: one image, or two, at many layers, read by many adapters, beside each other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import gradio as gr
from gradio.components import Component
from torch import Tensor

from foresight.adapters.registry import AdapterRecord
from foresight.data.factors import ANY
from foresight.data.images import load_mask, to_pil
from foresight.data.resolution import Resolution
from foresight.data.scenes import MAX_OBJECTS
from foresight.errors import InputError
from foresight.inspection.inspector import Inspector
from foresight.inspection.readout import Reconstruction
from foresight.schemas import Names
from foresight.settings import Settings
from foresight.ui import cards, examples, generate, stopping
from foresight.ui import view_link as link
from foresight.ui.compare import export, grids
from foresight.ui.compare.grids import ComparedImage, Comparison, title
from foresight.ui.error_handling import error_place, show_errors, show_errors_in
from foresight.ui.gradio_internals import cached_file
from foresight.ui.image_input import ImagePicker, file_image
from foresight.ui.image_maps import png
from foresight.ui.inputs import FreeCheckboxGroup, FreeDropdown, FreeSlider
from foresight.ui.navigation import Navigation, on_open, open_view, updated_choices
from foresight.ui.pictures import WIPE
from foresight.ui.pixels import API_LABEL, FITTED, chosen_pixels, pixels_dropdown
from foresight.ui.plots import depth_chart
from foresight.ui.services import BATCH_QUEUE, CLICKS, QUIET, ImageSource, open_picture, plain_html
from foresight.ui.uploads import keep

Sides = tuple[str | None, str | None]  # titles of the tiles that were chosen to be left and right
AWAITED = cards.awaiting("The last comparison, of another picture")


class CompareTab:
    """An image, or two, and adapters to choose; what they make of it, two tiles side by side, scores by depth."""

    name = "compare"
    title = "Compare"

    def __init__(self, inspector: Inspector, navigation: Navigation, settings: Settings) -> None:
        """Takes what the tab asks.

        Args:
            inspector: Reads images at all layers.
            navigation: Brings images and addresses here, and opens Inspect.
            settings: In public a comparison starts on a click alone, and not by a link.
        """
        self.inspector, self.navigation, self.settings = inspector, navigation, settings

    def build(self) -> None:
        """Adds the tab to the current layout; nothing is compared until somebody asks."""
        self.comparison = gr.State()
        self.chosen_sides = gr.State((None, None))  # the `Sides` last chosen; the next comparison keeps them
        with gr.Row(equal_height=False, elem_classes="fs-compare"):
            with gr.Column(scale=3, min_width=280, elem_classes="fs-compare-form"):
                self._build_form()
            with gr.Column(scale=8, min_width=320, elem_classes="fs-compared"):
                self._build_results()
        self._connect_picture()
        self._connect_runs()
        self._connect_looking()

    def _build_form(self) -> None:
        alone = self.navigation.inspected.value is None  # on a page without Inspect
        first = "three, overlapping" if alone else examples.FIRST
        self.picker = ImagePicker(first, 130, "to compare", "compare-source", "compare-refused")
        self.picker.build_examples("compare-examples")
        self.taken = gr.State(self.picker.source.value)  # the source that stands here while nobody has chosen one here
        self.origin = plain_html("" if alone else grids.FROM_INSPECT, "compare-origin")
        names = self.adapter_names()
        self.adapters = FreeCheckboxGroup(
            names,
            value=names[:1],
            label="Adapters",
            info="Each makes a row of pictures in each stage.",
            elem_id="compare-adapters",
        )
        with gr.Row():
            self.go = gr.Button("Compare", variant="primary", min_width=100, elem_id="compare-go")
            self.stop = gr.Button("Stop", min_width=80, interactive=False, elem_id="compare-stop")
        self.error = error_place("compare-stuck")
        with gr.Accordion("A second picture beside it", open=False, elem_id="compare-two") as self.two:
            self.second = ImagePicker(None, 110, "to compare with", "compare-second", "compare-second-refused")
            self.second.build_examples("compare-second-examples")
        self.points = FreeDropdown(
            self.point_names(),
            multiselect=True,
            label="Layers",
            elem_id="compare-points",
            elem_classes="fs-several",
        )
        self.pixels = pixels_dropdown(self.inspector.vlm, "compare-pixels")
        with gr.Group():
            self.objects = FreeSlider(1, MAX_OBJECTS, value=3, step=1, label="Objects of a new scene")
            self.dice = gr.Button("New scene", elem_id="compare-dice")

    def _build_results(self) -> None:
        self.head = plain_html("", "compare-head", js_on_load=link.ADDRESS)
        self.stale = plain_html("", "compare-stale")
        self.grid = plain_html(grids.EMPTY, "compare-grid", js_on_load=grids.PICK)
        with gr.Row(visible=False, elem_id="compare-sides") as self.sides:
            self.left = FreeDropdown([], label="Left", min_width=150, elem_id="compare-left")
            self.right = FreeDropdown([], label="Right", min_width=150, elem_id="compare-right")
        self.pair = plain_html("", "compare-pair", js_on_load=WIPE)
        self.chart = gr.Plot(
            label="Scores against depth", visible=False, elem_id="compare-chart", elem_classes="fs-plot"
        )
        with gr.Row(visible=False, elem_classes="fs-files") as self.files:
            self.sheet = gr.DownloadButton("Download pictures (PNG)", size="sm", elem_id="compare-png")
            self.table = gr.DownloadButton("Download scores (CSV)", size="sm", elem_id="compare-csv")

    # The picture, before anybody has chosen one here

    def _connect_picture(self) -> None:
        picker, navigation = self.picker, self.navigation
        # Once Inspect has read it, and not when the tab is opened: an answer then might be late for what is pressed.
        standing = [navigation.inspected, picker.source, self.taken, self.comparison, navigation.compare]
        navigation.inspected.change(self.take, standing, [*picker.outputs, self.taken, self.origin], **QUIET)
        picker.source.change(self.leave_origin, [picker.source, self.taken], self.origin, **QUIET)

    def take(
        self,
        inspected: ImageSource,
        source: ImageSource,
        taken: ImageSource,
        comparison: Comparison | None,
        view: dict[str, Any] | None,
    ) -> list[Any]:
        """Inspect's image, as long as none was chosen here, compared, or brought by a link or another tab."""
        if inspected in (None, source) or source != taken or comparison or view:
            return [gr.skip()] * 5
        return [*self.picker.values(inspected), inspected, grids.FROM_INSPECT]

    def leave_origin(self, source: ImageSource, taken: ImageSource) -> Any:
        """No more a word of Inspect where the image is another one now."""
        return gr.skip() if source == taken else ""

    # What starts a comparison, and how it ends

    def _connect_runs(self) -> None:
        picker, second, buttons = self.picker, self.second, [self.go, self.dice, self.stop]
        picked = [*picker.outputs, self.stale]
        in_place = show_errors_in(picker.error)
        running: dict[str, Any] = {
            "fn": show_errors_in(self.error)(self.compare),
            "inputs": [picker.source, second.source, self.adapters, self.chosen_sides, self.pixels, self.points],
            "outputs": [self.comparison, self.head, self.stale, self.grid, *buttons, self.error],
            **BATCH_QUEUE,
            **QUIET,
        }
        upload, upload_second = (self._connect_upload(one) for one in (picker, second))
        picker.image.clear(self.clear, None, [picker.source, picker.error, self.stale], **QUIET)
        second.image.clear(self.clear, None, [second.source, second.error, self.stale], **QUIET)
        arrival, arrived = self.navigation.compare, [*picked, *second.outputs, self.two, self.adapters, self.error]
        arrived += [self.chosen_sides, self.pixels, self.points, self.origin]
        arrive = arrival.change(in_place(self.arrive), arrival, arrived, **QUIET)
        runs = [
            self.go.click(**running),
            upload.success(**running),
            upload_second.success(**running),
            picker.examples.click(self.pick, None, picked, **CLICKS).success(**running),
            second.examples.click(self.pick_second, None, [*second.outputs, self.stale], **CLICKS).success(**running),
            self.dice.click(in_place(self.roll), self.objects, picked, **QUIET).success(**running),
            *([] if self.settings.public else [arrive.success(**running)]),
        ]
        views = [self.sides, self.left, self.right, self.pair, self.chart, self.files, self.sheet, self.table]
        ended = [self.head, self.stale, self.grid, *views, *buttons]
        for run in runs:
            run.then(self.finish, [self.comparison, picker.source, second.source], ended, **QUIET)
            # Not then, on Gradio's page.
            run.failure(self.finish, [self.comparison, picker.source, second.source], ended, **QUIET)
        self.stop.click(stopping.stopping, None, self.stop, cancels=runs, **QUIET)

    def _connect_upload(self, picker: ImagePicker) -> Any:
        """Takes an upload into a picker, or puts back what stood there; returns the event."""
        accept = show_errors_in(picker.error)(partial(self.accept, picker))
        latest = QUIET | {"trigger_mode": "always_last"}
        upload = picker.image.upload(accept, picker.image, [*picker.outputs, self.stale], **latest)
        upload.failure(picker.put_back, picker.source, picker.image, **QUIET)
        return upload

    def accept(self, picker: ImagePicker, path: str | None) -> list[Any]:
        """An uploaded image."""
        return [*picker.upload(path), AWAITED]

    def pick(self, event: gr.EventData) -> list[Any]:
        """An example."""
        return [*self.picker.example(event), AWAITED]

    def pick_second(self, event: gr.EventData) -> list[Any]:
        """An example as the second picture."""
        return [*self.second.example(event), AWAITED]

    def roll(self, objects: int) -> list[Any]:
        """A new scene of so many objects."""
        scene = generate.make_scene(ANY, ANY, objects, ANY, ANY, ANY, True, generate.roll())
        return [*self.picker.values(scene), AWAITED]

    def clear(self) -> list[Any]:
        """No image."""
        return [None, "", grids.REMOVED]

    def arrive(self, view: dict[str, Any]) -> list[Any]:
        """A link's images, adapters and tiles, or another tab's image; where there is none, the one there stays.

        A link tells of both images, another tab of one: the first, or, where its view says so, the second.
        """
        names, points = self.adapter_names(), list[str]()
        sides: Sides = (None, None)
        second = [gr.skip()] * 4
        if link.TAB in view:
            source, known = link.source_of(view), {"adapters": names, "points": self.point_names()}
            fields = link.fields_of(view, {"adapters": names[:1], "points": points}, known)
            chosen, points = fields["adapters"], fields["points"]
            beside = link.second_source_of(view)
            records = self.records(chosen, points)
            titles = ["oracle", "blank", *map(title, records)]
            titles += [name + grids.SECOND for name in titles if beside is not None]
            sides = link.compare_sides(view, titles)
            second = [*self.second.values(beside), gr.Accordion(open=beside is not None)]
        else:
            source = view["source"]
            chosen = [view["adapter"]] if view["adapter"] in names else names[:1]
            if "second" in view:
                source, second = None, [*self.second.values(source), gr.Accordion(open=True)]
        self.inspector.vlm.resolution(pixels := view.get("pixels"))  # refused here, before it is shown
        picked = [gr.skip(), gr.skip(), ""] if source is None else self.picker.values(source)
        adapters = gr.CheckboxGroup(names, value=chosen)
        origin = gr.skip() if source is None else ""
        return [*picked, AWAITED, *second, adapters, "", sides, pixels or FITTED, points, origin]

    def compare(
        self,
        source: ImageSource,
        second: ImageSource,
        names: list[str],
        sides: Sides,
        pixels: str | None,
        points: list[str],
    ) -> Iterator[dict[Component, Any]]:
        """Reads an image, or two, with adapters of these names at these points, tile by tile."""
        records, chosen = self.records(names, points), chosen_pixels(pixels)
        resolution = self.inspector.resolution(chosen, records[0] if records else None)
        prepared = [self._prepare(source, resolution)]
        if second is not None:
            prepared.append(self._prepare(second, resolution, second=True))
        if second is not None and not any(side and side.endswith(grids.SECOND) for side in sides):
            sides = None, None  # of a comparison of one
        images = [image for image, _, _ in prepared]
        comparison = Comparison(images, records, left=sides[0], right=sides[1], pixels=chosen, points=points)
        # The last comparison stays until there is a tile to show.
        yield dict(zip([self.go, self.dice, self.stop], stopping.going(2), strict=True))
        for image, original, mask in prepared:
            for reconstruction in self.inspector.sweep_layers(original, records, mask, resolution):
                image.add(reconstruction.without_pixels(), self._file(reconstruction))
                yield {
                    self.comparison: comparison,
                    self.head: grids.head(comparison),
                    self.grid: grids.grid(comparison),
                    self.stale: grids.PAIR_STALE,
                }
        comparison.end()

    def _prepare(
        self, source: ImageSource, resolution: Resolution, second: bool = False
    ) -> tuple[ComparedImage, Tensor, Tensor | None]:
        """An image that nothing has read yet, its pixels as the VLM sees them, and its mask where that is known."""
        image, mask = generate.image_and_mask(generate.at_size(source, resolution))
        original, mask = self.inspector.prepare(image, mask, resolution)
        path = keep(png(to_pil(original)), "original.png", self.grid)
        return ComparedImage(source, path, second), original, mask

    def finish(self, comparison: Comparison | None, *sources: ImageSource) -> list[Any]:
        """Ends the clock, also of a run that was stopped; what was made can be looked at side by side.

        A comparison stays dimmed where it is of another image than the one that stands beside it.
        """
        if comparison is None:
            return [gr.skip()] * 11 + stopping.idle(2)
        comparison.end()
        views: list[Any] = [gr.skip()] * 8
        if comparison.adapter_tiles:
            titles, (left, right) = list(comparison.by_title), comparison.sides
            figure = depth_chart([tile.named for tile in comparison.tiles])
            views = [gr.Row(visible=True), gr.Dropdown(titles, value=left), gr.Dropdown(titles, value=right)]
            views += [grids.pair(comparison), gr.Plot(figure, visible=True), gr.Row(visible=True)]
            names = [link.name_of(source) for source in comparison.sources]
            name = f"foresight-{'-and-'.join(names)}-compared".replace("/", "-")
            pictures = export.pictures(comparison, " and ".join(names))
            views += [cached_file(png(pictures), f"{name}.png")]
            views += [cached_file(export.scores_table(comparison).encode(), f"{name}.csv")]
        stale = "" if comparison.sources == [source for source in sources if source is not None] else AWAITED
        return [grids.head(comparison), stale, grids.grid(comparison), *views, *stopping.idle(2)]

    def _file(self, reconstruction: Reconstruction) -> str:
        name = (title(reconstruction.record) if reconstruction.record else reconstruction.name).replace("/", "-")
        return keep(png(to_pil(reconstruction.image)), f"{name}.png", self.grid)

    # Looking at a comparison

    def _connect_looking(self) -> None:
        views = [self.pair, self.head, self.chosen_sides]
        inspect = self.navigation.inspect
        self.grid.click(self.act, self.comparison, [inspect, self.left, self.right, *views], **CLICKS)
        for side, dropdown in (("left", self.left), ("right", self.right)):
            show = partial(self.show, side)
            dropdown.input(show, [self.comparison, dropdown], views, **QUIET, trigger_mode="always_last")
        on_open(self.offer, self.adapters, self.adapters)

    @show_errors
    def act(self, comparison: Comparison | None, event: gr.EventData) -> dict[Component, Any]:
        """What a button of the grid asks: a tile on one side, or in Inspect."""
        tile = comparison.by_title.get(event.tile) if comparison else None
        if comparison is None or tile is None or (record := tile.reconstruction.record) is None:
            raise InputError("that tile is no longer here: compare again.")
        if event.do == "inspect":
            source = comparison.sources[tile.second]
            return {self.navigation.inspect: open_view(source, str(record.point), record.name, comparison.pixels)}
        if event.do == "both":
            titles = title(record), title(record, second=True)
            if not comparison.by_title.keys() >= {*titles}:
                raise InputError("the second picture is not read there yet: wait, or press Compare.")
            comparison.left, comparison.right = titles
            both: dict[Component, Any] = {
                self.left: gr.Dropdown(value=titles[0]),
                self.right: gr.Dropdown(value=titles[1]),
            }
            return {**both, **self.show("right", comparison, titles[1])}
        dropdown = {"left": self.left, "right": self.right}[event.do]
        return {dropdown: gr.Dropdown(value=tile.title), **self.show(event.do, comparison, tile.title)}

    def show(self, side: str, comparison: Comparison | None, title: str) -> dict[Component, Any]:
        """A tile on one side; the other may just be chosen anew, and its control is left alone."""
        if comparison is None:
            return {self.pair: gr.skip()}
        setattr(comparison, side, title)
        return {
            self.pair: grids.pair(comparison),
            self.head: grids.head(comparison),
            self.chosen_sides: (comparison.left, comparison.right),
        }

    # Adapters

    def offer(self, chosen: list[str]) -> gr.CheckboxGroup:
        """The adapters that there are now: training may have added some."""
        names = self.adapter_names()
        kept = [name for name in chosen if name in names] or names[:1]
        return updated_choices(gr.CheckboxGroup, names, chosen, kept)

    def adapter_names(self) -> list[str]:
        """The adapters' names, each once, the bundled ones first."""
        records = sorted(self.inspector.adapters(), key=lambda record: not record.bundled)
        return list(dict.fromkeys(record.name for record in records))

    def point_names(self) -> list[str]:
        """The points that adapters serve, in order of depth."""
        return list(dict.fromkeys(str(record.point) for record in self.inspector.adapters()))

    def records(self, names: Sequence[str], points: Sequence[str] = ()) -> list[AdapterRecord]:
        """All adapters of these names at these points, or at all, in order of depth.

        Raises:
            InputError: One of the names is not known, or none of them serves one of the points.
        """
        known = self.adapter_names()
        if unknown := [name for name in names if name not in known]:
            raise InputError(f"there is no adapter {unknown[0]!r}: choose from {', '.join(known)}.")
        records = [record for record in self.inspector.adapters() if record.name in names]
        chosen = [record for record in records if not points or str(record.point) in points]
        if records and not chosen:
            raise InputError(f"{', '.join(names)}: no adapter of that name at {', '.join(points)}.")
        return chosen

    # The endpoint

    def add_endpoints(self) -> None:
        """Adds /compare to the current Blocks; nothing of it is seen on the page."""
        with gr.Row(visible=False):
            trigger = gr.Button()
            image, mask = file_image("image"), file_image("mask: white where there is an object (optional)")
            names = gr.JSON(label="adapters: a list of names, or none for all")
            pixels = gr.Textbox(label=API_LABEL)
            scores, images = gr.JSON(label="scores"), gr.Gallery(label="pictures", format="png")
        inputs: list[Any] = [image, names, mask, pixels]
        trigger.click(self.compare_api, inputs, [scores, images], api_name="compare", **BATCH_QUEUE)

    @show_errors
    def compare_api(
        self, image: str, adapters: list[str] | None = None, mask: str | None = None, pixels: str | None = None
    ) -> Iterator[Any]:
        """Reads one picture at every extraction point that the adapters serve.

        adapters: names; none means all that read a picture of its size. mask: white where the picture shows an object;
        without it, the objects found there. pixels: how large the model sees it, such as 448² or native; without it,
        as the first adapter was fitted. Yields {"done", "of"} after each tile, so that it ends soon after the client
        cancels or goes away; then {"oracle", "blank", "tiles": scores by point and adapter}, and the tiles' pictures.
        """
        names = Names("adapters").check(adapters or self.adapter_names())
        objects, records = None if mask is None else load_mask(mask), self.records(names)
        resolution = self.inspector.resolution(chosen_pixels(pixels), records[0] if records else None)
        original, objects = self.inspector.prepare(open_picture(image), objects, resolution)
        if not adapters:
            records = [record for record in records if record.reads((original.shape[1], original.shape[2]))]
        reconstructions = list[Reconstruction]()
        for reconstruction in self.inspector.sweep_layers(original, records, objects, resolution):
            reconstructions.append(reconstruction)
            yield {"done": len(reconstructions), "of": 2 + len(records)}, []
        oracle, blank, *tiles = reconstructions
        scores = {
            "oracle": oracle.as_json(),
            "blank": blank.as_json(),
            "tiles": [tile.as_json() for tile in tiles],
            "mask_reason": blank.mask_reason,  # a blank page is even, so it can only be the original's
        }
        yield scores, [(to_pil(tile.image), title(tile.record)) for tile in tiles if tile.record]
