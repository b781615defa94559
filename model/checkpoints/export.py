"""A trained network as a file that runs without this project: TensorFlow's SavedModel, or ONNX.

Beside it lies network.json: what goes in and comes out, with the names of channels and items, and the data card.
"""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sleep_interpreter.model.checkpoints import checkpoint
from sleep_interpreter.model.checkpoints.channel_match import own_card
from sleep_interpreter.utils.core import data_card, provenance
from sleep_interpreter.utils.core.constants import STAGES, STAGING_SECONDS, STREAM_RATE
from sleep_interpreter.utils.core.errors import UserError, told
from sleep_interpreter.utils.core.paths import atomic_folder, display_path
from sleep_interpreter.utils.core.tensorflow_import import import_tensorflow

if TYPE_CHECKING:
    from sleep_interpreter.model.networks.ensemble import Ensemble

FILES = {"savedmodel": "saved_model", "onnx": "network.onnx"}
"""What each format's file, or folder, is called."""
TOLERANCE = 1e-5
"""Probabilities of an export may differ so much from the network's own."""
INPUT, OUTPUT = "trials", "probabilities"
_OPSET = 17  # of ONNX: what onnxruntime 1.18 and all later ones run
_BATCHES = (1, 3, 17)  # trials a batch that the comparison tries

Run = Callable[[np.ndarray], np.ndarray]
"""Trials (B, ...) to probabilities (B, K)."""


def export(source: str | Path, form: str, out: str | Path, member: int | None = None) -> list[str]:
    """Write a network to a new folder in one of `FILES`, with network.json; return lines about it.

    `source` is a checkpoint or the folder of a training, `member` the only member that is wanted; None takes the mean
    of all members' probabilities. What is written is read again and compared with the network; where any probability
    differs by more than `TOLERANCE` nothing is kept. That, a missing package, a format or member that is not there, a
    folder that is not empty, or ONNX for trials of unequal length, is a `UserError`.
    """
    if form not in FILES:
        raise UserError(f"format {form!r}: a network is exported as {' or '.join(FILES)}")
    network = checkpoint.restore(source)
    if form == "onnx" and getattr(network.settings, "varying_lengths", False):
        raise UserError(
            f"{display_path(source)}: is for trials of unequal length, and ONNX does not compute those alike; take "
            "the format savedmodel"
        )
    count = len(network.individual_models)
    if member is not None:
        if not 0 <= member < count:
            raise UserError(f"--member {member}: {display_path(source)} holds the members 0-{count - 1}")
        notes, network = (
            network.notes,
            type(network)([network.individual_models[member]], network.network, network.mode),
        )
        network.notes = notes
    about = _described(network, form, member, display_path(source))
    with atomic_folder(out) as folder:
        run = (_write_onnx if form == "onnx" else _write_saved_model)(network, folder / FILES[form])
        about["largest_difference"] = _largest_difference(network, run, 20.0 if about["unit"] == "uV" else 1.0)
        if not about["largest_difference"] <= TOLERANCE:
            raise UserError(
                f"{display_path(source)}: as {form} its probabilities differ by up to "
                f"{about['largest_difference']:.1e} from the network's, {TOLERANCE:.0e} is permitted; nothing was kept"
            )
        provenance.write_json(folder / "network.json", about)
    mean = f"mean of {count} members" if count > 1 else "its only member"
    whole = mean if member is None else f"member {member} of {count}"
    return [
        f"written: {display_path(out)}/{FILES[form]} ({whole}), network.json",
        f"  {INPUT} {_shape(about['input'])} -> {OUTPUT} {_shape(about['output'])}, at most "
        f"{about['largest_difference']:.1e} from the network's own",
    ]


def _shape(signature: dict[str, Any]) -> str:
    return f"({', '.join(map(str, ['any', *signature['shape'][1:]]))})"


