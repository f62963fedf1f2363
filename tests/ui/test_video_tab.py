"""The Video tab without a browser: its clips and their addresses, what the player is given, and the files."""

import csv
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from house import build_house

from foresight.adapters.checkpoint import describe_adapter, save_adapter
from foresight.adapters.modules import LinearProbe
from foresight.data.clips import load_clip, write_clip
from foresight.errors import InputError
from foresight.inspection.clip_readout import add_oracle, clip_records, decode_clip, read_out_clip, score_clip
from foresight.inspection.inspector import Inspector
from foresight.metrics.video import TRUST, ClipScorer
from foresight.settings import Settings
from foresight.ui import view_link
from foresight.ui.navigation import Navigation
from foresight.ui.turns import MODELS, take_turns
from foresight.ui.video import address, export, player, tab
from foresight.ui.video.form import NO_ADAPTER, ClipPoint
from foresight.ui.video.source import MovingScene, UploadedClip, sample_of


@pytest.fixture(scope="module")
def inspector(tiny, tmp_path_factory):
    """A tiny house in which one adapter tells the two frames of a step apart."""
    house = tmp_path_factory.mktemp("house")
    inspector = build_house(tiny.folder, house)
    torch.manual_seed(1)
    card = describe_adapter(house / "bundled/post-merge-1-linear")["card"]
    save_adapter(LinearProbe(48, 4, 1, 4, card=card, frames=2).eval(), house / "runs/pairs")
    return inspector


@pytest.fixture(scope="module")
def decoded(inspector):
    return decode_clip(inspector, clip_records(inspector)[0], sample_of(MovingScene(frames=5)))


@pytest.fixture(scope="module")
def report(inspector, decoded):
    return score_clip(inspector, add_oracle(inspector, decoded))


def test_an_address_opens_the_same_clip(tmp_path, monkeypatch):
    scene = MovingScene(seed=3, motion="bounce", objects=1, frames=9)
    text = address.query(scene, "post-merge/1", "linear")
    asked = dict(pair.split("=") for pair in text.lstrip("?").split("&"))
    assert asked["tab"] == "video" and address.source_of(asked) == scene
    assert address.source_of({"tab": "video"}) is None
    assert address.query(scene, "post-merge/1", "linear", "448²").endswith("&pixels=448%C2%B2")
    with pytest.raises(InputError, match="unknown motion 'flying'"):
        address.source_of({"motion": "flying"})
    with pytest.raises(InputError, match="frames must be a number, not 'many'"):
        address.source_of({"frames": "many"})

    monkeypatch.setattr(view_link, "get_upload_folder", lambda: str(tmp_path))
    file = tmp_path / ("3f" * 32) / "clip.mp4"
    assert address.query(UploadedClip(str(tmp_path / "elsewhere.mp4")), "post-merge/1", "linear") == ""
    file.parent.mkdir()
    file.write_bytes(b"")
    clip = UploadedClip(str(file), 12.5, 4, 1.0)
    text = address.query(clip, "post-merge/1", "linear")
    assert "fps=12.5&frames=4&start=1" in text
    assert address.source_of(dict(pair.split("=") for pair in text.lstrip("?").split("&"))) == clip
    file.unlink()
    with pytest.raises(InputError, match="the clip of this link was an upload, and is no longer kept"):
        address.source_of({"upload": f"{'3f' * 32}/clip.mp4"})


def test_a_clip_is_a_scene_or_a_file(tmp_path):
    one, other = (sample_of(MovingScene(seed=seed, objects=3, frames=4)) for seed in (1, 2))
    assert one.frames.shape == (4, 3, 224, 224) and one.truth.masks.shape[1] == 3
    assert not torch.equal(one.frames, other.frames)
    path = write_clip(tmp_path / "long.mp4", one.frames.repeat(5, 1, 1, 1), 8.0)
    sample = sample_of(UploadedClip(str(path), frames=4))
    assert len(sample.frames) == 4 and "lasts 2.5 s: the clip is 0.5 s of it" in sample.notice
    (tmp_path / "text.mp4").write_text("hello")
    with pytest.raises(InputError, match="is no mp4, mov, webm, mkv or gif video"):
        sample_of(UploadedClip(str(tmp_path / "text.mp4")))
    with pytest.raises(InputError, match="frames must be a whole number from 1 to 32, not 33"):
        MovingScene(frames=33)


