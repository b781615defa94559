"""Test data as a network reads them: channels and items by name, whatever their order in the files."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

from sleep_interpreter.data.formats.slow_oscillation_trials import SOSubject
from sleep_interpreter.data.formats.test_trials import TestSubject
from sleep_interpreter.model.checkpoints.channel_match import (
    DataMatch,
    match_data,
    own_card,
    sizes_in_words,
    sizes_of,
    sizes_read,
)
from sleep_interpreter.utils.core.data_card import AWAKE, DataCard
from sleep_interpreter.utils.core.errors import UserError
from sleep_interpreter.utils.core.paths import display_path

if TYPE_CHECKING:  # it brings TensorFlow
    from sleep_interpreter.model.networks.ensemble import Ensemble

Subject = TypeVar("Subject", TestSubject, SOSubject)


def matched_data(
    network: "Ensemble", card: DataCard, where: str, checkpoint: str | None = None, interpolate: bool = False
) -> DataMatch:
    """Return how data with a card become this network's input (`model.checkpoints.channel_match.match_data`).

    Refused is also a network of other sizes than its card: one without a card, trained on other channels or items than
    the published ones, of which nobody knows the names.
    """
    called, own = checkpoint or network.network, sizes_read(network)
    if own not in (sizes_of(network.card), sizes_of(card)):
        raise UserError(
            f"{called}: this network is for trials of {sizes_in_words(own)}, "
            f"{where} holds trials of {sizes_in_words(sizes_of(card))}; use a checkpoint trained on such trials"
        )
    return match_data(own_card(network, called), card, interpolate, where, called)


def adapted(subject: Subject, matched: DataMatch) -> Subject:
    """Return a subject with trials as the network reads them and labels that count the network's items."""
    changes: dict[str, Any] = {"card": matched.card}
    if isinstance(subject, SOSubject):
        own = subject.groups.items()
        changes["groups"] = {name: (matched.trials(sleep), matched.labels(label)) for name, (sleep, label) in own}
    else:
        changes |= {"sleep": matched.trials(subject.sleep), "label": matched.labels(subject.label)}
        awake = {kind: trials for kind in AWAKE if (trials := getattr(subject, kind)) is not None}
        changes |= {kind: matched.trials(trials) for kind, trials in awake.items()}
    return replace(subject, **changes)


def matched_subjects(
    network: "Ensemble", subjects: Sequence[Subject], checkpoint: str | None = None, interpolate: bool = False
) -> list[Subject]:
    """Return test subjects as `adapted` gives them; refuse what the network cannot be matched with."""
    result = []
    for subject in subjects:
        where = display_path(subject.file)
        groups = subject.groups.values() if isinstance(subject, SOSubject) else [(subject.sleep, subject.label)]
        expected = tuple(reversed(subject.card.sleep_shape))
        for sleep, _ in groups:  # of a subject that no reader made they may be others
            if sleep.shape[1:] != expected:
                raise UserError(
                    f"{where}: trials of shape {sleep.shape[1:]}, but its card says {expected} (samples, channels)"
                )
        if subject.card != network.card or sizes_read(network) != sizes_of(subject.card):
            subject = adapted(subject, matched_data(network, subject.card, where, checkpoint, interpolate))
        result.append(subject)
    return result


def said(
    network: "Ensemble", subjects: Sequence[TestSubject | SOSubject], where: str, checkpoint: str, interpolate: bool
) -> list[str]:
    """Return what is done to the data of these subjects, as sentences for log and report; `where` is their folder."""
    cards = {s.card.fingerprint: s.card for s in reversed(subjects) if s.card != network.card}.values()
    found = [matched_data(network, card, where, checkpoint, interpolate).sentences for card in cards]
    return list(dict.fromkeys(text for sentences in found for text in sentences))
