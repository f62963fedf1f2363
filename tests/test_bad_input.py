"""Bad input of every kind, over the API and on both command lines: each is one sentence, and nothing else happens."""

import json
import re
import sys
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO

import numpy as np
import odd_clips
import pytest
from house import build_house
from PIL import Image
from serving import serve

import app
from foresight.cli.main import main as foresight_main
from foresight.ui.gradio_internals import UNKNOWN
from training.__main__ import main as training_main
from training.service.service import TrainingService

# Over the API: what each kind of value must not be, and what is said of it.

LONG, NUL = "9" * 5000, "a\0b"
META = {"meta": {"_type": "gradio.FileData"}}
WHOLE = ((None, -1, 10**30, 1.5, "many", [], {}, True, LONG), "must be a whole number from|^Frames")
CHOICE = ((None, "zzz", -1, [], {}, NUL, LONG), r"^Unknown|must be a (list of )?names?")
FLAG = ((None, "yes", 2, []), "must be true or false")
POINT = (
    (None, "", "middle", "post-merge/99", "post-merge/-1", [], LONG),
    "is not an extraction point|layers are 0 to|^Choose at least one extraction point",
)
ADAPTER = (("zzz", "/etc", "../runs", [], NUL, LONG), "^No adapter")
PIXELS = (("zzz", "448", "-1", "10x", [], LONG, "99999²"), "pixels")
SECONDS = ((None, -1, "zzz", [], 10**400, True), "must be|^From second|^Frames a second")
FILE = (
    ([], "", "zzz", -1, [None], NUL, {"a": [1]}, {"path": "/etc/hostname", **META}),
    "^Upload the file first|^Send the picture as a file",
)
FETCHED = (({"path": "http://127.0.0.1/a.png", **META},), "addresses are not fetched")
FACTORS = (("zzz", [1], {"colour": 1}, {"shapes": "star"}, {"objects": [9, 9]}, {"objects": [[]]}), r"\.$")
SETTINGS = (
    ("x", [1], -1, {"nothing": 1}, {"steps": 0}, {"steps": "many"}, {"points": "all"}, {"points": ["zzz"]}),
    "must be|is not an extraction point|^There is no setting",
)
NAMES = ((-1, True, "zzz", ["zzz"], [None], {"a": 1}), "^Adapters must be a list of names|^There is no adapter")

PARAMETERS = {
    "generate": {
        **{name: [CHOICE] for name in ("shape", "color", "size", "position", "background")},
        **{name: [WHOLE] for name in ("objects", "seed")},
        "overlap": [FLAG],
    },
    "reconstruct": {
        "image": [FILE, FETCHED],
        "point": [POINT],
        "adapter": [ADAPTER],
        "mask": [FILE],
        "pixels": [PIXELS],
    },
    "reconstruct_clip": {
        "clip": [FILE, FETCHED],
        "point": [POINT],
        "fps": [SECONDS],
        "frames": [WHOLE],
        "start": [SECONDS],
        "pixels": [PIXELS],
    },
    "compare": {"image": [FILE], "adapters": [NAMES], "mask": [FILE], "pixels": [PIXELS]},
    "evaluate": {
        "adapter": [ADAPTER],
        "files": [(FILE[0][1:], FILE[1])],  # none are scenes
        "scenes": [WHOLE],
        "seed": [WHOLE],
        "factors": [FACTORS],
        "pixels": [PIXELS],
    },
    "latent_map": {
        "points": [POINT],
        **{name: [WHOLE] for name in ("scenes", "seed", "tokens", "dimensions", "objects", "neighbours", "clusters")},
        "background": [CHOICE],
        "min_dist": [SECONDS],
        "pixels": [PIXELS],
    },
    "findings": {"study": [(("zzz", "../..", NUL, LONG), "study")]},
    "train": {"recipe": [CHOICE], "settings": [SETTINGS], "archive": [FILE]},
}
API = [
    (name, parameter, value, sentence)
    for name, parameters in PARAMETERS.items()
    for parameter, kinds in parameters.items()
    for values, sentence in kinds
    for value in values
]


