"""What a user can get wrong: one sentence, exit code 2, and nothing written."""

import subprocess
import sys

import numpy as np
import pytest

from sleep_interpreter.utils.core.errors import UserError

from .conftest import SCRIPT, SMALL


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--set", "gate.nrem_detection=3"], "did you mean 'gate.nrem_detections'"),
        (["--set", "channels.eeg=C44"], "channels.eeg = 'C44' (nearest: C4"),
        (["--unit", "uV"], "with --unit V it would be"),
        (["--start", "999"], "the recording ends at 80.0 s"),
        (["--stager", "sistaging"], "needs --stager-checkpoint"),
        (["--set", "audio.sink=device"], "needs --speed 1"),
        (["--subject", "../up"], "letters, digits"),
        (["--set", "audio.folder=nowhere"], "missing alarm.wav"),
        (["--set", "control.keyboard=true"], "keyboard: a session reads no keys any more; leave it out, and use"),
        (
            ["--decoder-checkpoint", "any.npz", "--set", "decoder.channels=[FZ, Cz, Fz]"],
            "decoder.channels names one electrode twice, as 'FZ' and as 'Fz'",
        ),
    ],
)
def test_refusals_come_before_anything_is_written(main, recording, tmp_path, arguments, words):
    with pytest.raises(UserError) as refused:
        main(["--recording", str(recording), "--out", str(tmp_path / "out"), *arguments])
    assert words in str(refused.value)
    assert not (tmp_path / "out").exists()


def test_recorded_cues_need_annotations(main, raw55, tmp_path):
    raw = raw55.copy().crop(0, 40)
    for texts, words in (([], "no annotation"), (["cue/aple"], "did you mean 'apple'")):
        import mne

        raw.set_annotations(mne.Annotations([1.0] * len(texts), [0.0] * len(texts), texts))
        raw.save(tmp_path / "cues_raw.fif", overwrite=True, verbose="error")
        with pytest.raises(UserError, match=words):
            main(["--recording", str(tmp_path / "cues_raw.fif"), "--cues", "recorded", "--out", str(tmp_path)])


def test_a_table_of_triggers_belongs_to_recorded_cues(main, recording, tmp_path):
    for header, more, words in (
        ("code,item,modality", [], r"it needs mode recorded \(--cues recorded\)"),
        ("code,item,modality,session", ["--cues", "recorded"], r"row 2: a replayed recording has no session"),
    ):
        (tmp_path / "triggers.csv").write_text(f"{header}\n31,apple,cue{',night' * header.count('session')}\n")
        table = ["--set", f"cues.table={tmp_path / 'triggers.csv'}"]
        with pytest.raises(UserError, match=words):
            main(["--recording", str(recording), "--out", str(tmp_path), *more, *table])


@pytest.mark.slow
def test_checkpoint_of_another_model(main, recording, checkpoints, tmp_path):
    common = ["--recording", str(recording), "--out", str(tmp_path)]
    with pytest.raises(UserError, match=r"decoder\.npz: holds N23SIMD, a decoder; --stager-checkpoint needs a stager"):
        main([*common, "--stager", "sistaging", "--stager-checkpoint", str(checkpoints.decoder)])
    with pytest.raises(UserError, match=r"stager\.npz: holds SIStaging"):
        main([*common, "--decoder-checkpoint", str(checkpoints.stager)])
    with pytest.raises(UserError, match=r"decoder\.channels names 2 channels, the decoder reads 55: it lacks Fp1"):
        main([*common, "--decoder-checkpoint", str(checkpoints.decoder), "--set", "decoder.channels=[Cz, Pz]"])


