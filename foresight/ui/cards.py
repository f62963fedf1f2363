"""Results in words and marks, as HTML. Whatever comes from a file or a user is escaped here."""

from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

from foresight.adapters.checkpoint import held_out_count, measured, measured_share, score_tables
from foresight.adapters.registry import AdapterRecord
from foresight.inspection.familiarity import READ_WRONG
from foresight.inspection.inspector import Report
from foresight.metrics.baselines import LOWER_IS_BETTER, SEED_TARGETS, meets_target
from foresight.metrics.intervals import Interval
from foresight.metrics.masks import NOT_MEASURABLE
from foresight.metrics.scores import Scores
from foresight.models.points import ExtractionPoint
from foresight.ui.services import ImageSource

NAMES = {
    "lpips": "LPIPS",
    "haarpsi": "HaarPSI",
    "ssim": "SSIM",
    "mask_iou": "Mask IoU",
    "edge_f1": "Edge F1",
    "psnr": "PSNR",
}
HINTS = {
    "lpips": "How different two pictures look; 0 is the same.",
    "haarpsi": "How alike two pictures look, by their wavelets: a second opinion, which no adapter is trained on; "
    "1 is the same.",
    "ssim": "How alike their structure is; 1 is the same.",
    "mask_iou": "How well the objects found in both overlap; 1 is exact.",
    "edge_f1": "How much of the outlines of both is in the same place, to 2 pixels; 1 is all. Another photo gets 0.2.",
    "psnr": "How close the pixels are, in decibels; 30 is good.",
}
SEED_STUDY = (
    '<abbr title="The study that this work starts from. It read Qwen2.5-VL-7B with one MLP on 50 pictures, and set '
    'these targets; About tells more.">seed study</abbr>'
)
# What training calls the held-out scenes that adapters are judged by.
ONE_ON_WHITE, ANY_SCENES = "one object on white", "1-5 objects, all backgrounds"
HELD_OUT_PHOTOS = "held-out photos"
NOTED = ("lpips", "haarpsi", "ssim", "mask_iou")  # scores that an adapter's note has, where its card has them
NO_RESULT = "No picture yet: choose a point that has an adapter."
NOT_ASKED = "No picture yet: press Reconstruct."


def not_read_yet(size: int) -> str:
    """In place of a first result, where a model of that many bytes is read when it is asked for something."""
    return f"No picture yet: press Reconstruct. Of the model's {size / 1e9:.1f} GB what the point needs is read then."


def headline(report: Report, cold: bool = False, address: str = "", link: str = "", steps: str = "") -> str:
    """What is shown, how long it took by stage, and what to think of it: a banner where the adapter does not serve.

    cold: made while the app was starting, so that its time would tell nothing. address: of this view, empty where no
    link can open it. link: the same in words, as HTML. steps: what to do about a picture that is read wrong, from
    `next_steps`.
    """
    name, seconds = escape(report.chosen.name), report.seconds
    stages = " · ".join(f"{k} {v:.2f}" for k, v in seconds.items() if k != "total")
    height, width = report.original.shape[1:]
    time = f"{width} × {height} px · "
    time += "made while the app was starting" if cold else f"{seconds['total']:.2f} s: {stages}"
    chosen = report.chosen
    where = f"distance {chosen.distance:.2f}, limit {chosen.far:.2f}"
    if chosen.unfamiliar:
        notice = (
            f"<strong>⚠ This adapter has not learned pictures like this one</strong> ({where}). What you see tells "
            f"more of the adapter than of what the model still knows here. {steps}"
        )
    elif not chosen.is_right:
        notice = f"Much of this picture is not read here, though it is like what the adapter learned ({where}). {steps}"
    elif chosen.distance > chosen.far:
        notice = f"Unlike what this adapter was trained on ({where}); its LPIPS is within {READ_WRONG} all the same."
    else:
        notice = f"Like what this adapter was trained on: {where}."
    if chosen.notice:
        notice += f" <strong>⚠ This adapter was {escape(chosen.notice)}.</strong>"
    return (
        f'<div class="fs-head" data-link="{escape(address)}"><h3>{report.point} <span>read by</span> {name}</h3>'
        f'<p class="time">{time}{" · " + link if link else ""}</p><p class="fs-unseen">{said(chosen.scores)}</p>'
        f'<p class="{"far" if chosen.unfamiliar else "near"}">{notice}</p></div>'
    )


