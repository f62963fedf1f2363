"""Writes what the study found: results.yaml for machines and the app, FINDINGS.md for readers, figures for both."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from foresight.errors import InputError
from foresight.study import VERDICT_WORDS, Picture, Study, Table, Verdict
from foresight.study import Experiment as Reported
from training.experiments import store
from training.experiments.experiment import Experiment
from training.experiments.report import figures
from training.experiments.report.answers import ANSWERS, plain_answer
from training.experiments.report.parts import Answer, Run, text
from training.experiments.scale import FULL

SIGN = {"holds": "✅", "does not hold": "❌", "open": "⚠️"}
QUESTION = (
    "Can Qwen2.5-VL's latents be decoded back into a picture, at which point of its depth, and how much of what the "
    "seed study reported stays when baselines, controls and unseen pictures are added?"
)


HOW_TO_READ = (
    "LPIPS (0 to about 1, lower is better) says how different two pictures look; SSIM and IoU (up to 1) are better "
    "the higher. *Ours*: the mean and its 95 % interval, over test scenes that nothing was trained on and over "
    "seeds. *Baseline*: what needs no latents, on the same scenes. *Oracle*: the VAE's own round trip, a reference "
    "and no bound. *Verdict*: on the seed's claim, for this model alone, by the rule given with each "
    "experiment below; what is no claim of the seed's has none. Each experiment's adapters learned for as long as it "
    "says: compare within an experiment. The seed's numbers are of another VLM and of easier pictures, one shape on "
    "white."
)


def write(out: Path, experiments: Sequence[Experiment], finished: Mapping[str, store.Record]) -> None:
    """Writes results.yaml, FINDINGS.md and the figures of finished experiments to `out`."""
    import yaml

    study = gather(out, experiments, finished)
    content = study.model_dump(mode="json")
    dumped = yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=120, default_flow_style=None)
    (out / "results.yaml").write_text(dumped, encoding="utf-8")
    (out / "FINDINGS.md").write_text(markdown(study, len(experiments)), encoding="utf-8")


def gather(out: Path, experiments: Sequence[Experiment], finished: Mapping[str, store.Record]) -> Study:
    """results.yaml's content, from those of the experiments that are finished and lie in `out`."""
    missing = [e.title for e in experiments if e.name not in finished]
    experiments = [e for e in experiments if e.name in finished]
    records = [finished[e.name] for e in experiments]
    answers = [answer_of(out, e.name, record) for e, record in zip(experiments, records, strict=True)]
    settings = records[0].settings if records else {}
    model = "the bundled model" if settings.get("model") == "bundled" else settings.get("model")
    reported = {
        e.name: Reported.model_validate(
            vars(answer)
            | {"title": e.title, "question": e.question, "seconds": record.seconds}
            | {"pictures": [Picture(title=grid.title, file=grid.file) for grid in record.grids]}
            | {"figures": figures.write(out / store.ARTIFACTS, e.name, answer.charts)}
        )
        for e, record, answer in zip(experiments, records, answers, strict=True)
    }
    return Study(
        study="c1",
        model=settings.get("model"),
        vae=settings.get("vae"),
        created=max((r.created for r in records), default=None),
        device=", ".join(dict.fromkeys(r.device for r in records)),
        seconds=sum(r.seconds for r in records),
        commands=list(dict.fromkeys(r.command for r in records)),
        settings=settings,
        experiments=reported,
        surprises=[
            f"{e.title}, not so in {model}: {e.verdict_reason}"
            for e in reported.values()
            if e.verdict == "does not hold"
        ],
        caveats=caveats(settings, missing),
        recommendations=[line for answer in answers for line in answer.advice],
    )


def answer_of(out: Path, name: str, record: store.Record) -> Answer:
    """What a finished experiment says."""
    run = Run(store.measured(out, name, record), record.points, record.settings)
    return ANSWERS.get(name, plain_answer)(run)


def caveats(settings: Mapping[str, Any], missing: Sequence[str] = ()) -> list[str]:
    """What a reader must know before believing a number. missing: titles of what is not measured."""
    lines = [
        "Scenes are drawn: flat shapes on even, graded or softly textured grounds. Photos are tested only where a "
        "folder was given.",
        "Linear probes are solved; other adapters learn from VAE latents alone, for the steps that stand beside a score"
        + ("; E1.5's go on with decoded pictures" if settings.get("picture_steps") else "")
        + ". Scores are those of such a budget, not of the best adapter there could be, and those of two "
        "experiments are of two budgets.",
        "An adapter's score is a lower bound on what latents hold: what it misses may still be there.",
        "Intervals are 95 % bootstrap intervals over test scenes and seeds: of adapters, and of whole VLMs where these "
        "have random weights. Of three seeds an interval is too narrow where these differ more than pictures do. The "
        "trained VLM is one, but among the controls, so of others of its kind they tell nothing.",
        "What is called the best of several points was picked on the pictures that its score is of, which "
        "flatters it a little.",
    ]
    if smaller := _smaller(settings):
        lines.insert(0, smaller)
    if missing:
        lines.insert(0, f"Not measured yet on these models: {'; '.join(missing)}.")
    if settings.get("model") == "bundled":
        lines.append(
            "The bundled VLM is small and was trained at 224 px, on drawn scenes, photos and clips: its depths are not "
            "those of the 7B model, and what larger pictures cost it they may not cost another."
        )
    return lines


