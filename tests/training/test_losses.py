"""Looking at windows of pictures: they decode as the whole does, lie on edges, and carry the whole's gradients."""

import pytest
import torch

from foresight.data.images import resize, vae_size
from foresight.data.render import render
from foresight.data.scenes import SceneSpec, take
from foresight.models.vae import load_vae
from training.losses import BESIDE, HALO, MARGIN, ImageLoss, beside, choose_windows, cut, exact_cells

SIDE, GRID, CELL = 14, (32, 32), 8  # cells, cells, pixels of the VAE's picture


@pytest.fixture(scope="module")
def vae():
    return load_vae(None, "cpu", torch.float32)


@pytest.fixture(scope="module")
def scenes():
    return render(take(4, 3, SceneSpec(objects=(1, 3)), "train"))


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_windows_are_what_slicing_gives():
    x, corners = torch.rand(2, 3, 20, 30), torch.tensor([[0, 4], [6, 16]])
    assert torch.equal(cut(x, corners, 14), torch.stack([x[0, :, :14, 4:18], x[1, :, 6:20, 16:30]]))


def test_most_windows_hold_an_edge_and_none_leaves_the_picture(scenes):
    small = torch.zeros(400, 224, 224, dtype=torch.bool)
    small[:, 100:107, 60:67] = True  # one cell of an f8 VAE is 7 pixels
    corners = choose_windows(small, GRID, 4, generator())
    assert corners.min() >= 0 and corners.max() <= 28
    held = cut(small[:, None], corners * 7, 28).flatten(1).any(1).float().mean()
    assert 0.75 < held < 0.9
    empty = choose_windows(torch.zeros_like(small), GRID, 4, generator())
    assert empty.unique(dim=0).shape[0] > 200  # anywhere, where nothing is shown


def test_a_window_decodes_as_the_whole_does_but_for_its_rim(vae, scenes):
    x = scenes.images.float() / 255
    corners = torch.tensor([[0, 0], [9, 13], [18, 18], [5, 0]])
    with torch.no_grad():
        z = vae.encode(resize(x, vae_size((224, 224))))
        whole = cut(vae.decode(z), corners * CELL, SIDE * CELL)
        apart = (vae.decode(cut(z, corners, SIDE)) - whole).abs().mean(1)
    exact = exact_cells(corners, GRID, SIDE)
    assert exact[0].sum() == (SIDE - MARGIN) ** 2 and exact[1].sum() == (SIDE - 2 * MARGIN) ** 2
    exact = exact.repeat_interleave(CELL, 1).repeat_interleave(CELL, 2)
    assert apart[exact].mean() < 0.001 < 0.005 < apart[~exact].mean()


def test_losses_of_windows_and_wholes(vae, scenes):
    x, masks = scenes.images[:2], scenes.mask[:2]
    with torch.no_grad():
        z = vae.encode(resize(x.float() / 255, vae_size((224, 224))))
    z = torch.cat([z, z + 0.3]).requires_grad_()  # two adapters: one right, one wrong
    whole = ImageLoss(vae, None, 4.0, 2.0, 1.0, 1.0)(z, x, masks, generator())
    parts = ImageLoss(vae, SIDE, 4.0, 2.0, 1.0, 1.0)(z, x, masks, generator())
    assert whole.shape == parts.shape == (2,)
    assert parts[0] < parts[1] and whole[0] < whole[1]
    assert torch.equal(ImageLoss(vae, 32, 4.0, 2.0, 1.0, 1.0)(z, x, masks, generator()), whole)
    (gradient,) = torch.autograd.grad(parts.sum(), z)
    reached = gradient.abs().sum(1) > 0
    assert reached.flatten(1).sum(1).max() <= SIDE**2 < reached[0].numel()


def test_halos_are_what_is_drawn_around_objects_and_nowhere_else(vae, scenes):
    x, masks = scenes.images[:2].float() / 255, scenes.mask[:2]
    around, masks = (beside(masks, HALO) & ~beside(masks, BESIDE))[:, None], masks[:, None]
    wrong = [torch.where(where, 1 - x, x) for where in (around, masks, ~(around | masks))]  # a halo, objects, the rest
    with torch.no_grad():
        painted = [x, torch.where(around, 0.97 * x, x), *wrong]
        z = torch.cat([vae.encode(resize(y, vae_size((224, 224)))) for y in painted])
        right, faint, halo, objects, rest = ImageLoss(vae, None, 0.0, 0.0, 1.0, 0.0)(
            z, scenes.images[:2], scenes.mask[:2], generator()
        )
    assert max(right, faint, objects) < 0.02 and halo > 1
    assert rest < halo / 3  # its edge is near objects
