"""python -m benchmarks.scenes: images a second of sampling and drawing three-object scenes at 224 × 224."""

import argparse
import statistics
import time

import torch

from foresight.data.render import render
from foresight.data.scenes import SceneSpec, sample


def rate(count: int, chunk: int, repeats: int, device: torch.device) -> float:
    """Median images a second, masks and boxes included; every repeat draws other scenes."""
    spec, rates = SceneSpec(objects=(3, 3)), []
    for k in range(repeats + 1):
        numbers = torch.arange(k * count, (k + 1) * count, device=device)
        start = time.perf_counter()
        boxes = render(sample(numbers, 0, spec, device), chunk).boxes
        boxes.cpu()  # waits for the device
        rates.append(count / (time.perf_counter() - start))
    return statistics.median(rates[1:])  # the first one warms up


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    device = torch.device(parser.parse_args().device)
    on_gpu = device.type == "cuda"
    whole = rate(16384 if on_gpu else 64, 512 if on_gpu else 8, 5, device)
    single = rate(64 if on_gpu else 16, 1, 3, device)
    print(f"{device.type}: {whole:.0f} images/s in batches, {single:.0f} one by one, ratio {whole / single:.1f}")


if __name__ == "__main__":
    main()
