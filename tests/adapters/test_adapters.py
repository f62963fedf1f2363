"""The three adapters: shapes for both kinds of VAE, what each may see, and how far is far."""

import numpy as np
import pytest
import torch

from foresight.adapters.modules import KINDS, LinearProbe, PooledMLP, TokenAdapter, fold_tokens, unfold_tokens
from foresight.errors import InputError

D, C = 12, 3
SMALL = {"linear": {}, "pooled": {"hidden": 16, "canvas": 16}, "tokens": {"hidden": 16},
         "mix": {"hidden": 16, "layers": 3}, "routing": {"hidden": 16, "layers": 3}}  # fmt: skip


def make(kind, fold=1, cells=4):
    torch.manual_seed(0)
    return KINDS[kind](width=D, channels=C, fold=fold, cells=cells, **SMALL[kind]).eval()


def latents(*shape, seed=0):
    return torch.randn(*shape, D, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("side", "fold", "cells", "out"),
    [
        (8, 1, 4, 32),  # post-merge, f8: 224 px are 8 tokens and, at 256 px, 32 cells
        (16, 1, 2, 32),  # pre-merge, f8
        (8, 1, 1, 8),  # post-merge, f32
        (16, 2, 1, 8),  # pre-merge, f32: four patches make one cell
    ],
)
def test_shapes(kind, side, fold, cells, out):
    adapter = make(kind, fold, cells)
    assert adapter(latents(2, 1, side, side)).shape == (2, C, out, out)
    assert adapter(latents(1, 3, side, side + 2)).shape == (3, C, out, out + 2 * cells // fold)
    assert adapter(latents(1, 1, side, side).bfloat16()).dtype == torch.float32


@pytest.mark.parametrize("shape", [(2, 8, 8, D), (2, 1, 8, 8, D + 1)])
def test_other_latents_are_refused(shape):
    with pytest.raises(InputError, match=r"\(B, T, H, W, 12\)"):
        make("linear")(torch.zeros(shape))


@pytest.mark.parametrize("kind", KINDS)
def test_both_frames_of_a_step(kind):
    torch.manual_seed(0)
    adapter = KINDS[kind](width=D, channels=C, fold=1, cells=2, frames=2, **SMALL[kind]).eval()
    adapter.z_std.copy_(torch.tensor([1.0, 2.0, 3.0]))
    x = latents(2, 3, 4, 6)
    z = adapter.for_clip(x, 6)
    assert z.shape == (2, 6, C, 8, 12) and (z[:, 0] - z[:, 1]).abs().max() > 0.01
    assert torch.equal(adapter.for_clip(x, 5), z[:, :5])
    for t in range(3):  # each step by itself, its frames in order
        torch.testing.assert_close(adapter.for_clip(x[:, t : t + 1], 2), z[:, 2 * t : 2 * t + 2])
    pairs = z.unflatten(1, (3, 2)).mean(2).flatten(0, 1)
    torch.testing.assert_close(adapter(x), pairs)  # an image's latent: the mean of what should be the same
    with pytest.raises(InputError, match="4 steps, not 3"):
        adapter.for_clip(x, 7)


def test_one_frame_a_step_stands_for_both():
    adapter, x = make("tokens"), latents(1, 2, 4, 4)
    z = adapter.for_clip(x, 3)
    assert torch.equal(z[:, 0], z[:, 1]) and torch.equal(z[0, ::2], adapter(x))


@pytest.mark.parametrize("kind", KINDS)
def test_a_latent_of_a_video_vae_sees_the_steps_that_show_its_frames(kind):
    """Latent 0 is frame 0, which step 0 shows; latent 1 joins frames 1 to 8, which steps 0 to 4 show."""
    torch.manual_seed(0)
    adapter = KINDS[kind](width=D, channels=C, fold=1, cells=1, steps=4, **SMALL[kind]).eval()
    x = latents(1, 9, 4, 4)
    z = adapter.for_clip(x, 17)
    assert z.shape == (1, 3, C, 4, 4)
    for step in range(9):
        other = x.clone()
        other[:, step] += 1
        changed = (adapter.for_clip(other, 17) != z).flatten(2).any(2)[0].tolist()
        assert changed == [step == 0, step <= 4, step >= 4]
    torch.testing.assert_close(adapter(x[:, :1]), z[:, 0])
    short = adapter.for_clip(x[:, :3], 6)  # as long as what VAE.encode_clip gives for 6 frames
    torch.testing.assert_close(short, adapter.for_clip(torch.cat([x[:, :3], x[:, 2:3], x[:, 2:3]], 1), 9))


def test_fold_gathers_neighbours_row_by_row():
    x = torch.arange(4 * 6).float().view(1, 4, 6, 1)
    assert fold_tokens(x, 2)[0, 1, 2].tolist() == [16, 17, 22, 23]
    x = latents(2, 4, 6)
    assert torch.equal(unfold_tokens(fold_tokens(x, 2), 2), x)


def test_the_linear_probe_is_linear():
    probe = make("linear")
    probe.fit_statistics(latents(20, 1, 4, 4) * 3 + 1, torch.randn(20, C, 16, 16))
    a, b = latents(1, 1, 4, 4, seed=1), latents(1, 1, 4, 4, seed=2)
    torch.testing.assert_close(probe(0.3 * a + 0.7 * b), 0.3 * probe(a) + 0.7 * probe(b), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("fold", "cells", "token", "rows", "columns"), [(1, 4, (1, 2), (4, 8), (8, 12)), (2, 1, (5, 2), (2, 3), (1, 2))]
)
def test_the_linear_probe_is_local(fold, cells, token, rows, columns):
    probe, x = make("linear", fold, cells), latents(1, 1, 8, 8)
    other = x.clone()
    other[0, 0, token[0], token[1]] += 1
    changed = (probe(x) != probe(other))[0].all(0)
    want = torch.zeros_like(changed)
    want[slice(*rows), slice(*columns)] = True
    assert torch.equal(changed, want)


def test_the_pooled_mlp_sees_no_places_and_the_token_adapter_does():
    x = latents(1, 1, 4, 4)
    mixed = x.flatten(2, 3)[:, :, torch.randperm(16, generator=torch.Generator().manual_seed(0))].view_as(x)
    pooled, tokens = make("pooled"), make("tokens")
    torch.testing.assert_close(pooled(mixed), pooled(x), rtol=1e-5, atol=1e-5)
    assert (tokens(mixed) - tokens(x)).abs().max() > 0.01


def test_the_pooled_mlp_stretches_its_canvas():
    pooled, x = make("pooled"), latents(1, 1, 2, 2)
    square = pooled(x)  # a canvas of 16 cells on 8
    assert square.shape == (1, C, 8, 8)
    canvas = pooled(latents(1, 1, 2, 2).repeat(1, 1, 2, 2, 1))  # the same mean, on 16 cells
    torch.testing.assert_close(square, torch.nn.functional.interpolate(canvas, (8, 8), mode="bilinear"))


def test_the_token_adapter_of_a_7b_model_has_20_million_parameters():
    with torch.device("meta"):
        adapter = TokenAdapter(width=3584, channels=16, fold=1, cells=4)
    assert 19e6 < adapter.parameter_count < 21e6
    assert LinearProbe(D, C, 1, 4).parameter_count == (D + 1) * 16 * C
    assert PooledMLP(D, C, 1, 4, hidden=5, canvas=8).parameter_count == 13 * 5 + 6 * 5 + 6 * 64 * C


def test_statistics_are_the_datas_own():
    adapter, x = make("linear"), latents(50, 1, 4, 4) * torch.arange(1, D + 1) + 5
    z = torch.randn(50, C, 16, 16) * torch.tensor([1.0, 2.0, 4.0]).view(-1, 1, 1) - 3
    adapter.fit_statistics(x, z)
    flat, cells = x.numpy().reshape(-1, D), z.numpy().transpose(1, 0, 2, 3).reshape(C, -1)
    np.testing.assert_allclose(adapter.mean, flat.mean(0), rtol=1e-4)
    np.testing.assert_allclose(adapter.std, flat.std(0, ddof=1), rtol=1e-4)
    np.testing.assert_allclose(adapter.z_mean, cells.mean(1), rtol=1e-4)
    np.testing.assert_allclose(adapter.z_std, cells.std(1, ddof=1), rtol=1e-4)
    torch.nn.init.zeros_(adapter.linear.weight)
    torch.nn.init.ones_(adapter.linear.bias)  # one spread above the mean, whatever the latents
    torch.testing.assert_close(adapter(x[:1])[0, :, 0, 0], adapter.z_mean + adapter.z_std)


def test_distance_is_mahalanobis_in_numpy():
    """With as many axes as dimensions the probabilistic PCA is the covariance itself."""
    mixing = torch.randn(D, D, generator=torch.Generator().manual_seed(3))
    x, strange = latents(200, 1, 4, 4) @ mixing, latents(3, 1, 4, 4, seed=9) @ mixing.T
    adapter = make("linear")
    adapter.fit_statistics(x, torch.randn(200, C, 16, 16))
    flat = x.double().numpy().reshape(-1, D)
    inverse = np.linalg.inv(np.cov(flat.T))
    for some in (x[:5], strange):
        away = some.double().numpy().reshape(len(some), -1, D) - flat.mean(0)
        want = np.sqrt(np.einsum("btd,de,bte->bt", away, inverse, away).mean(1) / D)
        np.testing.assert_allclose(adapter.distance(some), want, rtol=2e-3)
    assert adapter.distance(x).square().mean().item() == pytest.approx(1, rel=1e-2)
    assert adapter.far.item() == pytest.approx(np.quantile(adapter.distance(x), 0.99), rel=1e-5)
    assert (adapter.distance(strange) > adapter.far).all()


def test_distance_counts_what_lies_off_the_main_axes():
    """80 dimensions, 20 of them wide: beyond the 32 axes that are kept a short step is strange too."""
    adapter = LinearProbe(width=80, channels=C, fold=1, cells=1)
    basis = torch.linalg.qr(torch.randn(80, 80, generator=torch.Generator().manual_seed(1)))[0]
    draw = torch.randn(300, 1, 4, 4, 80, generator=torch.Generator().manual_seed(2))
    draw[..., 20:] *= 0.3
    x = draw @ basis.T
    adapter.fit_statistics(x, torch.randn(300, C, 4, 4))
    assert 0.1 < adapter.rest < 0.5
    assert adapter.distance(x).square().mean().item() == pytest.approx(1, rel=0.02)
    off = draw[:10].clone()
    off[..., 20:] *= 2  # still shorter than the wide ones
    assert (adapter.distance(off @ basis.T) > adapter.far * 1.3).all()


def test_a_constant_latent_stays_finite():
    adapter = make("linear")
    adapter.fit_statistics(torch.ones(4, 1, 4, 4, D), torch.zeros(4, C, 16, 16))
    assert adapter(torch.ones(1, 1, 4, 4, D)).isfinite().all()
    assert adapter.distance(latents(1, 1, 4, 4)).isfinite().all()


def test_a_mix_begins_as_the_mean_of_standardised_layers_and_routing_too():
    x = latents(5, 1, 4, 4, seed=1) * 3 + 2
    means = [x.flatten(0, -2).mean(0), x.flatten(0, -2).std(0)]
    mean = ((x - means[0]) / means[1]).unflatten(-1, (3, 4)).mean(-2)
    z = {}
    for kind in ("mix", "routing"):
        adapter = make(kind)
        adapter.fit_statistics(x, torch.randn(5, C, 16, 16))
        adapter.z_mean.zero_(), adapter.z_std.fill_(1)
        plain = TokenAdapter(4, C, 1, 4, 16).eval()
        own = adapter.state_dict()
        plain.load_state_dict(plain.state_dict() | {k: v for k, v in own.items() if k.split(".")[0] in
                              ("stem", "tokens", "spread_out", "refine", "head")})  # fmt: skip
        z[kind] = adapter(x)
        torch.testing.assert_close(z[kind], plain(mean))
    mix = make("mix")
    with torch.no_grad():
        mix.logits[1] = 3.0
    assert mix.shares[1] > 0.99 and mix.shares.sum().item() == pytest.approx(1)
    other = x.clone()
    other[..., 8:] += 5  # the third layer, of which it takes nothing
    torch.testing.assert_close(mix(other), mix(x), rtol=1e-3, atol=1e-3)


def test_latents_that_are_no_whole_layers_are_refused():
    with pytest.raises(InputError, match="of 5 layers"):
        KINDS["mix"](width=12, channels=C, fold=1, cells=1, hidden=16, layers=5)