def encoded(image, kind="PNG"):
    image.save(data := BytesIO(), kind)
    return data.getvalue()


GOOD = encoded(Image.effect_noise((64, 64), 50))
FILES = {
    "text.png": (b"no picture at all", "is not a JPEG, PNG"),
    "empty.png": (b"", "is empty"),
    "cut.png": (GOOD[:600], "cut short|broken|truncated"),
    "bomb.png": (encoded(Image.new("1", (13000, 13000))), "pixels"),
    "dot.png": (encoded(Image.new("RGB", (1, 1))), "small|pixels"),
    "line.png": (encoded(Image.new("RGB", (1, 5000))), "each side needs at least 8"),
    "nan.tiff": (encoded(Image.fromarray(np.full((64, 64), np.nan, np.float32)), "TIFF"), r"\.$"),
}


@pytest.fixture(scope="module")
def models(tiny, tmp_path_factory):
    folder = tmp_path_factory.mktemp("house")
    return folder, build_house(tiny.folder, folder)


@pytest.fixture(scope="module")
def ask(models):
    """Calls an endpoint with the good values but for those given; returns the error's sentence, None without one."""
    folder, inspector = models
    training = TrainingService(inspector, folder / "runs")
    with serve(inspector, training) as url:

        def post(path, data, kind="application/json"):
            request = urllib.request.Request(f"{url}/gradio_api/{path}", data, {"content-type": kind})
            return urllib.request.urlopen(request).read().decode()

        def upload(name, data):
            head = f'--x\r\nContent-Disposition: form-data; name="files"; filename="{name}"\r\n\r\n'.encode()
            paths = post("upload", head + data + b"\r\n--x--\r\n", "multipart/form-data; boundary=x")
            return {"path": json.loads(paths)[0], **META}

        image = upload("good.png", GOOD)
        endpoints = json.loads(urllib.request.urlopen(f"{url}/gradio_api/info").read())["named_endpoints"]
        good = {
            name: {p["parameter_name"]: p.get("parameter_default") for p in endpoints[f"/{name}"]["parameters"]}
            for name in PARAMETERS
        }
        for name, values in good.items():
            values.update({key: value for key, value in (("image", image), ("clip", image)) if key in values})
            values.update({"point": "post-merge/1"} if "point" in values else {})
            values.update({"adapter": "linear"} if name == "reconstruct" else {})

        def call(name, values):
            event = json.loads(post(f"call/{name}", json.dumps({"data": [*(good[name] | values).values()]}).encode()))
            answer = urllib.request.urlopen(f"{url}/gradio_api/call/{name}/{event['event_id']}").read().decode()
            kind, data = re.findall(r"event: (\w+)\ndata: (.*)", answer)[-1]
            return json.loads(data)["error"] if kind == "error" else None

        call.upload = upload
        yield call


@pytest.fixture(scope="module")
def answers(ask):
    with ThreadPoolExecutor(8) as pool:
        return list(pool.map(lambda case: ask(case[0], {case[1]: case[2]}), API))


@pytest.mark.parametrize("number", range(len(API)), ids=[f"{n} {p} {v!r:.20}" for n, p, v, _ in API])
def test_over_the_api(answers, number):
    answer, sentence = answers[number], API[number][3]
    assert answer and re.search(sentence, answer), answer
    assert answer != UNKNOWN and answer.endswith(".") and answer[0] == answer[0].upper() and len(answer) < 1500


@pytest.mark.parametrize("name", FILES)
def test_a_file(ask, name):
    data, sentence = FILES[name]
    answer = ask("reconstruct", {"image": ask.upload(name, data)})
    assert re.fullmatch(rf"“{name}” .*\.", answer) and re.search(sentence, answer), answer
    assert ask("reconstruct", {"image": ask.upload("good.png", GOOD)}) is None  # the server goes on


