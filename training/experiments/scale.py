"""How large the study is: everything that changes its numbers, in one place."""

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Scale:
    """The sizes of all experiments; kept with each result, so that a result of other sizes is never reused."""

    points: int = 24
    """At most so many extraction points, evenly spread over the depth, the ends and the middle among them."""
    side: int = 224
    """Pixels of a picture's side, a multiple of 28."""
    seeds: int = 3
    """Adapters of each kind, with other first weights and another order of the data."""
    train: int = 12_288
    """Training scenes, of the training mixture."""
    test: int = 256
    """Test scenes, of the same mixture."""
    steps: int = 1200
    """Optimizer steps of an adapter that learns from VAE latents, where nothing else is said."""
    rungs: tuple[int, ...] = (300, 1200, 4800, 19_200)
    """Optimizer steps at each rung of a ladder, in rising order; the last one for the landmarks of the depth alone."""
    rates: tuple[float, ...] = (1e-3, 2e-3, 4e-3)
    """Peak learning rates of which each trial on a ladder takes the one that validates best."""
    batch: int = 32
    """Pictures a step."""
    lr: float = 2e-3
    """Peak learning rate."""
    hidden: int | None = None
    """Hidden width of token adapters; None: a quarter of the latents' width, at least 128."""
    picture_steps: int = 360
    """Further steps of E1.5's adapters, which also learn from decoded pictures."""
    picture_batch: int = 16
    """Pictures a step once they are decoded."""
    ceiling_steps: int = 100
    """Steps in which E1.5 fits VAE latents to each test picture itself."""
    clusters: int = 960
    """Scenes of E1.1."""
    probes: int = 4096
    """Training scenes of the linear classifiers."""
    clips: int = 1024
    """Training clips of V1."""
    boxes: int = 4096
    """Training scenes of E1.4's box heads."""
    crowds: int = 96
    """Test scenes of several objects in E1.4."""
    widths: tuple[int, ...] = (256, 512, 1024, 2048, 4096)
    """E1.6's hidden widths; elsewhere pooled adapters have the middle one."""
    width_batch: int = 32
    """Pictures a step at each of these; the widest costs a third of a TFLOP a picture."""
    amounts: tuple[int, ...] = (10, 100, 1000, 10_000, 100_000)
    """E1.6's numbers of training scenes."""
    amount_steps: int = 800
    """Steps at each of these, of `amount_batch` pictures: as many as the largest number."""
    amount_batch: int = 128
    sides: tuple[int, ...] = (224, 336, 448)
    """E1.6's picture sizes in pixels."""
    side_train: int = 2048
    """Training scenes at each of these."""
    seed_train: int = 200
    """The seed's own number of training pictures."""
    seed_test: int = 50
    """The seed's own number of test pictures."""
    seed_epochs: int = 100
    """The seed's own number of passes over them."""
    seed_hidden: int = 2048
    """The seed's own hidden width."""
    kept: int = 6
    """Pictures of each reconstruction grid."""

    def plain(self) -> dict[str, Any]:
        """As plain JSON values."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}


FULL = Scale()
LAPTOP = Scale(
    points=8, train=768, test=48, steps=200, rungs=(50, 200, 800), rates=(2e-3, 4e-3),
    batch=16, hidden=64, picture_steps=0, ceiling_steps=20, clusters=480, probes=1024, clips=192, boxes=1024,
    crowds=48,
    widths=(32, 64, 128, 256), width_batch=16, amounts=(10, 100, 1000, 3000), amount_steps=400, amount_batch=16,
    side_train=256, seed_hidden=512,
)  # fmt: skip
QUICK = Scale(
    points=6, side=112, seeds=1, train=32, test=4, steps=8, rungs=(2, 8, 16), rates=(2e-3, 4e-3),
    batch=8, hidden=32, picture_steps=0, ceiling_steps=2, clusters=72, probes=96, clips=16, boxes=48,
    crowds=4, widths=(64, 128), width_batch=8, amounts=(10, 32), amount_steps=8, amount_batch=8, sides=(112, 168),
    side_train=12, seed_train=24, seed_test=4, seed_epochs=10, seed_hidden=128, kept=4,
)  # fmt: skip
