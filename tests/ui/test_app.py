"""The app over its API, served with tiny models: the right numbers, one sentence for bad input, no way in."""

import json
import sys
import threading
import urllib.error
import urllib.request
import zipfile

import numpy as np
import pytest
import torch
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from house import build_house
from photos import save_photo
from PIL import Image
from serving import serve

import app
from foresight.data.clips import load_clip, write_clip
from foresight.data.images import load_image, load_mask
from foresight.errors import InputError
from foresight.inspection.clip_readout import clip_samples, read_out_clip
from foresight.inspection.inspector import Inspector
from foresight.models.vlm import load_vlm
from foresight.settings import Settings
from foresight.ui.shell import build_app

NAMED = {
    "/generate",
    "/reconstruct",
    "/reconstruct_clip",
    "/compare",
    "/evaluate",
    "/latent_map",
    "/findings",
    "/info",
}


@pytest.fixture(scope="module")
def inspector(tiny, tmp_path_factory):
    return build_house(tiny.folder, tmp_path_factory.mktemp("house"))


@pytest.fixture(scope="module")
def url(inspector):
    with serve(inspector, public=True) as address:
        yield address


@pytest.fixture(scope="module")
def client(url, tmp_path_factory):
    return Client(url, verbose=False, download_files=str(tmp_path_factory.mktemp("downloads")))


@pytest.fixture(scope="module")
def scene(client):
    return client.predict(shape="star", color="red", objects=2, seed=5, api_name="/generate")


def test_only_named_endpoints_are_listed(client):
    listed = client.view_api(return_format="dict")
    assert set(listed["named_endpoints"]) == NAMED and not listed["unnamed_endpoints"]
    names = [p["parameter_name"] for p in listed["named_endpoints"]["/reconstruct"]["parameters"]]
    assert names == ["image", "point", "adapter", "mask", "pixels"]


def test_info_tells_points_and_adapters(client, inspector):
    info = client.predict(api_name="/info")
    assert [p["point"] for p in info["points"]] == [str(p) for p in inspector.vlm.points]
    assert {(a["point"], a["adapter"]) for a in info["adapters"]} == {
        (str(e.point), e.name) for e in inspector.adapters()
    }
    assert info["vae"]["channels"] == 4 and "torch" in info["versions"]
    assert (info["model"], info["vae"]["name"]) == ("vlm", "vae")  # where they lie is nobody else's business


def test_what_is_generated_is_scored_as_the_library_scores_it(client, inspector, scene):
    picture, mask, description = scene
    assert [(o["shape"], o["color"]) for o in description["objects"]] == [("star", "red")] * 2
    reconstruction, scores = client.predict(
        handle_file(picture), "post-merge/1", "linear", handle_file(mask), api_name="/reconstruct"
    )
    report = inspector.inspect(load_image(picture), "post-merge/1", "linear", load_mask(mask))
    expected = report.as_json()
    for name in ("lpips", "ssim", "psnr", "mask_iou", "oracle", "blank", "skill", "distance", "far"):
        assert scores[name] == pytest.approx(expected[name], abs=1e-4), name
    assert (scores["point"], scores["adapter"]) == ("post-merge/1", "linear")
    pixels = np.asarray(load_image(reconstruction)).astype(int)
    assert abs(pixels - (report.chosen.image.permute(1, 2, 0).numpy() * 255)).max() < 1.5


def test_a_clip_is_read_as_the_library_reads_it(client, inspector, tmp_path):
    path = write_clip(tmp_path / "clip.mp4", torch.rand(6, 3, 56, 56, generator=torch.Generator().manual_seed(0)), 8.0)
    reconstruction, scores = client.predict(
        handle_file(path), "post-merge/1", "linear", frames=4, api_name="/reconstruct_clip"
    )
    [sample] = clip_samples([path], frames=4)
    expected = read_out_clip(inspector, inspector.registry.find("linear", "post-merge/1"), sample).as_json()
    assert scores["by_frame"]["lpips"] == pytest.approx(expected["by_frame"]["lpips"], abs=1e-4)
    assert scores["controls"]["still"]["ssim"] == pytest.approx(expected["controls"]["still"]["ssim"], abs=1e-4)
    assert load_clip(reconstruction, fps=None).frames.shape == (4, 3, 224, 224)
    with pytest.raises(AppError, match="o adapter reads post-merge/2"):
        client.predict(handle_file(path), "post-merge/2", api_name="/reconstruct_clip")
    with pytest.raises(AppError, match="hoose a clip first"):
        client.predict(None, "post-merge/1", api_name="/reconstruct_clip")