@pytest.mark.parametrize("name", odd_clips.REFUSED)
def test_a_clip_that_is_refused(ask, name, tmp_path):
    make, sentence = odd_clips.REFUSED[name]
    answer = ask("reconstruct_clip", {"clip": ask.upload(name, make(tmp_path / name)), "adapter": "linear"})
    assert re.fullmatch(rf"“{name}” .*\.", answer) and re.search(sentence, answer), answer


def test_clips_that_are_odd_and_read(ask, models, tmp_path, capsys):
    """Over the API, and on the command line, which tells what was left out of them."""
    house, _ = models
    for name, (make, _) in odd_clips.READ.items():
        (tmp_path / name).write_bytes(make(tmp_path / f"made-{name}"))
        values = {"clip": ask.upload(name, (tmp_path / name).read_bytes()), "adapter": "linear", "frames": 3}
        assert ask("reconstruct_clip", values) is None, name
    files = [str(tmp_path / name) for name in odd_clips.READ]
    options = ["--model", str(house / "vlm"), "--vae", str(house / "vae"), LINEAR.format(house=house)]
    where = ["--frames", "3", "--fps", "2", "--out", str(tmp_path / "out"), "--json"]
    assert foresight_main(["reconstruct", *files, *options, *where]) == 0
    notices = [json.loads(line)["notice"] for line in capsys.readouterr().out.splitlines()]
    for notice, (name, (_, expected)) in zip(notices, odd_clips.READ.items(), strict=True):
        assert (notice is None) if expected is None else notice and expected in notice, (name, notice)


# On the command line.

