"""Clips in and out: safe decoding of mp4, mov, webm and gif, by time stamps; folders of clips.

A clip is upright 8-bit sRGB, (F, 3, H, W) uint8, with the second at which each frame is shown.
"""

from __future__ import annotations

import io
import json
import math
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from foresight.data.folders import files_in
from foresight.data.images import MIN_SIDE, load_image, resize
from foresight.data.names import shortened
from foresight.data.resolution import DEFAULT, Resolution
from foresight.data.transfer import to_srgb
from foresight.errors import InputError

SUFFIXES = (".mp4", ".m4v", ".mov", ".webm", ".mkv", ".gif")
MAX_FRAMES = 512  # in one clip
MAX_FRAME_PIXELS = 4096 * 2304  # of a file: what 4K cameras write
MAX_DECODED = 6_000_000_000  # pixels decoded to get at a clip's frames: 48 s of 1080p at 60 a second, 20 s of a CPU
SHOWN_PIXELS = 640 * 480  # of a frame as it is kept; larger ones are reduced
DEFAULT_FPS, DEFAULT_FRAMES = 8.0, 16
CODECS = ("av1", "h263", "h264", "hevc", "libdav1d", "libvpx", "libvpx-vp9", "mjpeg", "mpeg4", "prores", "vp8", "vp9")
_LEAST_DELAY = 0.02  # seconds; browsers show a gif's frame of less for 0.1 s

