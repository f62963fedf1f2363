"""The Train tab's results as HTML. Whatever comes from a file or a user is escaped here."""

import base64
import math
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from foresight.adapters.checkpoint import gain_on_blank, measured, no_better_than_blank, reference_mean, score_tables
from foresight.errors import InputError
from foresight.schemas import is_number
from foresight.ui.cards import NAMES, number
from foresight.ui.error_handling import user_error
from foresight.ui.services import duration
from foresight.ui.train.services import Run
from foresight.ui.train.table import SCORES, standing


def progress(run: Run | None, adapters: Mapping[str, dict[str, Any]], seeds: str = "") -> str:
    """How far the run is: a bar, rate, time left, memory, its adapters, and what went wrong.

    adapters: those that are here, by name, as the service lists them. seeds: what is told of other seeds.
    """
    if run is None:
        return ""
    done, total = run.get("done", 0), run.get("total", 0)
    last = run["log"][-1] if run["log"] else {}
    running = run["state"] in ("extracting", "training", "scoring", "starting")
    facts = [f"{done:,} of {total:,} {run.get('unit', 'steps')}"] if total else []
    if run["state"] == "extracting" and run.get("remaining"):
        facts.append(f"{duration(run['remaining'])} left until it learns")
    if last and run["state"] == "training":
        facts += [f"{last['rate']:,.0f} samples/s"] if last["rate"] else []
        facts += [f"{duration(last['remaining'])} left"] if last["remaining"] is not None else []
    if last and running:
        used = last["memory"]
        facts += [f"{used['what']} {size(used['used'])} of {size(used['total'])}"]
        facts += [f"batch cut in {last['micro_batches']}, as memory ran short"] if last["micro_batches"] > 1 else []
    if "seconds" in run:
        facts.append(f"{duration(run['seconds'])} so far" if running else f"took {duration(run['seconds'])}")
    facts += _photo_counts(run)
    message = f'<p class="fs-train-message" role="alert">⚠ {user_error(run["message"])}</p>' if run["message"] else ""
    notes = "".join(_adapter_note(a) for name in run.get("adapters", ()) if "point" in (a := adapters.get(name, {})))
    message += f'<div role="status">{notes}</div>' if notes else ""
    message += f'<p class="facts">{escape(seeds)}</p>' if seeds else ""
    return (
        f'<div class="fs-train-progress"><h3>{escape(run["name"])} <span>{escape(standing(run))}</span></h3>'
        f'<progress max="{total or 1}" value="{done}" aria-label="progress of the run"></progress>'
        f'<p class="facts">{" · ".join(facts)}</p>{message}</div>'
    )


def _photo_counts(run: Run) -> list[str]:
    """How many photos are learned from and held out, where the run has any."""
    if not (split := run.get("pictures")):
        return []
    held_out, requested = split["held_out"], split["asked"]
    fewer = f" instead of {requested:,}: at most a quarter" if requested > held_out else ""
    return [f"learns from {split['learn']:,} pictures, {held_out:,} held out{fewer}"]


def adapter_details(adapter: dict[str, Any] | None) -> str:
    """An adapter whose run is not here."""
    if adapter is None:
        return ""
    note = _adapter_note(adapter) if "point" in adapter else f'<p class="facts">⚠ {escape(adapter["problem"])}</p>'
    return f'<div class="fs-train-progress"><h3>{escape(adapter["name"])}</h3><div role="status">{note}</div></div>'


def _adapter_note(adapter: dict[str, Any]) -> str:
    """That it is there, or that what it paints is worth no more than a blank page; its scores, and where to see it."""
    name, scores = escape(adapter["name"]), adapter["card"].get("scores")
    worse = blank_verdicts(scores)
    blank = f"⚠ <b>{name}</b> is no better than a blank page {'; '.join(worse)}."
    verdict = blank if worse else f"✓ Made <b>{name}</b>."
    lines = "".join(f"<p>{line}</p>" for line in [*_score_lines(scores), *_chosen_line(adapter["card"])])
    return (
        f'<div class="{"fs-train-message" if worse else "fs-train-made"}"><p>{verdict} To see it, open it in Inspect '
        f"with the button above, or choose {adapter['point']} and <b>{name}</b> in Compare and Failures.</p>"
        f"{lines}</div>"
    )


def _chosen_line(card: dict[str, Any]) -> list[str]:
    """Which state was kept, of a card that may come from anybody."""
    chosen = card.get("chosen")
    values = [chosen.get(key) if isinstance(chosen, dict) else None for key in ("step", "n", "lpips")]
    known = [value for value in values if is_number(value) and abs(value) < 10**9]
    if len(known) < len(values):
        return []
    step, n, lpips = known
    return [f"Kept as it was at step {step:,}: the best of its states, LPIPS {lpips:.3f} on {n:,} validation pictures."]