IMAGE, LINEAR = "{house}/image.png", "--adapter={house}/bundled/post-merge-1-linear"
RECONSTRUCT, EVALUATE = ["reconstruct", "MODELS"], ["evaluate", "MODELS", "--scenes", "1"]
FIT, EXTRACT = ["fit", "--points", "post-merge/1", "--out", "x"], ["extract", "--points", "post-merge/1", "--out", "x"]
FORESIGHT = {
    "no command": ([], "required: COMMAND"),
    "unknown command": (["paint"], "invalid choice: 'paint'"),
    "no image": (["reconstruct"], "required: FILE"),
    "no such image": ([*RECONSTRUCT, "nothing.png"], "there is no file “nothing.png”"),
    "a name too long": ([*RECONSTRUCT, "a" * 300 + ".png"], "there is no file"),
    "a folder for an image": ([*RECONSTRUCT, "{house}"], "is a folder|is not a JPEG|is no file"),
    "no picture": ([*RECONSTRUCT, "{house}/vae/config.json"], "is not a JPEG, PNG"),
    "two images, one mask": ([*RECONSTRUCT, IMAGE, IMAGE, "--mask", IMAGE], "--mask is for one IMAGE"),
    "another's mask": ([*RECONSTRUCT, IMAGE, "--mask", "{house}/small.png"], "the mask is 20 × 10 pixels"),
    "no point": ([*RECONSTRUCT, IMAGE, "--point", "middle"], "'middle' is not an extraction point"),
    "a point too deep": ([*RECONSTRUCT, IMAGE, "--point", "post-merge/9"], "layers are 0 to 3"),
    "no such adapter": ([*RECONSTRUCT, IMAGE, "--adapter", "nothing/here/at/all"], "'nothing/here/at/all'"),
    "an adapter too long": ([*RECONSTRUCT, IMAGE, "--adapter", "9" * 5000], "is neither a folder nor a hub id"),
    "an adapter's file": ([*RECONSTRUCT, IMAGE, "--adapter", IMAGE], "could not be fetched|is neither a folder"),
    "no such kind there": ([*RECONSTRUCT, IMAGE, "--point", "post-merge/3"], "no adapter fits any point of this"),
    "another point's": ([*RECONSTRUCT, IMAGE, "--point=pre-merge/0", LINEAR], "is for post-merge/1"),
    "pixels": ([*RECONSTRUCT, IMAGE, "--pixels", "448"], "a side of 448 is written 448²"),
    "no such model": (["info", "--model", "not a model"], "'not a model'"),
    "a model too long": (["info", "--model", "m" * 5000], "is neither a folder nor a hub id"),
    "a VAE that is none": (["info", "--vae", "{house}/bad"], "has no config.json"),
    "no such device": (["info", "--device", "abacus"], "device"),
    "no such dtype": (["info", "--dtype", "float3"], "float"),
    "a file for a folder": (["scenes", "--out", IMAGE], "is a file"),
    "a folder in a file": (["scenes", "--out", IMAGE + "/a/b"], "is a file"),
    "a folder too long": (["scenes", "--out", "a" * 300], "file name too long"),
    "no scenes": (["scenes", "--n", "0", "--out", "x"], "--n must be a whole number from 1 to 10,000,000, not 0"),
    "too many scenes": (["scenes", "--n", "9" * 30, "--out", "x"], "--n must be a whole number from 1 to"),
    "far too many scenes": (["scenes", "--n", LONG, "--out", "x"], "is not a whole number"),
    "a seed": (["scenes", "--seed", "1000000", "--out", "x"], "from 0 to 999,999, not 1,000,000"),
    "a long seed": (["scenes", "--seed", "9" * 30, "--out", "x"], "--seed must be a whole number"),
    "a negative seed": (["scenes", "--seed", "-1", "--out", "x"], "--seed must be a whole number"),
    "no number": (["scenes", "--n", "eight", "--out", "x"], "'eight' is not a whole number"),
    "half a scene": (["evaluate", "--scenes", "1.5", "--out", "x"], "--scenes must be a whole number"),
    "no finite number": (["scenes", "--n", "nan", "--out", "x"], "--n must be a whole number"),
    "too many objects": (["scenes", "--objects", "1-9", "--out", "x"], "from 1 to 5, not 9"),
    "no range": (["scenes", "--objects", "few", "--out", "x"], "'few' is not a range such as 1-3"),
    "a range of digits": (["scenes", "--objects", LONG, "--out", "x"], "is not a range such as 1-3"),
    "unknown shape": (["scenes", "--shapes", "heart", "--out", "x"], "unknown shape 'heart': choose from circle"),
    "unknown size": (["scenes", "--size", "huge", "--out", "x"], "unknown size 'huge': choose from any, small"),
    "unknown split": (["scenes", "--split", "half", "--out", "x"], "invalid choice: 'half'"),
    "unknown motion": (["scenes", "--motion", "--motions", "hop", "--out", "x"], "unknown motion"),
    "no frames": (["scenes", "--motion", "--frames", "0", "--out", "x"], "--frames must be a whole number"),
    "frames": (["scenes", "--motion", "--frames", "9" * 20, "--out", "x"], "--frames must be a whole number"),
    "no rate": (["scenes", "--motion", "--fps", "inf", "--out", "x"], "is not a number of 0 or more"),
    "no source": (["evaluate", "--out", "x"], "--scenes --images --clips is required"),
    "no folder": (["evaluate", "MODELS", "--images", "nowhere", "--out", "x"], "there is no folder 'nowhere'"),
    "no good file": (["evaluate", "MODELS", LINEAR, "--images", "{house}/bad", "--out", "x"], "none of the 1 files"),
    "evaluate into a file": ([*EVALUATE, LINEAR, "--out", IMAGE], "is a file"),
}
TRAINING = {
    "no command": ([], "required: COMMAND"),
    "unknown command": (["paint"], "invalid choice: 'paint'"),
    "no points": (["fit", "--out", "x"], "required: --points"),
    **{
        f"{flag} {value:.12}": ([*FIT, flag, value], sentence)
        for flag, values, sentence in (
            ("--steps", ("0", "-1", "1.5", "many", "9" * 30, LONG), "must be a whole number from 1 to 10,000,000"),
            ("--batch", ("0", "1000000000000"), "must be a whole number from 1 to 65,536"),
            ("--hidden", ("0", "9" * 30), "must be a whole number from 1 to 65,536"),
            ("--seed", ("-1", "9" * 30), "must be a whole number from 0 to 10,000,000"),
            ("--held-out", ("-1", "x"), "must be a whole number from 0"),
            ("--lr", ("0", "nan", "inf", "-1", "fast"), "must be a number above 0"),
            ("--images-from", ("nan", "inf", "-0.1", "1.1", "half"), "must be a number from 0 to 1"),
            ("--save-every", ("nan", "inf", "0", "often"), "must be a number above 0"),
            ("--pixels", ("448", "x", LONG), "pixels"),
            ("--memory", ("0", "nan", "much"), "must be a number above 0"),
            ("--log-with", ("paper",), "invalid choice: 'paper'"),
            ("--data", ("scenes:none", "scenes:0", f"scenes:{'9' * 30}", f"scenes:{LONG}"), "is no number of scenes"),
            ("--data", ("scenes:4*nan", "nowhere*x"), "must be a number above 0"),
            ("--data", ("nowhere", "a" * 300), "there is no folder or zip|file name too long"),
        )
        for value in values
    },
    "into a file": ([*FIT[:3], "--out", IMAGE], "is a file"),
    "a weight": ([*EXTRACT, "--data", "scenes:4*2"], "leave the weights out"),
    "a batch": ([*EXTRACT, "--batch", "9" * 13], "must be a whole number from 1 to 65,536"),
    "a study's seed": (["experiments", "c1", "--seed", "-1", "--out", "x"], "must be a whole number from 0"),
}
APP = {
    "a port": (["--port", "0"], "the port must be a whole number from 1 to 65535"),
    "a large port": (["--port", "9" * 30], "the port must be"),
    "a word for a port": (["--port", "http"], "the port must be"),
    "a host": (["--host", "256.1.1.1"], "cannot listen on 256.1.1.1"),
    "a model": (["--model", "no such model"], "'no such model'"),
    "a VAE": (["--vae", "."], "has no config.json"),
}
PROGRAMS = {"foresight": (foresight_main, FORESIGHT), "training": (training_main, TRAINING), "app": (app.main, APP)}
COMMANDS = [(program, case) for program, (_, cases) in PROGRAMS.items() for case in cases]


