"""Surveys that earlier runs left in the cache, for those who only look: no training code is loaded for it."""

from pathlib import Path

from tools.pretraining.blocks import PackedCorpus
from tools.pretraining.compute import choose_compute
from tools.requests import Survey, SurveyRequest, survey_key
from tools.sources import Source
from tools.survey_folder import SURVEY_FILE, survey_is_whole


def survey_at_hand(source: Source, corpus: PackedCorpus, request: SurveyRequest) -> Survey | None:
    """The survey that an earlier run left in the cache, without scores of tasks; None where there is none."""
    return kept_survey(request.cache / "surveys" / key_of_survey(source, corpus, request), source, corpus)


def key_of_survey(source: Source, corpus: PackedCorpus, request: SurveyRequest) -> str:
    """Identity of the survey of `source` with this text, in the precision that this machine computes in."""
    precision = choose_compute(request.recipe.precision).precision
    return survey_key(source.fingerprint, corpus.fingerprint, request.recipe, request.seed, precision)


def kept_survey(folder: Path, source: Source, corpus: PackedCorpus) -> Survey | None:
    """The survey in `folder`, None where none is whole; with this machine's paths: source and cache may have moved."""
    if not survey_is_whole(folder):
        return None
    found = Survey.model_validate_json((folder / SURVEY_FILE).read_bytes())
    return found.model_copy(update={"source_path": source.path, "corpus_path": corpus.path, "folder": folder})
