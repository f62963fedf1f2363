"""The app over its API, served with tiny models: the right numbers, one sentence for bad input, no way in."""

import errno
import http.client
import json
import re
import sys
import threading
import time
import urllib.error
import urllib.request
import zipfile
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from house import build_house
from photos import ORIENTATIONS, save_photo
from PIL import Image
from serving import serve
from starlette.requests import HTTPConnection

import app
from foresight.data.clips import load_clip, write_clip
from foresight.data.images import load_image, load_mask
from foresight.errors import InputError
from foresight.inspection.clip_readout import clip_samples, read_out_clip
from foresight.inspection.evaluation import evaluate
from foresight.inspection.inspector import Inspector
from foresight.models.vlm import load_vlm
from foresight.settings import Settings
from foresight.ui import limits
from foresight.ui.fair_queue import in_turns, still_unread
from foresight.ui.gradio_internals import NO_ROOM, get_upload_folder
from foresight.ui.guard import client_of
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
    assert info["vae"]["channels"] == 4 and "torch" in info["versions"] and info["limits"]["queue"]["by_client"] == 16
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


def ask(address, body=None, **headers):
    """The status and the text that an address answers; a body is posted, JSON unless the headers say otherwise."""
    headers = {
        name.replace("_", "-"): value for name, value in ({"content_type": "application/json"} | headers).items()
    }
    try:
        with urllib.request.urlopen(urllib.request.Request(address, body, headers)) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def call(url, name, *values, client="1.2.3.4"):
    """The status of an endpoint's call, and its event's address or what is said instead; nobody listens to it."""
    path = f"{url}/gradio_api/call/{name}"
    status, text = ask(path, json.dumps({"data": values}).encode(), x_forwarded_for=client)
    return status, f"{path}/{json.loads(text)['event_id']}" if status == 200 else text


def test_another_site_s_page_is_refused_and_a_folder_can_be_named_at_this_machine_alone(inspector):
    with serve(inspector, host="0.0.0.0") as wide, serve(inspector) as here:
        for address, folders in ((wide.replace("0.0.0.0", "127.0.0.1"), False), (here, True)):
            built = [component["props"] for component in json.loads(ask(f"{address}/config")[1])["components"]]
            (source,) = [props for props in built if props.get("elem_id") == "failures-source"]
            assert ("Folder" in dict(source["choices"])) is folders
            path, body = f"{address}/gradio_api/call/info", b'{"data": []}'
            assert [ask(path, body)[0], ask(path, body, origin=address)[0]] == [200, 200]
            assert [ask(path, body, origin=origin)[0] for origin in ("http://example.org", "null")] == [403, 403]


@contextmanager
def proxied(url, prefix):
    """The address of a proxy that has the app at url under a prefix, as others' servers do."""
    target = url.removeprefix("http://")

    class Proxy(BaseHTTPRequestHandler):
        def forward(self):
            connection = http.client.HTTPConnection(target)
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            headers = {**self.headers, "x-forwarded-host": self.headers["host"], "x-forwarded-proto": "http"}
            connection.request(self.command, self.path.removeprefix(prefix), body, headers)
            answer = connection.getresponse()
            self.send_response(answer.status)
            for name, value in answer.getheaders():
                if name.lower() not in ("transfer-encoding", "connection"):
                    self.send_header(name, value)
            self.end_headers()
            while chunk := answer.read1(65536):
                self.wfile.write(chunk)

        do_GET = do_POST = forward

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Proxy) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}{prefix}"
        server.shutdown()


def test_the_app_is_whole_under_a_path_of_another_server(inspector, monkeypatch, tmp_path):
    monkeypatch.setenv("GRADIO_ROOT_PATH", "/some/path")
    with serve(inspector, public=True) as url, proxied(url, "/some/path") as address:
        client = Client(address, verbose=False, download_files=str(tmp_path))
        picture = client.predict(seed=3, api_name="/generate")[0]
        assert client.predict(handle_file(picture), "post-merge/1", "linear", api_name="/reconstruct")[1]["lpips"] > 0
        page = ask(f"{address}/")[1]
        files = set(re.findall(r'(?:src|href)="(?:\./)?([^":]+\.(?:js|css))"', page))
        assert files and all(ask(f"{address}/{file.removeprefix('/some/path/')}")[0] == 200 for file in files)
        assert ask(f"{address}/health")[0] == 200


