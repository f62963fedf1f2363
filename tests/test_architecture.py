"""The rules of the house, read off the source: who may import whom, how long a file may be, what may be caught."""

import ast
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for path in [*ROOT.glob("foresight/**/*.py"), *ROOT.glob("training/**/*.py"), *ROOT.glob("app.py")]
}
FLOORS = {
    0: "errors numbers settings points",
    1: "images archive foreground metrics scenes render objects qwen adapters separation findings",
    2: "hub vlm vae checkpoint map_data map_worker latent_map",
    3: "shelf inspector depth evaluation tables floors map_scores",
    4: "ui commands cli __main__",
}
FLOOR = {f"foresight.{name}": floor for floor, names in FLOORS.items() for name in names.split()}
NEIGHBOURS = {  # imports within a floor
    ("foresight.numbers", "foresight.errors"),
    ("foresight.points", "foresight.errors"),
    ("foresight.settings", "foresight.errors"),
    ("foresight.metrics", "foresight.foreground"),
    ("foresight.metrics", "foresight.images"),
    ("foresight.render", "foresight.scenes"),
    ("foresight.objects", "foresight.foreground"),
    ("foresight.map_data", "foresight.vlm"),
    ("foresight.latent_map", "foresight.map_data"),
    ("foresight.latent_map", "foresight.map_worker"),
    ("foresight.latent_map", "foresight.vlm"),
    ("foresight.checkpoint", "foresight.hub"),
    ("foresight.vae", "foresight.hub"),
    ("foresight.vlm", "foresight.hub"),
    ("foresight.inspector", "foresight.shelf"),
    ("foresight.depth", "foresight.inspector"),
    ("foresight.floors", "foresight.inspector"),
    ("foresight.depth", "foresight.shelf"),
    ("foresight.map_scores", "foresight.evaluation"),
    ("foresight.map_scores", "foresight.inspector"),
    ("foresight.map_scores", "foresight.shelf"),
    ("foresight.tables", "foresight.evaluation"),
    ("foresight.tables", "foresight.inspector"),
    ("foresight.evaluation", "foresight.shelf"),
    ("foresight.evaluation", "foresight.inspector"),
    ("foresight.cli", "foresight.commands"),
    ("foresight.__main__", "foresight.cli"),
}


def imports(source: str) -> set[str]:
    """Every module that a source names in an import, wherever it stands."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level:
            found.add("relative")
        elif isinstance(node, ast.ImportFrom):
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= names & MODULES.keys()
            found |= {node.module} if names - MODULES.keys() else set()
    return found


def part(name: str) -> str:
    """foresight.ui.inspect → foresight.ui: the name that FLOORS knows."""
    return ".".join(name.split(".")[:2])


def tab(name: str) -> str | None:
    """foresight.ui.inspect.tab → inspect; None for what the tabs share."""
    rooms = name.split(".")
    return rooms[2] if rooms[:2] == ["foresight", "ui"] and len(rooms) > 3 else None


def broken_rules(name: str, source: str) -> list[str]:
    """What a module's source does that it must not, in words."""
    broken, package = [], name.split(".")[0]
    for other in sorted(imports(source)):
        top, mine, theirs = other.split(".")[0], FLOOR.get(part(name)), FLOOR.get(part(other))
        if other == "relative":
            broken.append("imports relatively")
        elif top == "gradio" and part(name) not in ("app", "foresight.ui"):
            broken.append("imports gradio")
        elif other == "app" or (package, top) == ("foresight", "training") or (package, theirs) == ("training", 4):
            broken.append(f"imports {other}")
        elif tab(other) and name != "foresight.ui.shell" and package != "app" and tab(name) != tab(other):
            broken.append(f"imports {other}, which is another tab's")
        elif mine is not None and top == "foresight" and part(name) != part(other):
            if theirs is None:
                broken.append(f"imports {other}, which has no floor")
            elif theirs > mine or (theirs == mine and (name, other) not in NEIGHBOURS):
                broken.append(f"imports {other}, which is not below")
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ExceptHandler):
            caught = {n.id for n in ast.walk(node.type) if isinstance(n, ast.Name)} if node.type else {"everything"}
            broken += [f"catches {c}" for c in sorted(caught & {"Exception", "BaseException", "everything"})]
    if len(source.splitlines()) > (limit := 80 if name == "app" else 300):
        broken.append(f"is longer than {limit} lines")
    return broken


@pytest.mark.parametrize("name", MODULES)
def test_a_module_keeps_the_rules(name):
    assert broken_rules(name, MODULES[name].read_text()) == []


def test_every_module_has_a_floor():
    assert {part(name) for name in MODULES if name.startswith("foresight.")} <= FLOOR.keys()


def test_no_two_modules_import_each_other():
    graph = {name: imports(path.read_text()) & MODULES.keys() - {name} for name, path in MODULES.items()}
    assert len(list(TopologicalSorter(graph).static_order())) >= len(graph)


@pytest.mark.parametrize(
    ("name", "source", "broken"),
    [
        ("foresight.points", "import foresight.vlm", "imports foresight.vlm, which is not below"),
        ("foresight.scenes", "from foresight import render", "imports foresight.render, which is not below"),
        ("foresight.vae", "def f():\n    from foresight.vlm import VLM", "imports foresight.vlm, which is not below"),
        ("foresight.vae", "from foresight.nowhere import x", "imports foresight.nowhere, which has no floor"),
        ("foresight.vlm", "from foresight import load_vae", "imports foresight, which has no floor"),
        ("foresight.images", "from .errors import InputError", "imports relatively"),
        ("foresight.ui.inspect.tab", "from training.loop import train", "imports training.loop"),
        (
            "foresight.ui.link",
            "from foresight.ui.train import form",
            "imports foresight.ui.train.form, which is another tab's",
        ),
        ("training.loop", "import gradio as gr", "imports gradio"),
        ("foresight.inspector", "from gradio import Blocks", "imports gradio"),
        ("training.fit", "import foresight.ui", "imports foresight.ui"),
        ("foresight.vae", "try:\n    f()\nexcept (OSError, Exception):\n    raise", "catches Exception"),
        ("foresight.vae", "try:\n    f()\nexcept:\n    raise", "catches everything"),
        ("foresight.vae", "\n" * 301, "is longer than 300 lines"),
        ("app", "\n" * 81, "is longer than 80 lines"),
    ],
)
def test_the_checker_sees_each_breach(name, source, broken):
    assert broken in broken_rules(name, source)


def test_the_checker_lets_good_code_pass():
    good = "from foresight.images import resize\nfrom foresight.hub import folder_of\nimport torch\n"
    assert broken_rules("foresight.vlm", good + "try:\n    f()\nexcept OSError:\n    raise\n") == []
    assert broken_rules("foresight.ui.inspect.tab", "import gradio\nfrom foresight.ui.theme import x") == []
    assert broken_rules("app", "import gradio\nfrom training.loop import train\nfrom foresight.ui import theme") == []
