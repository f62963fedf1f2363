"""How well an adapter's distance tells the pictures that it reads wrong from those that it reads right.

    python -m benchmarks.distance --images FOLDER [FOLDER …] [--scenes 64] [--bar 0.35] [--points post-merge/6,…]

Scenes of the test split and the pictures of all folders together; a picture is read wrong where its LPIPS is over the
bar. For each adapter: the AUC of distance against "read wrong", how many are read wrong, how many of those are within
the limit (missed), and how many that are read right are beyond it (alarms).
"""

import argparse
from itertools import chain
from pathlib import Path

from foresight.adapters.registry import BUNDLED
from foresight.data.archive import Broken
from foresight.data.scenes import SceneSpec
from foresight.data.sources import folder_files
from foresight.inspection.evaluation import evaluate, file_samples, scene_samples
from foresight.inspection.familiarity import READ_WRONG, separation
from foresight.inspection.inspector import Inspector
from foresight.models.vae import load_vae
from foresight.models.vlm import load_vlm


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, nargs="*", default=[])
    parser.add_argument("--scenes", type=int, default=64)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--bar", type=float, default=READ_WRONG)
    parser.add_argument("--points", default="", help="separated by commas; all where left out")
    parser.add_argument("--adapters", type=Path, default=BUNDLED)
    parser.add_argument("--device", default=None)
    args = parser.parse_args()
    inspector = Inspector(load_vlm(device=args.device), load_vae(device=args.device), (args.adapters,), fast=True)
    files = [file for folder in args.images for file in folder_files(folder)]
    print(f"read wrong: LPIPS over {args.bar}", f"{'adapter':24}   AUC  wrong   of  missed  alarms", sep="\n")
    for record in inspector.adapters():
        if args.points and str(record.point) not in args.points.split(","):
            continue
        samples = chain(scene_samples(args.scenes, args.seed, SceneSpec()), file_samples(files))
        rows = [
            (item.distance, item.far, item.scores["adapter"]["lpips"] or 0.0)
            for item in evaluate(inspector, record, samples)
            if not isinstance(item, Broken)
        ]
        s = separation(rows, args.bar)
        auc = "    –" if s.auc is None else f"{s.auc:.3f}"
        print(
            f"{f'{record.point} {record.name}':24} {auc}  {s.wrong:5} {s.pictures:4}  {s.missed:6}  {s.alarms:6}",
            flush=True,
        )


if __name__ == "__main__":
    main()