def test_whoever_watches_over_the_server_is_answered(url):
    assert ask(f"{url}/health") == (200, '{"status":"ok"}')


def test_a_page_of_another_site_may_frame_a_public_app(url):
    """As that of a Space does."""
    with urllib.request.urlopen(url) as page:
        assert not {"x-frame-options", "content-security-policy"} & {name.lower() for name in page.headers}


def test_the_page_keeps_the_status_of_what_shows_it_alone(url):
    """At each message of any event it goes through all statuses that it keeps."""
    events = json.loads(ask(f"{url}/config")[1])["dependencies"]
    quiet = [event for event in events if event["outputs"] and event["show_progress"] == "hidden"]
    assert len(quiet) > 100 and all(event["show_progress_on"] == [] for event in quiet if event["backend_fn"])


def test_nobody_runs_an_event_beside_the_queue(url):
    assert ask(f"{url}/gradio_api/run/reconstruct", b'{"data": []}')[0] == 404


def test_a_client_has_a_share_of_the_queue_and_nothing_once_it_is_gone(url, client, scene, monkeypatch):
    def slowly(*args):
        for item in evaluate(*args):
            time.sleep(0.5)
            yield item

    monkeypatch.setattr("foresight.ui.failures.tab.evaluate", slowly)
    long = ("post-merge/1", "linear", None, 64, 0, None, None)  # half a minute each at least
    joined = [call(url, "evaluate", *long) for _ in range(limits.SHARE + 1)]
    assert [status for status, _ in joined] == [200] * limits.SHARE + [503]
    assert f"You have {limits.SHARE} calls waiting here already" in joined[-1][1]
    assert call(url, "evaluate", *long, client="1.2.3.5")[0] == 200
    assert client.predict(api_name="/info")  # waits for none of them
    monkeypatch.setattr(limits, "ABSENT", 1.5)
    assert client.predict(handle_file(scene[0]), "post-merge/1", "linear", api_name="/reconstruct")
    while call(url, "evaluate", *long)[0] == 503:  # until the first of them has ended
        time.sleep(0.1)
    assert "Nobody fetched the answers of this call" in ask(joined[0][1])[1]


def test_who_fetches_an_answer_now_and_then_is_not_gone():
    def seconds(unread):
        return {session: waited for session, (_, waited) in unread.items()}

    first, second = object(), object()
    unread = still_unread({}, {"absent": first, "slow": first}, 2.0)
    assert seconds(unread) == {"absent": 0, "slow": 0}
    unread = still_unread(unread, {"absent": first, "slow": second, "new": first}, 2.0)
    assert seconds(unread) == {"absent": 2, "slow": 0, "new": 0}
    assert seconds(still_unread(unread, {"absent": first}, 2.0)) == {"absent": 4}


def test_clients_take_turns():
    def event(client):
        return SimpleNamespace(request=HTTPConnection({"type": "http", "client": (client, 1), "headers": []}))

    a, b, c = "1.2.3.4", "1.2.3.5", "2001:4860::1"
    events = [event(client) for client in (a, a, a, b, c, "2001:4860::2", b)]
    assert [events.index(e) for e in in_turns(events)] == [0, 3, 4, 1, 5, 6, 2]  # a network of IPv6 is one client


@pytest.mark.parametrize(
    ("peer", "hops", "client"),
    [
        ("1.2.3.4", "9.9.9.9", "1.2.3.4"),  # whoever comes by itself may say anything
        ("10.0.0.1", "9.9.9.9, 8.8.8.8, 10.0.0.2", "8.8.8.8"),
        ("10.0.0.1", "nonsense", "10.0.0.1"),
    ],
)
def test_a_client_is_who_the_proxy_says(peer, hops, client):
    headers = [(b"x-forwarded-for", hops.encode())]
    assert client_of(HTTPConnection({"type": "http", "client": (peer, 1), "headers": headers})) == client


def upload(url, *files, field=b"", **headers):
    """The status and the text of an upload of files with these contents."""
    parts = [(f'name="files"; filename="{k}.png"', data) for k, data in enumerate(files)] + [('name="f"', field)]
    body = b"".join(b"--x\r\nContent-Disposition: form-data; %s\r\n\r\n%s\r\n" % (n.encode(), d) for n, d in parts)
    return ask(
        f"{url}/gradio_api/upload", body + b"--x--\r\n", content_type="multipart/form-data; boundary=x", **headers
    )