def said(scores: Scores) -> str:
    """The scores in one line, without those that there are not: "LPIPS 0.333, HaarPSI 0.503, …"."""
    values = {name: scores[name] for name in shown_scores(scores)}
    return ", ".join(f"{NAMES[name]} {number(name, value)}" for name, value in values.items() if value is not None)


def next_steps(point: ExtractionPoint, better: AdapterRecord | None, trains: bool) -> str:
    """What to do about a picture that is read wrong: a button for the adapter that reads it, a link to the Train tab.

    point: where it is read wrong. better: as from `Inspector.suggest`. trains: whether this page has a Train tab.
    """
    steps = []
    if better is not None:
        at = "here" if better.point == point else f"at {better.point}"
        name = escape(better.name)
        button = f'<button type="button" data-point="{better.point}" data-adapter="{name}">{name} {at}</button>'
        steps.append(f"Try {button}, the nearest that reads it.")
    if trains:
        steps.append('<a href="?tab=train">Fit one on your pictures</a>.')
    return " ".join(steps)


def stale(point: ExtractionPoint | None) -> str:
    """Says of the dimmed result below what it is of: there is no adapter at `point`, or (None) no picture."""
    why = "the picture was removed" if point is None else f"no adapter reads {point}"
    return f'<p class="fs-stale" role="status">The last result, of the point named above: {why}.</p>'


def awaiting(result: str) -> str:
    """Says of the dimmed result below that the picture that now stands beside it is not in it yet."""
    return f'<p class="fs-stale" role="status">{result}: this picture is not reconstructed yet.</p>'


def metric_cards(report: Report, source: ImageSource = None) -> str:
    """A card for each score of the chosen adapter, with blank page and oracle on the same scale.

    A photo, which shows no objects on an even background, has a card of its edges in place of that of its masks.

    source: beside what the adapter scored on held-out pictures of its kind; a scene like the seed study's also has the
    targets of that.
    """
    typical, targets = _usual(report.chosen.card, source), SEED_TARGETS if like_the_seed(source) else {}
    names = shown_scores(report.chosen.scores)
    note = f"The targets are those of the {SEED_STUDY}." if targets else "Skill: 0 is a blank page, 1 the oracle."
    return (
        f'<div class="fs-cards">{"".join(_card(report, name, typical, targets.get(name)) for name in names)}</div>'
        f'<p class="fs-cards-note">{note}</p>'
    )


def explained(name: str, words: str, explanation: str) -> str:
    """Words that open what explains them, by a click, a touch or a key. name: an id that the page has once."""
    return (
        f'<button type="button" class="fs-hint" popovertarget="{name}">{escape(words)}</button>'
        f'<span popover id="{name}">{escape(explanation)}</span>'
    )


def shown_scores(scores: Scores | None) -> list[str]:
    """The names of the scores that are shown of an image: edges where it has no mask IoU; None: not scored yet."""
    edges = scores is not None and scores["mask_iou"] is None and scores["edge_f1"] is not None
    return [name for name in NAMES if name != ("mask_iou" if edges else "edge_f1")]


def like_the_seed(source: ImageSource) -> bool:
    """Whether it is a scene like those of the seed study: one object on white."""
    return isinstance(source, dict) and len(source["objects"]) == 1 and source["background"]["kind"] == "white"


def _usual(card: dict[str, Any], source: ImageSource) -> dict[str, str]:
    """By score, mean ± standard deviation over held-out pictures of its kind: one object on white, scene, photo."""
    scores = card.get("scores")
    if not held_out_count(scores):
        return {}
    title = ONE_ON_WHITE if like_the_seed(source) else ANY_SCENES if isinstance(source, dict) else HELD_OUT_PHOTOS
    expected = {}
    for name, (mean, low, high) in score_tables(scores).get(title, {}).items():
        if name in NAMES and low is not None and high is not None:
            # The interval of a mean is 2 · 1.96 standard deviations / √n wide.
            deviation = (high - low) / 3.92 * (measured(scores, title, name) or 0) ** 0.5
            share = measured_share(scores, title, name)
            expected[name] = f"{number(name, mean)} ± {number(name, deviation)}" + (f", {share}" if share else "")
    return expected