@pytest.mark.parametrize(
    ("network", "sizes", "words"),
    [
        ("N23SIMD", {"sleep_samples": 150, "awake_samples": 60}, "model.sleep_samples = 150, expected 200"),
        ("N23SIMD", {"classes": 10}, "model.classes = 10, expected 15"),
        ("N23SIMD", {"channels": 28}, "model.channels = 28, expected 55"),
        ("SIStaging", {"classes": 3, "class_weights": [[1, 1, 1]]}, "model.classes = 3, expected 4"),
        ("SIStaging", {"classes": 5, "class_weights": [[1] * 5]}, "model.classes = 5, expected 4"),
        ("SIStaging", {"samples": 7500}, "model.samples = 7500, expected 15000"),
        ("SIStaging", {"channels": 2}, "model.channels = 2, expected 3"),
    ],
)
def test_a_checkpoint_of_other_sizes_is_refused_by_name(main, recording, tmp_path, network, sizes, words):
    from sleep_interpreter import model
    from sleep_interpreter.model.checkpoints import checkpoint

    path = tmp_path / "other.npz"
    checkpoint.save(model.build(network, **{**SMALL[network], **sizes}), path)
    flags = ["--decoder-checkpoint", str(path)]
    if network == "SIStaging":
        flags = ["--stager", "sistaging", "--stager-checkpoint", str(path)]
    with pytest.raises(UserError) as refused:
        main(["--recording", str(recording), "--out", str(tmp_path / "out"), *flags])
    assert f"other.npz: {network} has {words}" in str(refused.value)
    assert not (tmp_path / "out").exists()


def test_a_checkpoint_that_predicts_nonsense_is_refused(main, recording, tmp_path):
    """Finite weights, predictions that are not."""
    from sleep_interpreter import model
    from sleep_interpreter.model.checkpoints import checkpoint

    decoder = model.build("N23SIMD", **SMALL["N23SIMD"])
    for variable in decoder.variables:
        if variable.path.endswith("kernel") and variable.shape[-1] == 15:
            variable.assign(np.sign(variable) * 3e38)
        if variable.path.endswith("beta"):
            variable.assign(variable * 0 + 10)  # what the last layer gets is larger than 1: it overflows
    checkpoint.save(decoder, tmp_path / "wild.npz")
    arguments = ["--out", str(tmp_path / "out"), "--decoder-checkpoint", str(tmp_path / "wild.npz")]
    with pytest.raises(UserError, match=r"wild\.npz: fails on a first trial: the decoder returned \[nan"):
        main(["--recording", str(recording), *arguments])


def test_the_hint_for_a_recording_with_eeg_only_works(main, raw55, tmp_path):
    path = tmp_path / "eeg_raw.fif"
    raw55.copy().pick(["C4", "Cz"]).crop(0, 35).save(path, verbose="error")
    arguments = ["--recording", str(path), "--out", str(tmp_path / "out")]
    for more in ([], ["--set", "channels.emg_ref=M1"]):
        with pytest.raises(UserError) as refused:
            main([*arguments, *more])
        message = str(refused.value)
        assert "choose with --set channels.eog=NAME --set channels.emg=NAME" in message
        hint = message.split("(--stager yasa): ")[1].split()
        assert {"channels.eog=null", "channels.emg=null"} <= set(hint)
        assert main([*arguments, *more, *hint]) == 0


def test_exit_codes(call_script, command, recording, checkpoints, tmp_path):
    """One of them as a process of its own, as a user sees it."""
    fake = tmp_path / "night.edf"
    fake.write_text("this is no EDF")
    cases = [
        (["--recording", fake], "night.edf: ends after 14 bytes, inside its header"),
        (["--recording", recording, "--set", "channels.eog=LOC"], "channels.eog = 'LOC'"),
        (["--recording", recording, "--unit", "uV"], "with --unit V it would be"),
        (["--recording", recording, "--set", "gates.rem=true"], "unknown key"),
        (["--recording", recording, "--decoder-checkpoint", checkpoints.stager], "needs a decoder"),
    ]
    done = command("--recording", tmp_path / "nothing.edf")
    ended = [(done.returncode, done.stderr, "recording not found")]
    out = ["--out", tmp_path / "out"]
    ended += [(*call_script("realtime/Main_Decode.py", *out, *case), words) for case, words in cases]
    for code, stderr, words in ended:
        assert code == 2, stderr
        assert words in stderr
        last = stderr.strip().splitlines()[-1]
        assert last.startswith("error: ") and "Traceback" not in stderr
    assert not (tmp_path / "out").exists()


def test_help_is_quick_and_light(tmp_path):
    code = (
        "import runpy, sys\n"
        f"sys.argv = [{str(SCRIPT)!r}, '--help']\n"
        "try:\n    runpy.run_path(sys.argv[0], run_name='__main__')\n"
        "except SystemExit:\n    pass\n"
        "print('HEAVY', [m for m in ('mne', 'tensorflow', 'yasa', 'scipy', 'numpy') if m in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=True)
    assert "--recording" in done.stdout
    assert "HEAVY []" in done.stdout
