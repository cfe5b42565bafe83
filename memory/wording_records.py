"""Records of what became of the designs that each wording of a prompt led to."""

from collections import Counter
from collections.abc import Collection, Sequence

from sqlalchemy import ColumnElement, and_, case
from sqlalchemy.orm import aliased
from sqlmodel import col, select
from sqlmodel.sql.expression import Select

from memory.database import Database
from memory.ledger import EDITED
from memory.tables import Call, Evaluation, Prompt, Proposal, Run, Trial
from memory.wordings import WordingCount

_MOST_DESIGNS = 2000
_STAGES = ("self_evolution", "knowledge_distillation")


class WordingRecords(Database):
    """Prompts with the trials of the turns in which they were asked."""

    def wording_counts(self, names: Collection[str], run_ids: Collection[str] | None = None) -> list[WordingCount]:
        """How many designs each wording of these templates led to, and how many of them were better than their parents.

        Of all runs or of `run_ids`, at most the newest 2,000 designs. A design counts for each wording that its turn
        was asked with, once, where it and its parent were measured at one fidelity; one that failed is not better.
        Templates that have only one wording are left out: there is nothing to compare.
        """
        with self.reading() as session:
            prompts = session.exec(select(Prompt).where(col(Prompt.name).in_(sorted(names)))).all()
        named = [prompt.name for prompt in prompts]
        texts = {prompt.hash: prompt for prompt in prompts if named.count(prompt.name) > 1}
        counts = self.wording_designs(list(texts), run_ids)
        return [WordingCount(hash, prompt.name, prompt.text, *counts[hash]) for hash, prompt in texts.items()]

    def wording_designs(
        self, hashes: Collection[str], run_ids: Collection[str] | None = None
    ) -> dict[str, tuple[int, int]]:
        """The same two counts for each of these wordings: its designs, and those better than their parents."""
        rows: Sequence[tuple[str | None, int, bool | None]] = []
        if hashes:
            with self.reading() as session:
                rows = session.exec(_designs(sorted(hashes), run_ids)).all()
        designs = Counter(hash for hash, _, _ in rows)
        better = Counter(hash for hash, _, is_better in rows if is_better)
        return {hash: (designs[hash], better[hash]) for hash in hashes}


def _designs(hashes: list[str], run_ids: Collection[str] | None) -> "Select[str | None, int, bool | None]":
    """For each wording and trial whether it is better than its parent; null where one of them failed."""
    above, score = aliased(Trial), aliased(Evaluation)
    of_turn = and_(
        col(Proposal.run_id) == col(Call.run_id),
        col(Proposal.turn) == col(Call.turn),
        col(Proposal.candidate) == col(Call.candidate),
    )
    of_parent = and_(col(above.run_id) == col(Trial.run_id), col(above.number) == col(Trial.parent_number))
    better = case(
        (col(Run.config)["objective"].as_string() == "accuracy", _accuracy(Evaluation) > _accuracy(score)),
        else_=col(Evaluation.loss) < col(score.loss),
    )
    query = (
        select(Call.prompt_hash, Trial.id, better)
        .join(Proposal, of_turn)
        .join(Trial, col(Trial.proposal_id) == col(Proposal.id))
        .join(Run, col(Run.id) == col(Trial.run_id))
        .join(Evaluation, col(Evaluation.id) == col(Trial.evaluation_id))
        .join(above, of_parent)
        .join(score, col(score.id) == col(above.evaluation_id))
        .where(
            col(Call.prompt_hash).in_(hashes),
            # What a tool made in the turn is no answer to its prompts.
            col(Trial.stage).in_(_STAGES),
            # Nor is what the user made of one.
            col(Proposal.outcome) != EDITED,
            col(score.fidelity) == col(Evaluation.fidelity),
            # A branch's copies count in the run that they were copied from.
            col(Proposal.turn) >= col(Run.first_turn),
        )
        .distinct()
        .order_by(col(Trial.id).desc())
        .limit(_MOST_DESIGNS)
    )
    return query if run_ids is None else query.where(col(Trial.run_id).in_(sorted(run_ids)))


def _accuracy(evaluation: type[Evaluation]) -> ColumnElement[float]:
    accuracy: ColumnElement[float] = col(evaluation.measurement)["accuracy"].as_float()
    return accuracy