# A demuxer is named, never guessed: others read playlists, which open further files and addresses.
_DEMUXERS = ((4, (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip"), "mov"), (0, (b"\x1aE\xdf\xa3",), "matroska"))
_PICTURES = (b"avif", b"heic", b"heix", b"mif1")  # whose files are laid out as an mp4's
_GIF = b"GIF8"
_DAMAGED = "is damaged or cut short: only what could be decoded is shown."


@dataclass(frozen=True)
class Clip:
    """Frames and when they are shown.

    name: the file's. frames: (F, 3, H, W) uint8 sRGB. times: (F,) float64, seconds from the clip's first frame. fps:
    frames a second; of a variable rate the mean. notice: None, or a sentence about what was left out.
    """

    name: str
    frames: Tensor
    times: Tensor
    fps: float
    notice: str | None = None

    def pixels(self, resolution: Resolution = DEFAULT) -> Tensor:
        """(F, 3, H, W) in [0, 1] at the size at which the VLM sees frames of this shape."""
        size = resolution.size(self.frames.shape[2], self.frames.shape[3])
        return resize(self.frames.float() / 255, size)


def load_clip(
    source: str | Path | bytes,
    fps: float | None = DEFAULT_FPS,
    frames: int = DEFAULT_FRAMES,
    start: float = 0.0,
    max_pixels: int = SHOWN_PIXELS,
) -> Clip:
    """A stretch of a video as viewers show it: upright, square pixels, 8-bit sRGB, over white where transparent.

    Args:
        source: a file's path or its bytes: mp4, mov, webm, mkv or gif.
        fps: frames a second: at each k / fps the frame that a player shows then, so that a slower video's frames
            come more than once. None takes every frame of the file with its own time stamp.
        frames: at most so many; what is cut off is named in the clip's `notice`.
        start: seconds into the video at which the clip begins.
        max_pixels: pixels of a frame beyond which it is reduced.

    Raises:
        InputError: for whatever holds no readable video, frames over 9.4 million or under 8 × 8 pixels, a start
            behind the end, and videos of which too much would have to be decoded.
    """
    if not (isinstance(frames, int) and 1 <= frames <= MAX_FRAMES):
        raise InputError(f"a clip has 1 to {MAX_FRAMES} frames, not {frames}.")
    if fps is not None and not 0.001 <= fps <= 1000:
        raise InputError(f"the frame rate must be within 0.001 to 1000 a second, not {fps}.")
    if not 0 <= start < math.inf:
        raise InputError(f"a clip starts at 0 seconds or later, not at {start}.")
    with _opened(source) as video:
        return _chosen(video, fps, frames, start, max_pixels)


def clip_seconds(source: str | Path | bytes) -> float:
    """How long a video lasts, as its file says; 0 where it does not, and of a gif. Raises InputError as `load_clip`."""
    with _opened(source) as video:
        return video.length() if isinstance(video, _Video) else 0.0


@contextmanager
def _opened(source: str | Path | bytes) -> Iterator[_Gif | _Video]:
    name = f"“{shortened(Path(source).name)}”" if isinstance(source, str | Path) else "the clip"
    head = _head(source, name)
    if head.startswith(_GIF):
        yield _Gif(source, name)
        return
    for offset, marks, demuxer in _DEMUXERS:
        if head[offset : offset + 4] in marks and head[8:12] not in _PICTURES:
            with _Video(source, name, demuxer) as video:
                yield video
            return
    raise InputError(f"{name} is no mp4, mov, webm, mkv or gif video.")


def _head(source: str | Path | bytes, name: str) -> bytes:
    """The first 16 bytes."""
    if isinstance(source, bytes):
        head = source[:16]
    elif not isinstance(source, str | Path):
        raise InputError(f"a clip is a path or a file's bytes, not {type(source).__name__}.")
    elif not os.path.isfile(source):  # opening a pipe would wait for ever
        raise InputError(f"there is no file {name}.")
    else:
        try:
            with open(source, "rb") as file:
                head = file.read(16)
        except PermissionError as error:
            raise InputError(f"{name} may not be read: permission denied.") from error
    if not head:
        raise InputError(f"{name} is empty (zero bytes).")
    return head


@dataclass(frozen=True)
class _Decoded:
    """A frame that was decoded, and not yet converted. time, duration: seconds; the latter None where unknown."""

    frame: Any
    time: float
    duration: float | None


class _Budget:
    """Counts decoded pixels, so that no file takes minutes or fills the memory."""

    def __init__(self, name: str) -> None:
        self.name, self.left = name, MAX_DECODED

    def spend(self, width: int, height: int) -> None:
        if width * height > MAX_FRAME_PIXELS:
            raise InputError(f"{self.name} is {width} × {height}: frames of at most 4096 × 2304 pixels are read.")
        if min(width, height) < MIN_SIDE:
            raise InputError(f"{self.name} is {width} × {height} pixels: each side needs at least {MIN_SIDE}.")
        self.left -= width * height
        if self.left < 0:
            raise InputError(f"{self.name} takes too long to decode that far: choose an earlier start or fewer frames.")


def _chosen(video: _Gif | _Video, fps: float | None, count: int, start: float, max_pixels: int) -> Clip:
    """The frames that a player shows at start + k / fps, or every frame from the start on."""
    frames, times = list[Tensor](), list[float]()
    held: _Decoded | None = None  # shown until the next one comes
    gap, late, more = 0.0, 0.0, False

    def take(until: float) -> None:
        """Takes the held frame for every moment it is shown at, which ends at `until`."""
        nonlocal more
        assert held is not None
        if fps is None:
            moments = [held.time] if until > start else []
        else:
            begin = len(frames)
            last = begin + max(0, math.ceil((until - start) * fps - 1e-6) - begin)
            moments = [start + k / fps for k in range(begin, min(last, count + 1))]
        converted = video.convert(held.frame, max_pixels) if moments and len(frames) < count else None
        for moment in moments:
            more = more or len(frames) >= count
            if converted is not None and len(frames) < count:
                frames.append(converted)
                times.append(moment)

    for decoded in video.decode(start):
        if held is not None:
            if decoded.time <= held.time:  # a time stamp that goes back is no new moment
                continue
            gap = decoded.time - held.time
            take(decoded.time)
        elif decoded.time > start:  # nothing before it could be decoded: the clip begins with it
            late, start = decoded.time - start, decoded.time
        held = decoded
        if more:
            break
    if held is None:
        raise InputError(f"{video.name} has no frames that can be decoded.")
    if not more:  # the last frame is shown for its own duration, else for that of the one before
        end = held.time + (held.duration or gap or 1 / (fps or 1))
        if end <= start:
            raise InputError(f"{video.name} lasts {end:.1f} s: nothing is left from {start:g} s on.")
        take(end)
        late = max(late, video.due - end)  # a file that was cut short promises more than it holds
    if late > max(gap, 0.05):
        video.notice = f"{video.name} {_DAMAGED}"
    origin = times[0]
    spread = times[-1] - origin
    rate = fps or ((len(times) - 1) / spread if spread > 0 else 1 / (held.duration or 1.0))
    size = frames[0].shape
    if any(frame.shape != size for frame in frames):
        raise InputError(f"{video.name} changes its size between frames.")
    notices = [video.notice] if video.notice else []
    if more:
        lasts = f"lasts {video.seconds:.1f} s" if video.seconds else "goes on"
        length = spread + 1 / rate
        notices.append(f"{video.name} {lasts}: the clip is {length:.1f} s of it from {origin:.1f} s on.")
    stacked, moments = torch.stack(frames), torch.tensor(times, dtype=torch.float64) - origin
    return Clip(video.name.strip("“”"), stacked, moments, float(rate), " ".join(notices) or None)


class _Gif:
    """An animated gif by Pillow, whose canvas grows where a frame exceeds the screen, as in browsers."""

    def __init__(self, source: str | Path | bytes, name: str) -> None:
        self.name, self.seconds, self.due = name, 0.0, 0.0
        self.notice: str | None = None
        self._source = io.BytesIO(source) if isinstance(source, bytes) else source

    def decode(self, start: float) -> Iterator[_Decoded]:
        budget, time = _Budget(self.name), 0.0
        try:
            with Image.open(self._source, formats=("GIF",)) as image:
                for k in range(1 << 20):
                    budget.spend(*image.size)
                    image.load()
                    delay = image.info.get("duration", 0) / 1000
                    delay = 0.1 if delay < _LEAST_DELAY else delay
                    yield _Decoded(image.copy(), time, delay)
                    time += delay
                    image.seek(k + 1)
        except EOFError:  # how Pillow tells the last frame
            return
        except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
            raise InputError(f"{self.name} is too large: at most 4096 × 2304 pixels are read.") from error
        except (UnidentifiedImageError, OSError, SyntaxError, ValueError, IndexError, struct.error) as error:
            if isinstance(error, InputError):
                raise
            if not time:
                raise InputError(f"{self.name} is broken or cut short, and cannot be decoded.") from error
            self.notice = f"{self.name} {_DAMAGED}"

    def convert(self, frame: Image.Image, max_pixels: int) -> Tensor:
        x = torch.from_numpy(np.array(load_image(frame))).permute(2, 0, 1)
        size = _reduced(frame.height, frame.width, max_pixels)
        if size != (frame.height, frame.width):
            x = (resize(x[None].float() / 255, size)[0] * 255).round().byte()
        return x


class _Video:
    """A file that FFmpeg reads, through PyAV; a context manager."""

    def __init__(self, source: str | Path | bytes, name: str, demuxer: str) -> None:
        import av

        self.name, self.seconds, self.due = name, 0.0, 0.0
        self.notice: str | None = None
        self._errors = av.FFmpegError
        options = {"codec_whitelist": ",".join(CODECS)}
        try:
            self._container: Any = av.open(
                io.BytesIO(source) if isinstance(source, bytes) else str(source),
                format=demuxer,
                container_options=options,
                metadata_errors="ignore",
            )
        except (av.FFmpegError, OSError) as error:
            raise InputError(f"{name} is broken or cut short, and cannot be decoded.") from error

    def __enter__(self) -> _Video:
        return self

    def __exit__(self, *_: object) -> None:
        self._container.close()

    def _stream(self) -> Any:
        from av.stream import Disposition

        streams = [s for s in self._container.streams.video if not s.disposition & Disposition.attached_pic]
        if not streams:
            sound = " but sound" if self._container.streams.audio else ""
            raise InputError(f"{self.name} holds no video{sound}.")
        best = self._container.streams.best("video")
        stream = best if best in streams else streams[0]
        codec = stream.codec_context
        if codec is None or codec.name not in CODECS:
            what = "of an unknown kind" if codec is None else f"coded as {codec.name}"
            raise InputError(f"{self.name} is {what}; read are H.264, H.265, VP8, VP9, AV1, MPEG-4, MJPEG and ProRes.")
        return stream

    def length(self) -> float:
        """Seconds, as the stream or the file says; 0 where neither does."""
        stream = self._stream()
        if stream.duration and stream.time_base:
            return float(stream.duration * stream.time_base)
        return (self._container.duration or 0) / 1_000_000

    def decode(self, start: float) -> Iterator[_Decoded]:
        """Frames from the last one shown before `start` on, in order of time."""
        stream, budget = self._stream(), _Budget(self.name)
        if stream.codec_context.width:
            budget.spend(stream.codec_context.width, stream.codec_context.height)  # before a decoder is set up
        stream.thread_type = "AUTO"
        self._ratio = Fraction(stream.sample_aspect_ratio or 1)
        base, first = stream.time_base, stream.start_time or 0
        if base is None:
            raise InputError(f"{self.name} has no time stamps.")
        self.seconds = self.length()
        # Matroska tells the length of a file alone, which is that of its longest stream, which may be sound.
        alone = self.seconds if len(self._container.streams) == 1 else 0.0
        self.due = float(stream.duration * base) if stream.duration else alone
        if self.seconds and start >= self.seconds:
            raise InputError(f"{self.name} lasts {self.seconds:.1f} s: nothing is left from {start:g} s on.")
        damaged = 0
        try:
            if start > 0:
                self._container.seek(first + int(start / base), stream=stream)
            for packet in self._container.demux(stream):
                try:
                    frames = packet.decode()
                except self._errors:  # a packet that nothing can be made of: others may be whole
                    damaged += 1
                    continue
                for frame in frames:
                    budget.spend(frame.width, frame.height)
                    if frame.is_corrupt:
                        damaged += 1
                        continue
                    if frame.pts is None:
                        raise InputError(f"{self.name} has frames without time stamps.")
                    duration = float(frame.duration * base) if frame.duration else None
                    yield _Decoded(frame, float((frame.pts - first) * base), duration)
        except self._errors:  # the file ends in the middle of something
            damaged += 1
        finally:
            if damaged:
                self.notice = f"{self.name} {_DAMAGED}"

    def convert(self, frame: Any, max_pixels: int) -> Tensor:
        """A decoded frame as (3, H, W) uint8 sRGB, upright."""
        from av.video.reformatter import ColorRange, Colorspace

        width = max(1, round(frame.width * self._ratio))
        height, width = _reduced(frame.height, width, max_pixels)
        deep = frame.format.components[0].bits > 8
        matrix = None
        if frame.colorspace == 2:  # not said: by convention that of HD television from 720 lines on
            matrix = Colorspace.ITU709 if frame.height >= 720 else Colorspace.ITU601
        image = frame.reformat(
            width=width,
            height=height,
            format="rgb48le" if deep else "rgb24",
            src_colorspace=matrix,
            dst_color_range=ColorRange.JPEG,
            interpolation="AREA" if height * width < frame.height * frame.width else "BICUBIC",
        )
        x = torch.from_numpy(image.to_ndarray().astype(np.float32) / (65535 if deep else 255)).permute(2, 0, 1)
        x = to_srgb(x, frame.color_trc, frame.color_primaries)
        return _upright((x * 255).round().byte(), _display_matrix(frame), self.name)


def _reduced(height: int, width: int, area: int) -> tuple[int, int]:
    """The size (H, W) of a frame of at most `area` pixels, in its own shape."""
    scale = min(1.0, math.sqrt(area / (height * width)))
    return max(1, round(height * scale)), max(1, round(width * scale))


def _display_matrix(frame: Any) -> tuple[int, int, int, int] | None:
    """(a, b, c, d) of ISO 14496-12's matrix: a pixel's x goes to a·x + c·y, its y to b·x + d·y, in 65536ths."""
    for data in frame.side_data:
        if data.type.name == "DISPLAYMATRIX":
            a, b, _, c, d, *_ = struct.unpack("=9i", bytes(data)[:36])
            return a, b, c, d
    return None


def _upright(x: Tensor, matrix: tuple[int, int, int, int] | None, name: str) -> Tensor:
    """(3, H, W) turned and mirrored as the file says, by quarter turns."""
    if matrix is None:
        return x
    a, b, c, d = matrix
    straight, turned = a and d and not (b or c), b and c and not (a or d)
    if not (straight or turned):
        raise InputError(f"{name} is to be shown at an angle: only quarter turns are read.")
    if turned:
        x = x.transpose(1, 2)
    across, down = (c, b) if turned else (a, d)
    return x.flip([dim for dim, sign in ((2, across), (1, down)) if sign < 0]).contiguous()


def write_clip(path: Path, frames: Tensor, fps: float) -> Path:
    """Writes frames (F, 3, H, W), in [0, 1] or uint8, as an H.264 mp4 that browsers play.

    An odd side gets its last row or column twice, as H.264 with 4:2:0 needs even ones. Raises InputError on values
    outside [0, 1].
    """
    import av
    from av.video.reformatter import ColorRange, Colorspace

    if frames.dtype != torch.uint8:
        if not (frames.min() >= 0 and frames.max() <= 1):
            raise InputError("a clip's values must all lie within 0 to 1.")
        frames = (frames.detach().float() * 255).round().byte()
    x = frames.permute(0, 2, 3, 1).cpu().numpy()
    x = np.pad(x, ((0, 0), (0, x.shape[1] % 2), (0, x.shape[2] % 2), (0, 0)), mode="edge")
    with av.open(str(path), "w", options={"movflags": "faststart"}) as container:
        stream = container.add_stream("libx264", rate=Fraction(fps).limit_denominator(100_000))
        stream.height, stream.width, stream.pix_fmt = x.shape[1], x.shape[2], "yuv420p"
        stream.options = {"crf": "12", "preset": "fast"}
        stream.codec_context.colorspace = Colorspace.ITU709
        stream.codec_context.color_range = ColorRange.MPEG
        stream.codec_context.color_primaries = stream.codec_context.color_trc = 1  # BT.709: what players expect
        for image in x:
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
            frame = frame.reformat(format="yuv420p", dst_colorspace=Colorspace.ITU709, dst_color_range=ColorRange.MPEG)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def clip_files(folder: str | Path) -> list[Path]:
    """What has a clip's suffix in a folder, as `files_in`."""
    return files_in(folder, SUFFIXES, "clips")


@dataclass(frozen=True)
class LabelledClip:
    """A clip's file and what happens in it.

    label: the sentence, such as "moving pen up". template: its kind, such as "Moving [something] up", and its number in
    labels.json; None in a split without labels.
    """

    path: Path
    label: str | None
    template: str | None
    number: int | None


def something_something(folder: str | Path, split: str = "validation") -> list[LabelledClip]:
    """The clips of a folder laid out as Something-Something v2, in order of their ids.

    The folder, or its subfolder `labels`, holds labels.json (template to number) and {split}.json (a list of id, label,
    template), also under their older names something-something-v2-….json; the folder or a subfolder holds {id}.webm.
    Clips that are listed and not there are left out. Raises InputError where something is missing or malformed.
    """
    root = Path(folder)
    if not root.is_dir():
        raise InputError(f"there is no folder {str(folder)!r}.")
    numbers, listed = _labels(root, "labels"), _labels(root, split)
    files = {path.stem: path for path in sorted(root.glob("**/*.webm"))}
    try:
        entries = []
        for entry in listed:
            template = entry.get("template")
            number = None if template is None else int(numbers[template.replace("[", "").replace("]", "")])
            entries.append((str(entry["id"]), entry.get("label"), template, number))
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise InputError(f"{split}.json in {str(folder)!r} is not laid out as Something-Something v2's.") from error
    clips = [LabelledClip(files[name], *rest) for name, *rest in entries if name in files]
    if not clips:
        raise InputError(f"none of the {len(entries)} clips of {split}.json lies under {str(folder)!r} as webm.")
    return sorted(clips, key=lambda clip: (len(clip.path.stem), clip.path.stem))


def _labels(root: Path, name: str) -> Any:
    """What the JSON file of that name holds."""
    names = (f"{name}.json", f"something-something-v2-{name}.json")
    for path in (place / file for place in (root, root / "labels") for file in names):
        if path.is_file():
            try:
                return json.loads(path.read_bytes())
            except (OSError, ValueError, RecursionError) as error:
                raise InputError(f"{path.name} in {str(root)!r} is not JSON.") from error
    raise InputError(f"the folder {str(root)!r} has no {name}.json.")
