"""Latents of many pictures: the same with a store as without, and computed once."""

import pytest
import torch
import torch.distributed as dist
from house import save_vae

from foresight.data.archive import Broken, File
from foresight.data.images import to_pil
from foresight.data.render import render
from foresight.data.scenes import SceneSpec, sample
from foresight.errors import InputError
from foresight.models.vae import load_vae
from foresight.models.vlm import load_vlm
from training.data import collect, scene_source
from training.latents import Extractor, Latents, extract_files, extract_scenes, mixture, open_store

POINTS = ["pre-merge/2", "post-merge/1"]
SMALL = SceneSpec(size=(56, 84))


@pytest.fixture(scope="module")
def models(house):
    return load_models(house)


def load_models(house):
    return load_vlm(house / "vlm", device="cpu"), load_vae(house / "vae", device="cpu")


@pytest.fixture(scope="module")
def scenes():
    return [sample(range(7), 0, SMALL), sample(range(7, 12), 0, SMALL)]


def extract(vlm, vae, scenes, points, batch, store=None, shared=False) -> Latents:
    return collect(vlm, vae, scene_source(scenes, batch, vlm.device), points, store, shared=shared)


def assert_same(a: Latents, b: Latents, **tolerance: float) -> None:
    """To the bit; within tolerance where other processes did it, whose kernels may round otherwise."""
    assert a.points.keys() == b.points.keys()
    for x, y in zip(
        [*a.points.values(), a.targets, a.pictures, a.masks],
        [*(b.points[n] for n in a.points), b.targets, b.pictures, b.masks],
        strict=True,
    ):
        torch.testing.assert_close(x, y, **({"rtol": 0, "atol": 0} | tolerance))


@pytest.fixture
def counted(models, monkeypatch):
    """How many pictures the VLM and the VAE have looked at."""
    vlm, vae = models
    seen = {"vlm": 0, "vae": 0}
    latents, encode = vlm.latents, vae.encode

    def count_latents(x, points):
        seen["vlm"] += len(x)
        return latents(x, points)

    def count_encode(x):
        seen["vae"] += len(x)
        return encode(x)

    monkeypatch.setattr(vlm, "latents", count_latents)
    monkeypatch.setattr(vae, "encode", count_encode)
    return seen


def test_rows_are_the_scenes_in_order(models, scenes):
    vlm, vae = models
    latents = extract(vlm, vae, scenes, POINTS, 4)
    drawn = [render(group) for group in scenes]
    pictures = torch.cat([d.images for d in drawn])
    assert torch.equal(latents.pictures, pictures) and torch.equal(latents.masks, torch.cat([d.mask for d in drawn]))
    assert [tuple(latents.points[p].shape) for p in POINTS] == [(12, 1, 4, 6, 32), (12, 1, 2, 3, 48)]
    for point, values in vlm.latents(pictures[9:10] / 255, POINTS).items():
        torch.testing.assert_close(latents.points[point][9:10], values, rtol=1e-4, atol=1e-5)


def test_a_store_changes_nothing_and_saves_the_work(models, scenes, counted, tmp_path):
    vlm, vae = models
    plain = extract(vlm, vae, scenes, POINTS, 4)
    counted.update(vlm=0, vae=0)
    store = open_store(tmp_path, vlm)
    assert_same(extract(vlm, vae, scenes, POINTS, 4, store), plain)
    assert counted == {"vlm": 12, "vae": 12}
    for opened in (store, open_store(tmp_path, vlm)):
        assert_same(extract(vlm, vae, scenes, POINTS, 4, opened), plain)
        assert_same(extract(vlm, vae, scenes, POINTS, 5, opened), plain)  # cut into other batches
    assert counted == {"vlm": 12, "vae": 12}
    extract(vlm, vae, scenes, [*POINTS, "post-merge/2"], 4, store)
    assert counted == {"vlm": 24, "vae": 12}  # one more point, and only that


def test_a_store_tells_vaes_apart(models, scenes, counted, tmp_path):
    vlm, vae = models
    store = open_store(tmp_path, vlm)
    before = extract(vlm, vae, scenes, POINTS, 4, store)
    save_vae(tmp_path / "other", seed=1)
    after = extract(vlm, load_vae(tmp_path / "other", "cpu"), scenes, POINTS, 4, store)
    assert counted == {"vlm": 12, "vae": 12}
    assert not torch.equal(before.targets, after.targets)


