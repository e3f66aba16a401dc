"""One file per task, named after the task, and the table of them. A task says what arrays mean; it never calls another task."""

from collections.abc import Mapping

from edgenlp.tasks.feature_extraction import FeatureExtraction
from edgenlp.tasks.fill_mask import FillMask
from edgenlp.tasks.question_answering import QuestionAnswering
from edgenlp.tasks.sentence_similarity import SentenceSimilarity
from edgenlp.tasks.summarization import Summarization
from edgenlp.tasks.task import Task
from edgenlp.tasks.text2text_generation import Text2TextGeneration
from edgenlp.tasks.text_classification import TextClassification
from edgenlp.tasks.text_generation import TextGeneration
from edgenlp.tasks.token_classification import TokenClassification
from edgenlp.tasks.translation import Translation
from edgenlp.tasks.zero_shot_classification import ZeroShotClassification

__all__ = ["ALIASES", "TASKS", "Task"]

TASKS: Mapping[str, type[Task]] = {
    "feature-extraction": FeatureExtraction,
    "fill-mask": FillMask,
    "question-answering": QuestionAnswering,
    "sentence-similarity": SentenceSimilarity,
    "summarization": Summarization,
    "text-classification": TextClassification,
    "text-generation": TextGeneration,
    "text2text-generation": Text2TextGeneration,
    "token-classification": TokenClassification,
    "translation": Translation,
    "zero-shot-classification": ZeroShotClassification,
}

ALIASES: Mapping[str, str] = {"ner": "token-classification", "sentiment-analysis": "text-classification"}
