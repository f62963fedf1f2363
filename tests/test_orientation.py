"""A photo with an EXIF orientation stands upright, whichever way it comes in, and however often it is read.

The API and the page are in tests/ui, with those of the other uploads.
"""

import zipfile

import gradio as gr
import pytest
import torch
from photos import ORIENTATIONS, save_photo
from PIL import Image

from foresight.data.archive import File
from foresight.data.images import load_image, load_mask, to_tensor
from foresight.data.sources import center_view, folder_files, open_photos
from foresight.inspection.evaluation import file_samples
from foresight.inspection.readout import prepare
from foresight.metrics.scores import score
from foresight.models.vlm import load_vlm
from foresight.ui import generate
from foresight.ui.uploads import handed_in
from training.data import photo_source
from training.latents import extract_files


def seen(image):
    """What the model is given of an image: (3, H, W) in [0, 1]."""
    return prepare(image)[0]


def evaluated(files):
    [sample] = file_samples(files)
    return sample.image


def unzipped(path):
    with zipfile.ZipFile(path.with_suffix(".zip"), "w") as archive:
        archive.write(path, path.name)
    with gr.Blocks():
        return handed_in([str(path.with_suffix(".zip"))], gr.File(), lambda count: None)


def extracted(path):
    taken = []
    list(extract_files(lambda images, names: taken.append(images[0] / 255), [File(path.name, path)], batch=1))
    return taken[0]


def latents(vlm, image):
    return vlm.latents([image], ["post-merge/0"])["post-merge/0"]


ENTRIES = {
    "load_image of a path": lambda path: seen(load_image(path)),
    "load_image of bytes": lambda path: seen(load_image(path.read_bytes())),
    "load_image of PIL": lambda path: seen(load_image(Image.open(path))),
    "load_image twice": lambda path: seen(load_image(load_image(path))),
    "PIL into the inspector": lambda path: seen(Image.open(path)),
    "an upload to Inspect and Compare": lambda path: seen(generate.image_and_mask(str(path))[0]),
    "evaluate a folder": lambda path: evaluated(folder_files(path.parent)),
    "evaluate an archive": lambda path: evaluated(unzipped(path)),
    "extract a folder": extracted,
}


@pytest.mark.parametrize("orientation", ORIENTATIONS)
@pytest.mark.parametrize("entry", ENTRIES)
def test_a_photo_is_upright_through_every_entry(entry, orientation, tmp_path):
    path = tmp_path / "photo.jpg"
    upright = save_photo(path, orientation)
    assert upright.size == ((96, 64) if orientation < 5 else (64, 96))
    for _ in range(2):
        assert torch.equal(ENTRIES[entry](path), seen(upright))


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_no_orientation_is_carried_on(orientation, tmp_path):
    path = tmp_path / "photo.jpg"
    upright = save_photo(path, orientation)
    read = load_image(path)
    assert not read.info and not read.getexif()
    assert score(read, to_tensor(upright))["ssim"] == pytest.approx(1)
    read.save(tmp_path / "again.jpg", quality=95)
    assert load_image(tmp_path / "again.jpg").size == upright.size
    assert torch.equal(load_mask(path), load_mask(upright))
    photos = open_photos([str(tmp_path)]).photos[-1:]
    drawn = photo_source(photos, 1, 1, None, side=56).parts[0]()[0][0] / 255  # what training is judged on
    torch.testing.assert_close(drawn, to_tensor(center_view(upright, 56)), atol=0.003, rtol=0)


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_the_model_itself_takes_a_photo_upright(orientation, tiny, tmp_path):
    vlm = load_vlm(tiny.folder, device="cpu")
    upright = save_photo(tmp_path / "photo.jpg", orientation)
    with Image.open(tmp_path / "photo.jpg") as photo:
        assert torch.equal(latents(vlm, photo), latents(vlm, upright))
