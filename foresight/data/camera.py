"""A camera that pans and zooms over a still image: clips of real texture with exact flow, drawn by seed.

Shapes: B clips of F frames of H × W pixels, filmed from photos of h × w pixels. Flow is in pixels, x then y.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from foresight.data.batch import Batch
from foresight.data.motion import MAX_FRAMES, Flow
from foresight.data.scenes import uniform
from foresight.errors import InputError

MOVES = ("pan", "zoom in", "zoom out", "pan and zoom")
_SALT = 0x63616D657261  # tells the camera's draws from those of scenes
_SUPERSAMPLE = 2  # samples a side of each pixel: a window may be twice the frame's resolution without aliasing


@dataclass(frozen=True)
class CameraSpec:
    """How a camera may move. Each clip draws one of `moves`.

    frames: 1 to 64. fps: frames a second. size: (H, W) in pixels. speed: of a pan, pixels of the frame a frame at a
    shorter side of 224; a path that is too long for the photo is shortened. zoom: from first to last frame, or its
    inverse. window: the shorter side of the widest window, over that of the largest one that fits into the photo.
    """

    frames: int = 16
    fps: float = 8.0
    size: tuple[int, int] = (224, 224)
    moves: tuple[str, ...] = MOVES
    speed: tuple[float, float] = (1.0, 6.0)
    zoom: tuple[float, float] = (1.2, 1.8)
    window: tuple[float, float] = (0.5, 0.8)

    def __post_init__(self) -> None:
        if not 1 <= self.frames <= MAX_FRAMES:
            raise InputError(f"a clip over a photo has 1 to {MAX_FRAMES} frames, not {self.frames}.")
        if not 0.1 <= self.fps <= 240:
            raise InputError(f"the frame rate must be within 0.1 to 240 a second, not {self.fps}.")
        if min(self.size) < 8:
            raise InputError(f"frames need at least 8 px a side, not {self.size[0]} × {self.size[1]}.")
        if not self.moves or not set(self.moves) <= set(MOVES):
            raise InputError(f"unknown move in {list(self.moves)}: choose from {', '.join(MOVES)}.")
        ranges = (("speed", self.speed, 0, math.inf), ("zoom", self.zoom, 1, 8), ("window", self.window, 0.05, 1))
        for noun, (low, high), least, most in ranges:
            if not least <= low <= high <= most:
                raise InputError(f"{noun} must be a range within {least} to {most}, not {low} to {high}.")


@dataclass(frozen=True)
class CameraPaths(Batch):
    """Where B cameras look, frame by frame, as tensors on one device.

    move: (B,) index into MOVES. windows: (B, F, 3): the centre's x and y in fractions of the photo, and the window's
    shorter side over that of the largest one of the frame's shape that fits into the photo. size: (H, W) of a frame.
    """

    move: Tensor
    windows: Tensor
    size: tuple[int, int]
    fps: float

    def in_pixels(self, height: int, width: int) -> tuple[Tensor, Tensor]:
        """Centres (B, F, 2) in pixels of a photo of h × w, and the scale (B, F): its pixels for one of the frame."""
        largest = min(height / self.size[0], width / self.size[1])
        centre = self.windows[..., :2] * torch.tensor([width, height], device=self.windows.device)
        return centre, self.windows[..., 2] * largest


def sample_camera(
    index: Tensor | range, seed: int, spec: CameraSpec, photo: tuple[int, int], device: torch.device | str = "cpu"
) -> CameraPaths:
    """Camera paths number `index` of `seed` over photos of (h, w) pixels; windows never leave the photo.

    Each depends on (seed, its own number, spec, the photo's shape) and nothing else. Clips are held out by their
    photo: a path has no split of its own.
    """
    numbers = torch.as_tensor(list(index) if isinstance(index, range) else index, device=device)
    u = uniform(numbers, seed ^ _SALT, 8)
    allowed = torch.tensor([MOVES.index(name) for name in spec.moves], device=device)
    move = allowed[(u[:, 0] * len(allowed)).long()]
    (height, width), steps = spec.size, max(1, spec.frames - 1)
    time = torch.arange(spec.frames, device=device) / steps  # (F,), 0 to 1

    wide = spec.window[0] + (spec.window[1] - spec.window[0]) * u[:, 1:2]
    factor = spec.zoom[0] + (spec.zoom[1] - spec.zoom[0]) * u[:, 2:3]
    pan, zoom_in = (move == MOVES.index(name) for name in ("pan", "zoom in"))
    inwards = zoom_in | ((move == MOVES.index("pan and zoom")) & (u[:, 3] < 0.5))
    exponent = torch.where(inwards[:, None], time, 1 - time) * ~pan[:, None]
    side = wide * factor**-exponent  # (B, F)

    # In fractions of the photo: a window's sides, and the path of its centre.
    largest = min(photo[0] / height, photo[1] / width)
    frame = torch.tensor([width * largest / photo[1], height * largest / photo[0]], device=device)
    half = side[..., None] * frame / 2  # (B, F, 2)
    room = 1 - 2 * half.amax(1)  # (B, 2): what the widest window leaves
    length = (spec.speed[0] + (spec.speed[1] - spec.speed[0]) * u[:, 4:5]) / 224 * steps
    angle = u[:, 5:6] * 2 * math.pi
    direction = torch.cat([angle.cos(), angle.sin()], 1) * min(height, width)  # of a short side, in frame pixels
    path = length * direction * wide * largest / torch.tensor([photo[1], photo[0]], device=device)
    path = path * (room / path.abs().clamp_min(1e-6)).amin(1, keepdim=True).clamp(max=1)
    path = path * (pan | (move == MOVES.index("pan and zoom")))[:, None]
    start = half.amax(1) + (-path).clamp_min(0) + (room - path.abs()) * u[:, 6:8]
    centre = start[:, None] + path[:, None] * time[:, None]
    return CameraPaths(move, torch.cat([centre, side[..., None]], -1), spec.size, spec.fps)


def film(photos: Tensor, paths: CameraPaths) -> Tensor:
    """What the cameras see: photos (B, 3, h, w) in [0, 1] → clips (B, F, 3, H, W) in [0, 1], on the photos' device.

    Each frame is sampled bilinearly at twice its resolution and averaged. Raises InputError where photos and paths
    differ in number.
    """
    if photos.ndim != 4 or photos.shape[1] != 3 or len(photos) != len(paths):
        raise InputError(f"{len(paths)} camera paths need photos ({len(paths)}, 3, h, w), not {tuple(photos.shape)}.")
    (height, width), (h, w) = paths.size, photos.shape[-2:]
    centre, scale = paths.in_pixels(h, w)
    centre, scale = centre.to(photos.device), scale.to(photos.device)
    fine = _SUPERSAMPLE
    y = (torch.arange(height * fine, device=photos.device) + 0.5) / fine - height / 2  # from the frame's middle
    x = (torch.arange(width * fine, device=photos.device) + 0.5) / fine - width / 2
    across = (centre[..., 0, None] + scale[..., None] * x) * 2 / w - 1  # (B, F, W · fine), grid_sample's units
    down = (centre[..., 1, None] + scale[..., None] * y) * 2 / h - 1
    frames = []
    for t in range(centre.shape[1]):  # frame by frame: a clip at fine resolution would take four times the memory
        grid = torch.stack(
            [
                across[:, t, None, :].expand(-1, height * fine, -1),
                down[:, t, :, None].expand(-1, -1, width * fine),
            ],
            -1,
        )
        fine_frame = F.grid_sample(photos, grid, mode="bilinear", padding_mode="border", align_corners=False)
        frames.append(F.avg_pool2d(fine_frame, fine))
    return torch.stack(frames, 1).clamp(0, 1)


def camera_flow(paths: CameraPaths, photo: tuple[int, int]) -> Flow:
    """The exact flow of `film` over photos of (h, w) pixels; occluded is what leaves the frame.

    Raises InputError on one frame.
    """
    if paths.windows.shape[1] < 2:
        raise InputError("flow needs at least two frames.")
    (height, width), (centre, scale) = paths.size, paths.in_pixels(*photo)
    device = centre.device
    y = torch.arange(height, device=device) + 0.5 - height / 2  # from the frame's middle
    x = torch.arange(width, device=device) + 0.5 - width / 2
    ratio = (scale[:, :-1] / scale[:, 1:])[..., None]
    shift = (centre[:, :-1] - centre[:, 1:]) / scale[:, 1:, None]  # (B, F - 1, 2) in pixels of the second frame
    to_x, to_y = ratio * x + shift[..., :1], ratio * y + shift[..., 1:]  # (B, F - 1, W), (B, F - 1, H)
    forward = torch.stack(
        [
            (to_x - x)[..., None, :].expand(-1, -1, height, -1),
            (to_y - y)[..., :, None].expand(-1, -1, -1, width),
        ],
        2,
    )
    outside = (to_x.abs() > width / 2)[..., None, :] | (to_y.abs() > height / 2)[..., :, None]
    return Flow(forward, outside)
