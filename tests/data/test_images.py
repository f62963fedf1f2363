import io
import os
import random

import numpy as np
import pytest
import torch
from PIL import Image

from foresight.data.images import MAX_PIXELS, load_image, load_mask, resize, resize_weights, to_pil, to_tensor, vae_size
from foresight.errors import InputError

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")
RAMP = np.tile(np.linspace(0, 1, 16), (16, 1))  # dark on the left, light on the right


def encode(image, kind="PNG", **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def pixels(source):
    image = load_image(source)
    assert image.mode == "RGB"
    return np.asarray(image).astype(int)


def noise(side=64):
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (side, side, 3), dtype=np.uint8))


@pytest.mark.parametrize("kind", FORMATS)
def test_every_promised_format_from_bytes_path_and_picture(kind, tmp_path):
    picture = Image.new("RGB", (20, 12), (200, 100, 50))
    path = tmp_path / f"picture.{kind.lower()}"
    path.write_bytes(encode(picture, kind))
    for source in (path.read_bytes(), path, str(path), Image.open(path)):
        assert pixels(source).shape == (12, 20, 3)
        assert abs(pixels(source) - (200, 100, 50)).max() <= 3


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_sixteen_bits_are_scaled_not_clipped(kind):
    deep = Image.fromarray((RAMP * 65535).round().astype(np.uint16))
    assert abs(pixels(encode(deep, kind))[..., 1] - RAMP * 255).max() <= 0.5


def test_sixteen_bit_transparency_is_white():
    deep = Image.fromarray((RAMP * 65535).round().astype(np.uint16))
    assert (pixels(encode(deep, transparency=0))[:, 0] == 255).all()


def test_floating_point_is_read_in_zero_to_one_only():
    values = RAMP.astype(np.float32)
    assert abs(pixels(encode(Image.fromarray(values), "TIFF"))[..., 2] - RAMP * 255).max() <= 0.5
    for wrong in (np.nan, -0.01, 1.01, np.inf):
        values[3, 3] = wrong
        with pytest.raises(InputError, match="0 to 1"):
            load_image(encode(Image.fromarray(values), "TIFF"))


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "TIFF"])
def test_an_animation_gives_its_first_frame(kind):
    red, blue = (Image.new("RGB", (16, 16), c) for c in ("red", "blue"))
    moving = encode(red, kind, save_all=True, append_images=[blue])
    assert abs(pixels(moving) - (255, 0, 0)).max() <= 3


@pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
def test_cmyk(kind):
    picture = Image.new("RGB", (16, 16), (200, 100, 50)).convert("CMYK")
    assert abs(pixels(encode(picture, kind)) - (200, 100, 50)).max() <= 3


