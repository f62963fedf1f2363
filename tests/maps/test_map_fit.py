"""The latent map: silhouettes, clusters and neighbours by hand and by scikit-learn; maps on a tiny real VLM."""

import os
import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from house import build_house
from PIL import Image
from scipy.spatial import procrustes
from sklearn.metrics import adjusted_mutual_info_score, silhouette_score

from foresight.data.render import render
from foresight.errors import InputError
from foresight.maps import data as map_data
from foresight.maps import fit as latent_map
from foresight.maps import worker as map_worker
from foresight.maps.data import BACKGROUND, MapSpec, extract, in_depth_order, rows_of, token_cells
from foresight.maps.fit import LatentMap, Maps, align, fit
from foresight.maps.pictures import FilePictures, in_folder
from foresight.maps.scores import MapScores
from foresight.maps.separability import MOST, cluster, nearest, silhouettes
from foresight.maps.worker import Worker, worker
from foresight.models.vlm import load_vlm

HERE, BEFORE = "post-merge/1", "pre-merge/2"
SPEC = MapSpec((BEFORE, HERE), scenes=48, neighbours=6, clusters=3)


def finish(steps):
    """What a generator returns, and what it has yielded."""
    progress = []
    while True:
        try:
            progress.append(next(steps))
        except StopIteration as end:
            return end.value, progress


@pytest.fixture(scope="module")
def vlm(tiny):
    return load_vlm(tiny.folder, device="cpu")


@pytest.fixture(scope="module")
def data(vlm):
    return finish(extract(vlm, SPEC))[0]


@pytest.fixture(scope="module")
def maps(vlm):
    maps = Maps(vlm)
    for steps in (maps.extract(SPEC), maps.fit(SPEC)):
        assert all(p.done <= p.total or not p.total for p in steps)
    return maps


