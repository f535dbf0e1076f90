"""What a test is worth, by trial: how often it cries "different" where nothing differs, on data as evaluations have it.

Notebook 02 shows the table live. Nothing here is used to decide.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from llmlab.display.shown import Shown
from llmlab.stats.estimate import wilson_rate
from llmlab.stats.paired import mean_difference


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class FalsePositives(Shown):
    """How often each test found a difference that is not there, at a nominal 5%.

    Attributes:
        rates: name of the test -> share of false alarms.
        takes: name of the test -> what it takes for independent.
        documents, questions, repeats, trials: the data that were simulated, and how often.
    """

    rates: dict[str, float]
    takes: dict[str, str]
    documents: int
    questions: int
    repeats: int
    trials: int

    def _rows(self) -> list[dict[str, object]]:
        rows: list[dict[str, object]] = []
        for name, rate in self.rates.items():
            share = wilson_rate(round(rate * self.trials), self.trials).interval("%")
            takes = {"test": name, "takes as independent": self.takes[name]}
            rows.append({**takes, "false alarms [95% CI]": share, "promised": "5%"})
        return rows

    def _sentence(self) -> str:
        worst = max(self.rates, key=lambda name: self.rates[name])
        return (
            f"{self.trials:,} trials of {self.documents} documents with {self.questions} questions each, "
            f"{self.repeats} answers per question, two variants that are equally good on average: "
            f"{worst} is wrong {self.rates[worst]:.0%} of the time."
        )


def false_positives(
    *,
    documents: int = 20,
    questions: int = 10,
    repeats: int = 3,
    trials: int = 400,
    document_sd: float = 0.8,
    seed: int = 0,
) -> FalsePositives:
    """False alarms of five tests on pass/fail answers to questions that come in documents.

    A variant suits some documents and not others (`document_sd`, in logits), and on average neither is better. Four
    of the tests ignore that; the clustered one is `stats.paired.mean_difference`, as comparisons and gates use it.

    >>> found = false_positives(trials=100)
    >>> found.rates["paired t, clusters (CR2)"] < found.rates["McNemar on answers"]
    True
    """
    from scipy import stats

    if min(documents, questions, repeats, trials) < 2:
        raise ValueError("documents, questions, repeats and trials must be 2 or more")
    rng, of_answers = np.random.default_rng(seed), (trials, documents, questions, repeats)
    hard = rng.normal(0, 1.5, (trials, documents, questions, 1))
    suits = rng.normal(0, document_sd, (trials, documents, 1, 1))
    a, b = (rng.random(of_answers) < 1 / (1 + np.exp(-(hard + side * suits / 2))) for side in (-1, 1))
    change = b.astype(float) - a
    rows, cases = change.reshape(trials, -1), change.mean(axis=-1).reshape(trials, -1)
    codes = np.repeat(np.arange(documents), questions)
    better, worse = (rows > 0).sum(axis=1), (rows < 0).sum(axis=1)
    chi2 = (better - worse) ** 2 / np.maximum(better + worse, 1)
    p_values = {
        "McNemar on answers": stats.chi2.sf(chi2, 1),
        "t on answers": stats.ttest_1samp(rows, 0, axis=1).pvalue,
        "Wilcoxon on questions": stats.wilcoxon(cases, axis=1, method="asymptotic", zero_method="pratt").pvalue,
        "paired t on questions": stats.ttest_1samp(cases, 0, axis=1).pvalue,
        "paired t, clusters (CR2)": np.array([mean_difference(d, codes).p_value for d in cases]),
    }
    takes = ("every answer", "every answer", "every question", "every question", "every document")
    return FalsePositives(
        rates={name: float((p < 0.05).mean()) for name, p in p_values.items()},
        takes=dict(zip(p_values, takes, strict=True)),
        documents=documents,
        questions=questions,
        repeats=repeats,
        trials=trials,
    )
