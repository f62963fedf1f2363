"""Videos of every odd kind, written here: the right frames by their time stamps, or one sentence."""

import json
import struct
from fractions import Fraction

import av
import numpy as np
import pytest
import torch
from odd_clips import audio, corners, encode, flat, gif, remux
from PIL import Image

from foresight.data import clips
from foresight.data.clips import Clip, clip_files, load_clip, something_something, write_clip
from foresight.errors import InputError

GREYS = [20, 60, 100, 140, 180, 220]


def greys(clip):
    return [int(frame.float().mean().round()) for frame in clip.frames]


def nearest(clip):
    return [min(GREYS, key=lambda g: abs(g - value)) for value in greys(clip)]


@pytest.fixture(scope="module")
def steady(tmp_path_factory):
    """Six greys, 100 ms each."""
    path = tmp_path_factory.mktemp("clips") / "steady.mp4"
    return encode(path, [flat(g) for g in GREYS], range(0, 600, 100), movflags="faststart")


def test_every_frame_with_its_time(steady):
    for source in (steady, str(steady), steady.read_bytes()):
        clip = load_clip(source, fps=None)
        assert clip.frames.shape == (6, 3, 48, 64) and clip.frames.dtype == torch.uint8
        assert max(abs(a - b) for a, b in zip(greys(clip), GREYS, strict=True)) <= 1
        assert clip.times.tolist() == pytest.approx([0, 0.1, 0.2, 0.3, 0.4, 0.5])
        assert clip.fps == pytest.approx(10) and clip.notice is None
    assert load_clip(steady).name == "steady.mp4"


@pytest.mark.parametrize(
    ("fps", "start", "count", "expected"),
    [
        (10.0, 0.0, 9, GREYS),
        (5.0, 0.0, 9, GREYS[::2]),
        (20.0, 0.0, 4, [20, 20, 60, 60]),
        (4.0, 0.0, 9, [20, 100, 220]),  # 0, 0.25 and 0.5 s
        (10.0, 0.25, 9, [100, 140, 180, 220]),  # the frame shown at 0.25 s began at 0.2 s
        (8.0, 0.31, 2, [140, 180]),
    ],
)
def test_a_frame_rate_takes_what_a_player_shows_then(steady, fps, start, count, expected):
    clip = load_clip(steady, fps=fps, start=start, frames=count)
    assert nearest(clip) == expected and clip.fps == fps
    assert clip.times.tolist() == pytest.approx([k / fps for k in range(len(expected))])


def test_a_variable_rate_goes_by_time_stamps(tmp_path):
    path = encode(tmp_path / "odd.mp4", [flat(g) for g in GREYS], [0, 10, 20, 500, 900, 910])
    assert nearest(load_clip(path, fps=4)) == [20, 100, 140, 140, 220]  # at 0, 0.25, 0.5, 0.75 and 1 s
    clip = load_clip(path, fps=None)
    assert nearest(clip) == GREYS and clip.fps == pytest.approx(5 / 0.91)
    assert clip.times.tolist() == pytest.approx([0, 0.01, 0.02, 0.5, 0.9, 0.91])


def test_what_is_cut_off_is_reported(steady):
    clip = load_clip(steady, fps=10, frames=3)
    assert len(clip.frames) == 3
    assert clip.notice == "“steady.mp4” lasts 0.6 s: the clip is 0.3 s of it from 0.0 s on."
    assert load_clip(steady, fps=10, frames=6).notice is None
    with pytest.raises(InputError, match=r"lasts 0\.6 s: nothing is left from 0\.7 s on"):
        load_clip(steady, start=0.7)


def test_an_hour_is_not_decoded(tmp_path, monkeypatch):
    """Ten frames, six minutes apart, each a key frame: the budget allows three."""
    path = encode(
        tmp_path / "hour.mp4",
        [flat(20 * k) for k in range(10)],
        range(0, 3600, 360),
        rate=1,
        last=1,
        codec="mjpeg",
        pix_fmt="yuvj420p",
    )
    monkeypatch.setattr(clips, "MAX_DECODED", 48 * 64 * 4)  # the header counts too
    clip = load_clip(path, fps=1, frames=4, start=3000)
    assert clip.notice == "“hour.mp4” lasts 3241.0 s: the clip is 4.0 s of it from 3000.0 s on."
    assert greys(clip) == pytest.approx([160] * 4, abs=2)
    with pytest.raises(InputError, match="takes too long"):
        load_clip(path, fps=1 / 360, frames=10)


