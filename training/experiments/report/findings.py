"""Writes what the study found: results.yaml for machines and the app, FINDINGS.md for readers, figures for both."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from training.experiments.report import figures
from training.experiments.result import shown
from training.experiments.scale import FULL

STUDY = "c1"
ORDER = (  # in which they are told
    "e1_1",
    "e1_1_map",
    "e1_2",
    "e1_3",
    "e1_4",
    "e1_5",
    "e1_6",
    "seed_protocol",
    "blends",
    "held_out",
    "controls",
)
SIGN = {"holds": "✅ holds", "does not hold": "❌ does not hold", "open": "⚠️ open"}
QUESTION = (
    "Can Qwen2.5-VL's latents be decoded back into a picture, at which point of its depth, and how much of what the "
    "seed study reported stays when floors, controls and unseen pictures are added?"
)


HOW_TO_READ = (
    "LPIPS (0 to about 1, lower is better) says how different two pictures look; SSIM and IoU (up to 1) are better "
    "the higher. *Ours*: the mean and its 95 % interval, over test scenes that nothing was trained on and over "
    "seeds. *Floor*: what needs no latents, on the same scenes. *Oracle*: the VAE's own round trip, the best an "
    "adapter could reach. *Verdict*: on the seed's claim, or on the question asked, by the rule told with each "
    "experiment below. Each experiment's adapters learned for as long as it says: compare within an experiment. The "
    "seed's numbers are of another VLM and of easier pictures, one shape on white."
)


def write(out: Path, finished: Mapping[str, dict[str, Any]]) -> None:
    """Writes results.yaml, FINDINGS.md and the figures of finished experiments to `out`."""
    import yaml

    results = gathered(finished)
    for name, experiment in results["experiments"].items():
        experiment["figures"] = figures.write(out / "artifacts", name, experiment["charts"])
    text = yaml.safe_dump(results, sort_keys=False, allow_unicode=True, width=120, default_flow_style=None)
    (out / "results.yaml").write_text(text, encoding="utf-8")
    (out / "FINDINGS.md").write_text(markdown(results), encoding="utf-8")


def gathered(finished: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
    """results.yaml's content."""
    records = list(finished.values())
    first = records[0]["settings"] if records else {}
    experiments = {
        name: {key: value for key, value in record["result"].items() if key != "facts"} | {"seconds": record["seconds"]}
        for name, record in finished.items()
    }
    facts = {name: record["result"]["facts"] for name, record in finished.items()}
    return {
        "study": STUDY,
        "model": first.get("model"),
        "vae": first.get("vae"),
        "created": max((e["created"] for e in records), default=None),
        "device": ", ".join(dict.fromkeys(e["device"] for e in records)),
        "seconds": sum(e["seconds"] for e in records),
        "commands": list(dict.fromkeys(e["command"] for e in records)),
        "settings": first,
        "experiments": experiments,
        "surprises": surprises(experiments),
        "caveats": caveats(first),
        "recommendations": recommendations(facts, experiments),
    }


def surprises(experiments: Mapping[str, Any]) -> list[str]:
    """Claims of the seed that did not hold, each with the reason."""
    return [f"{e['title']}: {e['verdict_reason']}" for e in experiments.values() if e["verdict"] == "does not hold"]


def caveats(settings: Mapping[str, Any]) -> list[str]:
    """What a reader must know before believing a number."""
    said = [
        "Scenes are drawn: flat shapes on even, graded or softly textured grounds. Photos are tested only where a "
        "folder was given.",
        "Adapters learn from VAE latents alone, for a few hundred steps"
        + ("; E1.5's go on with decoded pictures" if settings.get("picture_steps") else "")
        + ". Scores are those of such a budget, not of the best adapter there could be, and those of two "
        "experiments are of two budgets.",
        "An adapter's score is a lower bound on what latents hold: what it misses may still be there.",
        "Intervals are 95 % bootstrap intervals over test scenes and seeds: of adapters, and of whole VLMs where these "
        "have random weights. Of three seeds an interval is too narrow where these differ more than pictures do. The "
        "trained VLM is one, so of others of its kind they tell nothing.",
        "What is called the best of several points was picked on the pictures that its score is told of, which "
        "flatters it a little.",
    ]
    if told := _smaller(settings):
        said.insert(0, told)
    if settings.get("model") == "bundled":
        said.append(
            "The bundled VLM is small and was trained on such scenes alone, at 224 px: its depths are not those of the "
            "7B model, and what larger pictures cost it they may not cost another."
        )
    return said


def _smaller(settings: Mapping[str, Any]) -> str:
    """Where a run is not of the full sizes, these and its own."""
    full = FULL.plain()
    others = [name for name in full if name in settings and settings[name] != full[name]]
    told = [f"{name.replace('_', ' ')} {_plain(settings[name])} ({_plain(full[name])})" for name in others]
    return f"This run is not of the full size, which stands in brackets: {'; '.join(told)}." if told else ""


def _plain(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(_plain, value))
    return "as wide as the latents ask" if value is None else f"{value:,}" if isinstance(value, int) else str(value)


def _sizes(settings: Mapping[str, Any]) -> str:
    """The run's sizes, and whether it was too small to find anything."""
    if not settings:
        return ""
    sizes = "{train:,} training and {test:,} test scenes, {seeds} seeds, {steps:,} steps".format(**settings)
    small = settings["seeds"] == 1 or settings["test"] < 16
    return f"; {sizes}" + ": a rehearsal, whose verdicts are no findings" * small


