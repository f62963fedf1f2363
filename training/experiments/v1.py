"""V1: does motion survive the merger, and how deep? Clips that differ by the direction of time alone, told apart.

By a linear probe on all latents of a clip, and by the track of the object in what an adapter decodes.

Shapes: N clips of F frames, T steps of two frames, H × W tokens of D numbers. Displacements are in pixels, x then y.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d
from tqdm import tqdm

from foresight.adapters.modules import Adapter, TokenAdapter
from foresight.data.images import resize, vae_size
from foresight.data.motion import MotionSpec, MovingScenes, render_motion, take_motion
from foresight.data.scenes import SceneSpec
from foresight.inspection.readout import decode
from foresight.metrics.tracks import centroids, find_objects
from foresight.metrics.video import RIGHT
from foresight.models.points import ExtractionPoint
from foresight.models.vlm import VLM
from training.experiments.bench import Bench
from training.experiments.experiment import Experiment, Measurement, Samples, stack_seeds
from training.experiments.parallel import LatentError, Learner, train_parallel, usual_recipe
from training.experiments.trials import for_validation
from training.fit import STATISTICS_ROWS, new_adapter

FRAMES, FPS = 8, 4.0
SCENES = 500  # its seed
PENALTIES = tuple(10.0**k for k in range(-6, 3))  # of the kernel's mean diagonal
RANDOM, STILL, BLIND = "random weights", "first step alone", "mean of all steps"
PAIR, DIRECTION, ERROR = "told from its reverse", "direction right", "displacement error, px"


@dataclass(frozen=True)
class Clips:
    """points: {"post-merge/6": (N, T, H, W, D)}. frames: (N, F, 3, height, width) uint8. moved: (N, 2), of the object
    from first to last frame. Of a test set the second half are the first half's reverses."""

    points: dict[str, Tensor]
    frames: Tensor
    moved: Tensor


def spec(side: int) -> MotionSpec:
    """One object that moves straight over an even ground."""
    scene = SceneSpec(objects=(1, 1), radius=(16.0, 40.0), backgrounds=("white", "plain"), size=(side, side))
    return MotionSpec(scene, frames=FRAMES, fps=FPS, motions=("translation",), speed=(4.0, 12.0))


def scenes(bench: Bench, count: int, split: str) -> MovingScenes:
    """Clips of a split; for test each is followed, `count` rows later, by its reverse."""
    clips = take_motion(count, 1000 * SCENES + bench.seed, spec(bench.scale.side), split, bench.device)
    return clips if split == "train" else MovingScenes.cat([clips, clips.reversed()])


