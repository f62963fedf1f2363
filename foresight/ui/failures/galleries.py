"""The Failures tab's results as HTML: how far an evaluation is, its means, and its images, the worst first."""

from collections.abc import Sequence
from html import escape
from typing import Any

from foresight.data.archive import Broken
from foresight.data.names import shortened
from foresight.inspection.evaluation import ImageScores, summarise
from foresight.inspection.tables import own_score
from foresight.metrics.baselines import LOWER_IS_BETTER, SEED_TARGETS
from foresight.metrics.intervals import bootstrap
from foresight.metrics.masks import NOT_MEASURABLE
from foresight.metrics.matching import ObjectScore
from foresight.metrics.patches import PhotoScores
from foresight.metrics.scores import SCORES
from foresight.ui import view_link as link
from foresight.ui.cards import HINTS, NAMES, SEED_STUDY, like_the_seed, number, shown_scores
from foresight.ui.failures import filters, form
from foresight.ui.failures.runs import Beside, Row, Run, cosine
from foresight.ui.notes import Note, Notes
from foresight.ui.pixels import FITTED
from foresight.ui.services import duration
from foresight.ui.uploads import address

EMPTY = '<p class="fs-failures-empty">Nothing evaluated yet: choose pictures and an adapter, then press Evaluate.</p>'
WAITING = '<p class="fs-failures-empty" role="status">Waiting for the model…</p>'
NOTHING = '<p class="fs-failures-empty">No picture meets these filters.</p>'
LISTED = 50  # broken files named on the page; all are in the exported table
SCENE_SCORES = tuple(name for name in SCORES if name != "edge_f1")  # of scenes, whose objects are known
IMAGE_HEADERS = ["#", "picture", *(NAMES[name] for name in SCORES), "distance"]
SCENE_HEADERS = ["#", "picture", *(NAMES[n] for n in SCENE_SCORES), "distance", "background", "objects"]
# Shares of the table's width: no column is wider than its page. A file's name and a scene's objects wrap.
IMAGE_WIDTHS: list[str | int] = ["5%", "33%", "8%", "9%", "8%", "8%", "10%", "9%", "10%"]
SCENE_WIDTHS: list[str | int] = ["5%", "10%", "8%", "9%", "8%", "8%", "10%", "9%", "11%", "22%"]
# What an address calls the token of an evaluation that is kept: of scenes, which can be evaluated again, and of
# uploads, which cannot.
EVALUATION, UPLOADED = "evaluation", "uploaded"
_MEANS = {"": "this adapter", "blank_": "blank page", "oracle_": "oracle"}  # by the prefix of their columns


def status(run: Run) -> str:
    """The bar, the words, the files that were left out; and, for tab.css, what these images have nothing of."""
    if run.seconds is not None:
        word = "All" if run.done == run.total else "Stopped:"
        noun = "files" if run.broken else "pictures"
        progress = f"{word} {run.done} of {run.total} {noun} in {duration(run.seconds)}"
    else:
        seconds = run.remaining()
        rest = "" if seconds is None else f", about {duration(seconds)} left"
        progress = f"{run.done} of {run.total} pictures{rest}"
    unfamiliar = sum(scores.unfamiliar for scores in run.scores)
    notes = f" ⚠ {unfamiliar} unlike what this adapter was trained on." if unfamiliar else ""
    placeless = run.seconds is not None and not any(bool(scores.plane.any()) for scores in run.scores)
    without = "places" if placeless else ""
    return (
        f'<div class="fs-failures-status" data-without="{without}">'
        f"<h3>{run.record.point} <span>read by</span> {escape(run.record.name)}</h3>"
        f'<progress max="{max(1, run.total)}" value="{run.done}" aria-label="pictures evaluated"></progress>'
        f'<p role="status">{progress}.{notes}</p>{_left_out(run.broken)}</div>'
    )


def _left_out(broken: Sequence[Broken]) -> str:
    if not broken:
        return ""
    items = "".join(f"<li><b>{escape(b.name)}</b>: {escape(b.reason)}</li>" for b in broken[:LISTED])
    more = f"<li>and {len(broken) - LISTED} more, in the exported table</li>" if len(broken) > LISTED else ""
    files = "1 file" if len(broken) == 1 else f"{len(broken)} files"
    return f"<details open><summary>{files} left out</summary><ul>{items}{more}</ul></details>"


