"""What a comparison of judges says, in sentences and tables: the same for the terminal, Markdown and the page.

Texts are as the files of users have them; whoever writes them makes them safe in its own format.
"""

from harness_plugin.files.printable import counted
from harness_plugin.report.comparison_section import Section, Value, interval
from harness_plugin.report.comparison_several import abstention_sections, cascade_sections, panel_sections
from harness_plugin.report.numbers import number
from harness_plugin.stats.multiple import ALPHA

NAMES = {
    "acc": "accuracy, decisive pairs",
    "acc_3way": "accuracy of A, B, tie",
    "log_loss": "log loss of A, B, tie",
    "brier": "Brier score",
    "ece": "calibration error (ECE)",
    "auc": "AUC",
    "acc_length_balanced": "accuracy, balanced by length",
    "order_agreement": "both orders agree",
    "position_bias": "position bias (logits)",
    "length_corr": "correlation with length",
    "acc_sure_half": "accuracy of the surer half",
}
BASELINES = {
    "longer_wins": ("acc", "the longer answer wins"),
    "surface_acc": ("acc", "surface features"),
    "surface_log_loss": ("log_loss", "surface features"),
    "prior_log_loss": ("log_loss", "shares of A, B, tie"),
}


def sections(result: Value) -> list[Section]:
    """All that is said of a comparison, in the order in which it is read."""
    found = [_figures(result), _costs(result), _baselines(result), _differences(result)]
    if result.get("panel"):
        found += panel_sections(result["panel"])
    if result.get("cascade"):
        found += cascade_sections(result["cascade"])
    if result.get("abstentions"):
        found += abstention_sections(result["abstentions"])
    return found


def title(result: Value) -> str:
    """How many judges are compared, and on which votes."""
    return f"{counted(len(result['judges']), 'judge')} on {result['votes']}"


def _figures(result: Value) -> Section:
    pairs, judges = result["pairs"], result["judges"]
    said = [
        f"Every judge has judged {counted(pairs['judged_by_all'], 'pair')} with {counted(pairs['prompts'], 'prompt')}, "
        f"{pairs['decisive']} of them with a winner that is not a tie. Intervals are 95% and clustered by prompt."
    ]
    missing = {label: n for label, n in pairs["missing"].items() if n}
    if missing:
        counts = ", ".join(f"{label} {n}" for label, n in missing.items())
        said.append(
            f"Of {counted(pairs['with_a_winner'], 'pair')} with a winner these are missing and left out: {counts}."
        )
    one_order = [j["judge"] for j in judges if j["orders"] != "both"]
    if one_order:
        said.append(f"Judged in one order only, so that a position bias is not removed: {', '.join(one_order)}.")
    without = [j["judge"] for j in judges if j["metrics"]["log_loss"]["value"] is None]
    if without:
        said.append(f"Without a probability of a tie, which three-way figures need: {', '.join(without)}.")
    cut = [f"{j['judge']} {j['cut']}" for j in judges if j["cut"]]
    if cut:
        said.append(f"Pairs of which a text was cut: {', '.join(cut)}.")
    rows = [[NAMES[name], *(interval(j["metrics"][name]) for j in judges)] for name in NAMES]
    return Section("The judges", said, ["figure", *(j["judge"] for j in judges)], rows)


def _costs(result: Value) -> Section:
    rows = [
        [
            j["judge"],
            number(j["cost"]["presentations"], 2),
            number(j["cost"]["tokens"], 0),
            number(j["cost"]["seconds"], 4),
            str(j["cost"]["timed_pairs"] or "-"),
            j["source"],
        ]
        for j in result["judges"]
    ]
    said = [
        "Tokens are those that were read, and of a chat model those that it wrote too, as its server counts them. "
        "Seconds were measured where the pairs were judged by this command; stored judgements have none. A dash stands "
        "for what is not known."
    ]
    return Section(
        "What a pair costs", said, ["judge", "presentations", "tokens", "seconds", "pairs timed", "judgements"], rows
    )


def _baselines(result: Value) -> Section:
    rows = [
        [label, NAMES[figure], interval(result["baselines"][name])]
        for name, (figure, label) in BASELINES.items()
        if result["baselines"][name]["value"] is not None
    ]
    said = ["If a judge is not better than these, the pairs do not show that it reads what the answers say."]
    return Section("Baselines", said, ["baseline", "figure", "value"], rows)


def _differences(result: Value) -> Section:
    reference = result["reference"]
    if not result["differences"]:
        return Section("Differences", ["There is one judge, and nothing to compare it with."])
    how = (
        f"Each judge minus {reference['judge']}, on the same pairs. p is adjusted over these judges (Holm)."
        if reference["chosen"] == "named"
        else f"Each judge minus {reference['judge']}, the most accurate one here, on the same pairs. Since these pairs "
        "chose it, p is adjusted over all pairs of judges (Holm). Intervals are not adjusted."
    )
    rows = [
        [
            d["judge"],
            NAMES[d["metric"]],
            interval({"value": d["difference"], "low": d["low"], "high": d["high"]}),
            _p(d["p"]),
            _p(d["p_holm"]),
            verdict(d),
        ]
        for d in result["differences"]
        if d["difference"] is not None
    ]
    return Section(
        f"Differences to {reference['judge']}", [how], ["judge", "figure", "difference", "p", "p (Holm)", ""], rows
    )


def verdict(difference: Value) -> str:
    """Whether a difference is more than chance, in words."""
    if difference["p_holm"] is None or difference["p_holm"] > ALPHA:
        return "no clear difference"
    return "better" if (difference["difference"] > 0) == difference["higher_is_better"] else "worse"


def _p(value: float | None) -> str:
    return "-" if value is None else "<0.001" if value < 0.001 else f"{value:.3f}"
