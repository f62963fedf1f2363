"""The sizes of a study that takes seconds."""

from dataclasses import replace

from training.experiments.scale import QUICK

TINY = replace(
    QUICK, points=2, side=84, train=8, test=2, steps=2, rungs=(1, 2, 3), batch=4,
    hidden=8, clusters=36, probes=24, clips=4, boxes=8, crowds=2,
    widths=(8, 16), amounts=(4, 8), amount_steps=2, sides=(84, 112), side_train=4, seed_train=16,
    seed_test=4, seed_epochs=1, kept=2,
)  # fmt: skip
