"""The records of all searches: the one door to the tables."""

from memory.approval_records import ApprovalRecords
from memory.branch_records import BranchRecords
from memory.bulk_records import BulkRecords
from memory.event_records import EventRecords
from memory.index_records import IndexRecords
from memory.overview_records import OverviewRecords
from memory.past_records import PastRecords
from memory.pattern_records import PatternRecords
from memory.promotion_records import PromotionRecords
from memory.proposal_records import ProposalRecords
from memory.run_records import RunRecords
from memory.span_records import SpanRecords
from memory.trial_records import TrialRecords
from memory.wording_records import WordingRecords


class Records(
    RunRecords,
    ProposalRecords,
    TrialRecords,
    PromotionRecords,
    ApprovalRecords,
    BulkRecords,
    IndexRecords,
    PastRecords,
    WordingRecords,
    PatternRecords,
    EventRecords,
    SpanRecords,
    BranchRecords,
    OverviewRecords,
):
    """Open with `Records.open(path_or_url)`, a SQLite file or a database URL; close with `close` or `with`.

    Each method is one short transaction, durable when it returns, and gives plain objects that stay usable after it.
    Any number of threads and processes may have the same records open. Every method raises `InputError`, one sentence,
    where the disk is full or the place is gone.
    """
