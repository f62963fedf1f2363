"""The controls of the extraction point: stage, layer, the drawing of the model, the adapter and the note on it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gradio as gr

from foresight.models.points import STAGES, ExtractionPoint, Stage
from foresight.ui import cards
from foresight.ui.inputs import FreeSlider
from foresight.ui.inspect.diagram import diagram
from foresight.ui.inspect.results import html
from foresight.ui.navigation import updated_choices
from foresight.ui.services import Calls

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


@dataclass(frozen=True)
class Controls:
    """The components. wish: the adapter last asked for, which comes back at every layer that has it."""

    stage: gr.Radio
    layer: gr.Slider
    adapter: gr.Radio
    note: gr.HTML
    drawing: gr.HTML
    wish: gr.State

    @property
    def here(self) -> list[Any]:
        """What says where latents are taken, and by which adapter they are read."""
        return [self.stage, self.layer, self.adapter]

    @property
    def all(self) -> list[Any]:
        """What `settle` gives values for, in its order."""
        return [*self.here, self.note, self.drawing]

    @property
    def after_stage(self) -> list[Any]:
        """What a choice of the stage changes: all but the stage itself, which may have been chosen again meanwhile."""
        return self.all[1:]

    @property
    def after_layer(self) -> list[Any]:
        """What a layer that is typed or slid to changes: never the layer, which may be typed into still."""
        return self.all[2:]


def build(calls: Calls) -> Controls:
    """The controls inside the current layout, at the default point."""
    point = calls.default
    names, kept = _choices(calls, point, None)
    with gr.Group(elem_classes="fs-point"):
        stage = gr.Radio(
            [(STAGE_NAMES[s], s) for s in STAGES], value=point.stage, label="Extraction point", elem_id="stage"
        )
        layer = FreeSlider(0, calls.last(point.stage), value=point.layer, step=1, label="Layer", elem_id="layer")
        drawing = html(_drawing(calls, point), "diagram", js_on_load=_CHOOSE, container=True)
        adapter = gr.Radio(names, value=kept, label="Adapter", elem_id="adapter")
        note = html(told(calls, point, kept, None), "adapter-note", js_on_load=_CHOOSE, container=True)
    return Controls(stage, layer, adapter, note, drawing, gr.State())


def settle(
    calls: Calls, point: ExtractionPoint, wish: str | None, layer: float | None = None, chosen: str | None = None
) -> tuple[Any, ...]:
    """The values of `Controls.all` at a point, with the wished adapter where it is at hand, else the first.

    Args:
        calls: The library.
        point: Where latents are taken from now on.
        wish: The name of the adapter last asked for.
        layer: What the layer's control holds; it is left alone where that is the point's layer already.
        chosen: The adapter that is chosen; it is left alone where it is the one to choose.
    """
    names, kept = _choices(calls, point, wish)
    moved: dict[str, Any] = {} if layer == point.layer else {"value": point.layer}
    slider = gr.Slider(maximum=calls.last(point.stage), **moved)
    note = told(calls, point, kept, wish)
    return point.stage, slider, updated_choices(gr.Radio, names, chosen, kept), note, _drawing(calls, point)


def typed(calls: Calls, stage: Stage, layer: float) -> ExtractionPoint:
    """The point of what the layer's box says; where that is no layer of the stage, the nearest, and a warning.

    The box itself is left as it is typed: it takes the nearest layer once it is left.
    """
    point = within(calls, stage, layer)
    if layer != point.layer:
        name = STAGE_NAMES[stage].lower()
        gr.Warning(f"The {name}'s layers are 0 to {calls.last(stage)}: this is {point}.")
    return point


def within(calls: Calls, stage: Stage, layer: float | None) -> ExtractionPoint:
    """The layer of a stage that is nearest to a number."""
    return ExtractionPoint(stage, min(max(0, round(layer or 0)), calls.last(stage)))


def told(calls: Calls, point: ExtractionPoint, name: str | None, wish: str | None) -> str:
    """The note on the chosen adapter, or on where there are some."""
    if name is None:
        return cards.missing_note(point, calls.served())
    return cards.adapter_note(calls.find(point, name), wish if wish != name else None)


def _choices(calls: Calls, point: ExtractionPoint, wish: str | None) -> tuple[list[str], str | None]:
    names = [record.name for record in calls.adapters(point)]
    return names, wish if wish in names else names[0] if names else None


def _drawing(calls: Calls, point: ExtractionPoint) -> str:
    return diagram(calls.points, calls.served(), point)