TURNS = {  # the matrix (a, b, c, d), and what it does to an image
    "upright": ((1, 0, 0, 1), lambda x: x),
    "quarter clockwise": ((0, 1, -1, 0), lambda x: np.rot90(x, -1)),
    "half": ((-1, 0, 0, -1), lambda x: np.rot90(x, 2)),
    "quarter counterclockwise": ((0, -1, 1, 0), lambda x: np.rot90(x, 1)),
    "mirrored": ((-1, 0, 0, 1), lambda x: x[:, ::-1]),
    "transposed": ((0, 1, 1, 0), lambda x: x.transpose(1, 0, 2)),
}


def with_matrix(data, a, b, c, d, unit=1 << 16):
    """An mp4 whose track is to be shown by that matrix (ISO 14496-12, tkhd)."""
    at = data.index(b"tkhd") + 44
    return data[:at] + struct.pack(">9i", a * unit, b * unit, 0, c * unit, d * unit, 0, 0, 0, 1 << 30) + data[at + 36 :]


@pytest.mark.parametrize("turn", TURNS)
def test_rotation(tmp_path, turn):
    matrix, expected = TURNS[turn]
    path = encode(tmp_path / "turned.mp4", [corners()] * 2, [0, 100])
    frame = load_clip(with_matrix(path.read_bytes(), *matrix), fps=None).frames[0]
    want = expected(corners())
    assert frame.shape[1:] == want.shape[:2]
    blocks = [(slice(2, 8), slice(2, 8)), (slice(2, 8), slice(-8, -2)), (slice(-8, -2), slice(2, 8))]
    for rows, columns in blocks:
        assert abs(frame[:, rows, columns].float().mean() - want[rows, columns].mean()) < 3


def test_a_slant_is_refused(tmp_path):
    path = encode(tmp_path / "slant.mp4", [corners()], [0])
    with pytest.raises(InputError, match="quarter turns"):
        load_clip(with_matrix(path.read_bytes(), 2, 1, -1, 2, unit=1 << 14))


def test_pixels_that_are_not_square(tmp_path):
    path = tmp_path / "wide.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.height, stream.width, stream.pix_fmt = 48, 64, "yuv420p"
        stream.codec_context.sample_aspect_ratio = Fraction(3, 2)
        container.mux(stream.encode(av.VideoFrame.from_ndarray(flat(90), format="rgb24")))
        container.mux(stream.encode())
    assert load_clip(path).frames.shape[2:] == (48, 96)


@pytest.mark.parametrize(
    ("codec", "suffix"), [("libvpx-vp9", "webm"), ("libvpx", "webm"), ("libx264", "mov"), ("mpeg4", "mp4")]
)
def test_other_containers_and_codecs(tmp_path, codec, suffix):
    path = encode(tmp_path / f"clip.{suffix}", [flat(g) for g in GREYS], range(0, 600, 100), codec=codec)
    assert nearest(load_clip(path, fps=10)) == GREYS


def test_odd_sizes_and_ten_bits(tmp_path):
    path = encode(tmp_path / "odd.webm", [corners(49, 63)] * 3, [0, 40, 80], codec="libvpx-vp9", pix_fmt="yuv444p")
    assert load_clip(path, fps=None).frames.shape == (3, 3, 49, 63)
    path = encode(tmp_path / "ten.mp4", [flat(g) for g in GREYS], range(0, 600, 100), pix_fmt="yuv420p10le")
    assert max(abs(a - b) for a, b in zip(greys(load_clip(path, fps=10)), GREYS, strict=True)) <= 1


def test_large_frames_are_reduced(steady):
    clip = load_clip(steady, max_pixels=300)
    assert clip.frames.shape[2:] == (15, 20)
    assert clip.pixels().shape == (5, 3, 196, 252)  # the VLM's size for 3:4


