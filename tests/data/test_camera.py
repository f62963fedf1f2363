"""Pans and zooms: windows stay in the photo, flow is exact, moves are what they are called."""

import pytest
import torch
import torch.nn.functional as F
from test_motion import warp

from foresight.data.camera import MOVES, CameraPaths, CameraSpec, camera_flow, film, sample_camera
from foresight.errors import InputError

PHOTO = (240, 400)


def smooth_photo(height, width):
    """Waves of 60 px and more, which bilinear sampling follows closely."""
    y, x = torch.meshgrid(torch.arange(height) / 60, torch.arange(width) / 60, indexing="ij")
    return torch.stack([(x + y).sin(), (2 * x - y).cos(), (x * y / 9).sin()]) * 0.4 + 0.5


@pytest.mark.parametrize("move", MOVES)
@pytest.mark.parametrize("size", [(224, 224), (112, 196)])
def test_flow_is_exact_and_windows_stay_inside(move, size):
    paths = sample_camera(range(20), 1, CameraSpec(frames=6, moves=(move,), size=size), PHOTO)
    centre, scale = paths.in_pixels(*PHOTO)
    half = scale[..., None] * torch.tensor([size[1], size[0]]) / 2
    assert (centre - half).min() > -0.01 and (centre + half - torch.tensor([PHOTO[1], PHOTO[0]])).max() < 0.01

    clip = film(smooth_photo(*PHOTO).expand(4, -1, -1, -1), paths[:4])
    flow = camera_flow(paths[:4], PHOTO)
    now, then = clip[:, :-1].flatten(0, 1), clip[:, 1:].flatten(0, 1)
    border = F.pad(torch.zeros(len(now), 1, size[0] - 2, size[1] - 2), [1] * 4, value=1)  # cannot be interpolated
    near = warp(border, flow.forward.flatten(0, 1)) > 0
    kept = ~flow.occluded.flatten(0, 1)[:, None] & ~near
    assert kept.float().mean() > 0.5
    error = ((warp(then, flow.forward.flatten(0, 1)) - now).abs() * kept).max()
    assert error < 0.004 < ((then - now).abs() * kept).max()


def test_moves_are_what_they_are_called():
    for move in MOVES:
        windows = sample_camera(range(40), 0, CameraSpec(moves=(move,)), PHOTO).windows
        zoom, moved = windows[:, 0, 2] / windows[:, -1, 2], (windows[:, -1, :2] - windows[:, 0, :2]).norm(dim=-1)
        assert {"pan": zoom == 1, "zoom in": zoom >= 1.2, "zoom out": zoom <= 1 / 1.2}.get(move, zoom != 1).all()
        assert ((moved > 0.005) if "pan" in move else (moved < 1e-6)).all()


def test_a_path_depends_on_its_number_alone():
    many, few = (sample_camera(k, 5, CameraSpec(), PHOTO) for k in (range(20), torch.tensor([11])))
    assert torch.equal(many.windows[11], few.windows[0])


def test_a_pan_by_whole_pixels_moves_pixels():
    """At scale 1 over white noise, only grid-aligned averaging is left: each frame is the former, moved."""
    windows = torch.tensor([[[100.0, 100.0, 0.5], [103.0, 98.0, 0.5]]]) / torch.tensor([200.0, 200.0, 1.0])
    photo = torch.rand(1, 3, 200, 200, generator=torch.Generator().manual_seed(0))
    paths = CameraPaths(torch.zeros(1).long(), windows, (100, 100), 8.0)
    clip = film(photo, paths)[0]
    torch.testing.assert_close(clip[1, :, 2:, :-3], clip[0, :, :-2, 3:], atol=1e-4, rtol=0)
    flow = camera_flow(paths, (200, 200))
    torch.testing.assert_close(flow.forward[0, 0, :, 50, 50], torch.tensor([-3.0, 2.0]))
    assert (
        flow.occluded[0, 0, :, :3].all() and flow.occluded[0, 0, -2:].all() and not flow.occluded[0, 0, :-2, 3:].any()
    )


@pytest.mark.parametrize(
    "change", [{"frames": 0}, {"fps": 0}, {"moves": ("orbit",)}, {"zoom": (0.5, 2)}, {"window": (0.5, 1.5)}]
)
def test_other_specs_are_refused(change):
    with pytest.raises(InputError):
        CameraSpec(**change)


def test_photos_and_paths_are_as_many():
    with pytest.raises(InputError, match="2 camera paths need photos"):
        film(torch.zeros(1, 3, 64, 64), sample_camera(range(2), 0, CameraSpec(), (64, 64)))