def test_what_was_written_before_a_kill_is_not_done_again(models, scenes, counted, tmp_path):
    vlm, vae = models
    with Extractor(vlm, vae, POINTS, open_store(tmp_path, vlm)) as extractor:
        steps = extract_scenes(extractor, scenes, 4)
        assert next(steps) == 4 and next(steps) == 3
        steps.close()
    with Extractor(vlm, vae, POINTS, open_store(tmp_path, vlm)) as extractor:
        assert sum(extract_scenes(extractor, scenes, 4)) == 12
    assert counted == {"vlm": 12, "vae": 12}


def test_a_failed_write_is_reported(models, scenes, tmp_path):
    vlm, vae = models
    store = open_store(tmp_path / "store", vlm)
    (tmp_path / "store/key.json").unlink()
    (tmp_path / "store").rmdir()
    with pytest.raises(InputError, match="cannot be written"), Extractor(vlm, vae, POINTS, store) as extractor:
        extractor(render(scenes[0]).images)


def test_files_of_many_sizes_with_broken_ones_between(models, tmp_path):
    vlm, vae = models
    drawn = to_pil(render(sample(range(1), 0, SceneSpec())).images[0] / 255)
    for k, size in enumerate([(224, 224), (300, 200), (64, 64), (90, 60)]):
        drawn.resize(size).save(tmp_path / f"{k}.png")
    (tmp_path / "0b.png").write_bytes(b"no picture")
    (tmp_path / "1b.jpg").write_bytes(b"")
    files = [File(path.name, path) for path in sorted(tmp_path.glob("*.*g"))]
    store = open_store(tmp_path / "store", vlm)
    with Extractor(vlm, vae, POINTS, store) as extractor:
        batches = list(extract_files(extractor, files, batch=2))
    assert sum(n for n in batches if not isinstance(n, Broken)) == 4
    assert [b.name for b in batches if isinstance(b, Broken)] == ["0b.png", "1b.jpg"]
    sizes = [tuple(store.get([key], "post-merge/1").shape[1:4]) for key in store._places["post-merge/1"]]
    assert sorted(sizes) == sorted([(1, 8, 8), (1, 7, 10), (1, 8, 8), (1, 7, 10)])


def share(rank, house, sets, folder):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    vlm, vae = load_models(house)
    for number, scenes in enumerate(sets):
        latents = extract(vlm, vae, scenes, POINTS, 4, open_store(folder / f"store{number}", vlm), shared=True)
        torch.save(latents.__dict__, folder / f"{rank}-{number}.pt")
    dist.destroy_process_group()


def test_processes_share_the_work(children, house, models, scenes, counted, tmp_path):
    """Each does its own batches, none twice, and all end with the same; with three pictures one has nothing to do."""
    vlm, vae = models
    sets = [scenes, [scenes[0][:3]]]
    started = [children.Process(target=share, args=(rank, house, sets, tmp_path)) for rank in range(2)]
    for child in started:
        child.start()
    for child in started:
        child.join(60)
        assert child.exitcode == 0
    for number, some in enumerate(sets):
        alone = extract(vlm, vae, some, POINTS, 4)
        for rank in range(2):
            assert_same(Latents(**torch.load(tmp_path / f"{rank}-{number}.pt")), alone, rtol=1e-4, atol=1e-5)
        counted.update(vlm=0, vae=0)
        stored = extract(vlm, vae, some, POINTS, 4, open_store(tmp_path / f"store{number}", vlm))
        assert_same(stored, alone, rtol=1e-4, atol=1e-5)
        assert counted == {"vlm": 0, "vae": 0}


def test_the_mixture_is_of_one_split():
    parts = mixture(20, 0, "train")
    assert [len(part) for part in parts] == [5] * 4
    assert {name for part in parts for name in part.split()} == {"train"}
    assert not set(mixture(20, 1, "train")[0].hashes().tolist()) & set(parts[0].hashes().tolist())