def _smaller(settings: Mapping[str, Any]) -> str:
    """Where a run is not of the full sizes, these and its own."""
    full = FULL.plain()
    others = [name for name in full if name in settings and settings[name] != full[name]]
    sizes = [f"{name.replace('_', ' ')} {_plain(settings[name])} ({_plain(full[name])})" for name in others]
    return f"This run is not of the full size, which stands in brackets: {'; '.join(sizes)}." if sizes else ""


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


def cell(value: Any) -> str:
    """A table's cell as text."""
    if value is None:
        return "–"
    if isinstance(value, list):
        return text(value)
    return f"{value:.4g}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else str(value)


def _table(table: Table) -> str:
    lines = ["| " + " | ".join(table.columns) + " |", "|" + "---|" * len(table.columns)]
    return "\n".join(lines + ["| " + " | ".join(cell(v).replace("|", "/") for v in row) + " |" for row in table.rows])


def _verdict(verdict: Verdict | None, form: str = "{}") -> str:
    return form.format(f"{SIGN[verdict]} {VERDICT_WORDS[verdict]}") if verdict else ""


def key_table(study: Study) -> str:
    """Markdown: every key result of a study; docs/study.md has that of the bundled one."""
    columns = ["experiment", "what", "seed's target", "seed", "ours", "baseline", "oracle", "the seed's claim"]
    rows: list[list[Any]] = []
    for e in study.experiments.values():
        for k, line in enumerate(e.key):
            baseline = f"{cell(line.baseline)} ({line.baseline_name})" if line.baseline else None
            values = [line.what, line.target, line.seed, line.ours, baseline, line.oracle]
            rows.append(["" if k else e.title, *values, "" if k else VERDICT_WORDS[e.verdict] if e.verdict else ""])
    return _table(Table(title="", columns=columns, rows=rows))


def print_table(out: Path) -> None:
    """Prints the `key_table` of the results.yaml in `out`. Raises InputError where there is none."""
    import yaml

    path = out / "results.yaml"
    if not path.is_file():
        raise InputError(f"{path} is missing: run the study in this folder first.")
    print(key_table(Study.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))))


def _seed(numbers: Mapping[str, float]) -> str:
    words = {"lpips": "LPIPS", "ssim": "SSIM", "iou": "IoU"}
    names = {name: " ".join(words.get(word, word) for word in name.split("_")) for name in numbers}
    return ", ".join(f"{names[name]} {cell(value)}" for name, value in numbers.items())


def _answer(experiments: Mapping[str, Reported]) -> str:
    answer = experiments["e1_5"].verdict_reason if "e1_5" in experiments else "E1.5 is not finished yet."
    verdicts = {v: [e.title for e in experiments.values() if e.verdict == v] for v in VERDICT_WORDS}
    return "\n\n".join([answer, *(f"{_verdict(v)}: {', '.join(titles)}." for v, titles in verdicts.items() if titles)])


def markdown(study: Study, planned: int) -> str:
    """FINDINGS.md, under the seed's headings. planned: how many experiments there are."""
    parts = [
        "# C1: VLM Latent Sufficiency - Findings",
        f"**Status:** {len(study.experiments)} of {planned} experiments finished{_sizes(study.settings)}  \n"
        f"**Date:** {study.created}  \n"
        f"**Model:** {study.model}, **VAE:** {study.vae}  \n"
        f"**Device:** {study.device}, {study.seconds:.0f} s in all",
        f"## The Question\n\n{QUESTION}",
        f"## The Answer\n\n{_answer(study.experiments)}",
        f"## Key Results\n\n{HOW_TO_READ}\n\n{key_table(study)}",
        "## Sub-experiment Summaries",
    ]
    for name, e in study.experiments.items():
        parts += [
            f"### {e.title}",
            f"*{e.question}*",
            " ".join(filter(None, [_verdict(e.verdict, "**{}.**"), e.verdict_reason])),
        ]
        parts += [e.paragraph, f"The seed's numbers: {_seed(e.seed)}." if e.seed else ""]
        parts += [f"![{figure.title}](artifacts/{figure.png})" for figure in e.figures[:2]]
        parts += [f"![{picture.title}](artifacts/{picture.file})\n\n{picture.title}" for picture in e.pictures]
        parts += [f"**{table.title}**\n\n{_table(table)}" for table in e.tables]
        parts.append(f"{name}: {e.seconds:.0f} s.")
    for heading, lines in (
        ("Surprising Findings", study.surprises),
        ("Caveats & Limitations", study.caveats),
        ("Recommendations for Phase 2", study.recommendations),
    ):
        parts += [f"## {heading}", "\n".join(f"{k}. {line}" for k, line in enumerate(lines, 1)) or "None."]
    parts.append(
        "## Artifacts\n\n- `results.yaml`: every number here\n- `artifacts/`: figures (PNG, and HTML to explore), "
        "reconstruction grids, every image's scores as compressed CSV\n- Commands:\n\n```\n"
        + "\n".join(study.commands)
        + "\n```"
    )
    return "\n\n".join(filter(None, parts)) + "\n"
