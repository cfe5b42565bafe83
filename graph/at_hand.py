"""What is known of a search before it begins: shapes, and the survey where an earlier run left it in the cache."""

from dataclasses import dataclass

import numpy as np

from graph.config import SearchConfig
from tools.architecture import Architecture
from tools.pretraining.corpus import corpus_at_hand
from tools.pruning.saliency import Saliency
from tools.requests import Survey, SurveyRequest
from tools.sources import Source, source_at_hand
from tools.survey_at_hand import survey_at_hand
from tools.survey_folder import SALIENCY_FILE


@dataclass(frozen=True)
class Known:
    """What there is before a search: the survey and its saliency where they are cached, else the shapes alone."""

    source: Architecture
    survey: Survey | None
    saliency: Saliency
    notes: tuple[str, ...]


def what_is_known(config: SearchConfig) -> Known:
    """Look source and corpus up. Raises InputError where the search would for want of them."""
    found = source_at_hand(config.source, config.cache / "sources")
    notes = []
    if isinstance(found, Source):
        architecture, path = found.architecture, found.path
    else:
        architecture, path = found, None
        notes.append("The source's weights are not here yet: the search begins by fetching or converting them.")
    corpus = corpus_at_hand(config.corpus, path, config.data, config.cache / "corpora")
    survey = None
    if isinstance(found, Source) and corpus is not None:
        request = SurveyRequest(
            source=config.source,
            corpus=config.corpus,
            data=config.data,
            recipe=config.recipe,
            seed=config.seed,
            cache=config.cache,
        )
        survey = survey_at_hand(found, corpus, request)
    if corpus is None:
        notes.append("The corpus is not packed yet: whether it has text enough shows when the search begins.")
    if survey is None:
        notes.append("The source was not surveyed yet: times and the saliency-greedy design are not known before.")
        return Known(architecture, None, _any_saliency(architecture), tuple(notes))
    return Known(architecture, survey, Saliency.load(survey.folder / SALIENCY_FILE), tuple(notes))


def _any_saliency(source: Architecture) -> Saliency:
    """A made-up saliency by which FFN channels go first, then attention, then the stem.

    The smallest steps are the last ones then, so that most sizes can be reached.
    """
    layers = source.layers
    return Saliency(
        kv_group=tuple(np.full(layer.num_key_value_heads, 1e3, np.float32) for layer in layers),
        query_head=tuple(np.full(layer.num_attention_heads, 1e3, np.float32) for layer in layers),
        ffn=tuple(np.full(layer.intermediate_size, 1e-3, np.float32) for layer in layers),
        stem=np.full(source.hidden_size, 1e6, np.float32),
    )
