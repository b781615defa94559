"""Sessions of other experiments: items, channels, rate and windows of a data card, from cue to report."""

import json
import re
from types import SimpleNamespace

import numpy as np
import pytest
import yaml

from sleep_interpreter.realtime.Cues.sounds import load_sounds, synthesise, write_sounds
from sleep_interpreter.realtime.Model import parts
from sleep_interpreter.realtime.Model.networks import Decoder, ResponseWindow
from sleep_interpreter.realtime.Monitor.history import SessionHistory
from sleep_interpreter.realtime.Parameters import SessionSettings
from sleep_interpreter.realtime.Parameters.output import MarkerCodes, MarkerSettings, SerialSettings
from sleep_interpreter.realtime.Parameters.session_cards import session_cards
from sleep_interpreter.realtime.Parameters.settings import CueSettings, DecoderChoice
from sleep_interpreter.realtime.Recording.event_log import decisions
from sleep_interpreter.realtime.Recording.session_recording import annotations
from sleep_interpreter.realtime.Report.session_data import load_session
from sleep_interpreter.realtime.Sources.montage import stream_names
from sleep_interpreter.utils.core import data_card
from sleep_interpreter.utils.core.data_card import DataCard, Filter, Item, published
from sleep_interpreter.utils.core.errors import UserError
from sleep_interpreter.utils.signal.preprocessing import decoding_window
from sleep_interpreter.utils.signal.recording import Recording

from .conftest import RATE, SECONDS, SMALL, of, read_session

EIGHT = DataCard(
    title="eight items",
    items=[{"name": f"item {k}", "sound": f"s{k}.wav"} for k in range(8)],
    channels=tuple(name for name in published().channels if name not in ("Fpz", "Oz"))[:32],
    rate_hz=250,
    windows={"sleep": {"begin": -0.5, "end": 2.5}, "wake": {"begin": 0, "end": 0.8}},
    reference="average",
)
TWO = DataCard(
    title="two items", items=[{"name": "left"}, {"name": "right"}], channels=published().channels[4:12], rate_hz=128,
    windows={"sleep": {"begin": 0, "end": 1}, "wake": {"begin": 0, "end": 0.5}}, unit="uV",
)  # fmt: skip
BOTH = pytest.mark.parametrize("card", [EIGHT, TWO], ids=["8 items", "2 items"])


def save_decoder(card, path, seed=0):
    """Save a small decoder with random weights that are large enough for decodes to differ."""
    from sleep_interpreter import model
    from sleep_interpreter.model.checkpoints import checkpoint

    network = model.build("N23SIMD", awake=False, seed=seed, card=card, **SMALL["N23SIMD"])
    rng = np.random.default_rng(seed)
    for variable in network.trainable_variables:
        variable.assign(variable + 0.1 * rng.standard_normal(variable.shape))
    checkpoint.save(network, path, **data_card.to_notes(card))
    return path


def night(card, path, cues, channels=None, seed=3):
    """Write a recording with the card's channels, in the order given, a staging montage, and cues."""
    import mne

    names = list(card.channels if channels is None else channels)
    rng, n = np.random.default_rng(seed), SECONDS * RATE
    own = {name: 20 * rng.standard_normal(n) for name in card.channels}
    own["C4"] = own.get("C4", 20 * rng.standard_normal(n))
    extra = [name for name in ("C4", "EOG1", "EMG1") if name not in names]
    others = {"EOG1": 30 * rng.standard_normal(n), "EMG1": 10 * rng.standard_normal(n)} | own
    data = np.array([others[name] for name in (*names, *extra)])
    kinds = {"EOG1": "eog", "EMG1": "emg"}
    info = mne.create_info([*names, *extra], RATE, [kinds.get(name, "eeg") for name in (*names, *extra)])
    raw = mne.io.RawArray(data * 1e-6, info, verbose="error")
    onsets, items = zip(*cues, strict=True)
    raw.set_annotations(mne.Annotations(onsets, [0] * len(cues), [f"cue/{item}" for item in items]))
    mne.export.export_raw(path, raw, fmt="brainvision", verbose="error")
    return path


def cues_of(card, count=6):
    return [(34.0 + 4.5 * k, card.item_names[(3 * k) % len(card.items)]) for k in range(count)]