def view_link(run: Run, values: filters.Values) -> str:
    """A link that opens a run and its filters again; for uploads, as long as the run is kept."""
    again = run.settings is not None and run.images.again
    settings = form.values_of(run.settings) if run.settings is not None and again else {}
    token = EVALUATION if again else UPLOADED
    defaults = form.DEFAULTS | filters.FILTERS | {"pixels": FITTED, token: None}
    fields = {**settings, "pixels": run.pixels, **filters.as_address(values), token: run.token}
    query = escape(link.failures_query(str(run.record.point), run.record.name, fields, defaults))
    text = "Link to this view" + ("" if again else ", for as long as the app keeps it")
    return f'<p class="fs-failures-link" data-link="{query}"><a href="{query}">{text}</a></p>'


def summary(scores: Sequence[ImageScores], total: int) -> str:
    """Means with 95 % intervals of the images shown, beside blank page and oracle; total: of how many images."""
    if not scores:
        return NOTHING
    means = summarise([row.flat() for row in scores])
    names = [n for n in SCORES if means["measured"][n] or means["measured"][f"oracle_{n}"]]
    heads = "".join(
        f'<th scope="col" title="{HINTS[n]}">{NAMES[n]} {"↓" if n in LOWER_IS_BETTER else "↑"}</th>' for n in names
    )
    rows = "".join(
        f'<tr><th scope="row">{title}</th>{"".join(_mean(means, prefix + n, n) for n in names)}</tr>'
        for prefix, title in _MEANS.items()
    )
    skill = "".join(f"<td>{'–' if means['skill'][n] is None else format(means['skill'][n], '.2f')}</td>" for n in names)
    targets = ", ".join(f"{NAMES[n]} {'&lt;' if n == 'lpips' else '&gt;'} {v:.2f}" for n, v in SEED_TARGETS.items())
    seed = f" Targets of the {SEED_STUDY}: {targets}." if all(like_the_seed(row.source) for row in scores) else ""
    none = "".join(f" {n} without mask IoU: {escape(why)}." for why, n in means["without_mask"].items())
    if means["not_measurable"]:
        none += (
            f" In {means['not_measurable']} the mask IoU is not measurable: {NOT_MEASURABLE}. They are left out of its "
            "mean, order and charts."
        )
    if means["other_sizes"]:
        none += f" ⚠ {means['other_sizes']} are of another size than the adapter was fitted at."
    return (
        '<table class="fs-failures-means">'
        f"<caption>Means of {len(scores)} of {total} pictures, with 95 % intervals."
        f"{seed}{none}</caption>"
        f"<thead><tr><td></td>{heads}</tr></thead>"
        f'<tbody>{rows}<tr><th scope="row">skill</th>{skill}</tr></tbody></table>'
    )


def _mean(means: dict[str, Any], column: str, name: str) -> str:
    """A cell of a summary: the mean, its interval, and of how many images it is where those are not all."""
    count, total = means["measured"][column], means["pictures"]
    part = "" if count == total else f"<small>{count} of {total} pictures</small>"
    if means["scores"][column] is None:
        return f"<td>–{part}</td>"
    mean, low, high = (None if value is None else number(name, value) for value in means["scores"][column])
    return f"<td><b>{mean}</b><small>{'n = 1' if low is None else f'{low} to {high}'}</small>{part}</td>"


def chips(run: Run, values: filters.Values) -> str:
    """`filters.chips` of a run."""
    beside, like = run.beside(values), run.alike(values)
    return filters.chips(values, beside.title if beside else None, line_name(like.scores) if like else None)


def _number(name: str, value: float | None) -> str:
    return "–" if value is None else number(name, value)