def test_pixels_are_how_large_the_model_sees_it(client, inspector, scene):
    picture = handle_file(scene[0])
    reconstruction, scores = client.predict(picture, "post-merge/1", "tokens", pixels="112²", api_name="/reconstruct")
    assert load_image(reconstruction).size == (112, 112) and scores["size"] == [112, 112] and scores["pixels"] == "112²"
    assert scores["notice"] == "fitted at 224², here 112 × 112 pixels"
    expected = inspector.inspect(load_image(scene[0]), "post-merge/1", "tokens", pixels="112²").as_json()
    assert scores["lpips"] == pytest.approx(expected["lpips"], abs=1e-4)
    answer, tiles = client.predict(picture, None, None, "112²", api_name="/compare")
    assert {tile["adapter"] for tile in answer["tiles"]} == {"tokens", "linear"} and len(tiles) == 3  # not pooled
    answer = client.predict("post-merge/1", "tokens", scenes=1, pixels="112²", api_name="/evaluate")
    assert answer["pictures"][0]["width"] == 112 and answer["summary"]["other_sizes"] == 1
    with pytest.raises(AppError, match="a side of 448 is written 448²"):
        client.predict(picture, "post-merge/1", "tokens", pixels="448", api_name="/reconstruct")
    with pytest.raises(AppError, match="paints pictures of one size alone"):
        client.predict(picture, "post-merge/1", "pooled", pixels="112²", api_name="/reconstruct")


def post(address, path, origin=None):
    """The status of a POST of an event's empty body, as a page of that origin sends it."""
    headers = {"content-type": "application/json"} | ({"origin": origin} if origin else {})
    request = urllib.request.Request(f"{address}{path}", b'{"data": []}', headers)
    try:
        with urllib.request.urlopen(request) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code


def test_another_site_s_page_is_refused_and_a_folder_can_be_named_at_this_machine_alone(inspector):
    with serve(inspector, host="0.0.0.0") as wide, serve(inspector) as here:
        for address, folders in ((wide.replace("0.0.0.0", "127.0.0.1"), False), (here, True)):
            with urllib.request.urlopen(f"{address}/config") as answer:
                built = [component["props"] for component in json.load(answer)["components"]]
            (source,) = [props for props in built if props.get("elem_id") == "failures-source"]
            assert ("Folder" in dict(source["choices"])) is folders
            path = "/gradio_api/call/info"
            assert [post(address, path, origin) for origin in (None, address)] == [200, 200]
            assert [post(address, path, origin) for origin in ("http://example.org", "null")] == [403, 403]


def test_nobody_runs_an_event_beside_the_queue(url):
    assert post(url, "/gradio_api/run/reconstruct") == 404


def test_sixteen_bits_arrive_whole(client, tmp_path):
    """Gradio's own decoding clips them to white."""
    deep = np.full((56, 56), 32768, np.uint16)
    deep[14:42, 14:42] = 65535
    Image.fromarray(deep).save(tmp_path / "deep.png")
    Image.fromarray((deep / 257).round().astype(np.uint8)).save(tmp_path / "flat.png")
    scores = [
        client.predict(handle_file(tmp_path / name), "post-merge/1", "linear", api_name="/reconstruct")[1]
        for name in ("deep.png", "flat.png")
    ]
    assert scores[0]["lpips"] == scores[1]["lpips"]
    assert scores[0]["blank"]["psnr"] == pytest.approx(-10 * np.log10(0.75 * 0.498**2), abs=0.05)


@pytest.mark.parametrize("orientation", [5, 6])  # mirrored, and turned; test_orientation has all
def test_a_photo_is_upright_for_every_endpoint(client, tmp_path, orientation):
    upright = tmp_path / "upright.png"
    save_photo(tmp_path / "photo.jpg", orientation).save(upright)
    with zipfile.ZipFile(tmp_path / "photos.zip", "w") as archive:
        archive.write(tmp_path / "photo.jpg", "photo.jpg")
    expected = client.predict(handle_file(upright), "post-merge/1", "linear", api_name="/reconstruct")[1]

    def scores(name):
        file = handle_file(tmp_path / name)
        if name == "photos.zip":
            return client.predict("post-merge/1", "linear", [file], api_name="/evaluate")["pictures"][0]
        return client.predict(file, "post-merge/1", "linear", api_name="/reconstruct")[1]

    compared = client.predict(handle_file(tmp_path / "photo.jpg"), ["linear"], api_name="/compare")[0]["tiles"]
    [tile] = [tile for tile in compared if tile["point"] == "post-merge/1"]
    for values in (scores("photo.jpg"), scores("photos.zip"), tile):
        for name in ("lpips", "ssim", "psnr"):
            assert values[name] == pytest.approx(expected[name], abs=1e-3), name


