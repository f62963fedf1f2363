"""Questions and answers about scenes, and what a free answer says: the whole language of the bundled model.

Objects are named from left to right (by their boxes' left edges). Boxes are those of the visible parts, in
pixels of the picture that the model is given, as Qwen2.5-VL writes them. Two questions are about pixels alone,
so that a model which answers well has kept its eye on edges and backgrounds too.
"""

from __future__ import annotations

import json
import random
import re
from dataclasses import dataclass
from itertools import groupby

from torch import Tensor

from foresight.data.scenes import BACKGROUNDS, COLOR_NAMES, SHAPES, Scenes

DESCRIBE = ("Describe the image.", "Describe this picture.", "What is in the image?")
COUNT = ("How many objects are there?", "How many shapes are in the image?", "Count the objects.")
LOCATE = (
    "Locate every object and output the boxes in JSON format.",
    "Detect all objects in the image and return their locations in JSON.",
    "Find all shapes.",
)
MOST_SPANS = 6
_NUMBERS = ("no", "one", "two", "three", "four", "five")
_ON = {"white": "a white", "plain": "a plain", "gradient": "a gradient", "texture": "a textured"}


@dataclass(frozen=True)
class Item:
    """One object as a person would speak of it. box: left, top, right, bottom in pixels."""

    color: str
    shape: str
    box: tuple[int, int, int, int]
    size: tuple[int, int]  # the picture's height and width

    @property
    def label(self) -> str:
        return f"{self.color} {self.shape}"

    @property
    def place(self) -> str:
        """One of nine parts of the picture, where the box has its centre."""
        (x0, y0, x1, y1), (height, width) = self.box, self.size
        column, row = ((x0 + x1) * 3) // (2 * width + 1), ((y0 + y1) * 3) // (2 * height + 1)
        words = f"{('top', '', 'bottom')[row]} {('left', '', 'right')[column]}".strip()
        return f"at the {words}" if words else "in the center"

    @property
    def extent(self) -> str:
        """small, medium or large: the box's longer side against a fifth and two fifths of the picture's."""
        side = max(self.box[2] - self.box[0], self.box[3] - self.box[1]) * 5 / min(self.size)
        return "small" if side < 1 else "medium" if side < 2 else "large"

    @property
    def json(self) -> str:
        return json.dumps({"bbox_2d": list(self.box), "label": self.label})


@dataclass(frozen=True)
class Glimpse:
    """Some pixels of one picture.

    line: "row" or "column". number: which one. owners: at each of its pixels the object's number, -1 for none.
    points: (x, y). colors: red, green and blue there, 0 to 255.
    """

    line: str
    number: int
    owners: list[int]
    points: list[tuple[int, int]]
    colors: list[tuple[int, int, int]]


def items(scenes: Scenes, boxes: Tensor) -> list[list[Item]]:
    """What is in each scene, from left to right. boxes: (B, N, 4), of the visible parts."""
    corners, counts = boxes.tolist(), scenes.count.tolist()
    colors, shapes = scenes.color.tolist(), scenes.shape.tolist()
    return [
        sorted(
            (
                Item(COLOR_NAMES[colors[i][j]], SHAPES[shapes[i][j]], tuple(corners[i][j]), scenes.size)
                for j in range(counts[i])
            ),
            key=lambda item: item.box,
        )
        for i in range(len(counts))
    ]


def backgrounds(scenes: Scenes) -> list[str]:
    return [BACKGROUNDS[k] for k in scenes.background.tolist()]


def labels(scenes: Scenes) -> list[list[str]]:
    """What each scene's objects are called, by number."""
    return [[scenes.label(i, j) for j in range(n)] for i, n in enumerate(scenes.count.tolist())]


def _join(parts: list[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def describe(found: list[Item], background: str) -> str:
    listed = _join([f"a {i.extent} {i.label} {i.place}" for i in found])
    amount = "is one object" if len(found) == 1 else f"are {_NUMBERS[len(found)]} objects"
    return f"There {amount} on {_ON[background]} background: {listed}."


def locate(found: list[Item]) -> str:
    return f"[{', '.join(item.json for item in found)}]"


def count(found: list[Item]) -> str:
    return "There is 1 object." if len(found) == 1 else f"There are {len(found)} objects."


def short_question(found: list[Item], draw: random.Random) -> tuple[str, str]:
    """A question with a short answer: how many, where is …, what colour, what shape, the box of one object."""
    kind, item = draw.choice(("count", "where", "color", "shape", "box", "absent")), draw.choice(found)
    if kind == "where" and sum(other.label == item.label for other in found) == 1:
        return f"Where is the {item.label}?", f"The {item.label} is {item.place}."
    if kind == "box" and sum(other.label == item.label for other in found) == 1:
        return f"Locate the {item.label}.", f"[{item.json}]"
    if kind == "color" and sum(other.shape == item.shape for other in found) == 1:
        return f"What color is the {item.shape}?", f"The {item.shape} is {item.color}."
    if kind == "shape" and sum(other.color == item.color for other in found) == 1:
        return f"What shape is the {item.color} object?", f"The {item.color} object is a {item.shape}."
    if kind == "absent":
        color, shape = draw.choice(COLOR_NAMES), draw.choice(SHAPES)
        if all((color, shape) != (other.color, other.shape) for other in found):
            return f"Where is the {color} {shape}?", f"There is no {color} {shape}."
    return draw.choice(COUNT), count(found)


def scan(glimpse: Glimpse, labels: list[str]) -> tuple[str, str]:
    """Where a row or column of pixels enters and leaves which object; the first few. labels: by object number."""
    spans, start = [], 0
    for owner, run in groupby(glimpse.owners):
        stop = start + len(list(run))
        spans += [f"{labels[owner]} {start}-{stop}"] if owner >= 0 else []
        start = stop
    told = spans[:MOST_SPANS] + ["more"] * (len(spans) > MOST_SPANS)
    return f"What lies on {glimpse.line} {glimpse.number}?", f"{', '.join(told) or 'nothing'}."


def colors_at(glimpse: Glimpse) -> tuple[str, str]:
    """The colours of some pixels."""
    places, colors = (
        ", ".join(f"({','.join(map(str, numbers))})" for numbers in group) for group in (glimpse.points, glimpse.colors)
    )
    return f"What colors are at {places}?", f"{colors}."


def conversation(
    found: list[Item], background: str, glimpse: Glimpse, labels: list[str], draw: random.Random
) -> list[tuple[str, str]]:
    """Five questions about one picture: every box, a description, a short one, and two about pixels."""
    return [
        (draw.choice(LOCATE), locate(found)),
        (draw.choice(DESCRIBE), describe(found, background)),
        short_question(found, draw),
        scan(glimpse, labels),
        colors_at(glimpse),
    ]


def read_boxes(answer: str) -> list[tuple[str, tuple[int, ...]]]:
    """(label, box) for every object that an answer in the grounding format names, whole or cut off."""
    pattern = r'\{"bbox_2d": \[(\d+), (\d+), (\d+), (\d+)\], "label": "([a-z ]+)"\}'
    return [(m[5], tuple(int(m[k]) for k in range(1, 5))) for m in re.finditer(pattern, answer)]


def read_count(answer: str) -> int | None:
    """The number in "There are 3 objects.", None where there is none."""
    match = re.search(r"\b(\d+) objects?\b", answer)
    return int(match[1]) if match else None
