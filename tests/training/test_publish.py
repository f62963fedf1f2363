"""Pushing an adapter to the hub: the hub's own client, talking to a server of this machine that keeps what it gets."""

import base64
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from house import build_house

from foresight.adapters.checkpoint import describe_adapter, load_adapter
from foresight.errors import InputError
from training.service.runs import TrainedAdapters, card_text

NAME = "post-merge-1-tokens"


class Hub(BaseHTTPRequestHandler):
    """The four questions that the client asks, with the answers that the hub documents."""

    def do_GET(self):
        self.answer(200, {"id": "me/eyes", "private": self.server.private})

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.tokens.add(self.headers["Authorization"])
        if self.server.refusal:
            self.answer(self.server.refusal, {"error": "You have read-only rights."})
        elif self.path == "/api/repos/create":
            self.answer(200, {"url": f"{self.server.url}/me/eyes"})
        elif self.path == "/api/validate-yaml":
            self.answer(200, {"warnings": [], "errors": []})
        elif self.path == "/api/models/me/eyes/preupload/main":
            files = [
                {"path": f["path"], "uploadMode": "regular", "shouldIgnore": False} for f in json.loads(body)["files"]
            ]
            self.answer(200, {"files": files})
        elif self.path == "/api/models/me/eyes/commit/main":
            lines = [json.loads(line) for line in body.splitlines()]
            self.server.commits.append({e["value"]["path"]: e["value"] for e in lines if e["key"] == "file"})
            self.answer(200, {"commitUrl": f"{self.server.url}/me/eyes/commit/abc", "commitOid": "abc"})
        else:
            self.answer(404, {"error": self.path})

    def answer(self, code, content):
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(json.dumps(content).encode())

    def log_message(self, *_):
        pass


@pytest.fixture
def hub(monkeypatch):
    with ThreadingHTTPServer(("127.0.0.1", 0), Hub) as server:
        server.url = f"http://127.0.0.1:{server.server_port}"
        server.private, server.refusal, server.commits, server.tokens = True, None, [], set()
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", server.url)  # as HF_ENDPOINT, read at its import
        monkeypatch.setenv("HF_TOKEN", "hf_mine")
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture(scope="module")
def trained(tiny, tmp_path_factory):
    house = tmp_path_factory.mktemp("house")
    return TrainedAdapters(build_house(tiny.folder, house).registry, house / "bundled")


def test_what_is_pushed_loads_again_and_tells_no_path(trained, hub, tmp_path):
    assert trained.publish(NAME, " me/eyes ", True) == f"{hub.url}/me/eyes"
    (files,) = hub.commits  # all of it in one commit
    for path, file in files.items():
        (tmp_path / path).write_bytes(base64.b64decode(file["content"]))
    assert files.keys() == {"model.safetensors", "config.json", "README.md"} and hub.tokens == {"Bearer hf_mine"}
    assert load_adapter(tmp_path).kind == "tokens"
    card = (tmp_path / "README.md").read_text()
    assert card.startswith("---\nlibrary_name: foresight\n") and 'load_adapter("me/eyes")' in card
    assert "the VLM `vlm` at the extraction point `post-merge/1`" in card and "base_model" not in card
    assert str(trained.folder.parent) not in card + (tmp_path / "config.json").read_text()


def test_a_model_of_some_revision_is_known_by_its_name(trained):
    config = describe_adapter(trained.folder / NAME)
    named = config | {"card": config["card"] | {"model": "owner/model@main"}}
    assert "base_model: owner/model\n" in card_text("x", named) and "`owner/model@main`" in card_text("x", named)


def test_what_is_to_be_private_does_not_go_where_all_can_see_it(trained, hub):
    hub.private = False
    with pytest.raises(InputError, match="me/eyes is there already, and public"):
        trained.publish(NAME, "me/eyes", True)
    assert not hub.commits
    trained.publish(NAME, "me/eyes", False)
    assert len(hub.commits) == 1


@pytest.mark.parametrize(
    ("to", "sentence"), [("me/eyes", "hub did not take it.* 403"), ("a b", "is no name for a rep")]
)
def test_a_push_that_fails_is_one_sentence(trained, hub, to, sentence):
    hub.refusal = 403
    with pytest.raises(InputError, match=sentence):
        trained.publish(NAME, to, True)


def test_a_hub_that_does_not_answer_is_one_sentence(trained, hub):
    hub.shutdown()
    hub.server_close()
    with pytest.raises(InputError, match=r"or could not be reached \(ConnectError\)"):
        trained.publish(NAME, "me/eyes", True)