def test_requests_have_sizes(url, monkeypatch):
    monkeypatch.setattr(limits, "UPLOAD", 3000)
    kept = sum(1 for path in Path(get_upload_folder()).iterdir() if path.is_file())
    assert upload(url, bytes(900), bytes(900))[0] == 200
    assert upload(url, *[bytes(900)] * 4) == (413, "An upload has a maximum allowed size of 0 MB.")
    assert upload(url, field=bytes(limits.UPLOAD_FIELD + 1))[0] == 413
    assert sum(1 for path in Path(get_upload_folder()).iterdir() if path.is_file()) == kept  # what was refused is gone
    monkeypatch.setattr(limits, "FREE", 1 << 60)
    assert upload(url, bytes(9)) == (507, "This app has no room for uploads now: try again later.\n")
    assert "at most 4 MB" in ask(f"{url}/gradio_api/call/info", b'{"data": ["' + bytes(limits.BODY) + b'"]}')[1]
    for path in ("/?seed=" + "9" * 9000, "/gradio_api/file=/tmp/" + "9" * 300):
        assert ask(url + path) == (414, "This address is too long.\n")
    assert (
        ask(f"{url}/gradio_api/call/no_such_event", b'{"data": []}')[1] == "There is nothing here for such a request.\n"
    )


def test_a_client_has_a_share_of_the_disk(inspector, monkeypatch):
    monkeypatch.setattr(limits, "UPLOADED", 2000)
    with serve(inspector, public=True) as url:

        def statuses(count, **client):
            return [upload(url, bytes(900), **client)[0] for _ in range(count)]

        assert statuses(3) == [200, 200, 429]
        assert statuses(1, x_forwarded_for="1.2.3.4") == [200]
        monkeypatch.setattr(limits, "KEPT", 0)
        assert statuses(1) == [200]


def test_a_full_disk_is_said(url, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device", "/tmp/somewhere")

    monkeypatch.setattr("foresight.ui.generate.draw", full)
    answer = ask(call(url, "generate", "any", "any", 1, "any", "any", "white", True, 0)[1])[1]
    assert NO_ROOM in answer and "somewhere" not in answer


def test_the_log_tells_nothing_of_what_people_ask_or_bring(url, client, tmp_path, capfd):
    names = {name: tmp_path / f"secret{name}" for name in (".png", ".tiff", ".mp4", ".zip")}
    for name, path in names.items():
        path.write_bytes(b"secret" * 50)
        endpoint = {".mp4": "/reconstruct_clip", ".zip": "/evaluate"}.get(name, "/reconstruct")
        values = ["post-merge/1", "linear"]
        values.insert(2 if name == ".zip" else 0, [handle_file(path)] if name == ".zip" else handle_file(path))
        with pytest.raises(AppError, match="secret"):
            client.predict(*values, api_name=endpoint)
    ask(call(url, "compare", ["secret"], ["secret"], None, None)[1])  # Gradio's own error
    output = "".join(capfd.readouterr())
    assert "secret" not in output and "ValidationError" in output, output


def test_no_address_is_fetched(url):
    """Gradio fetches what any JSON value calls a file, and hands on what its file route is asked for."""
    file = {"path": "http://example.org/a.png", "meta": {"_type": "gradio.FileData"}}
    image = {"path": "/a.png", "meta": {"_type": "gradio.FileData"}}
    for name, values in {
        "evaluate": ("post-merge/1", "linear", None, 1, 0, {"shapes": [file]}, None),
        "compare": (image, [[file]], None, None),
        "reconstruct_clip": (file, "post-merge/1", "linear", 8, 4, 0, None),
    }.items():
        status, event = call(url, name, *values)
        assert (status == 200 and "addresses are not fetched" in ask(event)[1]) or name == "compare"
    for path in ("file=http://example.org/a.png", "file=https://example.org", "file/http://example.org/a.png"):
        assert ask(f"{url}/gradio_api/{path}") == (403, "Addresses are not fetched.\n")


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


@pytest.mark.parametrize("orientation", ORIENTATIONS)
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


def test_uploads_that_could_not_be_kept_are_refused_at_the_start(monkeypatch, tmp_path, capsys):
    (tmp_path / "file").touch()
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "file/uploads"))
    monkeypatch.setattr(sys, "argv", ["app.py", "--no-train"])
    assert app.main() == 2
    assert re.fullmatch(r"app.py: nothing can be put into .*: .* is a file\.\n", capsys.readouterr().err)


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
