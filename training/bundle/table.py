"""The table of docs/bundled_weights.md: what the cards of the bundled adapters say."""

from pathlib import Path

from foresight.adapters.checkpoint import describe_adapter, list_adapters, score_tables
from foresight.models.points import ExtractionPoint
from training.data import HELD_OUT, HELD_OUT_MOTION, HELD_OUT_PANS, HELD_OUT_PHOTOS

KINDS = ("tokens", "linear", "pooled", "mix", "routing")
SCENES, PHOTOS = ("lpips", "ssim", "mask_iou"), ("lpips", "ssim", "psnr")
COLUMNS = {
    **dict.fromkeys(HELD_OUT, SCENES),
    HELD_OUT_MOTION: SCENES,
    HELD_OUT_PHOTOS: PHOTOS,
    HELD_OUT_PANS: PHOTOS,
}
DIGITS = {"psnr": 1}  # of the others: 3


def table(folder: Path) -> str:
    """Markdown: a row for each adapter under `folder`, by depth; means of the scores in its card, by held-out set."""
    lines = [f"| point | adapter | {' | '.join(COLUMNS)} |", f"|---|---|{'---|' * len(COLUMNS)}"]
    configs = [describe_adapter(path) for path in list_adapters(folder)]
    configs.sort(key=lambda c: (ExtractionPoint.parse(c["card"]["point"]).depth, KINDS.index(c["kind"])))
    for config in configs:
        scores = score_tables(config["card"]["scores"])
        cells = [
            " / ".join(f"{scores[title][name].mean:.{DIGITS.get(name, 3)}f}" for name in names)
            for title, names in COLUMNS.items()
        ]
        lines.append(f"| {config['card']['point']} | {config['kind']} | {' | '.join(cells)} |")
    return "\n".join(lines)