def gallery(
    rows: Sequence[Row],
    score: str,
    limit: int,
    notes: Notes | None = None,
    beside: Beside | None = None,
    like: Row | None = None,
) -> str:
    """The first `limit` images beside their reconstructions; each is a button that opens Inspect.

    Args:
        rows: In order.
        score: That they are sorted by.
        limit: Images at most.
        notes: Has their tags and notes.
        beside: The evaluation that they are compared with.
        like: The image whose like come first.
    """
    if not rows:
        return NOTHING
    more = len(rows) - limit
    ranked = [r for r in rows if like or (beside.gain(r, score) if beside else own_score(r.scores, score)) is not None]
    rest = rows[len(ranked) : limit]

    def tiles(part: Sequence[Row]) -> str:
        return "".join(_tile(row, score, notes.get(row.key) if notes else Note(), beside, like) for row in part)

    unranked = (
        f'<h4 class="fs-failures-unranked">Not in this order: {len(rows) - len(ranked)} without {NAMES[score]}</h4>'
        f'<div class="fs-failures-gallery">{tiles(rest)}</div>'
    )
    button = f'<button type="button" class="more" data-more="1">Show {min(more, 24)} more of {more}</button>'
    order = f'<p class="fs-failures-order">{_in_order(rows, score, beside, like)}</p>' if beside or like else ""
    return (
        f'{order}<div class="fs-failures-gallery">{tiles(ranked[:limit])}</div>'
        f"{unranked if rest else ''}{button if more > 0 else ''}"
    )


def _in_order(rows: Sequence[Row], score: str, beside: Beside | None, like: Row | None) -> str:
    """What the order of the images is, where it is not that of a score."""
    words = []
    if beside is not None:
        gains = [gain for row in rows if (gain := beside.gain(row, score)) is not None]
        worse = sum(gain > 0 if score in LOWER_IS_BETTER else gain < 0 for gain in gains)
        words.append(
            f"{NAMES[score]}: worse than <b>{escape(beside.title)}</b> in {worse} of {len(gains)} pictures. "
            "Each third picture is its reconstruction. "
        )
        if gains:
            mean, low, high = bootstrap(gains)
            interval = "" if low is None or high is None else f" (95 % {low:+.3f} to {high:+.3f})"
            words.append(f"Mean difference {mean:+.3f}{interval}. ")
    if like is not None:
        words.append(
            f"First the pictures whose latents, averaged over tokens, are nearest to those of "
            f"<b>{escape(line_name(like.scores))}</b>, by the cosine. “Clear all” ends it."
        )
    return "".join(words)


def _tile(row: Row, score: str, note: Note, beside: Beside | None, like: Row | None) -> str:
    scores, name = row.scores, escape(short_name(row.scores), quote=True)
    value = f"{NAMES[score]} {_number(score, own_score(scores, score))}"
    other = beside.rows.get(row.key) if beside else None
    if beside and (gain := beside.gain(row, score)) is not None:
        value += f", {_number(score, abs(gain))} {'worse' if (gain > 0) == (score in LOWER_IS_BETTER) else 'better'}"
    if like:
        value = f"cosine {cosine(row, like):.3f} · {value}"
    adapter_scores = scores.scores["adapter"]
    names = [n for n in shown_scores(adapter_scores) if n in ("lpips", "haarpsi", "mask_iou", "edge_f1") and n != score]
    others = " · ".join(f"{NAMES[n]} {_number(n, adapter_scores[n])}" for n in names)
    objects = "".join(f"<li>{_object(item)}</li>" for item in scores.objects)
    notes = '<span class="far">⚠ unlike its training data</span>' if scores.unfamiliar else ""
    boxes = _boxes(scores.photo, scores.size) if scores.photo else ""
    if scores.photo:
        worst = ", ".join(f"{patch.lpips:.2f}" for patch in scores.photo.patches)
        notes += f'<span class="rest">{", ".join(scores.photo.traits.values())}; LPIPS in the boxes {worst}</span>'
    if own_score(scores, "mask_iou") == 0:
        notes += '<span class="far">⚠ no object is found where one was</span>'
    if scores.mask_reason == NOT_MEASURABLE:
        notes += f'<span class="rest">mask IoU not measurable: {NOT_MEASURABLE}</span>'
    if note.tags or note.text:
        tags = "".join(f"<i>{escape(tag)}</i>" for tag in note.tags)
        notes += f'<span class="note">{tags}{escape(note.text)}</span>'
    third = f'<span><img src="{address(other.reconstruction)}" alt="by the other adapter"></span>' if other else ""
    return (
        f'<div class="tile"><button type="button" data-number="{row.number}" title="Open in Inspect" '
        f'aria-label="{name}, {value}: open in Inspect">'
        f'<span class="both"><span><img src="{address(row.original)}" alt="original">{boxes}</span>'
        f'<span><img src="{address(row.reconstruction)}" alt="reconstruction">{boxes}</span>{third}</span>'
        f'<b>{value}</b><span class="rest">{others}</span>'
        f'<span class="rest" title="{name}">{escape(line_name(scores))}</span>'
        f"{notes}<ul>{objects}</ul></button>"
        f'<button type="button" class="alike" data-like="{row.number}" '
        f'aria-label="pictures similar to {name} first">≈ Similar</button></div>'
    )


