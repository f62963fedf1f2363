"""The adapters: latents at one extraction point, or at several of one stage → latents of a frozen VAE.

Shapes: B images or clips, T steps (1 of an image; of a clip each covers two frames), H × W tokens of width D;
C channels of the VAE, h × w cells; F frames, J latents of the VAE in time (F of an image VAE). Of K points D is the
numbers of all their latents, one point's behind another's.
A post-merge token covers 32 × 32 px of the VAE's picture: 4 × 4 cells of an f8 VAE, one of an f32 VAE.
"""

from collections.abc import Mapping, Sequence
from typing import Any, final

import torch
import torch.nn.functional as F
from huggingface_hub import PyTorchModelHubMixin
from torch import Tensor, nn

from foresight.errors import InputError
from foresight.models.points import ExtractionPoint

AXES = 32  # principal directions kept to tell familiar latents from strange ones
BySize = Tensor | Sequence[Tensor]  # of pictures of one size, or of each of several


class Adapter(nn.Module, PyTorchModelHubMixin):
    """Standardises latents, maps them, and gives the result the VAE latents' own mean and spread.

    width: D. channels: C. fold: tokens a side that are joined into one before anything else (2 where a
    pre-merge patch is smaller than a cell of the VAE, else 1). cells: cells a side for each (folded) token.
    card: where the adapter comes from and what it scored; plain JSON values. frames: VAE latents for each step: 2 tells
    a step's two frames apart. steps: steps of the VLM for one latent of a VAE that is coarser in time (4 where it
    joins 8 frames); such a latent is made from the steps that show its frames, one more than `steps`.
    """

    kind: str
    mean: Tensor
    std: Tensor
    z_mean: Tensor
    z_std: Tensor
    axes: Tensor
    spread: Tensor
    rest: Tensor
    far: Tensor

    def __init__(
        self, width: int, channels: int, fold: int, cells: int, card: dict[str, Any] | None, frames: int, steps: int
    ):
        super().__init__()
        if frames not in (1, 2) or (frames == 2 and steps > 1):
            raise InputError(
                f"an adapter gives 1 or 2 frames a step, or one latent for several steps, not {frames} and {steps}."
            )
        self.width, self.channels, self.fold, self.cells = width, channels, fold, cells
        self.frames, self.steps = frames, steps
        self.card = card or {}
        axes = min(AXES, width)
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("std", torch.ones(width))
        self.register_buffer("z_mean", torch.zeros(channels))
        self.register_buffer("z_std", torch.ones(channels))
        # Training latents, standardised: principal directions, variance along each, mean variance off them,
        # and the 99th percentile of a training picture's `distance`.
        self.register_buffer("axes", torch.zeros(axes, width))
        self.register_buffer("spread", torch.ones(axes))
        self.register_buffer("rest", torch.ones(1))
        self.register_buffer("far", torch.ones(1))

    @property
    def point(self) -> ExtractionPoint:
        """The extraction point it was trained for. Raises InputError where its card names none."""
        return ExtractionPoint.parse(self.card.get("point", ""))

    @property
    def points(self) -> list[ExtractionPoint]:
        """The points whose latents it takes, in order of depth; the last is its `point`. Raises InputError as that."""
        return points_of(self.card)

    @property
    def parameter_count(self) -> int:
        return sum(p.numel() for p in self.parameters())

    def forward(self, latents: Tensor) -> Tensor:
        """Latents (B, T, H, W, D) → VAE latents (B · T, C, h, w), float32: one for each step, as an image needs.

        Of an adapter that tells a step's two frames apart it is their mean; of an image both are the same. Raises
        InputError where D is another.
        """
        return self._by_step(latents).mean(2).flatten(0, 1)

    def for_frames(self, latents: Tensor, frames: Tensor) -> Tensor:
        """Single steps (B, 1, H, W, D) → VAE latents (B, C, h, w), float32, of one frame each, 0 or 1 by `frames` (B,).

        An adapter of one frame a step gives both the same. Raises InputError where D is another.
        """
        return frames_of(self.for_steps(latents), frames)

    def for_steps(self, latents: Tensor) -> Tensor:
        """Single steps (B, 1, H, W, D) → VAE latents (B, `frames`, C, h, w), float32. InputError where D is another."""
        return self._by_step(latents)[:, 0]

    def for_clip(self, latents: Tensor, frames: int) -> Tensor:
        """Latents (B, T, H, W, D) of clips of F frames → VAE latents (B, J, C, h, w), float32.

        J is F for an image VAE: an adapter of one frame a step gives both frames the same. For a VAE that joins
        2 · `steps` frames it is what `VAE.encode_clip` gives. Raises InputError where T is not ceil(F / 2).
        """
        if latents.ndim == 5 and latents.shape[1] != -(-frames // 2):
            raise InputError(f"a clip of {frames} frames has {-(-frames // 2)} steps, not {latents.shape[1]}.")
        z = self._by_step(latents)  # (B, T, 1 or 2, C, h, w)
        if self.steps > 1:
            return z.flatten(1, 2)
        return z.expand(-1, -1, 2, -1, -1, -1).flatten(1, 2)[:, :frames]

    def _by_step(self, latents: Tensor) -> Tensor:
        """Latents (B, T, H, W, D) → VAE latents (B, T, frames, C, h, w); T the joined steps where `steps` > 1."""
        x = self._standardise(latents)
        if self.steps > 1:
            x = join_steps(x, self.steps)
        count, x = x.shape[:2], x.flatten(0, 1)  # (B·T, H, W, D)
        if self.fold > 1:
            x = fold_tokens(x, self.fold)
        z = self.map(x).float().unflatten(1, (self.frames, self.channels))
        return (z * self.z_std.view(-1, 1, 1) + self.z_mean.view(-1, 1, 1)).unflatten(0, count)

    @property
    def inputs(self) -> int:
        """Numbers at one place of what `map` takes."""
        return self.fold**2 * self.width * (self.steps + 1 if self.steps > 1 else 1)

    @property
    def outputs(self) -> int:
        """Numbers at one cell of what `map` gives."""
        return self.channels * self.frames

    def map(self, x: Tensor) -> Tensor:
        """Standardised latents (B, H, W, inputs) → standardised VAE latents (B, outputs, H · cells, W · cells)."""
        raise NotImplementedError

    def _standardise(self, latents: Tensor) -> Tensor:
        if latents.ndim != 5 or latents.shape[-1] != self.width:
            raise InputError(f"this adapter takes latents (B, T, H, W, {self.width}), not {tuple(latents.shape)}.")
        return (latents.to(self.mean.device, torch.float32) - self.mean) / self.std

    @torch.no_grad()
    def fit_statistics(self, latents: BySize, targets: BySize) -> None:
        """Takes means and spreads from training latents (B, T, H, W, D) and VAE latents (B, C, h, w)."""
        x = _joined([part.float().flatten(0, -2) for part in by_size(latents)])  # (n, D)
        z = _joined([part.float().transpose(0, 1).flatten(1) for part in by_size(targets)], 1)  # (C, n)
        self.mean.copy_(x.mean(0))
        self.std.copy_(x.std(0).clamp_min(1e-4))
        self.z_mean.copy_(z.mean(1))
        self.z_std.copy_(z.std(1).clamp_min(1e-4))
        self.fit_familiarity(latents)

    @torch.no_grad()
    def fit_familiarity(self, latents: BySize) -> None:
        """Takes from training latents (B, T, H, W, D) what tells familiar ones from strange ones."""
        x = (_joined([part.float().flatten(0, -2) for part in by_size(latents)]) - self.mean) / self.std
        _, values, axes = torch.pca_lowrank(
            x[torch.linspace(0, len(x) - 1, min(len(x), 20_000)).long()], len(self.axes)
        )
        variances = values**2 / min(len(x), 20_000)
        self.axes.copy_(axes.T)
        self.spread.copy_(variances.clamp_min(1e-4))
        self.rest.fill_(((self.width - variances.sum()) / max(1, self.width - len(self.axes))).clamp_min(1e-2))
        self.far.fill_(_joined([self.distance(part) for part in by_size(latents)]).quantile(0.99))

    @torch.no_grad()
    def distance(self, latents: Tensor) -> Tensor:
        """How far pictures lie from the training latents: (B, T, H, W, D) → (B · T,), 1 on average in training.

        The root of a token's mean squared Mahalanobis distance under probabilistic PCA (Tipping & Bishop 1999).
        Beyond `far` a score speaks of the adapter more than of the latents.
        """
        x = self._standardise(latents).flatten(2, 3).flatten(0, 1)  # (B·T, tokens, D)
        along = x @ self.axes.T
        off = (x.square().sum(-1) - along.square().sum(-1)).clamp_min(0) / self.rest
        return ((along.square() / self.spread).sum(-1) + off).mean(-1).div(self.width).sqrt()


def frames_of(steps: Tensor, frames: Tensor) -> Tensor:
    """VAE latents of steps (B, 1 or 2, C, h, w) → of one frame each (B, C, h, w), 0 or 1 by `frames` (B,)."""
    return steps[torch.arange(len(steps), device=steps.device), frames.to(steps.device).long() % steps.shape[1]]


def by_size(x: BySize) -> Sequence[Tensor]:
    """The tensors of pictures of each size."""
    return [x] if isinstance(x, Tensor) else x


def _joined(parts: Sequence[Tensor], dim: int = 0) -> Tensor:
    """torch.cat, which would copy also a single one."""
    return parts[0] if len(parts) == 1 else torch.cat(list(parts), dim)


def join_steps(x: Tensor, steps: int) -> Tensor:
    """(B, T, H, W, D) → (B, J, H, W, (steps + 1) · D), J = 1 + ceil((T - 1) / steps).

    Entry 0 is the first step alone, repeated; entry j is made from the steps up to j · steps, which show the frames
    that latent j of the VAE joins. The last step is repeated where one is missing.
    """
    after = -(x.shape[1] - 1) % steps
    x = torch.cat([x[:, :1].expand(-1, steps, -1, -1, -1), x, x[:, -1:].expand(-1, after, -1, -1, -1)], 1)
    return x.unfold(1, steps + 1, steps).movedim(-1, -2).flatten(-2)


def fold_tokens(x: Tensor, by: int) -> Tensor:
    """(B, H, W, D) → (B, H / by, W / by, by² · D)"""
    return x.unflatten(2, (-1, by)).unflatten(1, (-1, by)).transpose(2, 3).flatten(3)


def unfold_tokens(x: Tensor, by: int) -> Tensor:
    """`fold_tokens`'s inverse: (B, H, W, by² · C) → (B, H · by, W · by, C)"""
    return x.unflatten(3, (by, by, -1)).transpose(2, 3).flatten(3, 4).flatten(1, 2)


@final
class LinearProbe(Adapter):
    """One linear map for each token: what can be read off without any processing."""

    kind = "linear"

    def __init__(
        self,
        width: int,
        channels: int,
        fold: int,
        cells: int,
        card: dict[str, Any] | None = None,
        frames: int = 1,
        steps: int = 1,
    ):
        super().__init__(width, channels, fold, cells, card, frames, steps)
        self.linear = nn.Linear(self.inputs, cells**2 * self.outputs)

    def map(self, x: Tensor) -> Tensor:
        return unfold_tokens(self.linear(x), self.cells).permute(0, 3, 1, 2)


@final
class PooledMLP(Adapter):
    """The seed study's design: the mean of all tokens, then an MLP that paints a whole picture.

    It paints a square of `canvas` × `canvas` cells, which is stretched to pictures of another shape.
    """

    kind = "pooled"

    def __init__(
        self,
        width: int,
        channels: int,
        fold: int,
        cells: int,
        hidden: int = 2048,
        canvas: int = 32,
        card: dict[str, Any] | None = None,
        frames: int = 1,
        steps: int = 1,
    ):
        super().__init__(width, channels, fold, cells, card, frames, steps)
        self.canvas = canvas
        self.mlp = nn.Sequential(
            nn.Linear(self.inputs, hidden),
            nn.GELU(),
            nn.Linear(hidden, hidden),
            nn.GELU(),
            nn.Linear(hidden, self.outputs * canvas**2),
        )

    def map(self, x: Tensor) -> Tensor:
        size = x.shape[1] * self.cells, x.shape[2] * self.cells
        z = self.mlp(x.mean((1, 2))).unflatten(1, (self.outputs, self.canvas, self.canvas))
        return z if z.shape[2:] == size else F.interpolate(z.float(), size, mode="bilinear", align_corners=False)


class _Block(nn.Module):
    """ConvNeXt's block (Liu et al. 2022): a depth-wise convolution, then an MLP at each place; channels last."""

    def __init__(self, width: int, expand: int):
        super().__init__()
        self.spatial = nn.Conv2d(width, width, 5, padding=2, groups=width)
        self.norm = nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, expand * width), nn.GELU(), nn.Linear(expand * width, width))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.mlp(self.norm(self.spatial(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)))


