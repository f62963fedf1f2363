"""The controls of the extraction point: stage, layer, the drawing of the model, the adapter and the note on it."""

from __future__ import annotations

from typing import Any

import gradio as gr

from foresight.inspection.inspector import Inspector
from foresight.models.points import STAGES, ExtractionPoint, Stage
from foresight.ui import cards
from foresight.ui.inputs import FreeRadio, FreeSlider
from foresight.ui.inspect.diagram import diagram
from foresight.ui.navigation import updated_choices

STAGE_NAMES = {"pre-merge": "Vision tower", "post-merge": "Language model"}

# A click on anything in an HTML block that carries data-point chooses that point; so do Enter and the space bar.
# The arrow keys go from layer to layer. The block is written anew for the chosen point, and the focus, which goes
# with what had it, is given back to the same layer; after a button of the note it goes to that layer of the drawing.
_CHOOSE = """const cells = () => [...element.querySelectorAll('[data-point]')];
const choose = cell => {
  if (!cell) return;
  if (cell.tagName === 'BUTTON') document.querySelector(`#diagram [data-point="${cell.dataset.point}"]`)?.focus();
  trigger('click', {point: cell.dataset.point});
};
let focused = null;  // the point whose cell has the focus
document.addEventListener('focusin', event => {
  focused = element.contains(event.target) ? event.target.dataset.point : null;
});
document.addEventListener('pointerdown', event => { if (!element.contains(event.target)) focused = null; });
watch('value', () => {
  if (focused && document.activeElement === document.body)
    element.querySelector(`g[data-point="${focused}"]`)?.focus({preventScroll: true});
});
element.addEventListener('click', event => choose(event.target.closest('[data-point]')));
element.addEventListener('keydown', event => {
  const step = {ArrowLeft: -1, ArrowRight: 1}[event.key], at = cells().indexOf(event.target);
  if (step) cells()[at + step]?.focus();
  else if ([' ', 'Enter'].includes(event.key) && event.target.tagName === 'g') choose(event.target);
  else return;
  event.preventDefault();
});"""


class PointControls:
    """The drawing of the model, the adapter and the note on it, stage and layer; the latter from `build_details` on.

    Attributes:
        preferred: A State, the adapter last asked for, which comes back at every layer that has it.
        chosen: What says where latents are taken, and by which adapter they are read.
        outputs: What `values` gives values for, in its order.
        after_stage: Those that a choice of the stage changes: not the stage, which may have been chosen again.
        after_layer: Those that a typed layer changes: never the layer, which may be typed into still.
    """

    def __init__(self, inspector: Inspector) -> None:
        """Adds the drawing and the adapter to the current layout, at the inspector's default point."""
        self.inspector, self.points = inspector, inspector.vlm.points
        point = inspector.default_point
        names, name = self._adapters(point, None)
        with gr.Group(elem_classes="fs-point"):
            self.drawing = self._clickable(self._diagram(point), "diagram")
            self.adapter = FreeRadio(names, value=name, label="Adapter", elem_id="adapter")
        self.preferred = gr.State()

    def build_details(self) -> None:
        """Adds the note on the adapter, and the point by name and number, to the current layout."""
        point = self.inspector.default_point
        with gr.Group(elem_classes="fs-point"):
            self.note = self._clickable(self.note_on(point, self._adapters(point, None)[1], None), "adapter-note")
            self.stage = gr.Radio(
                [(STAGE_NAMES[s], s) for s in STAGES], value=point.stage, label="Extraction point", elem_id="stage"
            )
            self.layer = FreeSlider(
                0, self.last(point.stage), value=point.layer, step=1, label="Layer", elem_id="layer"
            )
        self.chosen: list[Any] = [self.stage, self.layer, self.adapter]
        self.outputs = [*self.chosen, self.note, self.drawing]
        self.after_stage, self.after_layer = self.outputs[1:], self.outputs[2:]

    @staticmethod
    def _clickable(html: str, elem_id: str) -> gr.HTML:
        return gr.HTML(html, js_on_load=_CHOOSE, container=True, apply_default_css=False, elem_id=elem_id)

    def values(
        self, point: ExtractionPoint, preferred: str | None, layer: float | None = None, chosen: str | None = None
    ) -> list[Any]:
        """The values of `outputs` at a point, with the preferred adapter where it is at hand, else the first.

        Args:
            point: Where latents are taken from now on.
            preferred: The name of the adapter last asked for.
            layer: What the layer's control holds; it is left alone where that is the point's layer already.
            chosen: The adapter that is chosen; it is left alone where it is the one to choose.
        """
        names, name = self._adapters(point, preferred)
        moved: dict[str, Any] = {} if layer == point.layer else {"value": point.layer}
        slider = gr.Slider(maximum=self.last(point.stage), **moved)
        adapter = updated_choices(gr.Radio, names, chosen, name)
        return [point.stage, slider, adapter, self.note_on(point, name, preferred), self._diagram(point)]

    def typed(self, stage: Stage, layer: float) -> ExtractionPoint:
        """The point of what the layer's box says; where that is no layer of the stage, the nearest, and a warning.

        The box itself is left as it is typed: it takes the nearest layer once it is left.
        """
        point = self.nearest(stage, layer)
        if layer != point.layer:
            name = STAGE_NAMES[stage].lower()
            gr.Warning(f"The {name}'s layers are 0 to {self.last(stage)}: this is {point}.")
        return point

    def nearest(self, stage: Stage, layer: float | None) -> ExtractionPoint:
        """The layer of a stage that is nearest to a number."""
        return ExtractionPoint(stage, min(max(0, round(layer or 0)), self.last(stage)))

    def last(self, stage: Stage) -> int:
        """The deepest layer of a stage."""
        return max(point.layer for point in self.points if point.stage == stage)

    def note_on(self, point: ExtractionPoint, adapter: str | None, preferred: str | None) -> str:
        """The note on the chosen adapter, or on where there are some."""
        if adapter is None:
            return cards.missing_note(point, self._served())
        record = self.inspector.registry.find_listed(adapter, point)
        return cards.adapter_note(record, preferred if preferred != adapter else None)

    def _adapters(self, point: ExtractionPoint, preferred: str | None) -> tuple[list[str], str | None]:
        names = [record.name for record in self.inspector.adapters(point)]
        return names, preferred if preferred in names else names[0] if names else None

    def _served(self) -> set[ExtractionPoint]:
        return {record.point for record in self.inspector.adapters()}

    def _diagram(self, point: ExtractionPoint) -> str:
        return diagram(self.points, self._served(), point)