def test_adapters_that_tell_frames_apart_come_first(inspector):
    here = [record.name for record in clip_records(inspector) if str(record.point) == "post-merge/1"]
    assert here[0] == "pairs" and sorted(here[1:]) == ["linear", "pooled", "tokens"]


def test_a_point_that_nothing_reads_gives_way_to_the_nearest(inspector, tmp_path):
    import gradio as gr

    with gr.Blocks():
        point = ClipPoint(inspector)
        alone = ClipPoint(Inspector(inspector.vlm, inspector.vae, [tmp_path]))
    stage, layer, adapter = point.values("pre-merge", 0, None)
    assert (stage.value, layer.value, adapter.value) == ("pre-merge", 2, "linear")
    assert point.values("post-merge", 1, "gone")[2].value == "pairs"
    with pytest.raises(InputError, match="no adapter reads post-merge/3"):
        point.record("post-merge", 3, None)
    assert alone.values(None, None, None)[0].info == NO_ADAPTER
    with pytest.raises(InputError, match="No adapter reads clips"):
        alone.record("post-merge", 1, None)


def test_a_sheet_holds_every_frame_in_its_place():
    frames = torch.rand(5, 3, 16, 24)
    pixels = np.asarray(player.sheet(frames))
    assert pixels.shape == (2 * 16, 3 * 24, 3)
    fourth = pixels[16:32, 0:24]
    assert np.abs(fourth / 255 - frames[3].permute(1, 2, 0).numpy()).max() <= 0.5 / 255 + 1e-6


def test_the_player_gets_frames_first_and_scores_after(decoded, report):
    first = json.loads(player.payload(decoded, {"original": "a"}, "x"))
    assert (first["count"], first["columns"], first["curves"], first["tracks"]) == (5, 3, "", None)
    then = json.loads(player.payload(decoded, {"original": "a"}, "x", report))
    assert then["id"] == "x" and len(then["tracks"]) == 2 and len(then["tracks"][0]["true"]) == 5
    worst = int(report.scores.frames["lpips"].argmax())
    assert f'data-seek="{worst}"' in then["curves"] and then["curves"].count("<svg") == 5
    moving = torch.zeros(4, 3, 10, 10)
    for k in range(4):
        moving[k, :, 7, k] = 1
    assert player.busiest_row(moving) == 7


def test_each_score_stands_beside_its_controls_and_what_it_is_good_for(decoded, report):
    table = player.score_table(report)
    for title, *_ in player.TITLES.values():
        assert title in table
    assert set(player.TITLES) == set(TRUST) and set(player.CONTROL_TITLES) == set(report.controls)
    assert f"{report.controls['still'].means()['lpips']:.3f}" in table
    html = player.headline(decoded, "a <b>", "?tab=video", "link", report)
    assert "a &lt;b&gt;" in html and "Worst frame by LPIPS: <b>" in html and "both frames of a step one image" in html


