"""Which of the evaluated images are shown, and in which order."""

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import gradio as gr

from foresight.data.factors import RADII, EvaluationSettings
from foresight.data.scenes import BACKGROUNDS, COLOR_NAMES, MAX_OBJECTS, SHAPES
from foresight.errors import InputError
from foresight.inspection.tables import Filter
from foresight.metrics.matching import SIZES
from foresight.metrics.scores import SCORES
from foresight.ui.cards import NAMES
from foresight.ui.inputs import FreeDropdown
from foresight.ui.services import QUIET, plain_html

SCORE_CHOICES = [(NAMES[name], name) for name in SCORES]
ORDERS = ("worst first", "best first")
COUNTS = tuple(str(n) for n in range(1, MAX_OBJECTS + 1))
LEVELS: dict[str, tuple[str, ...]] = {  # of the factors that images are filtered by
    "only-shape": SHAPES,
    "only-color": COLOR_NAMES,
    "only-size": tuple(SIZES),
    "only-objects": COUNTS,
    "only-background": BACKGROUNDS,
}
_LABELS = ("Shape", "Colour", "Size", "Objects", "Background")  # in the order of LEVELS
# What the tab begins with, by the names that an address uses, in the order of the form's components.
FILTERS: dict[str, Any] = {
    "sort": "lpips",
    "order": ORDERS[0],
    "from": "",
    "to": "",
    **{name: [] for name in LEVELS},
    "tags": [],
    "beside": "",  # the token of another evaluation of the same pictures
    "like": "",  # the number of a picture; those whose latents are nearest to its own come first
}
WORDS: dict[str, tuple[str, ...]] = {"sort": SCORES, "order": ORDERS, **LEVELS}  # that an address may name
NO_OTHER = ("none: by its own scores", "")
Values = Sequence[Any]  # in the order of FILTERS
# The chips are written anew after each; the focus, which goes with the one that had it, goes to the next one.
_REMOVE = """let place = -1;
element.addEventListener('click', event => {
  const chip = event.target.closest('[data-filter]');
  if (!chip) return;
  place = [...element.querySelectorAll('button')].indexOf(chip);
  trigger('click', {name: chip.dataset.filter, level: chip.dataset.level ?? ''});
});
watch('value', () => {
  if (place < 0) return;
  const chips = element.querySelectorAll('button');
  (chips[place] ?? chips[chips.length - 1] ?? document.querySelector('#failures-order input:checked'))?.focus();
  place = -1;
});"""


class FilterForm:
    """The components of order and filters.

    Attributes:
        inputs: In the order of FILTERS.
        chips: What of them is in use, as buttons that take it away; clicked with the names of `without`.
    """

    def __init__(self) -> None:
        with gr.Row():
            self.score = FreeDropdown(
                SCORE_CHOICES, value=FILTERS["sort"], label="Sort by", min_width=110, elem_id="failures-sort"
            )
            self.order = gr.Radio(list(ORDERS), value=ORDERS[0], label="Order", min_width=270, elem_id="failures-order")
            ends = range_labels(FILTERS["sort"])
            self.range = [
                gr.Textbox(label=label, placeholder=placeholder, max_lines=1, min_width=90, elem_id=f"failures-{name}")
                for label, placeholder, name in zip(ends, ("lowest", "highest"), ("low", "high"), strict=True)
            ]
        with gr.Row(elem_classes="fs-failures-filters"):
            self.factors = [
                several(levels, label, f"failures-{name.removeprefix('only-')}")
                for (name, levels), label in zip(LEVELS.items(), _LABELS, strict=True)
            ]
        with gr.Row(visible=False, elem_classes="fs-failures-filters") as self.more:
            self.beside = FreeDropdown(
                [NO_OTHER],
                value="",
                label="Where is it worse than",
                info="Another adapter that has read these pictures.",
                min_width=200,
                elem_id="failures-beside",
            )
            self.tags = several([], "Tags", "failures-tags")
        self.like = gr.Textbox(visible="hidden")
        self.chips = plain_html("", "failures-chips", js_on_load=_REMOVE)
        self.inputs: list[Any] = [self.score, self.order, *self.range, *self.factors, self.tags, self.beside, self.like]
        self.score.change(self.label_range, self.score, self.range, **QUIET)

    def label_range(self, score: str) -> list[Any]:
        """Labels the range by the score that images are sorted by."""
        return [gr.Textbox(label=label) for label in range_labels(score)]

    def offer(self, settings: EvaluationSettings | None, values: Values) -> dict[Any, Any]:
        """Updates for other images, which offer what these have.

        A factor with a single level is hidden: it would keep every image.

        Args:
            settings: As for `levels`.
            values: As from `within`.
        """
        chosen = as_address(values)
        return {
            component: gr.update(choices=names, value=chosen[name], visible=len(names) > 1)
            for component, (name, names) in zip(self.factors, levels(settings).items(), strict=True)
        }

    def offer_more(self, others: Sequence[tuple[str, str]], tags: Sequence[str], values: Values) -> dict[Any, Any]:
        """Updates for what else these pictures have: evaluations by other adapters (title, token), and tags.

        What was chosen and is no longer there, is chosen no longer.
        """
        chosen = as_address(values)
        beside = chosen["beside"] if chosen["beside"] in [token for _, token in others] else ""
        still_there = [tag for tag in chosen["tags"] if tag in tags]
        return {
            self.more: gr.Row(visible=bool(others or tags)),
            self.beside: gr.update(choices=[NO_OTHER, *others], value=beside, visible=bool(others)),
            self.tags: gr.update(choices=list(tags), value=still_there, visible=bool(tags)),
        }


