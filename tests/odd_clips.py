"""Videos of every odd kind, written in a moment: what is refused, with its sentence, and what is read all the same."""

import io
import struct
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from PIL import Image


def flat(grey, height=48, width=64):
    return np.full((height, width, 3), grey, dtype=np.uint8)


def corners(height=48, width=64):
    """A grey image with four colours at its corners: which way up it is can be read off."""
    image, (h, w) = flat(128, height, width), (height // 3, width // 3)
    image[:h, :w], image[:h, -w:], image[-h:, :w], image[-h:, -w:] = ((c, c, c) for c in (0, 80, 170, 255))
    return image


def encode(path, images, times, rate=1000, codec="libx264", pix_fmt="yuv420p", last=100, **options):
    """Writes images with their own time stamps, in 1 / rate seconds; `last`: how long the last one is shown."""
    with av.open(str(path), "w", options=options) as container:
        stream = container.add_stream(codec, rate=rate)
        stream.height, stream.width, stream.pix_fmt = *images[0].shape[:2], pix_fmt
        stream.time_base = stream.codec_context.time_base = Fraction(1, rate)
        if codec == "libx264":
            stream.options = {"crf": "1", "bf": "0", "g": "3", "sc_threshold": "0"}  # a key frame at every third
        for image, time in zip(images, times, strict=True):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24").reformat(format=pix_fmt)
            frame.pts, frame.time_base = time, Fraction(1, rate)
            container.mux(stamped(stream.encode(frame), last))
        container.mux(stamped(stream.encode(), last))
    return path


def stamped(packets, last):
    for packet in packets:
        packet.duration = last  # of the last one: those of the others follow from the next one's time
    return packets


def gif(images, delays, **options):
    file = io.BytesIO()
    images[0].save(file, "GIF", save_all=True, append_images=images[1:], duration=delays, loop=0, **options)
    return file.getvalue()


def audio(path, **options):
    with av.open(str(path), "w", **options) as container:
        stream = container.add_stream("aac", rate=16000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 4096), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 16000
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def remux(source, path, keep):
    """Copies the packets that `keep` takes, by number and key."""
    with av.open(str(source)) as old, av.open(str(path), "w") as new:
        stream = new.add_stream_from_template(old.streams.video[0])
        new.start_encoding()
        for number, packet in enumerate(old.demux(video=0)):
            if packet.dts is not None and keep(number, packet.is_keyframe):
                packet.stream = stream
                new.mux(packet)
    return path


MOVING = [corners()[:, ::-1] if k % 2 else corners() for k in range(6)]
TIMES = range(0, 600, 100)


def _good(path: Path, **options: object) -> bytes:
    return encode(path, MOVING, TIMES, movflags="faststart", **options).read_bytes()


def _without(path: Path, keep: Callable[[int, bool], bool]) -> bytes:
    _good(path)
    return remux(path, path.with_name(f"other-{path.name}"), keep).read_bytes()


def _torn(path: Path) -> bytes:
    """It ends in the middle of its fifth frame."""
    data = _good(path)
    with av.open(str(path)) as container:
        fifth = [packet.pos for packet in container.demux(video=0)][4]
    return data[: fifth + 5]


def _grown(path: Path) -> bytes:
    data = bytearray(gif([Image.fromarray(corners(16, 16)), Image.fromarray(flat(60, 16, 16))], 100))
    data[6:10] = struct.pack("<HH", 12, 12)  # its screen
    return bytes(data)


def _hour(path: Path) -> bytes:
    images = [flat(20 * k) for k in range(10)]
    motion_jpeg = {"codec": "mjpeg", "pix_fmt": "yuvj420p"}
    return encode(path, images, range(0, 3600, 360), rate=1, last=1, **motion_jpeg).read_bytes()


def _vast(path: Path) -> bytes:
    return encode(path, [flat(9, 2306, 4096)], [0], codec="mjpeg", pix_fmt="yuvj420p").read_bytes()


Maker = Callable[[Path], bytes]  # is given a place to write at
REFUSED: dict[str, tuple[Maker, str]] = {
    "text.mp4": (lambda path: b"hello", "is no mp4, mov, webm, mkv or gif video"),
    "empty.webm": (lambda path: b"", "is empty"),
    "sound.mp4": (lambda path: audio(path).read_bytes(), "holds no video but sound"),
    "none.mp4": (lambda path: _without(path, lambda number, key: False), "holds no video"),
    "cut.mp4": (lambda path: encode(path, MOVING, TIMES).read_bytes()[:-300], "broken or cut short"),
    "vast.mp4": (_vast, "is 4096 × 2306: frames of at most 4096 × 2304 pixels are read"),
    "dot.mp4": (lambda path: encode(path, [flat(9, 2, 2)], [0]).read_bytes(), "each side needs at least 8"),
    "picture.mp4": (lambda path: b"\0\0\0\x1cftypavif" + bytes(99), "is no mp4"),
    "playlist.mp4": (lambda path: b"#EXTM3U\nfile:///etc/passwd\n", "is no mp4"),
}
READ: dict[str, tuple[Maker, str | None]] = {  # with the notice, if there is one
    "hour.mp4": (_hour, "lasts 3241.0 s: the clip is"),
    "late.mp4": (lambda path: _without(path, lambda number, key: number > 0), "is damaged or cut short"),
    "torn.mp4": (_torn, "is damaged or cut short"),
    "grown.gif": (_grown, None),
    "uneven.mp4": (lambda path: encode(path, MOVING, [0, 10, 20, 500, 900, 910]).read_bytes(), None),
    "deep.mp4": (lambda path: _good(path, pix_fmt="yuv420p10le"), None),
    "odd.webm": (lambda path: encode(path, [corners(49, 63)], [0], codec="libvpx-vp9").read_bytes(), None),
}
