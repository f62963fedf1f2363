"""Questions and answers about images, and what a free answer says: the whole language of the bundled model.

Objects are named from left to right (by their boxes' left edges). Boxes are those of the visible parts, in pixels of
the image that the model is given, as Qwen2.5-VL writes them. What is asked of photographs can be computed from their
pixels (`observations`); nothing asks for pixel values, since a model that was taught to recite pixels could not show
what a vision-language model keeps by itself.
"""

import json
import random
import re
from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor

from foresight.data.scenes import BACKGROUNDS, COLOR_NAMES, SHAPES, Scenes
from training.bundle import observations

DESCRIBE = ("Describe the image.", "Describe this picture.", "What is in the image?")
COUNT = ("How many objects are there?", "How many shapes are in the image?", "Count the objects.")
LOCATE = (
    "Locate every object and output the boxes in JSON format.",
    "Detect all objects in the image and return their locations in JSON.",
    "Find all shapes.",
)
_NUMBERS = ("no", "one", "two", "three", "four", "five")
ON = {"white": "a white", "plain": "a plain", "gradient": "a gradient", "texture": "a textured",
       "natural": "a natural"}  # fmt: skip


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


class Turn(NamedTuple):
    """A question and its answer. kind: what is asked for, by which the model card counts."""

    kind: str
    question: str
    answer: str


@dataclass(frozen=True)
class Lesson:
    """What is known of one image. objects: of a scene, from left to right; empty for an image that is none."""

    objects: list[Item]
    background: str
    observation: observations.Observation


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
    """The kind of each scene's background."""
    return [BACKGROUNDS[k] for k in scenes.background.tolist()]


def join(parts: list[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def describe(objects: list[Item], background: str) -> str:
    listed = join([f"a {i.extent} {i.label} {i.place}" for i in objects])
    amount = "is one object" if len(objects) == 1 else f"are {_NUMBERS[len(objects)]} objects"
    return f"There {amount} on {ON[background]} background: {listed}."


def locate(objects: list[Item]) -> str:
    return f"[{', '.join(item.json for item in objects)}]"


def count(objects: list[Item]) -> str:
    return "There is 1 object." if len(objects) == 1 else f"There are {len(objects)} objects."


def object_question(objects: list[Item], draw: random.Random) -> Turn:
    """A question about one object, or how many there are where what was drawn has no one answer."""
    kind, item = draw.choice(("count", "place", "color", "shape", "box", "absent")), draw.choice(objects)
    if kind == "place" and sum(other.label == item.label for other in objects) == 1:
        return Turn("place", f"Where is the {item.label}?", f"The {item.label} is {item.place}.")
    if kind == "box" and sum(other.label == item.label for other in objects) == 1:
        return Turn("boxes", f"Locate the {item.label}.", f"[{item.json}]")
    if kind == "color" and sum(other.shape == item.shape for other in objects) == 1:
        return Turn("color", f"What color is the {item.shape}?", f"The {item.shape} is {item.color}.")
    if kind == "shape" and sum(other.color == item.color for other in objects) == 1:
        return Turn("shape", f"What shape is the {item.color} object?", f"The {item.color} object is a {item.shape}.")
    if kind == "absent":
        color, shape = draw.choice(COLOR_NAMES), draw.choice(SHAPES)
        if all((color, shape) != (other.color, other.shape) for other in objects):
            return Turn("absent", f"Where is the {color} {shape}?", f"There is no {color} {shape}.")
    return Turn("count", draw.choice(COUNT), count(objects))


def relation_question(objects: list[Item], draw: random.Random) -> Turn:
    """A question that compares two objects of different names; about one object where there are no two."""
    names = [item.label for item in objects]
    unique = [item for item in objects if names.count(item.label) == 1]
    if len(unique) < 2:
        return object_question(objects, draw)
    a, b = draw.sample(unique, 2)
    kind = draw.choice(("left", "above", "larger", "color"))
    if kind == "color":
        answer = "Yes" if a.color == b.color else "No"
        return Turn("relation", f"Do the {a.label} and the {b.label} have the same color?", f"{answer}.")
    if kind == "larger":
        areas = [(i.box[2] - i.box[0]) * (i.box[3] - i.box[1]) for i in (a, b)]
        larger = a if areas[0] > areas[1] else b
        return Turn("relation", f"Which is larger, the {a.label} or the {b.label}?", f"The {larger.label}.")
    axis, word = (0, "left of") if kind == "left" else (1, "above")
    middles = [i.box[axis] + i.box[axis + 2] for i in (a, b)]
    return Turn("relation", f"Is the {a.label} {word} the {b.label}?", "Yes." if middles[0] < middles[1] else "No.")


def conversation(lesson: Lesson, draw: random.Random) -> list[Turn]:
    """Five turns about one image: a long one, a description, and three short ones."""
    objects, observation = lesson.objects, lesson.observation
    colors = Turn("region colors", draw.choice(observations.REGION_COLORS), observations.region_colors(observation))
    pixels = [Turn("look", *observations.short_question(observation, draw)) for _ in range(3)]
    if not objects:
        return [colors, Turn("describe", draw.choice(DESCRIBE), observations.describe(observation)), *pixels]
    return [
        Turn("boxes", draw.choice(LOCATE), locate(objects)) if draw.random() < 0.75 else colors,
        Turn("describe", draw.choice(DESCRIBE), describe(objects, lesson.background)),
        object_question(objects, draw),
        relation_question(objects, draw),
        pixels[0],
    ]


def read_boxes(answer: str) -> list[tuple[str, tuple[int, ...]]]:
    """(label, box) for every object that an answer in the grounding format names, whole or cut off."""
    pattern = r'\{"bbox_2d": \[(\d+), (\d+), (\d+), (\d+)\], "label": "([a-z ]+)"\}'
    return [(m[5], tuple(int(m[k]) for k in range(1, 5))) for m in re.finditer(pattern, answer)]


def read_count(answer: str) -> int | None:
    """The number in "There are 3 objects.", None where there is none."""
    match = re.search(r"\b(\d+) objects?\b", answer)
    return int(match[1]) if match else None