def _card(report: Report, name: str, usual: dict[str, str], target: float | None) -> str:
    value = report.chosen.scores[name]
    blank, oracle = report.blank.scores[name], report.oracle.scores[name]
    arrow, better = ("↓", "lower") if name in LOWER_IS_BETTER else ("↑", "higher")
    sense = f'<span role="img" aria-label="{better} is better" title="{better} is better">{arrow}</span>'
    text = "–" if value is None or blank is None else number(name, value)
    hint = explained(f"hint-{name}", NAMES[name], HINTS[name])
    head = f'<div class="head"><h4>{hint} {sense}</h4><p class="value">{text}</p></div>'
    if value is None or blank is None:
        reason = report.chosen.mask_reason or "it cannot be told here"
        word = "Not measurable" if reason == NOT_MEASURABLE else "Not scored"
        return f'<div class="fs-card">{head}<p class="verdict">{word}: {escape(reason)}.</p></div>'
    skill = report.chosen.skill[name]
    extras = "" if skill is None else f"<span>skill {skill:.2f}</span>"
    if target is None and is_worse(name, value, blank):
        extras += '<span class="fail">A blank page is better.</span>'
    if name in usual:
        extras += (
            f'<span title="mean ± standard deviation of held-out pictures of this kind">held out {usual[name]}</span>'
        )
    return (
        f'<div class="fs-card">{head}'
        f"{_verdict(name, value, blank, target)}{_unseen(report, name)}{_scale(name, value, blank, oracle, target)}"
        f'<p class="marks"><span>○ blank {number(name, blank)}</span>'
        f"<span>◇ oracle {'not measurable' if oracle is None else number(name, oracle)}</span>{extras}</p></div>"
    )


def is_worse(name: str, value: float, than: float) -> bool:
    """Whether a score is worse than another of its name."""
    return value > than if name in LOWER_IS_BETTER else value < than


def _verdict(name: str, value: float, blank: float, target: float | None) -> str:
    if target is None:
        return ""
    worse = is_worse(name, value, blank)
    limit = f"{'&lt;' if name in LOWER_IS_BETTER else '&gt;'}&nbsp;{target:.2f}"
    if not meets_target(name, value):
        return f'<p class="verdict fail">✗ Fail: the target is {limit}</p>'
    also = "; so does a blank page" if meets_target(name, blank) else ""
    also = "; yet a blank page is better" if worse else also
    return f'<p class="verdict pass">✓ Pass: meets {limit}{also}</p>'


def _unseen(report: Report, name: str) -> str:
    """Why a mask IoU is 0: what a person may still see, the one rule for all pictures does not find."""
    if name != "mask_iou" or report.chosen.mask.any():
        return ""
    return '<p class="verdict">No object stands out from the reconstruction’s background.</p>'


def _scale(name: str, value: float, blank: float, oracle: float | None, target: float | None) -> str:
    """A line on which better is to the right: ▼ this picture, ○ blank, ◇ oracle, a tick for the target."""
    values = [v for v in (value, blank, oracle, target) if v is not None]
    if name in LOWER_IS_BETTER:
        worst, best = max(values), 0.0
    else:
        worst, best = min(0.0 if name in ("mask_iou", "edge_f1") else 1.0, *values), max(1.0, *values)
        worst = min(values) if name == "psnr" else worst

    def at(v: float) -> float:
        return 8 + 184 * (v - worst) / (best - worst) if best != worst else 100

    tick = "" if target is None else f'<path class="target" d="M{at(target):.1f} 9v12"/>'
    best_mark = "" if oracle is None else f'<path class="oracle" d="M{at(oracle):.1f} 10l5 5l-5 5l-5 -5z"/>'
    return (
        '<svg class="fs-scale" viewBox="0 0 200 24" aria-hidden="true"><path class="axis" d="M6 15h188"/>'
        f'{tick}<circle class="blank" cx="{at(blank):.1f}" cy="15" r="4"/>'
        f"{best_mark}"
        f'<path class="this" d="M{at(value):.1f} 12l-5 -9h10z"/></svg>'
    )


def number(name: str, value: float) -> str:
    """A score as it is written everywhere."""
    return f"{value:.1f} dB" if name == "psnr" else f"{value:.3f}"


