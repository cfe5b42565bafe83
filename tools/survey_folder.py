"""The files of a survey, and whether they are whole, for those who only look: it needs no torch."""

import json
from pathlib import Path

from tools.errors import InputError
from tools.fingerprint import is_whole
from tools.pretraining.blocks import find_corpus
from tools.pretraining.state_files import STATE_FILE, TENSOR_FILES
from tools.requests import Survey
from tools.sources import weight_files

SALIENCY_FILE = "saliency.safetensors"
STATISTICS_FILE = "input_statistics.safetensors"
STATE_FOLDER = "warm_state"
SURVEY_FILE = "survey.json"


def name_of_survey(key: str) -> str:
    """Its name among the artifacts."""
    return f"surveys/{key}"


def survey_is_whole(folder: Path) -> bool:
    """Whether all files of the survey in `folder` are there, and none is cut short."""
    state = folder / STATE_FOLDER
    tensors = [folder / SALIENCY_FILE, folder / STATISTICS_FILE, *(state / name for name in TENSOR_FILES)]
    try:
        Survey.model_validate_json((folder / SURVEY_FILE).read_bytes())
        json.loads((state / STATE_FILE).read_bytes())
    except (OSError, ValueError):
        return False
    return all(is_whole(file) for file in tensors)


def require_beginning(survey: Survey) -> None:
    """Raises InputError where what trials start from is not whole: the survey, the packed corpus, the source."""
    if not beginning_is_whole(survey):
        raise InputError(
            f"What trials start from is damaged or gone: the survey in {survey.folder}, the corpus in "
            f"{survey.corpus_path} or the source in {survey.source_path}. Resume, and it is made again."
        )


def beginning_is_whole(survey: Survey) -> bool:
    """Whether a trial can start: all files of the survey, the packed corpus and the source are there and whole."""
    if not survey_is_whole(survey.folder) or find_corpus(survey.corpus_path) is None:
        return False
    try:
        return all(is_whole(file) for file in weight_files(survey.source_path))
    except InputError:
        return False
