"""The Failures tab's results as HTML: how far a run has come, its means, its pictures, the worst first."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any

from foresight.data.archive import Broken
from foresight.inspection.evaluation import ImageScores, summarise
from foresight.inspection.tables import own_score
from foresight.metrics.baselines import SEED_TARGETS
from foresight.metrics.masks import NOT_MEASURABLE
from foresight.metrics.matching import ObjectScore
from foresight.metrics.scores import SCORES
from foresight.ui import view_link as link
from foresight.ui.cards import HINTS, NAMES, SEED_STUDY, number
from foresight.ui.failures import choices
from foresight.ui.failures.runs import Run, Shot
from foresight.ui.uploads import address

EMPTY = '<p class="fs-failures-empty">Nothing evaluated yet: choose pictures and an adapter, then press Evaluate.</p>'
WAITING = '<p class="fs-failures-empty" role="status">Waiting for the model…</p>'
NOTHING = '<p class="fs-failures-empty">No picture meets these filters.</p>'
LISTED = 50  # broken files named on the page; all are in the exported table
OF_ALL = ["#", "picture", *(NAMES[name] for name in SCORES), "distance"]  # headers of any pictures
HEADERS = [*OF_ALL, "background", "objects"]  # of scenes
OF = {"adapter": "", "blank": "blank_", "oracle": "oracle_"}


def status(run: Run) -> str:
    """The bar, the words, the files that were left out; and, for tab.css, what these pictures have nothing of."""
    if run.seconds is not None:
        word = "All" if run.done == run.total else "Stopped:"
        what = "files" if run.broken else "pictures"
        told = f"{word} {run.done} of {run.total} {what} in {clock(run.seconds)}"
    else:
        left = run.remaining()
        told = f"{run.done} of {run.total} pictures" + ("" if left is None else f", about {clock(left)} left")
    far = sum(line.distance > line.far for line in run.lines)
    notes = f" ⚠ {far} unlike what this adapter was trained on." if far else ""
    placeless = run.seconds is not None and not any(bool(line.plane.any()) for line in run.lines)
    without = " ".join(["factors"] * (not run.fields) + ["places"] * placeless)
    return (
        f'<div class="fs-failures-status" data-without="{without}">'
        f"<h3>{run.record.point} <span>read by</span> {escape(run.record.name)}</h3>"
        f'<progress max="{max(1, run.total)}" value="{run.done}" aria-label="pictures evaluated"></progress>'
        f'<p role="status">{told}.{notes}</p>{_left_out(run.broken)}</div>'
    )


def _left_out(broken: Sequence[Broken]) -> str:
    if not broken:
        return ""
    items = "".join(f"<li><b>{escape(b.name)}</b>: {escape(b.reason)}</li>" for b in broken[:LISTED])
    more = f"<li>and {len(broken) - LISTED} more, in the exported table</li>" if len(broken) > LISTED else ""
    files = "1 file" if len(broken) == 1 else f"{len(broken)} files"
    return f"<details open><summary>{files} left out</summary><ul>{items}{more}</ul></details>"


def clock(seconds: float) -> str:
    """ "8 s", "3 min 20 s" """
    whole = max(1, round(seconds))
    return f"{whole} s" if whole < 60 else f"{whole // 60} min {whole % 60} s"


def view(run: Run, chosen: Sequence[Any]) -> str:
    """A link that opens a run and its filters again. Of uploads, as long as the run is kept: they are nowhere else.

    chosen: of `runs.select`.
    """
    token = choices.EVALUATION if run.fields else choices.UPLOADED
    fields = {**run.fields, **dict(zip(choices.FILTERS, chosen, strict=True)), token: run.token}
    usual = choices.FACTORS | choices.FILTERS | {token: None}
    asked = escape(link.failures_query(str(run.record.point), run.record.name, fields, usual))
    what = "Link to this view" if run.fields else "Link to this view, for as long as the app keeps it"
    return f'<p class="fs-failures-link" data-link="{asked}"><a href="{asked}">{what}</a></p>'


def summary(lines: Sequence[ImageScores], total: int) -> str:
    """Means with 95 % intervals of the lines shown, beside blank page and oracle."""
    if not lines:
        return NOTHING
    found = summarise([line.flat() for line in lines])
    heads = "".join(
        f'<th scope="col" title="{HINTS[n]}">{NAMES[n]} {"↓" if n == "lpips" else "↑"}</th>' for n in SCORES
    )
    rows = "".join(
        f'<tr><th scope="row">{told}</th>{"".join(_mean(found, OF[of] + n, n) for n in SCORES)}</tr>'
        for of, told in (("adapter", "this adapter"), ("blank", "blank page"), ("oracle", "oracle"))
    )
    skill = "".join(
        f"<td>{'–' if found['skill'][n] is None else format(found['skill'][n], '.2f')}</td>" for n in SCORES
    )
    targets = ", ".join(f"{NAMES[n]} {'&lt;' if n == 'lpips' else '&gt;'} {v:.2f}" for n, v in SEED_TARGETS.items())
    none = "".join(f" {n} without mask IoU: {escape(why)}." for why, n in found["without_mask"].items())
    if found["not_measurable"]:
        none += (
            f" In {found['not_measurable']} the mask IoU is not measurable: {NOT_MEASURABLE}. They are left out of its "
            "mean, order and charts."
        )
    return (
        '<table class="fs-failures-means">'
        f"<caption>Means of {len(lines)} of {total} pictures, with 95 % intervals. "
        f"Targets of the {SEED_STUDY}: {targets}.{none}</caption>"
        f"<thead><tr><td></td>{heads}</tr></thead>"
        f'<tbody>{rows}<tr><th scope="row">skill</th>{skill}</tr></tbody></table>'
    )


def _mean(found: dict[str, Any], column: str, name: str) -> str:
    """A cell of a summary: the mean, its interval, and of how many pictures it is where those are not all."""
    count, total = found["measured"][column], found["pictures"]
    part = "" if count == total else f"<small>{count} of {total} pictures</small>"
    if found["scores"][column] is None:
        return f"<td>–{part}</td>"
    mean, low, high = (None if value is None else number(name, value) for value in found["scores"][column])
    return f"<td>{mean}<small>{'n = 1' if low is None else f'{low} to {high}'}</small>{part}</td>"


def _number(name: str, value: float | None) -> str:
    return "–" if value is None else number(name, value)


def gallery(shots: Sequence[Shot], score: str, limit: int) -> str:
    """The first `limit` pictures beside their reconstructions; each is a button that opens Inspect."""
    if not shots:
        return NOTHING
    more = len(shots) - limit
    ranked = [shot for shot in shots if own_score(shot.line, score) is not None]
    rest = shots[len(ranked) : limit]
    unranked = (
        f'<h4 class="fs-failures-unranked">Not in this order: {len(shots) - len(ranked)} without {NAMES[score]}</h4>'
        f'<div class="fs-failures-gallery">{"".join(_shot(shot, score) for shot in rest)}</div>'
    )
    button = f'<button type="button" class="more" data-more="1">Show {min(more, 24)} more of {more}</button>'
    return (
        f'<div class="fs-failures-gallery">{"".join(_shot(shot, score) for shot in ranked[:limit])}</div>'
        f"{unranked if rest else ''}{button if more > 0 else ''}"
    )


def _shot(shot: Shot, score: str) -> str:
    line, name = shot.line, escape(short(shot.line), quote=True)
    told = f"{NAMES[score]} {_number(score, own_score(line, score))}"
    rest = " · ".join(f"{NAMES[n]} {_number(n, own_score(line, n))}" for n in ("lpips", "mask_iou") if n != score)
    things = "".join(f"<li>{_thing(thing)}</li>" for thing in line.objects)
    odd = '<span class="far">⚠ unlike its training data</span>' if line.distance > line.far else ""
    if own_score(line, "mask_iou") == 0:
        odd += '<span class="far">⚠ no object is found where one was</span>'
    if line.mask_reason == NOT_MEASURABLE:
        odd += f'<span class="rest">mask IoU not measurable: {NOT_MEASURABLE}</span>'
    return (
        f'<button type="button" data-number="{shot.number}" title="Open in Inspect" '
        f'aria-label="{name}, {told}: open in Inspect">'
        f'<span class="both"><img src="{address(shot.original)}" alt="original">'
        f'<img src="{address(shot.made)}" alt="reconstruction"></span>'
        f'<b>{told}</b><span class="rest">{rest}</span><span class="rest">{name}</span>{odd}<ul>{things}</ul></button>'
    )


def _thing(thing: ObjectScore) -> str:
    """A scene's object; a word marks those that were mostly lost, so that colour is not needed."""
    lost = thing.iou is not None and thing.iou < 0.5
    told = f"{thing.size} {thing.color} {thing.shape} {_number('mask_iou', thing.iou)}"
    return f"<strong>✗ {told}</strong>" if lost else told


def short(line: ImageScores) -> str:
    """A file's name, or a scene's number without its hash."""
    return line.name.split(" (")[0] if isinstance(line.case, dict) else line.name


def table(shots: Sequence[Shot], scenes: bool = True) -> list[list[Any]]:
    """Rows for HEADERS; for the first of them alone where the pictures are no scenes."""
    rows = [
        [
            shot.number,
            short(shot.line),
            *(None if (v := own_score(shot.line, n)) is None else round(v, 4) for n in SCORES),
            round(shot.line.distance, 2),
            shot.line.background or "",
            ", ".join(f"{t.color} {t.shape}" for t in shot.line.objects),
        ]
        for shot in shots
    ]
    return rows if scenes else [row[: len(OF_ALL)] for row in rows]


# A click on a picture tells its number; one on the last button asks for more.
PICK = """element.addEventListener('click', event => {
  const shot = event.target.closest('[data-number]'), more = event.target.closest('[data-more]');
  if (shot) trigger('click', {number: Number(shot.dataset.number)});
  if (more) trigger('select', {});
});"""