def _score_lines(scores: Any) -> list[str]:
    """For each kind of held-out pictures the scores with interval, n, and what blank page and oracle have."""
    lines = []
    for title, table in score_tables(scores).items():
        parts = []
        for score in (s for s in SCORES if s in table):
            ends = {which: reference_mean(scores, title, which, score) for which in ("blank", "oracle")}
            beside = [f"{w} {number(score, v)}" for w, v in ends.items() if v is not None]
            count = measured(scores, title, score)
            beside += [] if count is None else [f"n = {count:,}"]
            parts.append(f"{NAMES[score]} <b>{table[score]}</b>" + (f" ({', '.join(beside)})" if beside else ""))
        lines += [f"{escape(title)}: {' · '.join(parts)}"] if parts else []
    return lines


def blank_verdicts(scores: Any) -> list[str]:
    """Where an adapter is no better than a blank page: "on" each kind of held-out pictures, with both scores."""
    return [_blank_verdict(scores, title) for title in no_better_than_blank(scores)]


def _blank_verdict(scores: Any, title: str) -> str:
    table, blank = score_tables(scores)[title], reference_mean(scores, title, "blank", "lpips")
    beside = "" if blank is None else f", a blank page {blank:.3f}"
    count = measured(scores, title, "lpips")
    n = "" if count is None else f", n = {count:,}"
    lpips = f"LPIPS {table['lpips'].mean:.3f}{beside}{n}" if "lpips" in table else "LPIPS unknown"
    overlap = f", yet its masks overlap by {table['mask_iou'].mean:.2f}" if _finds_objects(scores, title) else ""
    return f"on {escape(title)}: {lpips}{overlap}"


def _finds_objects(scores: Any, title: str) -> bool:
    """Whether its mask IoU is above a blank page's, by the whole interval."""
    gain = gain_on_blank(scores, title, "mask_iou")
    return gain is not None and gain.low is not None and gain.low > 0


def samples(run: Run | None) -> str:
    """The sheet of held-out images, originals above, with what each row is."""
    if run is None:
        return ""
    if run["samples"] is None or not run["log"]:
        return '<div class="fs-train-samples"><p>Samples come a few seconds after training has begun.</p></div>'
    rows = ["originals", *run["log"][-1]["losses"]]
    data = base64.b64encode(Path(run["samples"]).read_bytes()).decode()
    names = "".join(f"<span>{escape(row)}</span>" for row in rows)
    return (
        f'<div class="fs-train-samples" style="--rows:{len(rows)}"><div class="rows">{names}</div>'
        f'<img src="data:image/png;base64,{data}" alt="Held-out pictures; rows: {escape(", ".join(rows))}"></div>'
    )


def cost_note(cost: dict[str, Any]) -> str:
    """Parameters of each adapter, and about how much memory the run takes."""
    counts = " · ".join(f"{escape(name)} {count:,}" for name, count in cost["parameters"].items())
    short = cost["bytes"] > cost["free"]
    sign = "⚠ more than the" if short else "of"
    return (
        f'<p class="fs-train-cost"><b>Parameters</b> {counts}<br><b>Memory</b> about {size(cost["bytes"])}, '
        f"{sign} {size(cost['free'])} that are free now</p>"
    )


def time_note(seconds: dict[str, float] | None) -> str:
    """About how long the run takes, and what for."""
    if seconds is None:
        return '<p class="fs-train-cost"><b>Time</b> the run tells it, once it has read this large model</p>'
    parts = {"extracting": "extract", "learning": "learn", "scoring": "score"}
    durations = ", ".join(f"{word} {duration(seconds[key])}" for word, key in parts.items() if seconds[key] >= 1)
    return (
        f'<p class="fs-train-cost"><b>Time</b> about {duration(seconds["total"])}: {durations or "little of each"}</p>'
    )


def problem_note(error: InputError) -> str:
    return f'<p class="fs-train-cost" role="alert">⚠ {user_error(error)}</p>'


def broken_note(broken: Sequence[Sequence[str]]) -> str:
    """The files of an archive that were left out, each with the reason."""
    if not broken:
        return ""
    items = "".join(f"<li><b>{escape(name)}</b> {escape(reason)}</li>" for name, reason in broken)
    count = f"{len(broken)} file{'s' if len(broken) > 1 else ''}"
    return f'<details class="fs-train-broken" open><summary>{count} left out</summary><ul>{items}</ul></details>'


def size(count: float) -> str:
    """Bytes for people: 1.2 GB."""
    power = min(3, int(math.log(max(count, 1), 1000)))
    return f"{count / 1000**power:.{1 if power > 2 else 0}f} {('B', 'kB', 'MB', 'GB')[power]}"
