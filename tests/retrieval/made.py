"""Results with known retrieval, for the tests of what reads it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from llmlab.bundle.bundle import Bundle
from llmlab.clients.base import Generation
from llmlab.golden.cases import Case, GoldenSet
from llmlab.results.results import Results
from llmlab.scorers import mentions_expected

RELEVANT = {"a": 2, "b": 1}
MADE = {"right": (("a", "x"), "yes"), "generation failure": (("x", "b"), "no"), "retrieval failure": (("x",), "no")}
MADE["lucky"] = ((), "yes")  # an empty result is none that is left out


def made(cells: Mapping[str, Sequence[str]], *, clusters: Sequence[str] | None = None) -> Results:
    """Results whose cases lie in the named cells, per variant; "error" is a row without an answer, "unjudged" a case
    without relevant documents."""
    first = next(iter(cells.values()))
    golden = GoldenSet(
        tuple(
            Case(
                id=f"q{i}",
                inputs={"question": f"question {i}?"},
                expected=("yes",),
                relevant={"z": 0} if name == "unjudged" else RELEVANT,
                tags=("even",) if i % 2 == 0 else ("odd", "both"),
                cluster=clusters[i] if clusters else None,
            )
            for i, name in enumerate(first)
        )
    )
    answers = [
        Generation(variant=variant, case_id=f"q{i}", **_answer(name))
        for variant, names in cells.items()
        for i, name in enumerate(names)
    ]
    bundles = {name: Bundle.from_prompt(f"{name} {{{{ question }}}}", model="offline/extractive-1") for name in cells}
    return Results.from_generations(answers, golden=golden, bundles=bundles).scored_by([mentions_expected])


def _answer(name: str) -> dict[str, object]:
    if name == "error":
        return {"status": "error", "error": "HTTP 500", "retrieved": ("a",)}
    retrieved, text = MADE.get(name, (("a",), "yes"))
    return {"text": text, "retrieved": retrieved}
