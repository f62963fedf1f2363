"""The one table of runs and adapters, as HTML. Whatever comes from a file or a user is escaped here."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Any
from urllib.parse import quote

from foresight.adapters.checkpoint import Interval, no_better_than_blank, score_tables
from foresight.schemas import is_number
from foresight.ui.cards import NAMES
from foresight.ui.services import duration
from foresight.ui.train.services import Run
from foresight.ui.view_link import RUN

SIGNS = {"waiting": "◷", "done": "✓", "stopped": "■", "failed": "✗", "cut off": "✗"}
SCORES = ("lpips", "mask_iou")
COLUMNS = (
    "Name", "Status", "LPIPS ↓", "Mask IoU ↑", "Loss", "Time", "Point", "Kind", "Data", "Steps", "Rate", "Seed", "Note",
)  # fmt: skip
NOTHING = "No run yet. Choose a recipe and press Start; the run goes on when this page is closed."


@dataclass(frozen=True)
class Cell:
    """What is read, and what it is sorted by."""

    text: str = "–"
    value: float | str | None = None
    title: str = ""


MADE = Cell("✓ here", "here")  # of an adapter whose run tells nothing else


@dataclass(frozen=True)
class Row:
    """An adapter, a run that has none yet, or both. cells: by the names in COLUMNS."""

    run: str | None
    adapter: str | None
    cells: dict[str, Cell] = field(default_factory=dict)


def rows(runs: Sequence[Run], adapters: Mapping[str, dict[str, Any]]) -> list[Row]:
    """A row for each adapter of each run, for each run without any, and for each adapter whose run is not here.

    runs: as the service lists them. adapters: those that are here, by name.
    """
    of_runs = {name for run in runs for name in run.get("adapters", ())}
    listed = [row for run in runs for row in _of_run(run, adapters)]
    return [
        *listed,
        *(Row(None, name, _of_adapter(adapter)) for name, adapter in adapters.items() if name not in of_runs),
    ]


def _of_run(run: Run, adapters: Mapping[str, dict[str, Any]]) -> Iterator[Row]:
    settings, losses = run["settings"], run.get("losses", {})
    shared = {
        "Status": Cell(f"{SIGNS.get(run['state'], '▶')} {standing(run)}", run["state"]),
        "Point": Cell(", ".join(settings["points"])),
        "Kind": Cell(", ".join(settings["kinds"])),
        "Data": Cell(_data(run)),
        "Steps": Cell(f"{settings['steps']:,}", settings["steps"]),
        "Rate": Cell(f"{settings['lr']:g}", settings["lr"]),
        "Seed": Cell(str(settings["seed"]), settings["seed"]),
        "Loss": _loss(losses.values(), settings["loss"]),
        "Time": Cell(duration(run["seconds"]), run["seconds"]) if "seconds" in run else Cell(),
        "Note": Cell(run["note"] or " ", run["note"]),
    }
    present = [adapters[name] for name in run.get("adapters", ()) if name in adapters]
    for adapter in present:
        own = _of_adapter(adapter)
        known = {"Data": shared["Data"]} | ({"Status": shared["Status"]} if own["Status"] == MADE else {})
        if "point" in adapter:
            known["Loss"] = _loss([losses.get(f"{adapter['point']}-{adapter['kind']}")], settings["loss"])
        yield Row(run["name"], adapter["name"], shared | own | known)
    if not present:
        yield Row(run["name"], None, shared | {"Name": Cell(run["name"], run["name"])})


def _of_adapter(adapter: dict[str, Any]) -> dict[str, Cell]:
    """What an adapter's card tells, which may come from anybody."""
    cells = {"Name": Cell(adapter["name"], adapter["name"])}
    if "problem" in adapter:
        return cells | {"Status": Cell("⚠ does not serve here", "problem", adapter["problem"])}
    card, scores = adapter["card"], adapter["card"].get("scores")
    config = card.get("config")
    recipe = config.get("recipe") if isinstance(config, dict) else None
    for column, key in (("Steps", "steps"), ("Rate", "lr"), ("Seed", "seed")):
        value = recipe.get(key) if isinstance(recipe, dict) else None
        if is_number(value) and abs(value) < 10**15:
            cells[column] = Cell(f"{value:g}" if key == "lr" else f"{value:,}", value)
    title, table = next(iter(score_tables(scores).items()), ("", {}))
    for score in SCORES:
        if interval := table.get(score):
            cells[_column(score)] = _score(interval, title)
    worse = no_better_than_blank(scores)
    return cells | {
        "Status": Cell("⚠ no better than a blank page", "blank", "; ".join(worse)) if worse else MADE,
        "Point": Cell(adapter["point"], adapter["point"]),
        "Kind": Cell(adapter["kind"], adapter["kind"], f"{adapter['parameters']:,} parameters"),
        **({"Data": Cell(str(card["data"])[:60])} if "data" in card else {}),
    }


def _column(score: str) -> str:
    return next(column for column in COLUMNS if column.startswith(NAMES[score]))


def _score(interval: Interval, title: str) -> Cell:
    ends = "n = 1" if interval.low is None else f"95 % interval {interval.low:.3f} to {interval.high:.3f}"
    return Cell(f"{interval.mean:.3f}", interval.mean, f"{ends}, {title}")


