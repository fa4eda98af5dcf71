"""The audit finds its findings in the numbers: change the numbers and it finds others."""

import sys

import pytest

from fewlabels.report import __main__ as command
from fewlabels.report.spec.audit import audit, findings
from fewlabels.report.spec.definitions import load_definitions
from fewlabels.report.spec.reported import Derived, Quoted, TableDefinition, TextSays, Verbatim
from fewlabels.system.paths import conf_dir
from tests.report.helpers import PRINTED, write_tables


def table(numbers, metric="test_error", **more):
    """A table of one column x with these numbers, as written."""
    reported = {row: {"x": {metric: Verbatim(text)}} for row, text in numbers.items()}
    return TableDefinition("t", "T", [*numbers], ["x"], {metric: "m"}, reported=reported, **more)


def derived(mean, std, *numbers):
    rows = {f"r{i}": text for i, text in enumerate(numbers)}
    entry = {"test_error": Verbatim(mean)} | ({"std": Verbatim(std)} if std else {})
    return findings(table(rows, derived={"m": Derived([*rows], {"x": entry})}))


def test_which_deviation_a_printed_one_is():
    # 2, 4, 6: mean 4, population deviation sqrt(8/3) = 1.633, sample deviation 2
    assert derived("4.00", "1.63", "2.00", "4.00", "6.00") == [
        "m | x: 4.00 ± 1.63: the mean agrees with 4.000; ± 1.63 is the population deviation (population 1.633, sample 2.000)"
    ]
    assert "± 2.00 is the sample deviation" in derived("4.00", "2.00", "2.00", "4.00", "6.00")[0]
    assert (
        "± 1.80 is neither deviation (population 1.633, sample 2.000)" in derived("4.00", "1.80", "2.00", "4.00", "6.00")[0]
    )
    assert "± 2 is either deviation" in derived("4.00", "2", "2.00", "4.00", "6.00")[0]
    assert derived("4.00", "", "2.00", "4.00", "6.00") == ["m | x: 4.00: the mean agrees with 4.000"]


def test_a_printed_mean_is_recomputed():
    assert (
        "4.10 ± 2.00: the mean is NOT 4.10 but 4.000; ± 2.00 is the sample deviation"
        in derived("4.10", "2.00", "2.00", "4.00", "6.00")[0]
    )
    # mean 10.3567: cut off rather than rounded
    assert "10.35: the mean agrees with 10.357, 10.36 if rounded" in derived("10.35", "", "10.17", "11.08", "9.82")[0]


def test_a_derived_row_over_a_missing_number_is_not_recomputed():
    t = table({"a": "1.0"}, derived={"m": Derived(["a", "b"], {"x": {"test_error": 2.0}})})
    t.rows.append("b")
    assert findings(t) == ["m | x: 2.00 cannot be recomputed, a row of it reports nothing"]


@pytest.mark.parametrize(
    "numbers",
    [["66.682", "68.908", "73.936"], ["73.47", "90.01", "75.31"], ["20.0", "25.0", "60.0"], ["5.0", "49.0", "92.0"]],
)
def test_high_errors_among_high_errors_are_errors(numbers):
    assert findings(table(dict(zip("abc", numbers, strict=True)))) == []


def test_an_accuracy_among_errors_is_found_and_said_to_be_flagged_or_not():
    rows = {"a": "7.20", "b": "8.28"}

    def found(**quoted):
        return findings(table(rows, quoted=[Quoted("Q", {"x": "94.23 ± 0.17"}, **quoted)]))

    seems = "Q | x: 94.23 stands among errors around 7.74; it seems an accuracy, 100 - 94.23 = 5.77 "
    assert found() == [seems + "(not flagged in the table's file)"]
    assert found(slip="an accuracy") == [seems + "(flagged in the table's file)"]
    assert found(corrected={"x": "5.77 ± 0.17"}) == [seems + "(flagged in the table's file)"]
    assert found(corrected={"x": "6.77 ± 0.17"}) == [seems + "(flagged, but corrected to 6.77)"]
    assert findings(table(rows, quoted=[Quoted("Q", {"x": "-"})])) == []


def test_an_error_among_accuracies_is_found_too():
    (found,) = findings(table({"a": "95.0", "b": "96.0", "c": "4.5"}, "test_accuracy"))
    assert found.startswith("c | x: 4.5 stands among accuracies around 95.50; it seems an error, 100 - 4.5 = 95.50 (not")
    near_50 = {"a": "45.51", "b": "51.77", "c": "48.09"}
    assert findings(table(near_50, "test_accuracy")) == []


