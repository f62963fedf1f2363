"""What the Video tab shows, as plain functions: the player's data, its curves, the table of scores, the headline.

Shapes: F frames of H × W pixels, N objects.
"""

import json
import math
from collections.abc import Sequence
from html import escape
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor

from foresight.inspection.clip_readout import ClipReport, DecodedClip, gives_each_frame
from foresight.metrics.video import CONTROLS, FRAME_SCORES, TRUST, ClipScores
from foresight.ui.cards import explained

TITLES = {  # of each score: its name, which way is better, its unit
    "lpips": ("LPIPS", "↓", ""),
    "haarpsi": ("HaarPSI", "↑", ""),
    "ssim": ("SSIM", "↑", ""),
    "psnr": ("PSNR", "↑", " dB"),
    "mask_iou": ("Mask IoU", "↑", ""),
    "tlpips": ("tLPIPS", "↓", ""),
    "warp_error": ("Warp error", "↓", ""),
    "difference_error": ("Difference error", "↓", ""),
    "change_within": ("Change within a step", "↑", ""),
    "change_between": ("Change between steps", "↑", ""),
    "centroid_error": ("Centroid error", "↓", " px"),
    "velocity_error": ("Velocity error", "↓", " px/frame"),
    "direction_right": ("Direction right", "↑", ""),
}
_DECIMALS = {"psnr": 1, "centroid_error": 2, "velocity_error": 2}  # of others 3
_SHARES = ("change_within", "change_between", "direction_right")
CONTROL_TITLES = {
    "oracle": "VAE alone",
    "still": "Still copy",
    "held": "One frame a step",
    "shuffled": "Shuffled",
    "lag": "One frame late",
}
LINES = ("reconstruction", "oracle", "still")  # of a curve, in this order of its legend
_ONE_IMAGE, _APART = 0.1, 0.5  # of the VAE's own change within steps: below, two frames look alike; are hardly told
_MOST_DB = 50.0  # of a drawn PSNR: beyond it a curve tells nothing, and equal frames have 100
_HIGH = 100  # of a curve's drawing, whose width is one for each frame