@torch.inference_mode()
def take(bench: Bench, clips: MovingScenes, points: Sequence[ExtractionPoint], vlm: VLM) -> Clips:
    """Draws clips and takes their latents."""
    parts: dict[str, list[Tensor]] = {str(p): [] for p in points}
    frames = []
    for part in tqdm(clips.chunks(max(1, bench.batch // 4)), "clips", leave=False):
        frames.append(render_motion(part).images)
        for name, x in vlm.latents(frames[-1].float() / 255, points, FPS).items():
            parts[name].append(x)
    centres = clips.centres()[:, :, 0]
    return Clips({n: torch.cat(x) for n, x in parts.items()}, torch.cat(frames), centres[:, -1] - centres[:, 0])


def flat(latents: Tensor) -> Tensor:
    """All latents of each clip as one row (N, T · h · w · D), those before the merger averaged to a merged token."""
    n, t, height, width, _ = latents.shape
    if height > 8:  # a probe before the merger would have four times the weights
        x = latents.flatten(0, 1).permute(0, 3, 1, 2).float()
        latents = adaptive_avg_pool2d(x, (height // 2, width // 2)).permute(0, 2, 3, 1).unflatten(0, (n, t))
    return latents.flatten(1).float()


def foretell(train: Tensor, truth: Tensor, test: Tensor) -> Tensor:
    """Ridge regression of displacements (n, 2) on rows (n, P), told of others (N, P): (N, 2).

    In its dual form, which has n numbers to solve for however many a clip's latents are. Every eighth clip chooses
    the penalty.
    """
    mean = train.mean(0)
    x, y = (train - mean) / train.std().clamp_min(1e-6), (test - mean) / train.std().clamp_min(1e-6)
    kernel, across, goal = (x @ x.T).double(), (y @ x.T).double(), truth.double()
    held, scale = for_validation(len(x)).to(x.device), kernel.diagonal().mean()
    centre = goal.mean(0)

    def weights(rows: Tensor, penalty: float) -> Tensor:
        block = kernel[rows][:, rows]
        return torch.linalg.solve(block + penalty * scale * torch.eye(len(block)).to(block), goal[rows] - centre)

    def error(penalty: float) -> float:
        return float((kernel[held][:, ~held] @ weights(~held, penalty) + centre - goal[held]).square().mean())

    every = torch.ones_like(held)
    return (across @ weights(every, min(PENALTIES, key=error)) + centre).float()


def judged(predicted: Tensor, moved: Tensor) -> dict[str, np.ndarray]:
    """Scores of displacements (2 · n, 2), each clip's and then each reverse's, NaN where no object was found.

    A pair is told apart where the clip is told to go further along its true direction than its reverse is; by chance
    that is a half of all, and so counts what is told alike; what is lost is not told apart.
    """
    predicted, moved = predicted.double().cpu(), moved.double().cpu()
    lost = predicted.isnan().any(1)
    cosine = torch.nn.functional.cosine_similarity(predicted, moved, dim=1)
    half = len(predicted) // 2
    further = ((predicted[:half] - predicted[half:]) * moved[:half]).sum(1)  # NaN where one is lost
    apart = (further > 0).double() + 0.5 * (further == 0)
    return {
        PAIR: torch.cat([apart, apart]).numpy(),
        DIRECTION: ((cosine >= np.cos(np.radians(RIGHT))) & ~lost).double().numpy(),
        ERROR: (predicted - moved).norm(dim=1).numpy(),
    }


def tracked(frames: Tensor) -> Tensor:
    """The displacement (2,) of the object from the first to the last of frames (F, 3, H, W) in [0, 1] on a ground."""
    places = centroids(find_objects(frames, torch.zeros(1, 3)))[:, 0]
    return places[-1] - places[0]


def decoded_tracks(bench: Bench, clips: Clips, read: Callable[[slice], Tensor]) -> Tensor:
    """(N, 2) from what is decoded of VAE latents (n, F, C, h, w), which `read` makes for some clips."""
    size, moved = (clips.frames.shape[-2], clips.frames.shape[-1]), []
    for start in range(0, len(clips.frames), 8):
        z = read(slice(start, start + 8))
        images = decode(bench.vae, z.flatten(0, 1), size).unflatten(0, z.shape[:2])
        moved += [tracked(frames).cpu() for frames in images]
    return torch.stack(moved)


@torch.inference_mode()
def targets(bench: Bench, frames: Tensor) -> Tensor:
    """Frames (N, F, 3, H, W) uint8 → VAE latents (N, F, C, h, w)."""
    size = vae_size((frames.shape[-2], frames.shape[-1]))
    rows = frames.flatten(0, 1).split(bench.batch)
    return torch.cat([bench.vae.encode(resize(x.float() / 255, size)) for x in rows]).unflatten(0, frames.shape[:2])


def adapters(bench: Bench, train: Clips, z: Tensor) -> tuple[dict[str, list[Adapter]], int]:
    """Token adapters of each seed at each of the long points, and the steps they made.

    A row is a step of a clip; what they give are the VAE latents of both its frames, one's channels behind the
    other's. z: (N, F, C, h, w), those of the clips.
    """
    goals = z.unflatten(1, (-1, 2)).flatten(2, 3).flatten(0, 1)  # (N · T, 2 · C, h, w)
    fitted: dict[str, list[Adapter]] = {}
    learners = []
    for point in bench.long_points:
        rows = train.points[str(point)].flatten(0, 1)[:, None]  # (N · T, 1, h, w, D)
        for seed in range(bench.scale.seeds):
            torch.manual_seed(1000 * bench.seed + seed)
            like = new_adapter("tokens", point, bench.vlm, bench.vae, bench.scale.hidden)
            assert isinstance(like, TokenAdapter)
            sizes = (like.width, 2 * like.channels, like.fold, like.cells, like.stem.out_features)
            adapter = TokenAdapter(*sizes).to(bench.device)
            sample = torch.linspace(0, len(rows) - 1, min(len(rows), STATISTICS_ROWS), device=bench.device).long()
            adapter.fit_statistics(rows[sample], goals[sample])
            fitted.setdefault(str(point), []).append(adapter)
            learners.append(Learner(adapter, torch.arange(len(rows)), [rows], goals, LatentError(adapter), seed))
    recipe = usual_recipe(bench)
    train_parallel(bench, learners, recipe, "V1")
    return fitted, recipe.steps


def measure(bench: Bench) -> Measurement:
    known, unseen = scenes(bench, bench.scale.clips, "train"), scenes(bench, max(2, bench.scale.test // 2), "test")
    train, test = (take(bench, clips, bench.points, bench.vlm) for clips in (known, unseen))

    def probed(x: Tensor, y: Tensor) -> dict[str, np.ndarray]:
        return judged(foretell(flat(x), train.moved, flat(y)), test.moved)

    probes: dict[str, Samples] = {}
    for name, x in train.points.items():
        y = test.points[name]
        views = {"": (x, y), f", {STILL}": (x[:, :1], y[:, :1]), f", {BLIND}": (x.mean(1, True), y.mean(1, True))}
        probes |= {name + ending: one_seed(probed(*pair)) for ending, pair in views.items()}
    draws: dict[str, list[dict[str, np.ndarray]]] = {}
    for draw in range(bench.scale.seeds):
        vlm = bench.random_vlm(draw)
        sets = [take(bench, clips, bench.long_points, vlm).points for clips in (known, unseen)]
        for name, x in sets[0].items():
            draws.setdefault(f"{name}, {RANDOM}", []).append(probed(x, sets[1][name]))
    probes |= {name: stack_seeds(seeds) for name, seeds in draws.items()}

    fitted, steps = adapters(bench, train, targets(bench, train.frames))
    tracks: dict[str, Samples] = {}

    def judge_tracks(read: Callable[[slice], Tensor]) -> dict[str, np.ndarray]:
        return judged(decoded_tracks(bench, test, read), test.moved)

    with torch.inference_mode():
        for name, seeds in fitted.items():
            tracks[name] = stack_seeds(
                [judge_tracks(partial(_read_out, adapter, test.points[name])) for adapter in seeds]
            )
        z = targets(bench, test.frames)
        still = z[:, :1].expand_as(z)
        tracks |= {n: one_seed(judge_tracks(x.__getitem__)) for n, x in (("oracle", z), ("still copy", still))}
    return Measurement({"scores": probes, "decoded tracks": tracks}, {"scores": steps})


def _read_out(adapter: Adapter, latents: Tensor, clips: slice) -> Tensor:
    """VAE latents (n, F, C, h, w) of some clips."""
    x = latents[clips]
    both = adapter(x.flatten(0, 1)[:, None])  # (n · T, 2 · C, h, w)
    return both.unflatten(1, (2, -1)).flatten(0, 1).unflatten(0, (len(x), -1))


def one_seed(scores: dict[str, np.ndarray]) -> Samples:
    """Scores (N,) as samples (1, N)."""
    return {name: values[None] for name, values in scores.items()}


V1 = Experiment(
    "v1",
    "V1 Motion",
    "Does motion survive the merger, and how deep: are clips that differ by direction alone told apart?",
    measure,
)