def test_frames_of_a_step_are_told_apart_by_what_is_measured(report):
    """Of steps: all of the change; none within them; a third."""
    true = report.sample.frames
    paired = true[(torch.arange(5) // 2) * 2]  # each step shows its first frame twice
    scorer = ClipScorer(true, report.sample.truth)
    each = replace(
        report,
        record=replace(report.record, config=report.record.config | {"frames": 2}),
        controls=report.controls | {"oracle": scorer.score(true)},
    )
    for frames, share, words in (
        (true, 1.0, ": the two frames of a step are told apart."),
        (paired, 0.0, "look the same here, and which came first is not to be seen"),
        (
            true * 0.3 + paired * 0.7,
            0.3,
            "30% of the true change within steps of two frames is read back (VAE alone 100%)",
        ),
    ):
        scores = scorer.score(frames)
        assert scores.means()["change_within"] == pytest.approx(share, abs=1e-5)
        sentence = player.steps_in_words(replace(each, scores=scores))
        assert words in sentence and (f"{share:.0%} of" if share else "None of") in sentence
    assert "hardly told apart" in sentence
    assert scorer.score(paired).means()["change_between"] == pytest.approx(1, abs=0.05)
    assert player._number(-0.001, "change_within") == "0%"
    assert player.steps_in_words(report) == ""  # its adapter has one image for both, which is said anyway


def test_the_first_clip_is_read_once(inspector, monkeypatch):
    import gradio as gr

    reads = []
    monkeypatch.setattr(tab, "decode_clip", lambda *given: reads.append(1) or decode_clip(*given))
    with gr.Blocks(), gr.Tabs(), gr.Tab("Video"):
        video = tab.VideoTab(inspector, Navigation(gr.State(), gr.State()), Settings())
        video.build()
    chosen = [part.value for part in (*video.point.chosen, video.point.pixels)]
    for _ in range(2):
        *_, last = video.begin(None, None, *chosen)
        assert "Worst frame" in last[video.head] and last[video.mp4].interactive
    assert reads == [1]
    for asked in ((MovingScene(seed=3), None), (None, {"seed": "3"})):
        assert [list(given) for given in video.begin(*asked, *chosen)] == [[video.head]]


def test_clicks_go_before_each_step_of_the_endpoint(inspector, tmp_path, monkeypatch):
    import gradio as gr

    log, answers = [], []
    for name in ("sample_of", "decode_clip", "add_oracle", "score_clip"):
        step = getattr(tab, name)
        monkeypatch.setattr(tab, name, lambda *given, name=name, step=step: log.append(name) or step(*given))
    with gr.Blocks() as app:
        tab.VideoTab(inspector, Navigation(gr.State(), gr.State()), Settings()).add_endpoints()
    take_turns(app)
    [endpoint] = [event.fn for event in app.fns.values() if event.api_name == "reconstruct_clip"]
    path = write_clip(tmp_path / "clip.mp4", torch.rand(3, 3, 56, 56), 8.0)
    for _, scores in endpoint(str(path), "post-merge/1", frames=3):
        answers.append(scores)
        with MODELS.click():
            log.append("click")
    assert log == ["sample_of", "click", "decode_clip", "click", "add_oracle", "click", "score_clip", "click"]
    assert answers[:3] == [{"done": done, "of": 4} for done in (1, 2, 3)] and "by_frame" in answers[3]


def test_a_frame_without_a_score_breaks_its_curve():
    assert player._path(["0 1", None, "2 3", "3 4"]) == "M0 1h.01M2 3L3 4"


def test_files_hold_the_clips_and_every_score(report, tmp_path):
    path = tmp_path / "clip.mp4"
    path.write_bytes(export.side_by_side(report))
    assert load_clip(path, fps=None).frames.shape == (5, 3, 224, 3 * 224)
    rows = list(csv.DictReader(export.frame_table(report).splitlines()))
    assert len(rows) == 5 and rows[0]["tlpips"] == "" and rows[2]["seconds"] == "0.2500"
    assert float(rows[4]["still_lpips"]) == pytest.approx(float(report.controls["still"].frames["lpips"][4]), rel=1e-4)
    assert float(rows[3]["object_1_true_x"]) == pytest.approx(float(report.scores.true_tracks[3, 0, 0]), rel=1e-4)


def test_a_single_frame_can_be_read(inspector):
    report = read_out_clip(inspector, clip_records(inspector)[1], sample_of(MovingScene(frames=1)))
    assert json.loads(player.payload(report, {}, "x", report))["count"] == 1
    assert "cannot be measured in this clip" in player.score_table(report)
    assert len(export.frame_table(report).splitlines()) == 2
