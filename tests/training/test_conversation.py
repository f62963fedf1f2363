"""What is said about scenes, and what is understood of it, on one scene written by hand."""

import random

import pytest
import torch

from foresight.data.render import render
from foresight.data.scenes import Scenes, SceneSpec, sample
from training.bundle import conversation as talk
from training.bundle.conversation import Item, Lesson
from training.bundle.observations import observe

PAIR = [  # radii of 28 and 56 px at 224: a blue square right of the centre and a red ring, further left, at the top
    {"shape": "square", "color": "blue", "x": 0.75, "y": 0.5, "radius": 0.125, "rotation": torch.pi / 4},
    {"shape": "ring", "color": "red", "x": 0.375, "y": 0.25, "radius": 0.225, "rotation": 0.0},
]
GROUND = {"kind": "white", "tones": [[1.0] * 3] * 2, "pattern": [0.0, 3.0, 3.0, 0.0, 0.0, 1.0]}


@pytest.fixture(scope="module")
def items():
    scenes = Scenes.from_description({"size": [224, 224], "background": GROUND, "objects": PAIR})
    assert talk.backgrounds(scenes) == ["white"]
    return talk.items(scenes, render(scenes).boxes)[0]


def test_objects_go_from_left_to_right_with_exact_boxes(items):
    assert [item.label for item in items] == ["red ring", "blue square"]
    half = 28 / 2**0.5  # of the square's side: 148.2 … 187.8 across, 92.2 … 131.8 down
    assert items[1].box == (round(168 - half), round(112 - half), round(168 + half), round(112 + half))
    assert items[0].box == (34, 6, 134, 106)  # 84 ± 50.4 and 56 ± 50.4, pixels at least half covered


def test_answers(items):
    assert talk.describe(items, "white") == (
        "There are two objects on a white background: a large red ring at the top and a small blue square at the right."
    )
    assert talk.describe(items[1:], "texture") == (
        "There is one object on a textured background: a small blue square at the right."
    )
    assert talk.locate(items) == (
        '[{"bbox_2d": [34, 6, 134, 106], "label": "red ring"}, '
        '{"bbox_2d": [148, 92, 188, 132], "label": "blue square"}]'
    )
    assert (talk.count(items), talk.count(items[:1])) == ("There are 2 objects.", "There is 1 object.")


def test_answers_are_read_back():
    scenes = sample(range(30), 0, SceneSpec())
    for items in talk.items(scenes, render(scenes).boxes):
        assert talk.read_boxes(talk.locate(items)) == [(item.label, item.box) for item in items]
        assert talk.read_count(talk.count(items)) == len(items)
        assert talk.read_boxes(talk.locate(items)[:-8]) == [(item.label, item.box) for item in items[:-1]]  # cut off
    assert talk.read_boxes("There are 2 objects.") == [] and talk.read_count("Nothing at all.") is None


@pytest.mark.parametrize(
    ("x", "y", "words"),
    [
        (10, 10, "at the top left"),
        (112, 10, "at the top"),
        (214, 10, "at the top right"),
        (10, 112, "at the left"),
        (112, 112, "in the center"),
        (75, 149, "in the center"),
        (74, 112, "at the left"),
        (150, 112, "at the right"),
        (10, 214, "at the bottom left"),
        (112, 214, "at the bottom"),
        (214, 214, "at the bottom right"),
    ],
)
def test_places(x, y, words):
    assert Item("red", "star", (x - 8, y - 8, x + 8, y + 8), (224, 224)).place == words


def test_a_place_follows_the_pictures_own_shape():
    item = Item("red", "star", (170, 50, 190, 70), (168, 280))
    assert item.place == "in the center"
    assert Item("red", "star", (190, 50, 210, 70), (168, 280)).place == "at the right"


@pytest.mark.parametrize(("side", "word"), [(44, "small"), (45, "medium"), (89, "medium"), (90, "large")])
def test_extents(side, word):
    """A fifth of 224 px is 44.8, two fifths are 89.6; the longer side counts."""
    assert Item("red", "bar", (0, 0, side, 20), (224, 224)).extent == word
    assert Item("red", "bar", (0, 0, 20, side), (224, 224)).extent == word


def truth(question, items):
    """The right answer, worked out anew from the question's own words."""
    words = question.rstrip("?.").split()
    if question in talk.COUNT:
        return f"There are {len(items)} objects." if len(items) > 1 else "There is 1 object."
    if question.startswith("What color"):
        return f"The {words[-1]} is {next(i.color for i in items if i.shape == words[-1])}."
    if question.startswith("What shape"):
        return f"The {words[4]} object is a {next(i.shape for i in items if i.color == words[4])}."
    same = [i for i in items if i.label == " ".join(words[-2:])]
    if question.startswith("Locate"):
        return talk.locate(same)
    return f"The {same[0].label} is {same[0].place}." if same else f"There is no {' '.join(words[-2:])}."


def test_short_questions_are_answered_rightly_and_never_in_doubt():
    scenes = sample(range(40), 1, SceneSpec(shapes=("star", "ring"), colors=("red", "blue"), objects=(1, 4)))
    draw, kinds = random.Random(0), set()
    for items in talk.items(scenes, render(scenes).boxes):
        for _, question, answer in (talk.object_question(items, draw) for _ in range(12)):
            assert answer == truth(question, items)
            kinds.add("count" if question in talk.COUNT else " ".join(question.split()[:2]) + str("no" in answer))
            if question.startswith("What color"):
                assert sum(i.shape == question.rstrip("?").split()[-1] for i in items) == 1
    assert len(kinds) == 6


def test_relations_compare_two_objects(items):
    draw, answers = random.Random(0), {}
    for _ in range(60):
        turn = talk.relation_question(items, draw)
        answers[turn.question] = turn.answer
    assert answers["Is the red ring left of the blue square?"] == "Yes."  # centres at 84 and 168 px across
    assert answers["Is the blue square left of the red ring?"] == "No."
    assert answers["Is the red ring above the blue square?"] == "Yes."  # at 56 and 112 px down
    assert answers["Which is larger, the blue square or the red ring?"] == "The red ring."
    assert answers["Do the red ring and the blue square have the same color?"] == "No."
    assert talk.relation_question(items[:1], draw).kind != "relation"


def test_a_conversation_about_a_scene_and_about_any_image(items):
    scene = Lesson(items, "plain", observe(torch.zeros(1, 3, 56, 56, dtype=torch.uint8))[0])
    turns = talk.conversation(scene, random.Random(0))
    assert turns == talk.conversation(scene, random.Random(0)) and len(turns) == 5
    assert turns[1].answer == talk.describe(items, "plain")
    photo = talk.conversation(Lesson([], "", scene.observation), random.Random(0))
    assert [turn.kind for turn in photo] == ["region colors", "describe", "look", "look", "look"]
    assert photo[1].answer == "The image is dark and plain, mostly black."