BAD_FILES = {
    "text.png": b"no picture at all",
    "empty.png": b"",
    "cut.png": None,
    "bomb.png": Image.new("1", (13000, 13000)),
    "dot.png": Image.new("RGB", (1, 1)),
    "line.png": Image.new("RGB", (1, 5000)),
    "nan.tiff": Image.fromarray(np.full((64, 64), np.nan, np.float32)),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_a_bad_file_is_one_sentence_and_the_server_goes_on(client, scene, tmp_path, name):
    content = BAD_FILES[name]
    if isinstance(content, Image.Image):
        content.save(tmp_path / name)
    else:
        with open(scene[0], "rb") as good:
            (tmp_path / name).write_bytes(good.read()[:600] if content is None else content)
    with pytest.raises(AppError, match=rf"^“{name}” .*\.$"):
        client.predict(handle_file(tmp_path / name), "post-merge/1", "linear", api_name="/reconstruct")
    assert client.predict(handle_file(scene[0]), "post-merge/1", "linear", api_name="/reconstruct")


@pytest.mark.parametrize(
    ("point", "adapter", "sentence"),
    [
        ("post-merge/99", "linear", "the post-merge layers are 0 to 3"),
        ("middle", "linear", "is not an extraction point"),
        ("post-merge/2", "linear", "there are some for pre-merge/2, post-merge/1"),
        ("pre-merge/2", "tokens", "choose from linear"),
        ("post-merge/1", "/etc", "choose from tokens, linear, pooled"),
    ],
)
def test_a_bad_choice_is_one_sentence(client, scene, point, adapter, sentence):
    with pytest.raises(AppError, match=sentence):
        client.predict(handle_file(scene[0]), point, adapter, api_name="/reconstruct")


@pytest.mark.parametrize("objects", [9, 1.5, "many"])
def test_a_scene_that_cannot_be_is_one_sentence(client, objects):
    with pytest.raises(AppError, match=f"whole number from 1 to 5, not {objects!r}"):
        client.predict(objects=objects, api_name="/generate")


@pytest.mark.parametrize(
    ("file", "sentence"),
    [
        ({"path": "/etc/hostname"}, '"error": null'),
        ({"path": "http://127.0.0.1/a.png"}, "addresses are not fetched"),
        ({"path": None, "url": "data:image/png;base64,AAAA"}, "Send the picture as a file"),
    ],
)
def test_only_uploads_are_opened(url, file, sentence):
    body = json.dumps({"data": [{**file, "meta": {"_type": "gradio.FileData"}}, "post-merge/1", "linear", None, None]})
    ask = urllib.request.Request(
        f"{url}/gradio_api/call/reconstruct", body.encode(), {"Content-Type": "application/json"}
    )
    event = json.load(urllib.request.urlopen(ask))["event_id"]
    answer = urllib.request.urlopen(f"{url}/gradio_api/call/reconstruct/{event}").read().decode()
    assert answer.startswith("event: error")
    assert sentence in answer  # null: strangers are not told what is where


def test_the_first_page_asks_nothing_of_a_large_model(inspector, hub, monkeypatch):
    vlm = load_vlm("owner/vlm", "cpu")
    large = Inspector(vlm, inspector.vae, inspector.registry.roots)
    monkeypatch.setattr("foresight.models.vlm.LARGE", 0)
    large.warm_up()
    page = build_app(large, Settings())
    answers = [f for f in page.fns.values() if "answer" in [getattr(o, "elem_id", None) for o in f.outputs]]
    assert not [f for f in answers if "load" in [event for _, event in f.targets]]
    assert len(large.adapters()) == 4 and "0.0 GB what the point needs is read then" in str(page.config)
    assert all(p.is_meta for p in vlm.model.parameters())
    assert not [name for _, name, _ in hub.log if name.endswith(".safetensors")]
    large.inspect(torch.ones(3, 56, 56))
    assert "model.safetensors" in [name for _, name, _ in hub.log]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [(["--port", "0"], "the port must be"), (["--model", "no such model"], "'no such model'"), (["--vae", "."], "VAE")],
)
def test_a_bad_start_is_one_sentence_and_2(monkeypatch, capsys, arguments, sentence):
    monkeypatch.setattr(sys, "argv", ["app.py", *arguments])
    assert app.main() == 2
    output = capsys.readouterr()
    assert sentence in output.err and output.err.count("\n") == 1 and not output.out


def test_weights_that_cannot_be_read_are_reported_once(monkeypatch, capsys):
    def refuse(*_, **__):
        raise InputError("no weights.")

    loose = []
    for place in ("foresight.inspection.inspector.Inspector.warm_up", "foresight.ui.shell.build_app"):
        monkeypatch.setattr(place, refuse)
    monkeypatch.setattr(threading, "excepthook", loose.append)
    monkeypatch.setattr(sys, "argv", ["app.py", "--no-train"])
    assert app.main() == 2 and not loose
    assert capsys.readouterr().err == "app.py: no weights.\n"
