"""The Train tab's results as HTML. Whatever comes from a file or a user is escaped here."""

from __future__ import annotations

import base64
import math
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import quote

from foresight.adapters.checkpoint import held_out_count, measured_share, score_tables
from foresight.errors import InputError
from foresight.ui.cards import NAMES
from foresight.ui.error_handling import user_error
from foresight.ui.services import duration
from foresight.ui.train.charts import first_mean
from foresight.ui.train.services import Run
from foresight.ui.view_link import RUN

SIGNS = {"waiting": "◷", "done": "✓", "stopped": "■", "failed": "✗", "cut off": "✗"}
CURVES = ("lpips", "mask_iou")
NOTHING = "No run yet. Choose a recipe and press Start; the run goes on when this page is closed."


def run_list(runs: Sequence[Run], chosen: str | None) -> str:
    """Every run as a button, the chosen one marked; waiting ones with their place."""
    if not runs:
        return f'<p class="fs-train-empty">{NOTHING}</p>'
    records = "".join(_record(run, run["name"] == chosen) for run in runs)
    return f'<ul class="fs-train-runs" data-link="{RUN}={quote(chosen or "")}">{records}</ul>'


def _record(run: Run, pressed: bool) -> str:
    status = f"{SIGNS.get(run['state'], '▶')} {standing(run)}"
    return (
        f'<li><button data-run="{escape(run["name"])}" aria-pressed="{str(pressed).lower()}">'
        f"<b>{escape(run['name'])}</b> <span>{status}</span></button></li>"
    )


def standing(run: Run) -> str:
    """A run's state in a few words."""
    if run["state"] == "waiting":
        before = run["place"]
        return "next" if before == 0 else f"in line, {before} before it on {run['device']}"
    share = f" {100 * run['done'] // run['total']} %" if run.get("total") and run["state"] != "done" else ""
    early = " while extracting," if run.get("unit") == "pictures" and run["state"] != "extracting" else ""
    return f"{run['state']}{early}{share}"


def progress(run: Run | None, points: dict[str, str | None]) -> str:
    """How far the run is: a bar, rate, time left, memory, its adapters, and what went wrong.

    points: those that the adapters here read, by the adapters' names; None where one does not serve.
    """
    if run is None:
        return '<div class="fs-train-progress"></div>'
    done, total = run.get("done", 0), run.get("total", 0)
    last = run["log"][-1] if run["log"] else {}
    running = run["state"] in ("extracting", "training", "scoring", "starting")
    facts = [f"{done:,} of {total:,} {run.get('unit', 'steps')}"] if total else []
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
    notes = "".join(_adapter_note(name, point) for name in run.get("adapters", ()) if (point := points.get(name)))
    message += f'<div class="fs-train-made" role="status">{notes}</div>' if notes else ""
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


def _adapter_note(name: str, point: str) -> str:
    return (
        f"<p>✓ Made <b>{escape(name)}</b>. To see it, open it in Inspect with the button above, or choose {point} "
        f"and <b>{escape(name)}</b> in Compare and Failures.</p>"
    )


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


def problem_note(error: InputError) -> str:
    return f'<p class="fs-train-cost" role="alert">⚠ {user_error(error)}</p>'


def broken_note(broken: Sequence[Sequence[str]]) -> str:
    """The files of an archive that were left out, each with the reason."""
    if not broken:
        return ""
    items = "".join(f"<li><b>{escape(name)}</b> {escape(reason)}</li>" for name, reason in broken)
    count = f"{len(broken)} file{'s' if len(broken) > 1 else ''}"
    return f'<details class="fs-train-broken" open><summary>{count} left out</summary><ul>{items}</ul></details>'


def adapter_table(adapters: Sequence[dict[str, Any]]) -> str:
    """The trained adapters with their point, size and held-out scores."""
    if not adapters:
        return '<p class="fs-train-empty">None yet: what a run makes is listed here.</p>'
    heads = ("Name", "Point", "Kind", "Parameters", "Held out on", *(f"{NAMES[s]}" for s in CURVES))
    head = "".join(f"<th scope=col>{name}</th>" for name in heads)
    return (
        f'<div class="fs-train-table"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(_row(adapter) for adapter in adapters)}</tbody></table></div>"
    )


def _row(adapter: dict[str, Any]) -> str:
    name = f"<th scope=row>{escape(adapter['name'])}</th>"
    if "problem" in adapter:
        return f"<tr>{name}<td colspan=6>⚠ does not serve here: {escape(adapter['problem'])}</td></tr>"
    scores = adapter["card"].get("scores")
    title = next(iter(score_tables(scores)), "–")
    count = held_out_count(scores)
    held_out = title if count is None or title == "–" else f"{title}, n = {count:,}"
    cells = [adapter["point"], adapter["kind"], f"{adapter['parameters']:,}", held_out]
    for score in CURVES:
        value, share = first_mean(scores, score), measured_share(scores, title, score)
        cells.append(("–" if value is None else f"{value:.3f}") + (f" ({share})" if share else ""))
    return f"<tr>{name}{''.join(f'<td>{escape(str(cell))}</td>' for cell in cells)}</tr>"


def size(count: float) -> str:
    """Bytes for people: 1.2 GB."""
    power = min(3, int(math.log(max(count, 1), 1000)))
    return f"{count / 1000**power:.{1 if power > 2 else 0}f} {('B', 'kB', 'MB', 'GB')[power]}"