def _loss(losses: Iterable[float | None], kind: str) -> Cell:
    """The last one, of a single adapter. kind: on what it is, which makes losses comparable."""
    known = [loss for loss in losses if loss is not None]
    return Cell(f"{known[0]:.3g}", known[0], kind) if len(known) == 1 else Cell(title=kind)


def _data(run: Run) -> str:
    """In a few words."""
    settings, photos = run["settings"], run.get("pictures") or {}
    scenes = f"{settings['scenes']:,} {'chosen ' if settings['data'] == 'factors' else ''}scenes"
    pictures = f"{photos.get('learn', 0):,} pictures"
    return {"pictures": pictures, "mixture and pictures": f"{scenes}, {pictures}"}.get(settings["data"], scenes)


def standing(run: Run) -> str:
    """A run's state in a few words."""
    if run["state"] == "waiting":
        before = run["place"]
        return "next" if before == 0 else f"in line, {before} before it on {run['device']}"
    share = f" {100 * run['done'] // run['total']} %" if run.get("total") and run["state"] != "done" else ""
    early = " while extracting," if run.get("unit") == "pictures" and run["state"] != "extracting" else ""
    return f"{run['state']}{early}{share}"


def seed_spread(name: str | None, runs: Sequence[Run], listed: Sequence[Row]) -> str:
    """The scores of runs that differ from this one in their seed alone, where there are several: their range."""
    alike = {run["name"]: run["settings"] | {"seed": 0} for run in runs}
    same_settings = [row for row in listed if row.run and alike[row.run] == alike.get(name or "") and row.adapter]
    seeds = {row.cells["Seed"].value for row in same_settings}
    if len(seeds) < 2 or len(same_settings) > len(seeds):  # several adapters a run do not compare
        return ""
    parts = []
    for column in map(_column, SCORES):
        values = [value for row in same_settings if isinstance(value := row.cells.get(column, Cell()).value, float)]
        parts += [f"{column} {min(values):.3f} to {max(values):.3f}"] if values else []
    return f"{len(seeds)} seeds of these settings: {', '.join(parts)}" if parts else ""


def table_html(listed: Sequence[Row], shown_run: str | None, adapter: str | None, compared: Sequence[str]) -> str:
    """The table; shown and adapter are of the chosen row, compared the runs whose curves are drawn too."""
    if not listed:
        return f'<p class="fs-train-empty">{NOTHING}</p>'
    heads = "".join(
        f'<th scope="col" class="{_class(column)}"><button type="button" data-sort="{column}" '
        f'data-key="sort {column}">{column}</button></th>'
        for column in COLUMNS
    )
    body = "".join(_row(row, _is_chosen(row, listed, shown_run, adapter), row.run in compared) for row in listed)
    return (
        f'<p id="train-table-help">A name shows a run or an adapter, a box draws its curves too, a heading sorts.</p>'
        f'<table data-link="{RUN}={quote(shown_run or "")}" aria-label="Runs and adapters" '
        f'aria-describedby="train-table-help"><thead><tr><th scope="col">Draw</th>{heads}'
        f"</tr></thead><tbody>{body}</tbody></table>"
    )


def _is_chosen(row: Row, listed: Sequence[Row], shown_run: str | None, adapter: str | None) -> bool:
    """Of a run's rows that of the chosen adapter, else the first; without a run, the adapter's."""
    if not shown_run:
        return row.run is None and row.adapter == adapter
    adapters_of_run = [other.adapter for other in listed if other.run == shown_run]
    return row.run == shown_run and row.adapter == (adapter if adapter in adapters_of_run else adapters_of_run[0])


def _row(row: Row, chosen: bool, compared: bool) -> str:
    key = escape(f"{row.run} {row.adapter}")
    data = "".join(f' data-{k}="{escape(v)}"' for k, v in (("run", row.run), ("adapter", row.adapter)) if v is not None)
    box = ""
    if row.run is not None:
        name = escape(row.run)
        box = (
            f'<label><input type="checkbox" data-compare="{name}" data-key="box {key}" '
            f'aria-label="Draw the curves of {name} too"{" checked" if compared else ""}></label>'
        )
    cells = [(column, row.cells.get(column, Cell())) for column in COLUMNS]
    (_, name_cell), *rest = cells
    head = (
        f'<th scope="row" data-value="{escape(name_cell.text)}"><button type="button"{data} data-key="{key}" '
        f'aria-pressed="{str(chosen).lower()}">{escape(name_cell.text)}</button></th>'
    )
    mark = ' class="chosen"' if chosen else ""
    return f"<tr{mark}><td>{box}</td>{head}{''.join(map(_cell, rest))}</tr>"


def _cell(named: tuple[str, Cell]) -> str:
    column, cell = named
    value = cell.text if cell.value is None and cell.text != "–" else cell.value
    title = f' title="{escape(cell.title)}"' if cell.title else ""
    sort_value = "" if value is None else f' data-value="{escape(str(value))}"'
    return f'<td class="{_class(column)}"{sort_value}{title}>{escape(cell.text)}</td>'


def _class(column: str) -> str:
    return column.split()[0].lower()