def sheet(frames: Tensor) -> Image.Image:
    """All frames (F, 3, H, W) of a clip in one image, row by row, as many in a row as `columns` says."""
    count, _, height, width = frames.shape
    across = columns(count)
    pixels = (frames.detach().float().clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1).cpu().numpy()
    canvas = np.zeros((-(-count // across) * height, across * width, 3), np.uint8)
    for k, frame in enumerate(pixels):
        top, left = k // across * height, k % across * width
        canvas[top : top + height, left : left + width] = frame
    return Image.fromarray(canvas)


def columns(count: int) -> int:
    """How many frames of a clip stand in a row of its sheet."""
    return math.ceil(math.sqrt(count))


def payload(decoded: DecodedClip, sheets: dict[str, str], token: str, report: ClipReport | None = None) -> str:
    """A clip as player.js reads it.

    Args:
        decoded: The clip.
        sheets: The address of each role's sheet; a role that has none yet may follow with the same token.
        token: Tells this clip from the one before; the frame shown stays while it is the same.
        report: Its scores; None while they are computed.
    """
    count, _, height, width = decoded.sample.frames.shape
    return json.dumps(
        {
            "id": token,
            "count": count,
            "width": width,
            "height": height,
            "fps": decoded.sample.fps,
            "columns": columns(count),
            "row": busiest_row(decoded.sample.frames),
            "sheets": sheets,
            "curves": curves(report) if report else "",
            "tracks": _tracks(report.scores) if report else None,
        }
    )


def busiest_row(frames: Tensor) -> int:
    """The row of a clip (F, 3, H, W) in which most changes over time: where an x–t slice shows most."""
    return int(frames.std(0, correction=0).sum((0, 2)).argmax())


def _tracks(scores: ClipScores) -> list[dict[str, Any]]:
    """Each object's true and decoded centroid by frame, in pixels; null where it is not seen."""
    pairs = zip(scores.true_tracks.unbind(1), scores.tracks.unbind(1), strict=True)
    return [{"true": _places(true), "decoded": _places(decoded)} for true, decoded in pairs]


def _places(track: Tensor) -> list[list[float] | None]:
    """(F, 2) as JSON values."""
    return [None if math.isnan(x) else [round(x, 2), round(y, 2)] for x, y in track.tolist()]


def curves(report: ClipReport) -> str:
    """Each frame score against time: the reconstruction, the VAE alone and the still copy, with the worst frame's mark.

    player.js writes the values at the shown frame into the spans that carry data-values.
    """
    return "".join(_curve(report, name) for name in FRAME_SCORES if name in report.scores.worst)


def _curve(report: ClipReport, name: str) -> str:
    title, better, unit = TITLES[name]
    clips = (report.scores, report.controls["oracle"], report.controls["still"])
    lines = [_values(scores.frames[name]) for scores in clips]
    most = _MOST_DB if name == "psnr" else math.inf
    known = [min(value, most) for line in lines for value in line if value is not None]
    low, high = min(known), max(known)
    spread = (high - low) or 1.0
    count, worst = len(lines[0]), report.scores.worst[name]

    def at(k: int, value: float) -> str:
        return f"{k + 0.5:g} {4 + (_HIGH - 8) * (high - min(value, most)) / spread:.1f}"

    drawn = "".join(
        f'<path class="{role}" d="{_path([None if v is None else at(k, v) for k, v in enumerate(line)])}"/>'
        for role, line in zip(LINES, lines, strict=True)
    )
    values = escape(json.dumps(dict(zip(LINES, lines, strict=True))))
    text = f"{_number(lines[0][worst], name)}{unit}"
    return (
        f'<div class="fs-video-curve"><p><b>{title} {better}</b> '
        f'<span data-values="{values}" data-unit="{unit}"></span>'
        f'<button type="button" data-seek="{worst}">worst: frame {worst + 1}, {text}</button></p>'
        f'<svg viewBox="0 0 {count} {_HIGH}" preserveAspectRatio="none" role="img" '
        f'aria-label="{title} by frame, from {_number(low, name)} to {_number(high, name)}">{drawn}'
        f'<path class="worst" d="M{worst + 0.5:g} 0V{_HIGH}"/></svg></div>'
    )


def _path(points: Sequence[str | None]) -> str:
    """A line through the points, broken where there is none; a point alone is a short stroke."""
    parts, pen = [], "M"
    for k, point in enumerate(points):
        if point is None:
            pen = "M"
            continue
        alone = pen == "M" and (k + 1 == len(points) or points[k + 1] is None)
        parts.append(f"{pen}{point}" + ("h.01" if alone else ""))
        pen = "L"
    return "".join(parts)


def _values(x: Tensor) -> list[float | None]:
    return [None if math.isnan(value) else round(value, 5) for value in x.tolist()]


def _percent(share: float) -> str:
    return f"{round(share, 2) + 0.0:.0%}"  # 0 % has no sign


def _number(value: float | None, name: str) -> str:
    if value is None:
        return "–"
    if name in _SHARES:
        return _percent(value)
    return f"{value:.{_DECIMALS.get(name, 3)}f}"


def score_table(report: ClipReport) -> str:
    """Each video score beside its controls; its name opens what it may be trusted for."""
    means = {"reconstruction": report.scores.means()}
    means |= {name: report.controls[name].means() for name in CONTROL_TITLES}
    heads = f'<th scope="col">{escape(report.record.name)}</th>' + "".join(
        f'<th scope="col"><abbr title="{escape(CONTROLS[name])}">{title}</abbr></th>'
        for name, title in CONTROL_TITLES.items()
    )
    rows = "".join(
        f'<tr><th scope="row">{explained(f"hint-video-{name}", title, TRUST[name])} {better} <small>{unit}</small></th>'
        + "".join(f"<td>{_number(scores[name], name)}</td>" for scores in means.values())
        + "</tr>"
        for name, (title, better, unit) in TITLES.items()
    )
    missing = [TITLES[name][0] for name in TITLES if means["reconstruction"][name] is None]
    note = f"<p>–: {', '.join(missing)} cannot be measured in this clip.</p>" if missing else ""
    return (
        '<div class="fs-video-scores" tabindex="0" role="region" aria-label="Scores and controls"><table>'
        f'<caption>Means over the clip, beside clips that are wrong in a known way</caption><thead><tr><th scope="col">'
        f"Score</th>{heads}</tr></thead><tbody>{rows}</tbody></table>{note}</div>"
    )


def moved(report: ClipReport) -> str:
    """Whether what moved went the right way, in plain words; empty where nothing moved far enough to tell."""
    right, error = report.scores.direction_right, report.scores.means()["centroid_error"]
    if not len(right):
        return ""
    if report.scores.tracks.shape[1] == 0:
        return f"The picture as a whole moves the {'right' if right.all() else 'wrong'} way."
    words = f"The direction is right for {int(right.sum())} of {len(right)} moving object{'s' * (len(right) != 1)}"
    return f"{words}, {error:.1f} px from the true places on average." if error is not None else f"{words}."


def steps_in_words(report: ClipReport) -> str:
    """Whether the two frames of a step can be told apart in the reconstruction, in plain words and measured figures.

    Empty where the adapter cannot, which is said of it anyway, and where nothing changes.
    """
    within, between = (report.scores.means()[name] for name in ("change_within", "change_between"))
    alone = report.controls["oracle"].means()["change_within"]
    if not gives_each_frame(report.record) or within is None or alone is None:
        return ""
    read_back = _percent(within) if within > 0.005 else "None"  # a little below 0, as noise is, puzzles
    figures = f"{read_back} of the true change within steps of two frames is read back (VAE alone {_percent(alone)}"
    figures += ")" if between is None else f"), {_percent(between)} of that between steps"
    if within < _ONE_IMAGE * alone:
        return f"{figures}: the two frames of a step look the same here, and which came first is not to be seen."
    if within < _APART * alone:
        return f"{figures}: the two frames of a step are hardly told apart here."
    return f"{figures}: the two frames of a step are told apart."


def headline(decoded: DecodedClip, title: str, address: str, link: str, report: ClipReport | None = None) -> str:
    """What is shown, how long it took, the worst frame, and what is to be known of the clip.

    Args:
        decoded: The clip.
        title: Its name.
        address: Of this view; empty where no link can open it.
        link: The same in words, as HTML.
        report: Its scores; None while they are computed.
    """
    sample, record, seconds = decoded.sample, decoded.record, decoded.seconds
    count = len(sample.frames)
    facts = [f"{count} frame{'s' * (count != 1)} at {sample.fps:g} a second"]
    facts.append(f"reconstruction {seconds['reconstruction']:.1f} s")
    if report:
        facts.append(f"VAE alone {report.seconds['oracle']:.1f} s, scores {report.seconds['scores']:.1f} s")
    else:
        facts.append("the VAE alone and scores are being computed")
    notes = [f'<p class="note">{escape(decoded.notice)}</p>'] if decoded.notice else []
    if not gives_each_frame(record) and count > 1:
        notes.append(
            '<p class="note">This adapter gives both frames of a step one image: no motion within a step is seen.</p>'
        )
    if decoded.distance > decoded.far:
        notes.append(
            f'<p class="note far"><strong>⚠ Unlike what this adapter was trained on</strong> (distance '
            f"{decoded.distance:.2f}, limit {decoded.far:.2f}): these scores speak of the adapter more than of the "
            "latents.</p>"
        )
    worst = ""
    if report:
        notes += [f'<p class="note">{words}</p>' for words in (moved(report), steps_in_words(report)) if words]
        k, values = report.scores.worst["lpips"], report.scores.frames["lpips"]
        worst = (
            f"Worst frame by LPIPS: <b>{k + 1}</b>, at {k / sample.fps:.2f} s "
            f"({values[k]:.3f}; mean {values.mean():.3f})."
        )
    return (
        f'<div class="fs-video-head" data-link="{escape(address)}"><h3>{escape(title)} <span>at</span> {record.point} '
        f'<span>read by</span> {escape(record.name)}</h3><p role="status">{" · ".join(facts)}. {worst}</p>'
        f"{''.join(notes)}<p>View: {link}.</p></div>"
    )