def recommendations(facts: Mapping[str, Any], experiments: Mapping[str, Any]) -> list[str]:
    """What follows for a next phase, from the numbers alone."""
    said = []
    if "e1_6" in facts:
        best, after = facts["e1_6"]["best"], facts["e1_6"]["best_after"]
        said.append(f"Which layer: {best} holds most of the picture; behind the merger it is {after}.")
        rule = experiments["e1_6"]["tables"][-1]["rows"]
        said += [f"By the {what}: {found}." for what, found in rule]
    if "e1_4" in facts:
        pooled, tokens = (facts["e1_4"][k] for k in ("pooled", "tokens"))
        advice = "Keep the grid of tokens" if tokens[1] > pooled[2] else "The grid of tokens is not needed for boxes"
        if tokens[1] <= pooled[2] and pooled[1] <= tokens[2]:
            advice = "Whether boxes need the grid of tokens is open"
        said.append(f"{advice}: box IoU {shown(tokens, 2)} from tokens, {shown(pooled, 2)} from their mean.")
    if "e1_3" in facts:
        said.append(f"Merger: LPIPS after it minus before it is {shown(facts['e1_3']['gap'])} (paired).")
    return said


def cell(value: Any) -> str:
    """A table's record as text."""
    if value is None:
        return "–"
    if isinstance(value, list):
        return shown(value)
    return f"{value:.4g}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else str(value)


def _table(columns: list[str], rows: list[list[Any]]) -> str:
    lines = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    return "\n".join(lines + ["| " + " | ".join(cell(v).replace("|", "/") for v in row) + " |" for row in rows])


def _key_results(experiments: Mapping[str, Any]) -> str:
    columns = ["Experiment", "What", "Seed's target", "Seed", "Ours", "Floor", "Oracle", "Verdict"]
    rows = []
    for e in experiments.values():
        for k, line in enumerate(e["key"]):
            floor = f"{cell(line['floor'])} ({line['floor_is']})" if line["floor"] else None
            told = [line["what"], line["target"], line["seed"], line["ours"], floor, line["oracle"]]
            rows.append(["" if k else e["title"], *told, "" if k else SIGN[e["verdict"]]])
    return _table(columns, rows)


def _seed(numbers: Mapping[str, float]) -> str:
    words = {"lpips": "LPIPS", "ssim": "SSIM", "iou": "IoU"}
    names = {name: " ".join(words.get(word, word) for word in name.split("_")) for name in numbers}
    return ", ".join(f"{names[name]} {cell(value)}" for name, value in numbers.items())


def _answer(experiments: Mapping[str, Any]) -> str:
    answer = experiments["e1_5"]["verdict_reason"] if "e1_5" in experiments else "E1.5 is not finished yet."
    verdicts = {v: [e["title"] for e in experiments.values() if e["verdict"] == v] for v in SIGN}
    return "\n\n".join([answer, *(f"{SIGN[v]}: {', '.join(titles)}." for v, titles in verdicts.items() if titles)])


def markdown(results: Mapping[str, Any]) -> str:
    """FINDINGS.md, under the seed's headings."""
    experiments = results["experiments"]
    parts = [
        "# C1: VLM Latent Sufficiency - Findings",
        f"**Status:** {len(experiments)} of {len(ORDER)} experiments finished{_sizes(results['settings'])}  \n"
        f"**Date:** {results['created']}  \n"
        f"**Model:** {results['model']}, **VAE:** {results['vae']}  \n"
        f"**Device:** {results['device']}, {results['seconds']:.0f} s in all",
        "## The Question",
        QUESTION,
        "## The Answer",
        _answer(experiments),
        "## Key Results",
        HOW_TO_READ,
        _key_results(experiments),
        "## Sub-experiment Summaries",
    ]
    for name, e in experiments.items():
        parts += [f"### {e['title']}", f"*{e['question']}*", f"**{SIGN[e['verdict']]}.** {e['verdict_reason']}"]
        parts += [e["paragraph"], f"The seed's numbers: {_seed(e['seed'])}." if e["seed"] else ""]
        parts += [f"![{figure['title']}](artifacts/{figure['png']})" for figure in e.get("figures", [])[:2]]
        parts += [
            f"![{picture['title']}](artifacts/{picture['file']})\n\n{picture['title']}" for picture in e["pictures"]
        ]
        for found in e["tables"]:
            parts += [f"**{found['title']}**", _table(found["columns"], found["rows"])]
        parts.append(f"{name}: {e['seconds']:.0f} s.")
    for heading, key in (
        ("Surprising Findings", "surprises"),
        ("Caveats & Limitations", "caveats"),
        ("Recommendations for Phase 2", "recommendations"),
    ):
        parts += [f"## {heading}", "\n".join(f"{k}. {line}" for k, line in enumerate(results[key], 1)) or "None."]
    parts += [
        "## Artifacts",
        "- `results.yaml`: every number here\n- `artifacts/`: figures (PNG, and HTML to explore), "
        "reconstruction grids, every picture's scores as CSV\n- Commands:\n\n```\n"
        + "\n".join(results["commands"])
        + "\n```",
    ]
    return "\n\n".join(filter(None, parts)) + "\n"