def _boxes(photo: PhotoScores, size: tuple[int, int]) -> str:
    """Where a photo is read worst, laid over its picture, which is fitted into its frame as an SVG is."""
    height, width = size
    boxes = "".join(f'<rect x="{p.left}" y="{p.top}" width="{p.side}" height="{p.side}"/>' for p in photo.patches)
    return f'<svg viewBox="0 0 {width} {height}" aria-hidden="true">{boxes}</svg>'


def _object(scores: ObjectScore) -> str:
    """A scene's object; a word marks those that were mostly lost, so that colour is not needed."""
    lost = scores.iou is not None and scores.iou < 0.5
    text = f"{scores.size} {scores.color} {scores.shape} {_number('mask_iou', scores.iou)}"
    return f"<strong>✗ {text}</strong>" if lost else text


def title(scores: ImageScores, score: str) -> str:
    """What an image is called where it is looked at alone: "scene 7, LPIPS 0.312"."""
    return f"{short_name(scores)}, {NAMES[score]} {_number(score, own_score(scores, score))}"


def short_name(scores: ImageScores) -> str:
    """A file's name, or a scene's number without its hash."""
    return scores.name.split(" (")[0] if isinstance(scores.source, dict) else scores.name


def line_name(scores: ImageScores) -> str:
    """A name for a narrow place, whose hover has the whole."""
    return shortened(short_name(scores), 48)


def table(rows: Sequence[Row], scenes: bool = True) -> list[list[Any]]:
    """Cells for SCENE_HEADERS, or for IMAGE_HEADERS where the images are no scenes."""
    names = SCENE_SCORES if scenes else SCORES
    return [
        [
            row.number,
            short_name(row.scores),
            *(None if (v := own_score(row.scores, n)) is None else round(v, 2 if n == "psnr" else 4) for n in names),
            round(row.scores.distance, 2),
            *([row.scores.background or "", _objects(row.scores)] if scenes else []),
        ]
        for row in rows
    ]


def _objects(scores: ImageScores) -> str:
    return ", ".join(f"{item.color} {item.shape}" for item in scores.objects)


# A click on an image gives its number, one on the button under it asks for its like, one on the last for more.
PICK = """element.addEventListener('click', event => {
  const tile = event.target.closest('[data-number]'), more = event.target.closest('[data-more]');
  const like = event.target.closest('[data-like]');
  if (like) trigger('input', {number: like.dataset.like});
  if (tile) trigger('click', {number: Number(tile.dataset.number)});
  if (more) trigger('select', {});
});"""

# A click on a chart's bar or point gives its filters. Plotly tells of clicks on itself alone, to those who ask for them
# once it has drawn, and forgets them when it draws anew, with another `on`: so it is asked when the pointer comes.
PICK_CHARTED = """const listen = event => {
  if (!element.isConnected) return document.removeEventListener(event.type, listen, true);
  const plot = event.target.closest?.('#failures-histograms, #failures-factors')?.querySelector('.js-plotly-plot');
  if (!plot?.on || plot.bound === plot.on) return;
  plot.bound = plot.on;
  plot.on('plotly_click', ({points: [point]}) => {
    if (point.customdata) trigger('click', {filters: point.customdata[0]});
  });
};
for (const type of ['pointerover', 'pointerdown']) document.addEventListener(type, listen, true);"""
