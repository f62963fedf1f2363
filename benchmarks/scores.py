"""Time per picture of all scores: ours in one batch, against lpips and scikit-image picture by picture.

    python -m benchmarks.scores [--pictures 5] [--size 224] [--repeats 15] [--device cuda]

One original stands against a number of reconstructions, as in the app. Both sides take LPIPS, SSIM and PSNR
and agree; ours also finds the objects and gives their IoU and the spatial LPIPS map, which have no peer.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial

import lpips
import torch
from safetensors.torch import load_file
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from torch import Tensor, nn

from foresight.data.render import render
from foresight.data.scenes import SceneSpec, sample
from foresight.metrics.perceptual import TRUNK
from foresight.metrics.scores import compare


def lpips_package(spatial: bool = False) -> nn.Module:
    """The lpips package's own model, built its own way, on the bundled trunk."""
    model = lpips.LPIPS(net="alex", version="0.1", pnet_rand=True, spatial=spatial, verbose=False)
    trunk = load_file(TRUNK)
    for part in model.net.children():
        for layer, module in part.named_children():
            if f"features.{layer}.weight" in trunk:
                module.weight.data = trunk[f"features.{layer}.weight"].float()
                module.bias.data = trunk[f"features.{layer}.bias"].float()
    return model


def one_by_one(network: nn.Module, original: Tensor, reconstructions: Tensor) -> list[tuple[float, float, float]]:
    a = original[0].permute(1, 2, 0).cpu().numpy()
    rows = []
    for reconstruction in reconstructions:
        with torch.no_grad():
            distance = network(2 * original - 1, 2 * reconstruction[None] - 1).item()
        b = reconstruction.permute(1, 2, 0).cpu().numpy()
        similarity = structural_similarity(
            a, b, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, channel_axis=2, data_range=1
        )
        rows.append((distance, similarity, peak_signal_noise_ratio(a, b, data_range=1)))
    return rows


def in_one_batch(original: Tensor, reconstructions: Tensor) -> list[tuple[float, float, float]]:
    scores = compare(original, reconstructions).scores
    return list(zip(*(scores[name].tolist() for name in ("lpips", "ssim", "psnr")), strict=True))


def medians(repeats: int, *jobs: Callable[[], object]) -> list[float]:
    """Median seconds of each job, warmed up; they take turns, so that a busy machine slows all alike."""
    times: list[list[float]] = [[] for _ in jobs]
    for turn in range(repeats + 2):
        for job, seconds in zip(jobs, times, strict=True):
            start = time.perf_counter()
            job()  # ends on the CPU, with the scores as Python floats
            if turn >= 2:
                seconds.append(time.perf_counter() - start)
    return [statistics.median(seconds) for seconds in times]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--pictures", type=int, default=5, help="reconstructions of the one original")
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()

    scenes = sample(range(args.pictures + 1), 0, SceneSpec(size=(args.size, args.size)))
    pictures = (render(scenes).images.float() / 255).to(args.device)
    original, reconstructions = pictures[:1], pictures[1:]
    peer = partial(one_by_one, lpips_package().to(args.device), original, reconstructions)
    batched = partial(in_one_batch, original, reconstructions)
    apart = (torch.tensor(peer()) - torch.tensor(batched())).abs().amax(0).tolist()
    slow, fast = medians(args.repeats, peer, batched)
    where = f"{torch.get_num_threads()} CPU threads" if args.device == "cpu" else args.device
    print(f"{args.pictures} reconstructions of 1 original, {args.size}² px, {where}, {args.repeats} runs")
    print(f"one by one (LPIPS, SSIM, PSNR)         {1e3 * slow / args.pictures:7.1f} ms a picture")
    print(f"in one batch (and mask IoU, LPIPS map) {1e3 * fast / args.pictures:7.1f} ms a picture")
    print(f"ratio {slow / fast:.1f}; LPIPS, SSIM and PSNR differ by at most", *(f"{d:.0e}" for d in apart))


if __name__ == "__main__":
    main()
