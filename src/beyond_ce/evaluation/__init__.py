"""Generated answers and what they are worth."""

from beyond_ce.evaluation.evaluator import Evaluation, NumberAnswers

__all__ = ["Evaluation", "NumberAnswers"]
