"""Prompt/answer data sets and corpora: generated or read once, then cached as Arrow files."""

from beyond_ce.data.agreement import Agreement
from beyond_ce.data.arithmetic import Arithmetic
from beyond_ce.data.base import DataSet, EndlessData, PackedData, PromptAnswerData
from beyond_ce.data.continuations import Continuations
from beyond_ce.data.corpus import Corpus
from beyond_ce.data.example import Example
from beyond_ce.data.expressions import Expressions
from beyond_ce.data.gsm8k import GSM8K
from beyond_ce.data.hub_corpus import HubCorpus
from beyond_ce.data.languages import ChoiceLanguage, MarkovChain
from beyond_ce.data.mathematics import Mathematics
from beyond_ce.data.mixed_text import MixedText
from beyond_ce.data.multiplication import Multiplication
from beyond_ce.data.multirc import MultiRC
from beyond_ce.data.own_text import OwnText
from beyond_ce.data.packed_answers import PackedAnswers
from beyond_ce.data.polynomials import Polynomials
from beyond_ce.data.programs.apps import APPS
from beyond_ce.data.programs.base import PackedPrograms, ProgramData
from beyond_ce.data.programs.code_tasks import CodeTasks
from beyond_ce.data.programs.contest_tasks import ContestTasks
from beyond_ce.data.programs.contests import CodeContests
from beyond_ce.data.programs.humaneval import HumanEval
from beyond_ce.data.programs.mbpp import MBPP
from beyond_ce.data.programs.problem import Problem
from beyond_ce.data.python_docs import PythonDocs
from beyond_ce.data.python_source import PythonSource
from beyond_ce.data.questions import Questions
from beyond_ce.data.rjokes import RJokes
from beyond_ce.data.stories.generated import GeneratedStories
from beyond_ce.data.summaries import Summaries
from beyond_ce.data.sums import Sums
from beyond_ce.data.text_files import TextFiles

__all__ = [
    "APPS",
    "GSM8K",
    "MBPP",
    "Agreement",
    "Arithmetic",
    "ChoiceLanguage",
    "CodeContests",
    "CodeTasks",
    "ContestTasks",
    "Continuations",
    "Corpus",
    "DataSet",
    "EndlessData",
    "Example",
    "Expressions",
    "GeneratedStories",
    "HubCorpus",
    "HumanEval",
    "MarkovChain",
    "Mathematics",
    "MixedText",
    "MultiRC",
    "Multiplication",
    "OwnText",
    "PackedAnswers",
    "PackedData",
    "PackedPrograms",
    "Polynomials",
    "Problem",
    "ProgramData",
    "PromptAnswerData",
    "PythonDocs",
    "PythonSource",
    "Questions",
    "RJokes",
    "Summaries",
    "Sums",
    "TextFiles",
]
