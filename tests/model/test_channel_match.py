"""Channels and items by name: reordered to the bit, interpolated as MNE does, refused where names are unknown."""

import numpy as np
import own_data as own
import pytest

from sleep_interpreter.model.checkpoints.channel_match import match, match_data
from sleep_interpreter.utils.core.data_card import published
from sleep_interpreter.utils.core.errors import UserError

NAMES = published().channels


@pytest.mark.parametrize("count", [8, 32, 55])
def test_any_order_of_channels_gives_the_same_values(count):
    card = published().model_copy(update={"channels": NAMES[:count]})
    random = np.random.default_rng(count)
    eeg = random.standard_normal((3, 20, count)).astype(np.float32)
    same = match(card, NAMES[:count])
    assert same.sentence is None and same.apply(eeg) is eeg
    for _ in range(5):
        order = random.permutation(count)
        matched = match(card, [NAMES[i] for i in order])
        assert np.array_equal(matched.apply(eeg[..., order]), eeg)
        assert np.array_equal(matched.apply(eeg[0].T[order], axis=0), eeg[0].T)
        assert "another order" in matched.sentence and not matched.interpolated
    spelled = [*(f"EEG {name.upper()}-Ref" for name in NAMES[:count]), "EOG1"]
    more = match(card, spelled)
    assert np.array_equal(more.apply(np.concatenate([eeg, eeg[..., :1]], axis=-1)), eeg)
    assert more.sentence == "the data: left out, since the network does not read them: EOG1"


def test_a_missing_channel_is_refused_or_interpolated_as_mne_does():
    import mne

    from sleep_interpreter.utils.signal.electrodes import standard_montage

    card, missing = published(), ["Fz", "P3"]
    there = [name for name in NAMES if name not in missing][::-1]
    with pytest.raises(UserError, match=r"data/x: 2 of the 55 channels that the network reads are not there: Fz, P3"):
        match(card, there, where="data/x")
    matched = match(card, there, interpolate=True)
    assert "2 of 55 channels interpolated from 53 others (spherical splines of MNE): Fz, P3" in matched.sentence
    eeg = np.random.default_rng(0).standard_normal((40, 53))
    ours = matched.apply(eeg)
    info = mne.create_info([*there, *missing], 100.0, "eeg")
    info.set_montage(standard_montage())
    evoked = mne.EvokedArray(np.concatenate([eeg, np.zeros((40, 2))], axis=1).T, info)
    evoked.info["bads"] = missing
    evoked.interpolate_bads(verbose="ERROR")
    theirs = evoked.get_data(picks=list(NAMES)).T
    kept = [i for i, name in enumerate(NAMES) if name not in missing]
    assert np.array_equal(ours[:, kept], theirs[:, kept])
    lacking = [NAMES.index(name) for name in missing]
    assert (
        np.corrcoef(ours[:, lacking].ravel(), theirs[:, lacking].ravel())[0, 1] > 0.9999
    )  # another centre of the head
    with pytest.raises(ValueError, match="55 channels, expected 53"):
        matched.apply(np.zeros((2, 55)))


def test_what_cannot_be_known_is_refused():
    egi = own.card_of("many")  # E1 to E128: no names of the 10-05 system
    with pytest.raises(UserError, match=r"E1 cannot be interpolated: their places on the head are unknown"):
        match(egi, [*egi.channels[1:], *NAMES], interpolate=True)
    with pytest.raises(UserError, match="only 3 have a known place"):
        match(published(), [*NAMES[:3], "E1", "EOG"], interpolate=True)
    with pytest.raises(UserError, match="channels Fz, EEG Fz have one name"):
        match(published(), [*NAMES, "EEG Fz"])


def test_items_are_matched_by_name_and_interpolated_trials_are_scaled():
    card = own.card_of("words")
    other = card.model_copy(update={"items": card.items[::-1], "channels": card.channels[2:]})
    matched = match_data(card, other, interpolate=True)
    assert np.array_equal(matched.labels(np.array([0, 7])), [7, 0])
    trials = matched.trials(np.random.default_rng(0).standard_normal((2, 750, 30)).astype(np.float32))
    assert trials.shape == (2, 750, 32) and trials.dtype == np.float32
    spread = np.subtract(*np.percentile(trials[..., :2], [75, 25], axis=1))
    np.testing.assert_allclose(spread, 1, rtol=1e-4)
    referenced = [card.model_copy(update={"reference": name}) for name in ("average", "mastoids")]
    assert any("reference mastoids, but the network" in said for said in match_data(*referenced).sentences)