def probabilities(result):
    return [e["detail"]["probabilities"] for e in of(result, "decode")]


@BOTH
@pytest.mark.usefixtures("figures")
def test_a_session_follows_the_card_of_its_decoder(session, staged, tmp_path, card):
    decoder, cues = save_decoder(card, tmp_path / "decoder.npz"), cues_of(card)
    path = night(card, tmp_path / "night.vhdr", cues)
    result = session(path, *staged, "--decoder-checkpoint", decoder, "--cues", "recorded")
    decodes, names, n = of(result, "decode"), card.item_names, len(card.items)
    assert [e["detail"]["item"] for e in of(result, "cue")] == [item for _, item in cues]
    assert [e["code"] for e in of(result, "cue")] == [1 + names.index(item) for _, item in cues]
    assert len(decodes) == len(cues) and all(len(p) == n for p in probabilities(result))
    for e, (onset, item) in zip(decodes, cues, strict=True):
        assert e["detail"]["cued"] == item and e["code"] == 21 + names.index(e["detail"]["item"])
        assert e["sample"] == round((onset + card.windows.sleep.end) * RATE)
    accuracy = result.summary["accuracy"]
    pairs = np.array([[names.index(e["detail"][key]) for key in ("cued", "item")] for e in decodes])
    shares = [np.bincount(own, minlength=n) / len(decodes) for own in pairs.T]
    assert accuracy["chance"] == pytest.approx(shares[0] @ shares[1]), "of these cues and these decodes"
    assert f"top-1 of {n}" in result.summary["accuracy_note"]
    assert list(result.summary["cues"]["per_item"]) == list(names)
    assert data_card.card_of(result.folder) == card
    assert sorted(p.stem for p in (result.folder / "sounds").iterdir()) == sorted(names)
    loaded = load_session(result.folder)
    assert loaded.card == card and loaded.decodes().shape == (len(cues), 2)
    assert SessionHistory(result.folder).content()["items"] == list(names)
    report = (result.folder / "report.html").read_text(encoding="utf-8")
    assert f"1 of {n}" in report and names[-1] in report and "kiwi" not in report


def test_scheduled_cues_are_of_the_card_that_is_named(session, staged, tmp_path):
    data_card.write(EIGHT, tmp_path)
    path = night(EIGHT, tmp_path / "night.vhdr", cues_of(EIGHT))
    card = ["--set", f"card={json.dumps(str(tmp_path))}"]
    result = session(path, *staged, *card, "--set", "cues.group_seconds=10")
    cued = {(e["detail"]["item"], e["detail"]["group"]) for e in of(result, "cue")}
    assert len(cued) > 3 and all(group == (EIGHT.item_names.index(item) > 3) for item, group in cued)
    assert data_card.card_of(result.folder) == EIGHT


def test_the_order_of_channels_does_not_matter(session, staged, tmp_path):
    """In the stream or in the setting: every permutation gives the same decodes, and names go before places."""
    cues, decoder = cues_of(EIGHT, 4), save_decoder(EIGHT, tmp_path / "decoder.npz")
    flags = [*staged, "--decoder-checkpoint", decoder, "--cues", "recorded"]
    path = night(EIGHT, tmp_path / "night.vhdr", cues)
    wanted = probabilities(session(path, *flags))
    assert len(wanted) == 4 and np.ptp(wanted, axis=0).max() > 1e-3
    shuffled = list(np.random.default_rng(1).permutation(EIGHT.channels))
    mixed = night(EIGHT, tmp_path / "mixed.vhdr", cues, shuffled)
    assert probabilities(session(mixed, *flags)) == wanted
    for names in (list(reversed(EIGHT.channels)), [f"EEG {name}" for name in shuffled]):
        result = session(path, *flags, "--set", f"decoder.channels={json.dumps(names)}")
        assert probabilities(result) == wanted
        assert any("channels go by name" in e["detail"]["text"] for e in of(result, "notice"))
    # another spelling of two channels, by a mapping
    first, last = EIGHT.channels[0], EIGHT.channels[-1]
    swapped = {first: last, last: first}
    other = probabilities(session(path, *flags, "--set", f"decoder.channels={json.dumps(swapped)}"))
    assert other != wanted