def test_the_same_result_in_two_units():
    assert "VAT and VAT (again) | x: 75.37 = 100 - 24.63: the same" in " ".join(
        findings(table({"VAT": "24.63", "b": "8.0"}, quoted=[Quoted("VAT (again)", {"x": "75.37"})]))
    )
    assert not any("the same" in line for line in findings(table({"VAT": "24.63"}, quoted=[Quoted("V", {"x": "75.38"})])))


def best(maximum, final, kind="accuracy"):
    entry = {f"best_test_{kind}": Verbatim(maximum), f"test_{kind}": Verbatim(final)}
    metrics = {key: key for key in entry}
    return findings(TableDefinition("t", "T", ["a"], ["x", "y"], metrics, reported={"a": entry}))


def test_a_maximum_below_the_final_value():
    assert best("44.0", "45.0") == ["a: the best, 44.0, is worse than the final, 45.0 (test_accuracy)"]
    assert best("45.0", "44.0") == best("45.0", "45.0") == best("44.0", "45.0", "error") == []
    assert best("45.0", "44.0", "error") == ["a: the best, 45.0, is worse than the final, 44.0 (test_error)"]


def test_percentages_outside_0_to_100():
    assert findings(table({"a": "101.5", "b": "-0.5", "c": "100.0", "d": "3"})) == [
        "a | x: 101.5 is no percentage",
        "b | x: -0.5 is no percentage",
    ]


@pytest.mark.parametrize(
    ("said", "found"), [("16.38", True), ("16.5", False), ("16.3", True), ("16", False), ("17", True), ("16.45", False)]
)
def test_the_text_against_the_table_to_the_digits_of_the_text(said, found):
    t = table({"a": "16.45"}, text_says=[TextSays("abstract", "a", "x", "test_error", Verbatim(said))])
    assert findings(t) == ([f"a | x: {said} in the text (abstract), 16.45 in the table"] if found else [])


def test_a_text_that_speaks_of_an_empty_cell():
    t = table({"a": "1.0"}, text_says=[TextSays("abstract", "b", "x", "test_error", 2.0)])
    assert findings(t) == ["b | x: 2.00 in the text (abstract), nothing in the table"]


def test_what_two_write_ups_print_against_themselves(tmp_path):
    tables = load_definitions(write_tables(tmp_path / "conf", PRINTED))
    found = {name: findings(t) for name, t in tables.items()}
    assert found["alshami_2"] == found["alshami_3"] == found["balestriero_1"] == []
    assert found["alshami_1"] == ["0.6 | C100 10000: 61.38 in the text (section 3.1), 61.36 in the table"]

    def readings(name):
        return [line.split("; ± ")[1].split(" (")[0] for line in found[name] if "; ± " in line]

    assert readings("balestriero_2") == [
        "0.53 is the population deviation",
        "0.52 is the population deviation",
        "1.80 is the sample deviation",
        "0.89 is the sample deviation",
    ]
    assert readings("balestriero_3") == [
        "2.61 is the population deviation",
        "2.8 is the population deviation",
        "0.79 is neither deviation",
        "1.03 is the sample deviation",
    ]
    accuracies = [line.split(" stands")[0] for name in found for line in found[name] if "it seems an accuracy" in line]
    assert accuracies == [
        "Pi-model | 500: 92.95",
        "Triple GAN | 1000: 94.23",
        "Bad GAN | 1000: 95.75",
        "Pi-model | 1000: 94.57",
        "VAT (again) | 1000: 75.37",
        "Triple GAN | 4000: 83.01",
        "Bad GAN | 4000: 85.59",
        "Pi-model | 4000: 83.45",
    ]
    assert sum("the same result twice" in line for name in found for line in found[name]) == 1
    assert sum("the ± of the derived rows does not mean one thing" in line for line in found["balestriero_3"]) == 1
    assert (
        found["balestriero_3"][-1] == "Sigmoid CNN, lambda | 8000: 16.38 in the text (abstract), 16.45 ± 0.23 in the table"
    )


def test_the_command_needs_no_run_and_groups_by_table(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["fewlabels-report", "--audit"])
    command.main()
    text = capsys.readouterr().out
    assert text.strip() == audit(load_definitions(conf_dir()).values())
    assert all(line.startswith("  ") or line.split(":")[0] in load_definitions(conf_dir()) for line in text.splitlines())
    assert "srikanth_1: Srikanth, experiment 1" in text


def test_the_other_commands_still_ask_for_a_folder(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["fewlabels-report"])
    with pytest.raises(SystemExit, match="2"):
        command.main()
    assert "name the folder of the runs" in capsys.readouterr().err