class _TokenMap(Adapter):
    """Keeps the grid: blocks among tokens, then each token unfolds into its cells, then blocks among cells."""

    def build(self, hidden: int, layers: int = 1) -> None:
        """Adds the layers, for the mean of so many layers' latents."""
        fine = max(32, hidden * 3 // 8)
        self.stem = nn.Linear(self.inputs // layers, hidden)
        self.tokens = nn.Sequential(_Block(hidden, 3), _Block(hidden, 3))
        self.spread_out = nn.Linear(hidden, self.cells**2 * fine)
        self.refine = nn.Sequential(_Block(fine, 4), _Block(fine, 4))
        self.head = nn.Sequential(nn.LayerNorm(fine), nn.Linear(fine, self.outputs))

    def map(self, x: Tensor) -> Tensor:
        x = self.tokens(self.stem(x))
        return self.head(self.refine(unfold_tokens(self.spread_out(x), self.cells))).permute(0, 3, 1, 2)


@final
class TokenAdapter(_TokenMap):
    """Reads one point. hidden 896 makes about 20M parameters at Qwen2.5-VL-7B's width of 3584."""

    kind = "tokens"

    def __init__(
        self,
        width: int,
        channels: int,
        fold: int,
        cells: int,
        hidden: int = 896,
        card: dict[str, Any] | None = None,
        frames: int = 1,
        steps: int = 1,
    ):
        super().__init__(width, channels, fold, cells, card, frames, steps)
        self.build(hidden)


class _LayeredMap(_TokenMap):
    """A token adapter on a learned mean of several layers' standardised latents, its weights a softmax.

    width: numbers of all `layers` layers at one place.
    """

    def __init__(
        self,
        width: int,
        channels: int,
        fold: int,
        cells: int,
        hidden: int = 896,
        card: dict[str, Any] | None = None,
        frames: int = 1,
        steps: int = 1,
        layers: int = 2,
    ):
        if width % layers:
            raise InputError(f"latents of {layers} layers of one width have no {width} numbers together.")
        super().__init__(width, channels, fold, cells, card, frames, steps)
        self.build(hidden, layers)
        self.layers = layers
        self.add_weights()

    def add_weights(self) -> None:
        """Adds what the mean's weights are learned by; they begin alike."""
        raise NotImplementedError


@final
class LayerMix(_LayeredMap):
    """One weight a layer, as in ELMo's scalar mix (Peters et al. 2018)."""

    kind = "mix"
    EAGER = 20.0  # Adam moves a number by 0.3 in a run: times this, enough to leave all layers but one behind

    def add_weights(self) -> None:
        self.logits = nn.Parameter(torch.zeros(self.layers))

    @property
    def shares(self) -> Tensor:
        """(layers,), each layer's share of the mean."""
        return (self.EAGER * self.logits).softmax(0)

    def map(self, x: Tensor) -> Tensor:
        mixed = x.unflatten(-1, (-1, self.layers, self.width // self.layers))  # (B, H, W, n, layers, D)
        return super().map((mixed * self.shares[:, None]).sum(-2).flatten(-2))


@final
class LayerRouting(_LayeredMap):
    """Weights for each token, by a linear map of its latents at all layers (as DRoRAE)."""

    kind = "routing"

    def add_weights(self) -> None:
        self.gate = nn.Linear(self.width, self.layers)
        nn.init.zeros_(self.gate.weight)
        nn.init.zeros_(self.gate.bias)

    def map(self, x: Tensor) -> Tensor:
        stacked = x.unflatten(-1, (-1, self.width))  # (B, H, W, n, layers · D)
        shares = self.gate(stacked).float().softmax(-1)[..., None]
        mixed = stacked.unflatten(-1, (self.layers, -1))
        return super().map((mixed * shares).sum(-2).flatten(-2))


def points_of(card: dict[str, Any]) -> list[ExtractionPoint]:
    """The points whose latents an adapter with this card takes, in order of depth.

    Raises InputError where it names none, or where "layers" are not several of one stage that end at its "point".
    """
    last = ExtractionPoint.parse(str(card.get("point", "")))
    names = card.get("layers", [str(last)])
    points = [ExtractionPoint.parse(str(name)) for name in names] if isinstance(names, list) else []
    rising = sorted(set(points), key=lambda p: p.depth)
    if points != rising or not points or points[-1] != last or len({p.stage for p in points}) != 1:
        raise InputError(f"an adapter's layers must be of one stage, in order of depth up to {last}, not {names}.")
    return points


def join_points(latents: Mapping[str, Tensor], points: Sequence[ExtractionPoint | str]) -> Tensor:
    """Latents by point, each (B, T, H, W, D) → what an adapter of those points takes."""
    parts = [latents[str(point)] for point in points]
    return parts[0] if len(parts) == 1 else torch.cat(parts, -1)


ONE_POINT = ("linear", "pooled", "tokens")  # kinds that read one point
SEVERAL_POINTS = ("mix", "routing")
KINDS: dict[str, type[Adapter]] = {c.kind: c for c in (LinearProbe, PooledMLP, TokenAdapter, LayerMix, LayerRouting)}