def test_a_missing_channel_is_interpolated_or_nothing_is_decoded(session, staged, tmp_path):
    cues, decoder = cues_of(EIGHT, 2), save_decoder(EIGHT, tmp_path / "decoder.npz")
    path = night(EIGHT, tmp_path / "night.vhdr", cues, [name for name in EIGHT.channels if name != "F5"])
    flags = [*staged, "--decoder-checkpoint", decoder, "--cues", "recorded"]
    off = session(path, *flags)
    assert not of(off, "decode") and any("lacks channels F5" in text for text in off.summary["warnings"])
    made = session(path, *flags, "--set", "decoder.interpolate=true")
    assert len(of(made, "decode")) == 2
    assert any("F5 interpolated" in text for text in made.summary["warnings"])


def test_items_of_the_decoder_go_by_name(session, staged, tmp_path):
    """The session's card has the decoder's items in another order: probabilities are those of the session's."""
    turned = EIGHT.model_copy(update={"items": tuple(reversed(EIGHT.items))})
    data_card.write(turned, tmp_path)
    decoder, path = save_decoder(EIGHT, tmp_path / "d.npz"), night(EIGHT, tmp_path / "night.vhdr", cues_of(EIGHT, 3))
    flags = [*staged, "--decoder-checkpoint", decoder, "--cues", "recorded"]
    own, other = session(path, *flags), session(path, *flags, "--set", f"card={json.dumps(str(tmp_path))}")
    assert probabilities(own) == [list(reversed(p)) for p in probabilities(other)]
    assert [e["detail"]["item"] for e in of(own, "decode")] == [e["detail"]["item"] for e in of(other, "decode")]


def cards_of(tmp_path, card, *decoders, **settings):
    data_card.write(card, tmp_path)
    paths = [str(save_decoder(own, tmp_path / f"{k}.npz")) for k, own in enumerate(decoders)]
    choice = dict(zip(("checkpoint", "rem_checkpoint"), paths, strict=False))
    return session_cards(SessionSettings(card=str(tmp_path), decoder=choice, **settings))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"items": EIGHT.items[:7]}, r"dataset.yaml and .*0.npz do not fit .* the items: 'item 7' is in .*0.npz only"),
        ({"rate_hz": 500}, r"the sampling rate: .*dataset.yaml has 500 Hz, .*0.npz has 250 Hz"),
        ({"windows": TWO.windows}, r"the window of a response: .* has 0 to 1 s, .* has -0.5 to 2.5 s"),
    ],
)  # fmt: skip
def test_a_card_and_a_decoder_of_other_data_are_refused_with_both_names(tmp_path, change, words):
    with pytest.raises(UserError, match=words):
        cards_of(tmp_path, EIGHT.model_copy(update=change), EIGHT)


def test_decoders_of_other_items_and_intervals_within_a_window_are_refused(tmp_path):
    other = EIGHT.model_copy(update={"items": EIGHT.items[:4]})
    with pytest.raises(UserError, match=r"the items: 'item 4' is in .*0.npz only, .* and 1 more"):
        settings = SessionSettings(
            decoder={
                "checkpoint": str(save_decoder(EIGHT, tmp_path / "0.npz")),
                "rem_checkpoint": str(save_decoder(other, tmp_path / "1.npz")),
            }
        )
        session_cards(settings)
    long = EIGHT.model_copy(
        update={"windows": EIGHT.windows.model_copy(update={"sleep": data_card.Window(begin=0, end=4)})}
    )
    with pytest.raises(UserError, match=r"interval_seconds begins with 2.5 s, .* read for 4 s"):
        cards_of(tmp_path, long, long, cues={"interval_seconds": (2.5, 3.5)})


VARYING = EIGHT.model_copy(
    update={
        "windows": EIGHT.windows.model_copy(update={"sleep": data_card.Window(begin=-0.5, end=2.5, earliest_end=1.5)})
    }
)


