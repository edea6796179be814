"""Generated answers and what they are worth."""

from beyond_ce.evaluation.agreement import AgreementAnswers
from beyond_ce.evaluation.best_step import BestStep
from beyond_ce.evaluation.choice_points import LikelyChoicePoints, MarkedChoicePoints
from beyond_ce.evaluation.code_samples import CodeSamples
from beyond_ce.evaluation.evaluator import Evaluation, Evaluator, Subject
from beyond_ce.evaluation.evaluators import Evaluators
from beyond_ce.evaluation.exact_answers import ExactAnswers
from beyond_ce.evaluation.final_answer import FinalAnswer
from beyond_ce.evaluation.harness_tasks import HarnessTasks
from beyond_ce.evaluation.held_out import HeldOut
from beyond_ce.evaluation.induction import Induction
from beyond_ce.evaluation.markov_information import MarkovInformation
from beyond_ce.evaluation.number_answers import NumberAnswers
from beyond_ce.evaluation.number_mass import NumberMass
from beyond_ce.evaluation.probe import Probe
from beyond_ce.evaluation.relative_information import RelativeInformation
from beyond_ce.evaluation.rouge import Rouge
from beyond_ce.evaluation.self_speculation import SelfSpeculation
from beyond_ce.evaluation.speculation_and_peers import SpeculationAndPeers
from beyond_ce.evaluation.text_overlap import TextOverlap
from beyond_ce.evaluation.whitespace import WhitespaceSamples
from beyond_ce.evaluation.word_problems import WordProblems

__all__ = [
    "AgreementAnswers",
    "BestStep",
    "CodeSamples",
    "Evaluation",
    "Evaluator",
    "Evaluators",
    "ExactAnswers",
    "FinalAnswer",
    "HarnessTasks",
    "HeldOut",
    "Induction",
    "LikelyChoicePoints",
    "MarkedChoicePoints",
    "MarkovInformation",
    "NumberAnswers",
    "NumberMass",
    "Probe",
    "RelativeInformation",
    "Rouge",
    "SelfSpeculation",
    "SpeculationAndPeers",
    "Subject",
    "TextOverlap",
    "WhitespaceSamples",
    "WordProblems",
]
