"""The release gate: a policy in a file, a decision with its reasons, a receipt that can be checked again."""

from llmlab.gate.condition import Condition
from llmlab.gate.decision import Decision
from llmlab.gate.looks import Look, Price
from llmlab.gate.policy import GatePolicy
from llmlab.gate.receipt import Receipt

__all__ = ["Condition", "Decision", "GatePolicy", "Look", "Price", "Receipt"]