def test_a_response_ends_at_the_next_cue_where_trials_are_of_unequal_length(session, staged, tmp_path):
    """Each is decoded as the offline trial up to the next cue, or not at all; and so in a replay."""
    gaps = [4.0, 2.0, 1.8, 1.0, 2.5, 1.604]
    onsets = 34 + np.cumsum([0, *gaps])
    cues = [(float(t), VARYING.item_names[k % 8]) for k, t in enumerate(onsets)]
    decoder, path = save_decoder(VARYING, tmp_path / "decoder.npz"), tmp_path / "night.vhdr"
    night(VARYING, path, cues)
    flags = [*staged, "--decoder-checkpoint", decoder, "--cues", "recorded"]
    result = session(path, *flags)
    decodes, failed = of(result, "decode"), of(result, "decode_failed")
    assert [e["detail"]["reason"] for e in failed] == ["the next cue came after 1.00 s, before the card's earliest end"]
    ends = onsets + np.minimum([*gaps, np.inf], 2.5)
    kept = [0, 1, 2, 4, 5, 6]
    assert [e["sample"] for e in decodes] == [round(ends[k] * RATE) for k in kept]
    from sleep_interpreter.model.checkpoints import checkpoint

    network = checkpoint.restore(decoder)
    data = Recording(path)
    eeg = np.concatenate([group.read(0, group.length) for group in data.groups(VARYING.channels)]) * 1e6
    for e, k in zip(decodes, kept, strict=True):
        count = int((ends[k] - onsets[k] + 0.5) * VARYING.rate_hz + 1e-6)
        first = round((onsets[k] - 0.5) * RATE)
        trial = np.full((1, VARYING.sleep_samples, 32), np.nan, np.float32)
        trial[0, :count] = decoding_window(eeg[:, first : first + 2 * count], 2)
        np.testing.assert_allclose(e["detail"]["probabilities"], network.predict_proba(trial)[0], atol=2e-3)
    again = session(path, *flags, "--set", "source.chunk_seconds=0.37")
    assert decisions(again.events) == decisions(result.events)


def test_cues_before_the_earliest_end_are_refused(tmp_path):
    sleep = data_card.Window(begin=-0.5, end=4, earliest_end=3)
    card = EIGHT.model_copy(update={"windows": EIGHT.windows.model_copy(update={"sleep": sleep})})
    with pytest.raises(UserError, match=r"interval_seconds begins with 2.5 s, .* read for at least 3 s"):
        cards_of(tmp_path, card, card, cues={"interval_seconds": (2.5, 3.5)})
    assert cards_of(tmp_path, card, card, cues={"interval_seconds": (3, 4)}).session == card


def test_channels_of_the_settings_must_be_the_decoders():
    wanted = ("Fz", "Cz", "Pz")
    assert stream_names(DecoderChoice(), wanted) == dict(zip(wanted, wanted, strict=True))
    assert list(stream_names(DecoderChoice(channels=("PZ", "EEG Fz", "Cz")), wanted).items()) == [
        ("Fz", "EEG Fz"), ("Cz", "Cz"), ("Pz", "PZ"),
    ]  # fmt: skip
    assert stream_names(DecoderChoice(channels={"fz": "E11"}), wanted)["Fz"] == "E11"
    with pytest.raises(UserError, match=r"names 2 channels, the decoder reads 3: it lacks Pz"):
        stream_names(DecoderChoice(channels=("Fz", "Cz")), wanted)
    with pytest.raises(UserError, match=r"lacks Pz, and names Oz, which it does not read"):
        stream_names(DecoderChoice(channels=("Fz", "Cz", "Oz")), wanted)
    with pytest.raises(UserError, match=r"reads no channel 'Cx' \(nearest: Cz"):
        stream_names(DecoderChoice(channels={"Cx": "E1"}), wanted)


@pytest.mark.parametrize("items", [2, 8, 15])
def test_markers_of_up_to_fifteen_items_are_the_published_ones(items):
    codes = MarkerCodes.of(items)
    assert (codes.cue(0), codes.decoded(0), codes.decode_failed) == (1, 21, 36)
    assert (codes.group(0), codes.group(1)) == (90, 91)


@pytest.mark.parametrize("items", [16, 40, 126])
def test_markers_of_more_items_fit_a_byte_and_differ(items):
    codes = MarkerCodes.of(items)
    everything = [
        *(codes.cue(k) for k in range(items)), *(codes.decoded(k) for k in range(items)), codes.decode_failed,
        codes.group(0), codes.group(1),
    ]  # fmt: skip
    assert everything == list(range(1, 2 * items + 4)) and max(everything) <= 255