def test_transparency_is_laid_over_white():
    half = Image.new("RGBA", (16, 16), (255, 0, 0, 128))
    assert (pixels(encode(half)) == (255, 127, 127)).all()
    palette = Image.new("P", (16, 16), 0)
    palette.putpalette([255, 0, 0, 0, 255, 0])
    palette.paste(1, (0, 0, 8, 16))
    for kind in ("PNG", "GIF"):
        seen = pixels(encode(palette, kind, transparency=0))
        assert (seen[:, :8] == (0, 255, 0)).all() and (seen[:, 8:] == 255).all()


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_exif_rotation(kind, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    picture = Image.fromarray(np.kron([[0, 80], [160, 240], [40, 120]], np.ones((16, 16))).astype(np.uint8))
    turns = {3: 180, 6: 270, 8: 90}
    expected = picture.rotate(turns.get(orientation, 0), expand=True)
    mirrored = {2: 0, 7: 270, 4: 180, 5: 90}  # then turned
    if orientation in mirrored:
        mirror = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        expected = mirror.rotate(mirrored[orientation], expand=True)
    seen = pixels(encode(picture.convert("RGB"), kind, exif=exif))[..., 0]
    assert seen.shape == np.asarray(expected).shape
    assert abs(seen - np.asarray(expected).astype(int)).mean() < 4


@pytest.mark.parametrize("kind", FORMATS)
def test_truncated_files_are_refused(kind):
    whole = encode(noise(), kind)
    with pytest.raises(InputError, match="broken or cut short"):
        load_image(whole[: len(whole) // 2])


def test_a_truncated_file_that_the_caller_opened_is_refused():
    whole = encode(noise())
    with pytest.raises(InputError, match="broken or cut short"):
        load_image(Image.open(io.BytesIO(whole[: len(whole) // 2])))


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_thousand_damaged_files_give_a_picture_or_one_sentence():
    rng = random.Random(0)
    files = [encode(noise(24), kind) for kind in FORMATS]
    for _ in range(1000):
        damaged = bytearray(rng.choice(files))
        for _ in range(rng.choice([1, 4, 16])):
            damaged[rng.randrange(min(len(damaged), 300))] = rng.randrange(256)
        try:
            assert load_image(bytes(damaged)).mode == "RGB"
        except InputError as error:
            assert str(error).endswith(".")


@pytest.mark.parametrize(
    ("source", "sentence"),
    [
        (b"", "empty"),
        (b"GIF89a", "broken|not a"),
        (b"<svg></svg>", "not a JPEG"),
        (encode(Image.new("RGB", (16, 16)))[:11] + b"\5IHDR" + bytes(50), "broken"),  # a PNG header too short
        (encode(Image.new("RGB", (64, 64)), "PPM"), "not a JPEG"),
        (encode(Image.new("RGB", (1, 1))), "1 × 1"),
        (encode(Image.new("RGB", (1, 5000))), "1 × 5000"),
        (encode(Image.new("RGB", (7, 50))), "at least 8"),
        (Image.new("LAB", (16, 16)), "CIELAB"),
        (Image.new("I", (16, 16)), "32-bit"),
        ("no such file.png", "there is no file “no such file.png”"),
        ("/", "there is no file"),
        (None, "NoneType"),
    ],
)
def test_bad_input_is_one_clear_sentence(source, sentence):
    with pytest.raises(InputError, match=sentence):
        load_image(source)


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("size", [(13000, 13000), (6001, 4000)])  # 20 kB on disk, 2 GB as pixels
def test_a_bomb_is_refused_from_its_header(size, monkeypatch):
    bomb = encode(Image.new("1", size))
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", lambda self: pytest.fail("decoded"))
    with pytest.raises(InputError, match="at most 24 million"):
        load_image(bomb)
    assert Image.MAX_IMAGE_PIXELS == 89_478_485  # Pillow's own limit, which holds for others in this process too


@pytest.mark.parametrize("size", [(5712, 4284), (9500, 6300)])  # phones' 24 and 60 megapixels
def test_large_photos_are_scaled_while_they_are_decoded(size):
    scene = Image.linear_gradient("L").rotate(90).resize(size).convert("RGB")
    photo = load_image(encode(scene, "JPEG", quality=50))
    assert photo.size == (size[0] // 2, size[1] // 2) and photo.width * photo.height <= MAX_PIXELS
    assert abs(np.asarray(photo.resize((64, 64))).astype(int) - np.asarray(scene.resize((64, 64)))).max() <= 4
    with pytest.raises(InputError, match="at most 24 million pixels are allowed, or 89 million as JPEG"):
        load_image(encode(scene.convert("1"), "PNG"))


@pytest.mark.parametrize(("side", "by"), [(None, 1), (600, 1), (224, 2), (100, 4), (8, 8)])
def test_a_shorter_side_that_is_enough_is_not_undercut(side, by):
    turned = Image.Exif()
    turned[0x0112] = 6
    data = encode(noise(64).resize((800, 640), Image.Resampling.BICUBIC), "JPEG", exif=turned)
    assert load_image(data, side).size == (640 // by, 800 // by)
    whole = load_image(data).resize((10, 10), Image.Resampling.BOX)
    small = load_image(data, side).resize((10, 10), Image.Resampling.BOX)
    assert abs(np.asarray(whole).astype(int) - np.asarray(small)).max() <= 3


def test_cmyk_photos_keep_their_colours():
    swatch = Image.new("CMYK", (64, 64), (0, 255, 255, 0))
    swatch.paste((255, 0, 0, 0), (32, 0, 64, 64))
    for kind in ("JPEG", "TIFF"):
        decoded = pixels(encode(swatch, kind))
        assert abs(decoded[32, 8] - (255, 0, 0)).max() <= 8 and abs(decoded[32, 56] - (0, 255, 255)).max() <= 8


def test_a_pipe_does_not_block(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InputError, match="no file"):
        load_image(tmp_path / "pipe")


def test_masks_are_light_pixels():
    mask = load_mask(Image.fromarray((RAMP > 0.5).astype(np.uint8) * 255))
    assert mask.dtype == torch.bool and torch.equal(mask, torch.from_numpy(RAMP > 0.5))


def test_tensor_and_picture_are_each_others_inverse():
    picture = noise()
    x = to_tensor(picture)
    assert x.shape == (3, 64, 64) and x.dtype == torch.float32 and x.min() >= 0 and x.max() <= 1
    assert x[2, 5, 7] == np.asarray(picture)[5, 7, 2] / np.float32(255)
    assert np.array_equal(np.asarray(to_pil(x)), np.asarray(picture))
    assert to_pil(torch.full((3, 8, 8), 127.6 / 255)).getpixel((0, 0)) == (128, 128, 128)
    for wrong in (x + 0.1, x - 0.1, x * torch.nan):
        with pytest.raises(InputError):
            to_pil(wrong)


def test_a_token_is_32_pixels_for_the_vae():
    assert vae_size((224, 196)) == (256, 224)
    with pytest.raises(InputError, match="multiples of 28"):
        vae_size((225, 224))


def test_resize_is_pillows_bicubic():
    x = to_tensor(noise())
    for size in ((28, 40), (84, 100)):
        expected = np.asarray(Image.fromarray(x[0].numpy()).resize(size[::-1], Image.Resampling.BICUBIC))
        assert abs(resize(x[None], size)[0, 0].numpy() - expected.clip(0, 1)).max() < 1e-5


def test_resize_keeps_gradients():
    x = torch.rand(1, 3, 32, 32, requires_grad=True)
    resize(x, (28, 28)).mean().backward()
    assert x.grad is not None and x.grad.abs().sum() > 0


@pytest.mark.parametrize(("source", "target"), [((256, 280), (224, 245)), ((33, 40), (77, 21))])
def test_resize_weights_are_resize(source, target):
    x = torch.rand(2, 3, *source, generator=torch.Generator().manual_seed(0))
    down, across = (resize_weights(a, b, x.device) for a, b in zip(source, target, strict=True))
    torch.testing.assert_close((down @ x @ across.T).clamp(0, 1), resize(x, target), atol=1e-5, rtol=0)