def two_directions(count=60, spread=0.3, seed=0):
    draw = np.random.default_rng(seed)
    middle = np.eye(8)[np.repeat([0, 1, 2], count // 3)]
    return (middle + spread * draw.normal(size=(count, 8))).astype(np.float32), np.repeat(["a", "b", "c"], count // 3)


@pytest.fixture
def folder(tmp_path):
    """22 pictures of two classes and of two shapes, and a file that is none."""
    for number in range(22):
        part = tmp_path / ("cats" if number % 2 else "dogs")
        part.mkdir(exist_ok=True)
        Image.new("RGB", (90, 60 if number % 3 else 90), (number * 10, 99, 99)).save(part / f"{number:02d}.png")
    (tmp_path / "cats/no.png").write_bytes(b"no picture")
    return tmp_path


def test_a_silhouette_by_hand():
    # a: 0° and 90°, b: 180° twice. Cosine distances: a0–a1 1, a0–b 2, a1–b 1, b–b 0.
    latents = np.array([[1, 0], [0, 2], [-3, 0], [-1, 0]], np.float32)
    silhouette = silhouettes(latents, {"x": np.array(["a", "a", "b", "b"])})["x"]
    assert silhouette.classes["a"] == pytest.approx(((2 - 1) / 2 + (1 - 1) / 1) / 2)
    assert silhouette.classes["b"] == pytest.approx(1.0)  # own distance 0, others 1.5
    assert silhouette.value == pytest.approx(0.625) and silhouette.count == 4


def test_silhouettes_equal_scikit_learns_and_stand_out_of_their_floor():
    latents, labels = two_directions()
    clusters = cluster(latents, 3)
    chance = np.random.default_rng(1).permutation(labels)
    scores = silhouettes(latents, {"true": labels, "chance": chance, "one": np.full(60, "a")}, clusters)
    assert scores["true"].value == pytest.approx(silhouette_score(latents, labels, metric="cosine"), abs=1e-5)
    assert scores["true"].stands_out and not scores["chance"].stands_out and scores["one"] is None
    assert scores["true"].floor < 0.05 and scores["true"].agreement == adjusted_mutual_info_score(labels, clusters)


def test_silhouettes_of_many_are_of_a_sample():
    latents, labels = two_directions(2 * MOST // 3 * 3)
    silhouette = silhouettes(latents, {"x": labels}, seed=3)["x"]
    assert silhouette.count == MOST and silhouette == silhouettes(latents, {"x": labels}, seed=3)["x"]
    assert silhouette.value == pytest.approx(silhouette_score(latents, labels, metric="cosine"), abs=0.02)


def test_clusters_look_at_directions_and_the_largest_comes_first():
    length = np.array([1, 9, 1, 9, 5], np.float32)[:, None]
    latents = np.array([[0, 1], [0, 1], [1, 0], [1, 0.1], [1, 0]], np.float32) * length
    assert cluster(latents, 2).tolist() == [1, 1, 0, 0, 0]


def test_neighbours_by_hand():
    latents = np.array([[1, 0], [5, 5], [0, 1], [-1, 0], [0, 0]], np.float32)
    rows, cosines = nearest(latents, latents[0], 2, leave=np.array([True, False, False, False, False]))
    assert rows.tolist() == [1, 2] and cosines.tolist() == pytest.approx([0.5**0.5, 0])
    assert nearest(latents, latents[0], 9)[0].tolist() == [0, 1, 2, 4, 3]


@pytest.mark.parametrize("turn", [[[0, 3], [3, 0]], [[1.2, 1.6], [-1.6, 1.2]]])  # a mirror image and a turn, enlarged
def test_alignment_undoes_turns_and_mirrors_but_no_change(turn):
    draw = np.random.default_rng(0)
    before = align(draw.normal(size=(50, 2)), None)[3]
    *_, coordinates, change = align(before @ np.array(turn) + 7, before)
    assert np.allclose(coordinates, before, atol=1e-5) and change == pytest.approx(0, abs=1e-6)
    other = draw.normal(size=(50, 2))
    assert align(other, before)[4] == pytest.approx(procrustes(before, other)[2], abs=1e-5)


def test_latents_and_labels_are_those_of_the_scenes(vlm, data):
    assert list(data.latents) == [BEFORE, HERE] and data.cells is None
    for i in (0, 17, 47):
        scene = data.pictures.scenes.describe(i)
        picture = render(data.pictures.scenes[i]).images.float() / 255
        expected = vlm.latents(picture, [HERE])[HERE].mean((1, 2, 3))[0]
        assert np.allclose(data.latents[HERE][i], expected.numpy(), atol=1e-4)
        (thing,) = scene["objects"]
        assert (data.labels["shape"][i], data.labels["colour"][i]) == (thing["shape"], thing["color"])
        assert data.measures["radius"][i] == pytest.approx(thing["radius"] * 224, rel=1e-5)
    assert set(data.pictures.scenes.split()) == {"test"}


def test_pixels_are_how_large_the_model_sees_scenes_and_pictures(vlm, folder):
    small, _ = finish(extract(vlm, replace(SPEC, points=(HERE,), scenes=20, pixels="112²")))
    picture, mask = small.pictures.pixels(7)
    assert tuple(picture.shape) == (3, 112, 112) and tuple(mask.shape) == (112, 112)
    expected = vlm.latents(picture[None], [HERE])[HERE].mean((1, 2, 3))[0]
    assert np.allclose(small.latents[HERE][7], expected.numpy(), atol=1e-4)
    assert small.pictures.source(7)["size"] == [224, 224]  # the scene is the same, and has the same links
    own = FilePictures.of(in_folder(str(folder)))
    native, _ = finish(extract(vlm, replace(SPEC, points=(HERE,), scenes=22, tokens=3, pixels="native"), own))
    assert tuple(native.pictures.pixels(0)[0].shape) == (3, 56, 84)  # 60 × 90, by the model's own rule
    assert len(native.latents[HERE]) == 22 * 3


def test_several_objects_are_described_by_the_largest(vlm):
    extracted, _ = finish(extract(vlm, replace(SPEC, points=("pre-merge/0",), scenes=20, objects=5)))
    for i in range(20):
        largest = max(extracted.pictures.scenes.describe(i)["objects"], key=lambda thing: thing["radius"])
        assert extracted.labels["shape"][i] == largest["shape"]
        assert extracted.labels["objects"][i] == str(int(extracted.pictures.scenes.count[i]))


def test_tokens_are_the_same_cells_at_each_layer(vlm):
    extracted, steps = finish(extract(vlm, replace(SPEC, scenes=20, tokens=6)))
    assert [p.done for p in steps] == [0, 16, 20]
    assert len(extracted.rows) == 120 and extracted.latents[BEFORE].shape == (120, 32)
    drawn = render(extracted.pictures.scenes)
    whole = vlm.latents(drawn.images.float() / 255, [BEFORE, HERE])
    for i in range(0, 120, 7):
        scene, (row, column) = extracted.rows[i], extracted.cells[i]
        assert np.allclose(extracted.latents[HERE][i], whole[HERE][scene, 0, row, column].numpy(), atol=1e-4)
        patches = whole[BEFORE][scene, 0, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2]
        assert np.allclose(extracted.latents[BEFORE][i], patches.mean((0, 1)).numpy(), atol=1e-4)
        cell = drawn.mask[scene, 28 * row : 28 * row + 28, 28 * column : 28 * column + 28].float().mean()
        assert (extracted.labels["shape"][i] == BACKGROUND) == bool(cell < 0.25)
        assert np.isnan(extracted.measures["radius"][i]) == bool(cell < 0.25)


def test_token_cells_are_different_and_inside():
    cells = token_cells(np.random.default_rng(0), 5, (168, 308), 60)
    assert cells.shape == (5, 60, 2) and cells.min() == 0 and cells[..., 0].max() < 6 and cells[..., 1].max() < 11
    assert all(len({tuple(c) for c in scene}) == 60 for scene in cells.tolist())
    with pytest.raises(InputError, match="66 tokens"):
        token_cells(np.random.default_rng(0), 1, (168, 308), 67)


def test_rows_of_takes_the_mean_or_the_cells():
    latents = torch.arange(2 * 4 * 4, dtype=torch.float32).view(2, 1, 4, 4, 1)
    assert rows_of(latents, "post-merge/0", None).tolist() == [[7.5], [23.5]]
    cells = np.array([[[0, 1]], [[1, 0]]])
    assert rows_of(latents, "post-merge/0", cells).tolist() == [[1], [20]]
    assert rows_of(latents, "pre-merge/0", cells).tolist() == [[4.5], [26.5]]  # means of 2 × 2 patches


def test_a_map_is_the_same_each_time_and_its_layers_are_turned_onto_each_other(maps, data):
    latent_map = maps.find(SPEC)
    again, _ = finish(fit(data, SPEC))
    first, second = (latent_map.layers[p] for p in SPEC.points)
    for point in SPEC.points:
        assert np.array_equal(again.layers[point].coordinates, latent_map.layers[point].coordinates)
        assert np.square(latent_map.layers[point].coordinates).mean() == pytest.approx(1, abs=1e-4)
    assert first.change is None and second.change == pytest.approx(
        procrustes(first.coordinates, second.coordinates)[2], abs=1e-4
    )
    assert second.silhouettes["shape"].count == 48 and second.silhouettes["background"] is None
    assert set(second.clusters) == {0, 1, 2}


def test_what_is_kept_is_not_made_again(maps):
    assert list(maps.extract(SPEC)) == [] and list(maps.fit(SPEC)) == []
    assert list(maps.extract(replace(SPEC, min_dist=0.5, dimensions=3))) == []
    with pytest.raises(InputError, match="no longer kept"):
        maps.find(replace(SPEC, seed=5))
    with pytest.raises(InputError, match="draw a map first"):
        maps.find(None)
    assert maps.by_id(SPEC.id) is maps.find(SPEC) and maps.by_id("nothing") is None


def test_a_scene_of_the_map_is_projected_onto_itself(maps):
    latent_map = maps.find(SPEC)
    places = latent_map.layers[HERE].coordinates
    typical = np.median(np.linalg.norm(places[:, None] - places[None], axis=-1))
    for i in (3, 30):
        one = maps.project(SPEC, render(latent_map.data.pictures.scenes[i]).images[0].float() / 255)
        assert np.allclose(one.latents[HERE][0], latent_map.data.latents[HERE][i], atol=1e-4)
        assert np.linalg.norm(one.places[HERE][0] - places[i]) < 0.3 * typical
        assert latent_map.neighbours(HERE, one, 1)[0].tolist() == [i]
        assert i not in latent_map.neighbours(HERE, i, 47)[0] and len(latent_map.neighbours(HERE, i, 99)[0]) == 47


def test_three_dimensions(maps):
    spec = replace(SPEC, dimensions=3)
    assert list(maps.fit(spec))
    assert maps.find(spec).layers[HERE].coordinates.shape == (48, 3)


@pytest.mark.parametrize("tokens", [0, 3])
def test_a_map_of_own_pictures(vlm, folder, tokens):
    maps, own = Maps(vlm), FilePictures.of(in_folder(str(folder)))
    assert len(own) == 22 and own.name(0) == "cats/01.png" and own.broken[0].name == "cats/no.png"
    spec = replace(SPEC, points=("pre-merge/2", HERE), scenes=22, tokens=tokens, method="pca", pictures=maps.bring(own))
    assert spec.pictures == FilePictures.of(in_folder(str(folder))).id != ""
    finish(maps.extract(spec))
    finish(maps.fit(spec))
    drawn = maps.find(spec)
    assert drawn.data.labels["folder"].tolist() == np.repeat(["cats", "dogs"], 11 * max(1, tokens)).tolist()
    assert set(drawn.data.labels["aspect"]) == {"square", "wide"} and drawn.layers[HERE].silhouettes["folder"]
    image = own.pixels(13)[0]
    grid = vlm.latents(image[None], [HERE])[HERE][0, 0]  # (h, w, D)
    if tokens:
        row, column = drawn.data.cells[13 * 3]
        expected = grid[row, column]
    else:
        expected = grid.mean((0, 1))
    np.testing.assert_allclose(drawn.data.latents[HERE][13 * max(1, tokens)], expected, atol=1e-5)
    assert drawn.neighbours(HERE, maps.project(spec, image), 1)[1][0] > 0.9
    other = replace(spec, pictures="gone")
    with pytest.raises(InputError, match="no longer kept: choose them again"):
        finish(maps.extract(other))
    assert own.there
    Path(own.source(3)).unlink()
    assert not own.there
    with pytest.raises(InputError, match="“cats/07.png” can no longer be read"):
        own.pixels(3)
    with pytest.raises(InputError, match="at least 20 pictures, not 3"):
        FilePictures.of(own.files[:3])


@pytest.mark.parametrize("method", ["pca", "t-sne"])
def test_pca_and_tsne_draw_map_and_put_new_pictures_on_it(maps, method):
    spec = replace(SPEC, method=method)
    assert list(maps.fit(spec))
    latent_map = maps.find(spec)
    assert list(latent_map.layers) == list(maps.find(SPEC).layers)
    for point, layer in latent_map.layers.items():
        assert layer.coordinates.shape == (48, 2) and layer.silhouettes == maps.find(SPEC).layers[point].silhouettes
        x, y = layer.coordinates.T
        if method == "pca":
            np.testing.assert_allclose(layer.project(latent_map.data.latents[point]), layer.coordinates, atol=1e-3)
            assert abs(np.corrcoef(x, y)[0, 1]) < 1e-3 or layer.change is not None  # only a first layer is not turned
        else:
            rows, _ = nearest(latent_map.data.latents[point], latent_map.data.latents[point][0], 5)
            expected = layer.coordinates[rows].mean(0)
            np.testing.assert_allclose(layer.project(latent_map.data.latents[point][:1])[0], expected, atol=1e-3)


def test_a_process_that_hears_of_no_stop_is_ended():
    there, latents = Worker(compiled=False), two_directions(3000)[0]
    finish(there.do(map_worker.reduce_pca, latents, 2))  # it is ready by now
    steps = there.do(map_worker.reduce_tsne, latents, 2, 15.0, 0, None)
    for _ in range(4):
        next(steps)
    steps.close()
    assert not there.alive


def test_closing_stops_the_fit_and_its_process_goes_on(data, monkeypatch):
    monkeypatch.setattr(map_worker, "HEARS", 60.0)
    parameters = {"n_neighbors": 6, "n_components": 2, "min_dist": 0.1, "random_state": 0}
    with worker() as there:
        for_ever = there.do(map_worker.reduce, data.latents[HERE], parameters | {"n_epochs": 10**7}, None)
        while not next(for_ever)[1]:
            pass
        for_ever.close()
        _, places = finish(there.do(map_worker.reduce, data.latents[HERE], parameters, None))[0]
        at_once = there.do(map_worker.reduce, data.latents[HERE], parameters, None)
        next(at_once)
        next(at_once)  # it has its task, and has drawn no epoch yet
        at_once.close()
        with pytest.raises(StopIteration):
            steps = there.do(map_worker.reduce, data.latents[HERE], parameters, None)
            for _ in range(240):  # a minute
                next(steps)
    assert places.shape == (48, 2)
    assert there.alive


def test_a_process_that_ended_is_one_sentence_and_is_not_used_again(data):
    with worker() as warm, worker() as fresh, pytest.raises(InputError, match="has ended"):
        fresh.process.kill()
        finish(fresh.do(map_worker.transform, b"", data.latents[HERE]))
    with worker() as again:
        assert again is warm and fresh is not warm


def test_a_fault_in_the_process_is_reported_as_what_it_is_and_the_process_goes_on(data):
    with worker() as there:
        with pytest.raises(pickle.UnpicklingError) as fault:
            finish(there.do(map_worker.transform, b"no reducer", data.latents[HERE]))
        assert "in the process that fits maps" in str(fault.value.__cause__)
        with pytest.raises(InputError, match="memory does not suffice"):
            finish(there.do(out_of_memory))
        assert there.alive
    with worker() as again:
        assert again is there


def out_of_memory(meter):
    raise MemoryError


def test_silhouettes_leave_the_background_out(vlm):
    spec = replace(SPEC, points=(HERE,), scenes=20, tokens=8)
    tokens, _ = finish(extract(vlm, spec))
    latent_map, _ = finish(fit(tokens, spec))
    objects = tokens.labels["shape"] != BACKGROUND
    assert 0 < objects.sum() < 160
    scores = latent_map.layers[HERE].silhouettes
    assert scores["shape"].count == objects.sum() and BACKGROUND not in scores["shape"].classes
    labels = {name: column[objects] for name, column in tokens.labels.items()}
    assert scores["size"].value == silhouettes(tokens.latents[HERE][objects], labels)["size"].value


def test_too_few_to_compare_have_no_silhouettes():
    latents, labels = two_directions()
    clusters, scores = map_worker.group(None, latents, {"x": labels}, np.arange(60) < 2, 3, 0)
    assert scores == {"x": None} and set(clusters) == {0, 1, 2}


def test_latents_that_would_fill_the_memory_are_not_taken(vlm, monkeypatch):
    monkeypatch.setattr(map_data, "MOST", 4 * SPEC.scenes * vlm.width(SPEC.points[0]))
    one = replace(SPEC, points=SPEC.points[:1])
    assert next(map_data.extract(vlm, one)).done >= 0
    with pytest.raises(InputError, match="take fewer scenes or layers"):
        next(map_data.extract(vlm, replace(SPEC, points=(HERE, BEFORE))))


def test_the_newest_latents_are_kept_and_older_ones_as_far_as_there_is_room(vlm, monkeypatch):
    specs = [MapSpec((BEFORE,), scenes=20, seed=seed) for seed in range(3)]
    room = finish(extract(vlm, specs[0].latents_spec))[0].bytes
    for most, kept in ((0, [True, False, False]), (2.5 * room, [True, True, False])):
        monkeypatch.setattr(latent_map, "KEPT", most)
        maps = Maps(vlm)
        for spec in specs:
            finish(maps.extract(spec))
        assert [list(maps.extract(spec)) == [] for spec in reversed(specs)] == kept


def test_scores_of_an_adapter_that_was_trained_anew_are_not_shown(tiny, data, tmp_path):
    """The folder and the name are the same, but the weights are others."""
    inspector = build_house(tiny.folder, tmp_path)
    table, latent_map, record = MapScores(inspector), LatentMap(SPEC, data, {}), inspector.registry.find("linear")
    finish(table.score(latent_map, record, 2))
    assert {name: len(scores) for name, scores in table.known(latent_map).items()} == {f"linear at {record.point}": 2}
    os.utime(record.folder / "model.safetensors", ns=(0, 0))
    assert table.known(latent_map) == {}


def test_points_in_order_of_depth(vlm):
    assert in_depth_order(vlm, (HERE, BEFORE, HERE)) == (BEFORE, HERE)
    with pytest.raises(InputError, match="there is no post-merge/9"):
        in_depth_order(vlm, ("post-merge/9",))


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"points": ()}, "at least one"),
        ({"scenes": 5}, "scenes must be"),
        ({"scenes": 30_000}, "scenes must be"),
        ({"tokens": 65}, "tokens a scene"),
        ({"dimensions": 4}, "dimensions"),
        ({"neighbours": 48}, "48 neighbours need more than the map's 48 points"),
        ({"min_dist": 1.0}, "least distance"),
        ({"min_dist": float("nan")}, "least distance"),
        ({"clusters": 1}, "clusters"),
        ({"seed": -1}, "seed"),
        ({"objects": 9}, "objects"),
        ({"background": "photo"}, "background"),
        ({"pixels": "448"}, "a side of 448 is written 448²"),
    ],
)
def test_an_impossible_map_is_one_sentence(change, sentence):
    with pytest.raises(InputError, match=sentence):
        replace(SPEC, **change)


def test_numba_has_a_folder_where_nothing_else_can_be_written(monkeypatch):
    def refuse(folder):
        raise InputError("read-only.")

    monkeypatch.delenv("NUMBA_CACHE_DIR", raising=False)
    assert map_worker._numba_folder.__wrapped__() is None and "NUMBA_CACHE_DIR" not in os.environ
    monkeypatch.setattr(map_worker, "check_output", refuse)
    with map_worker._numba_folder.__wrapped__() as folder:
        assert os.environ["NUMBA_CACHE_DIR"] == folder