def test_markers_that_do_not_fit_are_refused():
    serial = SerialSettings(port="/dev/ttyUSB0")
    MarkerCodes.of(40).check(MarkerSettings(serial=serial, sham_code=92, stage_codes=(100, 101, 102, 103)))
    with pytest.raises(UserError, match=r"code 60 is taken: with 40 items 1 to 83 are; free are 84-255"):
        MarkerCodes.of(40).check(MarkerSettings(sham_code=60))
    with pytest.raises(UserError, match=r"200 items need codes up to 403, a marker is a byte \(at most 126 items\)"):
        MarkerCodes.of(200).check(MarkerSettings(serial=serial))
    with pytest.raises(UserError, match="code 37 is taken: with 20 items 1 to 43 are"):
        MarkerCodes.of(20).check(MarkerSettings(sham_code=37))
    MarkerCodes.of(200).check(MarkerSettings(sham_code=60))  # to the log alone


def test_sounds_of_forty_items_differ_and_are_found_by_the_cards_file_names(tmp_path):
    sounds = synthesise(16000, 40)
    spectra = np.abs(np.fft.rfft(sounds, axis=1))
    spectra /= np.linalg.norm(spectra, axis=1, keepdims=True)
    assert sounds.shape[0] == 40 and (spectra @ spectra.T - np.eye(40)).max() < 0.999
    write_sounds(tmp_path, sounds[:8], 16000, [f"s{k}" for k in range(8)])
    np.testing.assert_allclose(load_sounds(tmp_path, 16000, EIGHT.items), sounds[:8], atol=1e-4)
    (tmp_path / "s3.wav").unlink()
    with pytest.raises(UserError, match=r"missing s3\.wav"):
        load_sounds(tmp_path, 16000, EIGHT.items)


def test_groups_go_by_name_or_number_and_default_to_halves():
    names = EIGHT.item_names
    assert CueSettings().groups_of(published().item_names) == (tuple(range(8)), tuple(range(8, 15)))
    assert CueSettings().groups_of(names) == ((0, 1, 2, 3), (4, 5, 6, 7))
    assert CueSettings(groups=(("item 5", 1), (2,))).groups_of(names) == ((5, 1), (2,))
    for groups, words in (
        ((("itm",), (1,)), "'itm' is no item"),
        (((1,), (9,)), "9 is no item"),
        ((("item 1",), (1,)), "twice"),
    ):
        with pytest.raises(UserError, match=words):
            CueSettings(groups=groups).groups_of(names)


def test_no_number_of_the_published_experiment_is_written_into_the_settings(session, staged, tmp_path):
    """A session's settings.yaml goes with any card."""
    result = session(night(TWO, tmp_path / "night.vhdr", cues_of(TWO)), *staged, "--stop", 5)
    settings = yaml.safe_load((result.folder / "settings.yaml").read_text())
    assert settings["cues"]["groups"] is None and settings["decoder"]["channels"] is None and settings["card"] is None
    assert not (result.folder / data_card.FILE).exists() and re.fullmatch(
        "[0-9a-f]{12}", result.about["card"]["fingerprint"]
    )


@pytest.mark.slow
def test_a_recorded_night_is_replayed_and_resumed_with_its_own_card(main, session, staged, tmp_path):
    """A simulated sleeper who has learnt eight items; the card's own file is gone by then."""
    folder = tmp_path / "card"
    data_card.write(EIGHT, folder)
    given = json.dumps(str(folder))
    decoder = save_decoder(EIGHT, tmp_path / "decoder.npz")
    flags = [
        "--source", "simulate", "--out", str(tmp_path), "--subject", "s1", "--speed", "0", *staged,
        "--decoder-checkpoint", str(decoder), "--set", "source.simulate.stage=N2",
        "--set", "source.simulate.hours=0.03", "--set", f"source.simulate.overrides=['card={folder}']",
    ]  # fmt: skip
    assert main([*flags, "--set", f"card={given}"]) == 0
    first = read_session(tmp_path / "s1" / "session_001")
    (folder / data_card.FILE).unlink()
    assert main(["--session", str(first.folder), "--out", str(tmp_path)]) == 0
    again = read_session(tmp_path / "s1" / "session_002")
    assert of(first, "decode") and decisions(again.events) == decisions(first.events)
    assert data_card.card_of(again.folder) == EIGHT
    assert "item 7" in (first.folder / "report.html").read_text(encoding="utf-8")
    texts = {text for _, text in annotations(first.folder, 500)}
    assert any(text.startswith("cue/item ") for text in texts) and any(
        text.startswith("decode/item ") for text in texts
    )