def test_colours_are_those_that_were_written(tmp_path):
    colours = torch.tensor([[220, 30, 30], [30, 150, 50], [30, 60, 220], [250, 220, 20]], dtype=torch.uint8)
    frames = colours[:, :, None, None].expand(-1, -1, 47, 63)
    clip = load_clip(write_clip(tmp_path / "colours.mp4", frames, 5.0), fps=None)
    assert clip.fps == pytest.approx(5) and clip.frames.shape == (4, 3, 48, 64)  # even sides
    assert (clip.frames.float() - colours[:, :, None, None]).abs().max() <= 3
    again = load_clip(write_clip(tmp_path / "floats.mp4", frames.float() / 255, 5.0), fps=None)
    assert torch.equal(again.frames, clip.frames)
    with pytest.raises(InputError, match="within 0 to 1"):
        write_clip(tmp_path / "bad.mp4", frames.float(), 5.0)


def test_gifs_go_by_their_delays(tmp_path):
    images = [Image.fromarray(flat(g)) for g in GREYS]
    clip = load_clip(gif(images, [100, 200, 100, 10, 100, 100]), fps=None)  # browsers make 100 ms of 10
    assert greys(clip) == GREYS and clip.times.tolist() == pytest.approx([0, 0.1, 0.3, 0.4, 0.5, 0.6])
    assert greys(load_clip(gif(images, 100), fps=5, frames=2)) == [20, 100]
    one = load_clip(gif(images[:1], 100))
    assert len(one.frames) == 1 and one.notice is None


def test_a_transparent_gif_is_over_white_and_frames_are_put_together():
    clear = Image.new("RGBA", (32, 32), (0, 0, 0, 0))
    dot = clear.copy()
    dot.paste((200, 0, 0, 255), (8, 8, 16, 16))
    frames = load_clip(gif([dot, clear, dot], 100, disposal=2), fps=None).frames
    assert frames[0, :, 0, 0].tolist() == [255] * 3 and frames[0, :, 12, 12].tolist() == [200, 0, 0]


def test_a_gif_whose_frame_exceeds_its_screen_grows_it():
    data = bytearray(gif([Image.fromarray(corners(16, 16)), Image.fromarray(flat(60, 16, 16))], 100))
    data[6:10] = struct.pack("<HH", 12, 12)
    assert load_clip(bytes(data), fps=None).frames.shape == (2, 3, 16, 16)
    data[6:10] = struct.pack("<HH", 60_000, 60_000)
    with pytest.raises(InputError, match="too large"):
        load_clip(bytes(data))


def test_a_gif_may_end_anywhere():
    data = gif([Image.fromarray(flat(grey, 12, 12)) for grey in (20, 200)], 100)
    second = data.rindex(b"\x2c\0\0\0\0")  # where the second frame begins
    for end in range(second, len(data) - 2):
        clip = load_clip(data[:end], fps=None)
        assert greys(clip) == [20] and (clip.notice is None or "is damaged or cut short" in clip.notice)


def test_sound_alone_is_no_video(tmp_path):
    with pytest.raises(InputError, match="“sound.mp4” holds no video but sound"):
        load_clip(audio(tmp_path / "sound.mp4"))


def test_no_frames_and_no_first_key_frame(steady, tmp_path):
    with pytest.raises(InputError, match="holds no video"):
        load_clip(remux(steady, tmp_path / "none.mp4", lambda number, key: False))
    clip = load_clip(remux(steady, tmp_path / "late.mp4", lambda number, key: number > 0), fps=10)
    assert nearest(clip) == GREYS[3:]  # from the next key frame on
    assert clip.notice == "“late.mp4” is damaged or cut short: only what could be decoded is shown."