def _described(network: "Ensemble", form: str, member: int | None, called: str) -> dict[str, Any]:
    """Return what network.json holds: what goes in and comes out, and where the network comes from."""
    first, notes = network.individual_models[0], getattr(network, "notes", {})
    if network.settings.task == "decoding":
        card = own_card(network, called)
        data = {**data_card.to_notes(card), "card_is_stored": "card" in notes}
        window = card.windows.sleep.model_dump()
        channels, classes, rate, unit = card.channels, card.item_names, card.rate_hz, str(card.unit)
        axes = ["trial", "sample", "channel"]
    else:
        data, window = {}, {"begin": 0.0, "end": float(STAGING_SECONDS)}
        channels, classes, rate, unit = ("EEG", "EOG", "EMG"), STAGES, STREAM_RATE, "z-scored over the window"
        axes = ["window", "channel", "sample"]
    shape = [None, *first.input_size]
    ends = {}
    if getattr(network.settings, "varying_lengths", False):
        ends["behind_a_trials_end"] = "NaN in all channels up to the window's end, never zeros"
    return {
        "format": form, "file": FILES[form], "network": network.network, "mode": network.mode or "normal",
        "members": len(network.individual_models), "member": member,
        "input": {"name": INPUT, "dtype": "float32", "shape": shape, "axes": axes, "channels": channels, **ends},
        "output": {"name": OUTPUT, "dtype": "float32", "shape": [None, network.settings.classes], "classes": classes},
        "rate_hz": rate, "window_s": window, "unit": unit, "simulated": bool(notes.get("simulated")), **data,
        "settings": network.settings.model_dump(mode="json"), "made_by": provenance.record(),
    }  # fmt: skip


def _function(network: "Ensemble") -> Any:
    """Return the network as a TensorFlow function of batches of any size."""
    tf = import_tensorflow()
    size = network.individual_models[0].input_size
    signature = [tf.TensorSpec((None, *size), tf.float32, name=INPUT)]
    return tf.function(lambda trials: {OUTPUT: network(trials, training=False)}, input_signature=signature)


def _write_saved_model(network: "Ensemble", path: Path) -> Run:
    tf = import_tensorflow()
    module = tf.Module()
    module.serve = _function(network)
    signature = module.serve.get_concrete_function()
    module.values = list(signature.variables)  # those of awake trials stay behind
    tf.saved_model.save(
        module, str(path), signatures=signature,
        options=tf.saved_model.SaveOptions(experimental_custom_gradients=False),
    )  # fmt: skip
    loaded = tf.saved_model.load(str(path))
    return lambda x: np.asarray(loaded.signatures["serving_default"](**{INPUT: tf.constant(x)})[OUTPUT])


def _write_onnx(network: "Ensemble", path: Path) -> Run:
    try:
        import onnxruntime  # lazy: optional dependency
        import tf2onnx  # lazy: optional dependency
    except ModuleNotFoundError as error:
        raise UserError(f"the package {error.name} is not installed: pip install -e '.[export]'") from None
    function = _function(network)
    try:
        tf2onnx.convert.from_function(function, function.input_signature, opset=_OPSET, output_path=str(path))
    except Exception as error:  # of a network's layers that ONNX does not have
        raise UserError(f"{network.network} cannot be written as ONNX ({told(error)}); take savedmodel") from error
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return lambda x: np.asarray(session.run([OUTPUT], {INPUT: x})[0])


def _largest_difference(network: "Ensemble", run: Run, scale: float) -> float:
    """Return how far the probabilities of an export are from the network's, on noise in batches of several sizes."""
    random, size = np.random.default_rng(0), network.individual_models[0].input_size
    found = []
    for count in _BATCHES:
        x = (scale * random.standard_normal((count, *size))).astype(np.float32)
        if getattr(network.settings, "varying_lengths", False):
            x[::2, network.card.shortest_samples if network.card.varying_lengths else 3 * size[0] // 4 :] = np.nan
        found.append(float(np.abs(run(x) - network.predict_proba(x)).max()))
    return max(found)