def object_table(objects: Sequence[tuple[str, bool, float | None, float | None]]) -> str:
    """Each object of a scene: its label, whether any of it is visible, its mask IoU and the oracle's.

    Empty where the objects are not known. An IoU is None where it cannot be measured.
    """
    if not objects:
        return ""
    cells = "".join(
        f"<li><b>{escape(label)}</b> {_iou(visible, iou)}<span>oracle {_iou(visible, best)}</span></li>"
        for label, visible, iou, best in objects
    )
    return f'<div class="fs-objects"><h4>Mask IoU of each object</h4><ul>{cells}</ul></div>'


def _iou(visible: bool, value: float | None) -> str:
    if not visible:
        return "hidden"
    return "not measurable" if value is None else f"{value:.2f}"


def adapter_note(record: AdapterRecord, requested: str | None = None) -> str:
    """An adapter's size, training data and held-out scores, from its card. requested: what it stands in for."""
    card = record.card
    count = record.parameters
    facts = [f"{count / 1e6:.1f} million parameters" if count >= 1e6 else f"{count:,} parameters"]
    facts += [f"trained on {escape(_in_words(str(card['data'])))}"] if "data" in card else []
    tables = score_tables(card.get("scores"))
    names = [name for name in NOTED if any(name in scores for scores in tables.values())]
    heads = "".join(f"<th scope=col>{NAMES[name]}</th>" for name in names)
    rows = "".join(
        f"<tr><th scope=row>{escape(data)}{_count_note(held_out_count(card.get('scores'), data))}</th>"
        f"{''.join(_mean(scores.get(name), measured_share(card.get('scores'), data, name)) for name in names)}</tr>"
        for data, scores in sorted(tables.items(), reverse=True)
    )
    table = f"<table><thead><tr><th scope=col>Held-out scores</th>{heads}</tr></thead><tbody>{rows}</tbody></table>"
    scores = table if rows else "<p>Its card has no held-out scores.</p>"
    instead = f"<p>No {escape(requested)} adapter here: {escape(record.name)} in its place.</p>" if requested else ""
    notices = f"<p>Fitted with {escape(', '.join(record.notices))}.</p>" if record.notices else ""
    return f'<div class="fs-note">{instead}<p>{" · ".join(facts)}</p>{scores}{notices}</div>'


def _count_note(count: int | None) -> str:
    return f"<small>n = {count:,}</small>" if count else ""


_DATA = {
    "scenes": "scenes",
    "motion": "moving scenes",
    "photos": "photos",
    "pans": "pans over photos",
    "clips": "clips",
}


def _in_words(data: str) -> str:
    """A card's data, "scenes:32768+photos:train*0.5", in words: "32,768 scenes, photos × 0.5"; what is none stays."""
    words = []
    for part in data.split("+"):
        named, _, weight = part.partition("*")
        kind, _, count = named.partition(":")
        known = _DATA.get(kind)
        if known is None or len(count) > 15:
            return data
        number = f"{int(count):,} " if count.isdecimal() else ""
        words.append(f"{number}{known}" + (f" × {weight}" if weight else ""))
    return ", ".join(words)


def _mean(interval: Interval | None, share: str) -> str:
    part = f"<small>{share}</small>" if share else ""
    if interval is None:
        return f"<td>–{part}</td>"
    mean, low, high = interval
    if low is None or high is None:
        return f'<td title="of one picture">{mean:.3f}<small>n = 1</small>{part}</td>'
    return f'<td title="95 % interval">{mean:.3f}<small>{low:.3f}–{high:.3f}</small>{part}</td>'


def missing_note(point: ExtractionPoint, served: Iterable[ExtractionPoint]) -> str:
    """A layer without adapters, and buttons for the nearest ones of its stage (else of the other) that have some."""
    known = sorted(set(served), key=lambda p: (p.stage != point.stage, abs(p.layer - point.layer)))
    buttons = " ".join(f'<button type="button" data-point="{p}">{p}</button>' for p in known[:2])
    where = f"Nearest with adapters: {buttons}" if known else "This model has none yet."
    return f'<div class="fs-note" role="status"><p><strong>No adapter reads {point}.</strong></p><p>{where}</p></div>'