def test_a_webm_that_is_cut_short(tmp_path):
    """Which tells its length for the whole file alone."""
    path = encode(tmp_path / "whole.webm", [flat(g) for g in GREYS], range(0, 600, 100), codec="libvpx-vp9")
    assert load_clip(path, fps=10).notice is None
    clip = load_clip(path.read_bytes()[: path.stat().st_size * 3 // 4], fps=10)
    assert nearest(clip) == GREYS[: len(clip.frames)] and 0 < len(clip.frames) < 6
    assert clip.notice == "the clip is damaged or cut short: only what could be decoded is shown."


def test_a_truncated_file(steady, tmp_path):
    with av.open(str(steady)) as container:
        fifth = [packet.pos for packet in container.demux(video=0)][4]
    clip = load_clip(steady.read_bytes()[: fifth + 5], fps=None)
    assert 3 <= len(clip.frames) <= 4 and nearest(clip) == GREYS[: len(clip.frames)]
    assert clip.notice == "the clip is damaged or cut short: only what could be decoded is shown."
    behind = encode(tmp_path / "behind.mp4", [flat(g) for g in GREYS], range(0, 600, 100)).read_bytes()
    with pytest.raises(InputError, match="broken or cut short"):
        load_clip(behind[: len(behind) // 2])  # its table of contents stood at the end


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"", "is empty"),
        (b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n", "is no mp4"),
        (b"ffconcat version 1.0\nfile 'steady.mp4'\n", "is no mp4"),
        (b"\x89PNG\r\n\x1a\n" + bytes(40), "is no mp4"),
        (b"\0\0\0\x18ftypmp42" + bytes(400), "broken or cut short"),
        (b"\x1aE\xdf\xa3" + bytes(400), "broken or cut short"),
        (b"GIF89a" + bytes(40), "broken or cut short|each side needs"),
    ],
)
def test_what_is_no_video(tmp_path, data, sentence):
    (tmp_path / "file.mp4").write_bytes(data)
    for source in (tmp_path / "file.mp4", data):
        with pytest.raises(InputError, match=sentence):
            load_clip(source)


def test_limits(steady, tmp_path, monkeypatch):
    with pytest.raises(InputError, match="there is no file “missing.mp4”"):
        load_clip(tmp_path / "missing.mp4")
    with pytest.raises(InputError, match="coded as ffv1|of an unknown kind|cannot be decoded"):
        load_clip(encode(tmp_path / "other.mkv", [flat(9)] * 2, [0, 40], codec="ffv1"))
    for wrong in ({"frames": 0}, {"frames": 513}, {"fps": 0}, {"fps": float("nan")}, {"start": -1}):
        with pytest.raises(InputError):
            load_clip(steady, **wrong)
    monkeypatch.setattr(clips, "MAX_FRAME_PIXELS", 3000)
    with pytest.raises(InputError, match="is 64 × 48: frames of at most"):
        load_clip(steady)


def test_folders(tmp_path):
    for name in ("b.webm", "a.MP4", ".hidden.mp4", "notes.txt"):
        (tmp_path / name).write_bytes(b"x")
    assert [p.name for p in clip_files(tmp_path)] == ["a.MP4", "b.webm"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="no clips"):
        clip_files(tmp_path / "empty")


@pytest.mark.parametrize("place", ["", "labels"])
def test_something_something(tmp_path, place):
    videos, labels = tmp_path / "20bn-something-something-v2", tmp_path / place
    videos.mkdir()
    labels.mkdir(exist_ok=True)
    for name in ("74225", "9", "116154"):
        (videos / f"{name}.webm").write_bytes(b"x")
    entries = [
        {"id": "74225", "label": "spinning cube", "template": "Spinning [something]", "placeholders": ["cube"]},
        {"id": "9", "label": "moving pen up", "template": "Moving [something] up", "placeholders": ["pen"]},
        {"id": "5", "label": "moving cup up", "template": "Moving [something] up", "placeholders": ["cup"]},
    ]
    (labels / "labels.json").write_text(json.dumps({"Moving something up": "45", "Spinning something": "120"}))
    (labels / "validation.json").write_text(json.dumps(entries))
    (labels / "test.json").write_text(json.dumps([{"id": "116154"}]))
    labelled = something_something(tmp_path)
    assert [(c.path.stem, c.label, c.number) for c in labelled] == [
        ("9", "moving pen up", 45),
        ("74225", "spinning cube", 120),
    ]
    assert labelled[0].template == "Moving [something] up"
    (unlabelled,) = something_something(tmp_path, "test")
    assert unlabelled.path.stem == "116154" and unlabelled.label is None
    with pytest.raises(InputError, match=r"no train\.json"):
        something_something(tmp_path, "train")
    (labels / "train.json").write_text('{"a": 1}')
    with pytest.raises(InputError, match="not laid out"):
        something_something(tmp_path, "train")


def test_the_vlm_sees_a_clip_at_its_size():
    frames = torch.randint(256, (3, 3, 90, 160), dtype=torch.uint8)
    x = Clip("clip", frames, torch.arange(3) / 8, 8.0).pixels()
    assert x.shape == (3, 3, 168, 308) and x.min() >= 0 and x.max() <= 1
