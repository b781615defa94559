"""Memory scores beside a decoder: what goes with being remembered is found, and noise is not."""

import json
import pickle

import evaluation_data as made
import numpy as np
import pandas as pd
import pytest

from sleep_interpreter.train.evaluation import decoder_report, memory_scores
from sleep_interpreter.utils.core import provenance
from sleep_interpreter.utils.core.errors import UserError

ITEMS = made.ITEMS


def remembered(random, subjects=8, strength=2.5, shared=0.0):
    """Return predictions whose items are decoded the better, the higher their score is; `shared` of it by all."""
    people, rows, common = [], [], random.normal(size=15)
    for number in range(subjects):
        score = np.sqrt(1 - shared) * random.normal(size=15) + np.sqrt(shared) * common
        label = np.tile(np.arange(15), 6)
        logits = random.normal(size=(90, 15))
        logits[np.arange(90), label] += 1 + strength * score[label]
        probability = np.exp(logits)
        name = f"subject_test_{number}"
        own = made.predictions(name, labels=label)
        people.append(
            type(own)(name, own.file, label, own.data_type, probability / probability.sum(axis=1, keepdims=True))
        )
        rows += [(name, item, float(value)) for item, value in zip(ITEMS, score, strict=True)]
    return people, pd.DataFrame(rows, columns=["subject", "item", "score"])


def test_items_that_are_decoded_better_go_with_memory_and_the_report_says_it(tmp_path):
    people, scores = remembered(np.random.default_rng(0))
    folder = tmp_path / "run"
    summary = decoder_report.report(people, folder, "run", made.SETTINGS, {"simulated": True}, behaviour=scores)
    for kind in memory_scores.EVIDENCE:
        row = summary["behaviour"][kind]
        assert row["mean_rho"] > 0.5 and row["p"] < 0.01 <= row["p_holm"] * 2 and (row["n"], row["items"]) == (8, 15)
    assert json.loads((folder / "summary.json").read_text())["behaviour"] == summary["behaviour"]
    table = pd.read_csv(folder / "behaviour.tsv", sep="\t")
    assert len(table) == 120 and (table.n == 6).all() and (folder / "behaviour.png").stat().st_size > 5000
    own = table[table.subject == "subject_test_3"].set_index("item")
    assert own.loc["kiwi", "accuracy"] == np.mean(people[3].decoded[people[3].label == ITEMS.index("kiwi")] == 6)
    lines = [line for line in decoder_report.summary_lines(summary) if "memory and" in line]
    assert len(lines) == 2 and "n = 8 of 8 subjects, 15 items permuted alike in all" in lines[0]
    decoder_report.report(people, folder, "run", made.SETTINGS, {"simulated": True})
    assert not (folder / "behaviour.tsv").exists(), "that of an earlier test is gone"


def test_groups_of_trials_count_together(tmp_path):
    people, scores = remembered(np.random.default_rng(1))
    halves = {name: [part(p, start) for p in people] for start, name in enumerate(("Up", "Down"))}
    summary = decoder_report.report_groups(halves, tmp_path / "SO", "SO", made.SETTINGS, {}, behaviour=scores)
    whole, _ = memory_scores.of_predictions(people, scores, made.SETTINGS)
    assert summary["behaviour"]["evidence"]["mean_rho"] == pytest.approx(whole["evidence"]["mean_rho"])
    assert any("memory and" in line for line in decoder_report.group_summary_lines(summary))


def part(p, start):
    return type(p)(p.subject, p.file, p.label[start::2], p.data_type[start::2], p.probability[start::2])


def test_items_without_trials_are_no_items_with_nothing_in_them():
    people, scores = remembered(np.random.default_rng(2))
    lacking = people[0].label % 15 > 4  # the first five were not cued
    people[0] = type(people[0])(
        people[0].subject, people[0].file, people[0].label[lacking], people[0].data_type[lacking],
        people[0].probability[lacking],
    )  # fmt: skip
    found, table = memory_scores.of_predictions(people, scores, made.SETTINGS)
    assert found["evidence"]["n"] == 8 and found["evidence"]["p"] < 0.01
    own = table[table.subject == "subject_test_0"]
    rho = own.score.corr(own.evidence, method="spearman")
    assert len(own) == 10 and found["evidence"]["subjects"]["subject_test_0"] == pytest.approx(rho)


