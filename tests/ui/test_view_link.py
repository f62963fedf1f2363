"""Addresses of views: what is written is read again, and what anybody may write is refused in a sentence."""

import base64
import json
import math
import zlib
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest
import torch

from foresight.data.scenes import SceneSpec, sample
from foresight.errors import InputError
from foresight.ui import examples, generate
from foresight.ui import view_link as link
from foresight.ui.failures import filters, form

FIVE = sample(range(1), 3, SceneSpec(objects=(5, 5), backgrounds=("texture",))).describe(0)


DEEP = base64.urlsafe_b64encode(zlib.compress(b"[" * 19_000 + b"]" * 900)).decode()


def asked(case: Any) -> dict[str, str]:
    address = link.query(case, "post-merge/6", "tokens")
    assert len(address) < 2000
    return {name: values[0] for name, values in parse_qs(address[1:]).items()}


def packed(value: Any) -> dict[str, str]:
    return {"scene": base64.urlsafe_b64encode(zlib.compress(json.dumps(value).encode())).decode()}


@pytest.mark.parametrize(
    "case",
    [
        *examples.examples().values(),
        generate.make_scene("star", "any", 4, "any", "top left", "any", False, 11),
    ],
)
def test_examples_and_seeds_are_written_in_words_and_read_again(case: dict[str, Any]) -> None:
    parsed_query = asked(case)
    assert "scene" not in parsed_query and parsed_query.keys() <= {*link.NAMES, *generate.FACTORS}
    assert link.source_of(parsed_query) == case


def test_any_other_scene_is_packed_and_drawn_the_same() -> None:
    again = link.source_of(asked(FIVE))
    assert isinstance(again, dict) and again == FIVE
    assert torch.equal(generate.draw(again)[1], generate.draw(FIVE)[1])


def test_an_upload_is_opened_again_while_it_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "kept"))
    path = tmp_path / "kept" / ("3f" * 32) / "my cat, 50%.png"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"")
    for address in (link.query(str(path), "post-merge/6", "tokens"), link.compare_query(str(path), ["tokens"])):
        assert link.source_of(parsed(address)) == str(path)
    path.unlink()
    with pytest.raises(InputError, match="was an upload, and is no longer kept here"):
        link.source_of(parsed(address))
    assert link.query("/home/cat.png", "post-merge/6", "tokens") == link.compare_query("/home/cat.png", ["a"]) == ""
    assert link.compare_query(None, ["a"], second="/home/cat.png") == ""
    assert link.source_of({"point": "post-merge/6"}) is None


def test_tiles_side_by_side_are_written_and_read_again() -> None:
    parsed_query = parsed(link.compare_query(None, ["tokens"], "oracle", "post-merge/6 · tokens"))
    assert (parsed_query["left"], parsed_query["right"]) == ("oracle", "post-merge/6,tokens")
    assert link.compare_sides(parsed_query, ["oracle", "post-merge/6 · tokens"]) == ("oracle", "post-merge/6 · tokens")
    assert link.compare_sides({}, []) == (None, None)
    with pytest.raises(InputError, match="no tile 'post-merge/6,tokens'"):
        link.compare_sides(parsed_query, ["oracle"])


def parsed(address: str) -> dict[str, str]:
    return {name: values[0] for name, values in parse_qs(address[1:]).items()}


@pytest.mark.parametrize("case", [examples.example("wide"), FIVE, None])
def test_a_comparison_is_written_and_read_again(case: Any) -> None:
    parsed_query = parsed(link.compare_query(case, ["tokens", "linear"]))
    assert parsed_query[link.TAB] == "compare" and link.source_of(parsed_query) == case
    assert link.second_source_of(parsed_query) is None
    of_two = parsed(link.compare_query(examples.example("cat"), ["tokens"], second=case))
    assert (link.source_of(of_two), link.second_source_of(of_two)) == (examples.example("cat"), case)
    known = {"adapters": ["tokens", "linear", "pooled"]}
    assert link.fields_of(parsed_query, {"adapters": ["tokens"]}, known) == {"adapters": ["tokens", "linear"]}
    with pytest.raises(InputError, match="unknown adapters 'huge': choose from tokens, linear, pooled"):
        link.fields_of({"adapters": "tokens,huge"}, {"adapters": ["tokens"]}, known)


def test_failures_are_written_as_far_as_they_are_unusual_and_read_again() -> None:
    usual, words = form.DEFAULTS | filters.FILTERS, form.WORDS | filters.WORDS
    assert link.failures_query("post-merge/6", "tokens", usual, usual).count("=") == 3
    chosen = {"scenes": 16, "shapes": ["star", "bar"], "overlap": False, "only-objects": ["2"], "from": "0,5"}
    parsed_query = parsed(link.failures_query("post-merge/6", "tokens", usual | chosen, usual))
    assert parsed_query.keys() == {link.TAB, "point", "adapter", *chosen}
    assert link.fields_of(parsed_query, usual, words) == usual | chosen
    for name, text in (("scenes", "-1"), ("shapes", "star,heart"), ("sort", "beauty"), ("order", "")):
        with pytest.raises(InputError):
            link.fields_of({name: text}, usual, words)
    assert set(words) <= usual.keys()


def test_names_for_files() -> None:
    scene = generate.make_scene("star", "any", 2, "any", "top left", "white", False, 11)
    assert link.name_of(scene) == "seed-11-star-2-top-left"
    assert link.name_of("/tmp/x/cat.jpeg") == "cat" and link.name_of(FIVE).startswith("scene-")
    assert link.name_of(examples.example("wide")) == "example-wide"
    assert link.name_of(examples.example("cat")) == "example-cat"


@pytest.mark.parametrize(
    ("query", "sentence"),
    [
        ({"example": "none"}, "there is no example 'none': choose from one-on-white"),
        ({"seed": "x"}, "seed must be a whole number"),
        ({"seed": "9" * 5000}, "seed must be a whole number"),
        ({"seed": "1", "objects": "1e9"}, "objects must be a whole number"),
        ({"seed": "1", "objects": "9"}, "from 1 to 5"),
        ({"seed": "1", "shape": "heart"}, "unknown shape"),
        ({"shape": "hexagon"}, "an address with shape asks for a drawn scene, which needs its seed too"),
        ({"objects": "3", "point": "post-merge/6"}, "an address with objects"),
        ({"seed": "1", "overlap": "maybe"}, "unknown overlap 'maybe': choose from True, False"),
        ({"upload": f"{'3f' * 32}/cat.png"}, "no longer kept"),
        ({"upload": f"{'3f' * 32}/../../etc/passwd"}, "no longer kept"),
        ({"upload": f"{'3f' * 32}/.."}, "no longer kept"),
        ({"upload": "/etc/passwd"}, "no longer kept"),
        ({"scene": "%%%"}, "broken"),
        (packed([1]), "broken"),
        ({"scene": DEEP}, "broken"),
        (packed(FIVE | {"size": [math.inf, 224]}), "not a scene's description"),
        ({"scene": packed(FIVE)["scene"][:40]}, "broken"),
        (packed({"size": [224, 224]}), "not a scene's description"),
        (packed(FIVE | {"size": [90000, 90000]}), "sides of 56 to 448"),
        (packed(FIVE | {"objects": FIVE["objects"] * 2}), "1 to 5 objects"),
        ({"scene": packed("x" * 50_000_000)["scene"]}, "broken"),  # 48 kB that unpack to 50 MB
    ],
)
def test_what_nobody_meant_is_one_sentence(query: dict[str, str], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        link.source_of(query)
