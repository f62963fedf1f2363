"""What 8-bit products cost the bundled VLM: error in its latents, and in the scores of pictures read out of them.

    python -m benchmarks.eight_bits [--scenes 64] [--device cuda]

For each point with a token adapter: the distance of bfloat16's and of 8 bits' latents from float32's, beside their
norm; and the mean scores of the pictures that the adapter and the VAE make of each of the three.
"""

import argparse

import torch

from foresight.adapters.checkpoint import load_adapter
from foresight.data.images import resize, vae_size
from foresight.data.render import render
from foresight.data.scenes import SceneSpec, sample
from foresight.metrics.fidelity import ssim
from foresight.metrics.perceptual import lpips_model
from foresight.models.vae import load_vae
from foresight.models.vlm import load_vlm
from foresight.paths import ASSETS

BATCH = 16


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--scenes", type=int, default=64)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    args = parser.parse_args()
    adapters = {
        path.parent.name: load_adapter(path.parent).to(args.device)
        for path in sorted((ASSETS / "adapters").glob("*-tokens/config.json"))
    }
    points = {name: "-".join(name.split("-")[:2]) + "/" + name.split("-")[2] for name in adapters}
    vlms = {
        "float32": load_vlm(None, args.device, torch.float32),
        "bfloat16": load_vlm(None, args.device, torch.bfloat16),
        "8 bits": load_vlm(None, args.device, torch.bfloat16, fp8=True),
    }
    lpips = lpips_model(args.device)
    vae, sums = load_vae(None, args.device), dict[tuple[str, str], torch.Tensor]()
    for first in range(0, args.scenes, BATCH):
        pictures = render(sample(range(first, min(first + BATCH, args.scenes)), 0, SceneSpec())).images.to(args.device)
        x = pictures.float() / 255
        seen = resize(x, vae_size((x.shape[2], x.shape[3])))
        latents = {name: vlm.latents(pictures, list(points.values())) for name, vlm in vlms.items()}
        for name, adapter in adapters.items():
            exact = latents["float32"][points[name]].float()
            for kind in vlms:
                result = latents[kind][points[name]].float()
                decoded = vae.decode(adapter(result))
                scores = lpips(seen, decoded).sum(), ssim(seen, decoded).sum()
                squares = (result - exact).square().sum(), exact.square().sum()
                row = torch.stack([*squares, *scores]).double().cpu()
                sums[name, kind] = sums.get((name, kind), torch.zeros(4)) + row
    print("| point | " + " | ".join(f"{k}: apart, LPIPS, SSIM" for k in vlms) + " |\n|" + " --- |" * (len(vlms) + 1))
    for name, point in sorted(points.items(), key=lambda pair: vlms["float32"].point(pair[1]).depth):
        cells = []
        for kind in vlms:
            wrong, whole, perceptual, similarity = sums[name, kind].tolist()
            cells.append(
                f"{(wrong / whole) ** 0.5:.1e}, {perceptual / args.scenes:.4f}, {similarity / args.scenes:.4f}"
            )
        print(f"| {point} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