@pytest.mark.parametrize("shared", [0.0, 0.7])
def test_noise_is_significant_as_seldom_as_it_should(shared):
    """Memory of the same items in all subjects, and a decoder that finds some items better in all: no relation."""

    def p(seed):
        random = np.random.default_rng(seed)
        people, _ = remembered(random, 6, strength=0.6, shared=shared)
        _, scores = remembered(random, 6, shared=shared)
        settings = made.SETTINGS.model_copy(update={"permutations": 100, "seed": seed})
        return memory_scores.of_predictions(people, scores, settings)[0]["evidence"]["p"]

    share = np.mean([p(seed) <= 0.05 for seed in range(100)])
    assert share <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 100)


@pytest.mark.parametrize("script", ["N23SIMD", "N23SIMD_SO"])
def test_scripts_take_memory_scores(script, call_script, tmp_path):
    folder = tmp_path / "data" / "SI Main Test" / "subject_test_1"
    folder.mkdir(parents=True)
    random = np.random.default_rng(3)
    (folder / "N2N3_data.pickle").write_bytes(pickle.dumps(made.trials(45, random)))
    (folder / "SO_data.pickle").write_bytes(pickle.dumps(made.so_content({"Down": 40, "2nd-Up": 5}, random)))
    provenance.write_json(tmp_path / "data" / "epochs.json", {"names": {"anna": "subject_test_1"}})
    scores = tmp_path / "scores.tsv"
    scores.write_text("subject\titem\tscore\n" + "".join(f"anna\t{item}\t{k % 4}\n" for k, item in enumerate(ITEMS)))
    checkpoint = made.tiny_checkpoint(tmp_path / "a.npz")
    options = ["--quick", "--set", "evaluate.bootstrap=100", "--set", "evaluate.permutations=100"]
    places = ["--checkpoint", checkpoint, "--data", tmp_path / "data", "--results", tmp_path]
    code, error = call_script(f"test/{script}.py", *places, *options, "--behaviour", scores)
    assert code == 0, error
    found = json.loads((tmp_path / script / "summary.json").read_text())["behaviour"]["evidence"]
    assert found["n"] == 1 and found["p"] is not None and (tmp_path / script / "behaviour.png").is_file()
    code, error = call_script(f"test/{script}.py", *places, *options, "--average-over", "rater")
    assert code == 2 and "--average-over goes with --behaviour" in error


@pytest.mark.parametrize(
    "content",
    [
        "\ufeffsubject;item;score\nanna;kiwi;1\nbert ;apple;2.5\n;;\n",
        "Subject, Item, Score\nanna, kiwi, 1\nbert, apple, 2.5\n",
        "item\tsubject\tscore\trater\t\nkiwi\tanna\t1\tx\t\napple\tbert\t2.5\ty\t\n",
    ],
    ids=["Excel UTF-8", "blanks and capitals", "tabs, more columns"],
)
def test_tables_as_spreadsheets_write_them(content, tmp_path, caplog):
    path = tmp_path / "scores.csv"
    path.write_text(content, encoding="utf-8")
    table = memory_scores.read_behaviour(path, ["s0", "s1", "s2"], {"anna": "s0", "bert": "s1", "carl": "s2"}, ITEMS)
    assert table.to_dict("list") == {"subject": ["s0", "s1"], "item": ["kiwi", "apple"], "score": [1.0, 2.5]}
    assert "no scores of s2 (carl)" in caplog.text


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"subject;item;score\nanna;kiwi;1,5\n", "line 2: score '1,5' is no number; write a decimal point"),
        ("subject,item,score\nanna,kiwi,1\n".encode("utf-16-le"), "holds zero bytes.*save it as text .CSV. in UTF-8"),
        (b"", "is empty"),
        (b"subject|item|score\nanna|kiwi|1\n", "no column 'subject'"),
        (b"subject,item,score\nanna,kiwi,1\nanna,kiwi,1,2,3\n", "line 3: has 5 cells for 3 columns"),
        (b"subject,item,score\nanna,kiwi,1,5\n", "line 2: has 4 cells for 3 columns; write decimal points"),
        (b"subject,item,score\nann,kiwi,1\n", r"none of s0 \(anna\) is in it; it has no subject tested here: ann"),
    ],
)
def test_what_is_no_table_of_scores_is_a_sentence(content, words, tmp_path):
    path = tmp_path / "scores.csv"
    path.write_bytes(content)
    with pytest.raises(UserError, match=words):
        memory_scores.read_behaviour(path, ["s0"], {"anna": "s0"}, ITEMS)
    path.write_text("subject,item,score\nanna,kiwi,1\n")
    with pytest.raises(UserError, match="name the column of a test or a rater"):
        memory_scores.read_behaviour(path, ["s0"], {"anna": "s0"}, ITEMS, "score")