def test_a_sleeper_who_has_learnt_other_items_is_refused(main, staged, tmp_path):
    data_card.write(EIGHT, tmp_path)
    with pytest.raises(UserError, match=r"has learnt 15 items .*cues 8 .*source\.simulate\.overrides"):
        main(["--source", "simulate", "--out", str(tmp_path), *staged, "--set", f"card={json.dumps(str(tmp_path))}"])


@pytest.mark.parametrize("channels", [8, 55, 128])
@pytest.mark.parametrize("rate", [100, 128, 250])
@pytest.mark.parametrize("seconds", [1, 3, 4])
def test_a_decoder_gets_trials_of_its_card_from_the_stream(channels, rate, seconds):
    """Shape, channels by name, and the time of a wave that is in the window."""
    card = DataCard(
        title="any", items=[{"name": f"i{k}"} for k in range(40)], channels=[f"E{k}" for k in range(channels)],
        rate_hz=rate, windows={"sleep": {"begin": -0.5, "end": seconds - 0.5}, "wake": {"begin": 0, "end": 1}},
        unit="uV",
    )  # fmt: skip
    seen = []
    network = SimpleNamespace(
        card=card, predict_proba=lambda trials: (seen.append(trials), np.full((1, 40), 1 / 40))[1]
    )
    names = card.channels[::-1]
    decoder = Decoder(network, names, card.item_names)
    window = ResponseWindow.of(card)
    at = np.arange(-window.before, window.after) / RATE
    wave = np.array([(1 + card.channels.index(name)) * np.sin(2 * np.pi * 3 * at) for name in names])
    assert decoder.predict(wave).shape == (40,)
    (trial,) = seen[-1]
    assert trial.shape == (card.sleep_samples, channels)
    expected = np.sin(2 * np.pi * 3 * (np.arange(card.sleep_samples) / rate - 0.5))
    inside = slice(rate // 5, -rate // 5)  # the filter's ends aside
    np.testing.assert_allclose(
        trial[inside] / np.arange(1, channels + 1), expected[inside, None] * np.ones(channels), atol=0.02
    )


def test_a_decoder_of_other_items_does_not_go_on_with_a_session(main, session, staged, tmp_path):
    """The checkpoint's file was written over since the session broke off."""
    decoder, cues = save_decoder(EIGHT, tmp_path / "decoder.npz"), cues_of(EIGHT, 4)
    path = night(EIGHT, tmp_path / "night.vhdr", cues)
    first = session(path, *staged, "--decoder-checkpoint", decoder, "--cues", "recorded", "--stop", "44")
    log = (first.folder / "log.jsonl").read_text().splitlines(keepends=True)
    (first.folder / "log.jsonl").write_text("".join(line for line in log if '"event": "session_end"' not in line))
    about = json.loads((first.folder / "session.json").read_text())
    (first.folder / "session.json").write_text(json.dumps(about | {"ending": None}))
    before = (first.folder / "log.jsonl").read_bytes()
    renamed = EIGHT.model_copy(update={"items": (*reversed(EIGHT.items[:7]), Item(name="new"))})
    save_decoder(renamed, decoder)
    with pytest.raises(UserError, match="'new' is in"):
        main(["--resume", str(first.folder)])
    assert (first.folder / "log.jsonl").read_bytes() == before


def test_a_decoder_of_filtered_eeg_names_the_settings_for_a_session():
    card = EIGHT.model_copy(update={"filter": Filter(low_hz=0.1)})
    (text,) = [text for _, text in parts._input_notices(card, [], "decoder.npz") if "filtered" in text]
    assert "low 0.1 Hz" in text and text.endswith("data/prepare.py --config prepare_realtime")