def range_labels(score: str) -> tuple[str, str]:
    """The labels of the range of the score that images are sorted by."""
    return f"{NAMES[score]} from", f"{NAMES[score]} to"


def several(values: Sequence[str], label: str, elem_id: str | None = None) -> gr.Dropdown:
    """A choice of several values, or of none, which means any: style.css says so in the empty field."""
    return FreeDropdown(
        list(values), value=[], multiselect=True, label=label, min_width=130, elem_id=elem_id, elem_classes="fs-several"
    )


def bound(text: str) -> float | None:
    """An end of a range of scores; None where the text is empty. Raises InputError on what is no number."""
    try:
        value = float(text.strip().replace(",", ".")) if text.strip() else None
    except ValueError:
        value = math.nan
    if value is not None and not math.isfinite(value):
        raise InputError(f"a score's range takes numbers such as 0.35, not {text.strip()[:40]!r}.")
    return value


def as_filter(values: Values) -> Filter:
    """The filter of these values, without their order. Raises InputError where a range is none."""
    score, _, low, high, shapes, colors, sizes, counts, backgrounds, *_ = values
    return Filter(shapes, colors, sizes, [int(n) for n in counts], backgrounds, score, bound(low), bound(high))


def levels(settings: EvaluationSettings | None) -> dict[str, list[str]]:
    """The levels that images may have, by the names in LEVELS.

    Args:
        settings: Those of the scenes; None where the images are no scenes, and have no factors.
    """
    if settings is None:
        return {name: [] for name in LEVELS}
    factors = settings.factors
    (low, high), (least, most) = RADII[factors.size], factors.objects
    return {
        "only-shape": list(factors.shapes or SHAPES),
        "only-color": list(factors.colors or COLOR_NAMES),
        "only-size": [name for name, (smallest, largest) in SIZES.items() if smallest < high and low < largest],
        "only-objects": [str(n) for n in range(least, most + 1)],
        "only-background": list(factors.backgrounds or BACKGROUNDS),
    }


def within(settings: EvaluationSettings | None, values: Values) -> list[Any]:
    """The values without the levels that these images do not have; settings: as for `levels`."""
    known = levels(settings)
    return [
        [level for level in value if level in known[name]] if name in known else value
        for name, value in zip(FILTERS, values, strict=True)
    ]


def in_words(values: Values) -> str:
    """The filters in words: "shape star or circle; LPIPS from 0.1"; empty where nothing is filtered."""
    factors = values[4:-2]
    labels = [*_LABELS, "Tag"]
    parts = [f"{label.lower()} {' or '.join(names)}" for label, names in zip(labels, factors, strict=True) if names]
    return "; ".join([*parts, *([score_range] if (score_range := _range_in_words(values)) else [])])


def _range_in_words(values: Values) -> str:
    score, _, low, high, *_ = values
    ends = [f"{word} {text.strip()}" for word, text in (("from", low), ("to", high)) if text.strip()]
    return f"{NAMES[score]} {' '.join(ends)}" if ends else ""


def chips(values: Values, beside: str | None, like: str | None) -> str:
    """What is filtered, a button for each part that takes it away, and one for all; empty where nothing is.

    beside, like: the titles of the other evaluation and of the picture that the order is by.
    """
    chosen = as_address(values)
    parts = [
        (f"{label.lower()} {level}", name, level)
        for label, name in zip((*_LABELS, "Tag"), (*LEVELS, "tags"), strict=True)
        for level in chosen[name]
    ]
    others = {
        "from": _range_in_words(values),
        "beside": beside and f"worse than {beside}",
        "like": like and f"like {like}",
    }
    parts += [(words, name, "") for name, words in others.items() if words]
    if not parts:
        return ""
    buttons = "".join(
        f'<button type="button" data-filter="{name}" data-level="{escape(level)}" aria-label="Remove: {escape(words)}">'
        f"{escape(words)}<span>×</span></button>"
        for words, name, level in parts
    )
    return (
        f'<div class="fs-failures-chips" role="group" aria-label="Filters in use">{buttons}'
        '<button type="button" id="failures-clear" data-filter="">Clear all</button></div>'
    )


def without(values: Values, name: str, level: str) -> list[Any]:
    """The values without a filter, by its name in FILTERS, or without one of its levels; "": without any filter."""
    names = {"": list(FILTERS)[2:], "from": ["from", "to"]}.get(name, [name])
    rest = {n: [v for v in as_address(values)[n] if v != level] if level else FILTERS[n] for n in names if n in FILTERS}
    return list({**as_address(values), **rest}.values())


def cleared() -> list[Any]:
    """The values of all filters but the order, which keep every image."""
    return list(FILTERS.values())[2:]


def as_address(values: Values) -> Mapping[str, Any]:
    """The values by the names that an address uses."""
    return dict(zip(FILTERS, values, strict=True))