@pytest.mark.parametrize(("program", "case"), COMMANDS, ids=map(" ".join, COMMANDS))
def test_on_the_command_line(models, program, case, tmp_path, capsys, monkeypatch):
    house, _ = models
    monkeypatch.chdir(tmp_path)
    (house / "bad").mkdir(exist_ok=True)
    (house / "bad/a.png").write_text("no picture")
    Image.new("RGB", (224, 224)).save(house / "image.png")
    Image.new("RGB", (20, 10)).save(house / "small.png")
    run, cases = PROGRAMS[program]
    given, sentence = cases[case]
    options = ["--model", str(house / "vlm"), "--vae", str(house / "vae")]
    arguments = [part for word in given for part in (options if word == "MODELS" else [word.format(house=house)])]
    try:
        if program == "app":
            monkeypatch.setattr(sys, "argv", ["app.py", *arguments])
        code = run() if program == "app" else run(arguments)
    except SystemExit as ended:  # argparse's own
        code = ended.code
    output = capsys.readouterr()
    last = output.err.splitlines()[-1]
    assert code == 2 and output.out == "" and "Traceback" not in output.err
    assert re.search(sentence, last) and last.startswith(("error: ", "app.py: ")) and len(last) < 1500, last
    assert program == "training" or output.err.count("\n") == 1
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]  # nothing was begun
