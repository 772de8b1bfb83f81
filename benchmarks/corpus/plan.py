"""Plan of the records: planted families, one mega-cluster, boilerplate headers, and single records.

The records of a data set are numbered in the order of the files. A permutation takes a record to its slot: the first
slots are the mega-cluster, then come the families, period after period of FAMILIES, then records on their own. So the
members of a family lie anywhere in the files, and where is arithmetic.
"""

from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate

import numpy as np
import numpy.typing as npt
from scipy.special import ndtri

from benchmarks.corpus.pieces import CLASSES, MALFORMED
from benchmarks.corpus.randomness import Ints, Permutation, Words, below, hashed, key_of, shares

COPY, REFORMED, REPLACED, SCATTERED, DELETED, INSERTED, MOVED, HEADED, CHAINED = range(9)
OPERATIONS = (
    "copy",
    "reformed",
    "replaced",
    "scattered",
    "deleted",
    "inserted",
    "moved",
    "headed",
    "chained",
)
"""Edits of a family's base: nothing; other capitals and punctuation; a run of words replaced; words here and there
replaced; a run deleted; a run inserted; a run moved elsewhere; a boilerplate header put before it; one more run
replaced than in the previous member.
"""

FAMILIES: tuple[tuple[int, ...], ...] = (
    (COPY, COPY),
    (COPY, COPY, REFORMED),
    (COPY, REPLACED, REPLACED),
    (COPY, SCATTERED),
    (COPY, DELETED, INSERTED),
    (COPY, MOVED, MOVED),
    (COPY, HEADED),
    (COPY, CHAINED, CHAINED, CHAINED),
    (COPY, REPLACED, COPY, REFORMED, SCATTERED),
)
"""Families of a period, by the edit of each member; the first is the base."""
PERIOD = sum(map(len, FAMILIES))
MOST_MEMBERS = max(map(len, FAMILIES))

FAMILY_SHARE = 0.12
MEGA_SHARE = 0.005
HEADED_SHARE = 0.06
"""Share of the single records; most of the headers are rare, a third of these records carry the same one."""
HEADERS = 50
HEADER_WORDS = (40, 80)
EDITED = (0.01, 0.15)
"""Share of a document's words that an edit affects, uniform in the logarithm."""
RUNS = 3

MEDIAN_WORDS, SPREAD, LEAST_WORDS, LEAST_EDITED_WORDS, MEGA_WORDS = 67, 1.0, 3, 24, 300
LENGTHS = np.maximum(
    np.rint(MEDIAN_WORDS * np.exp(SPREAD * ndtri((np.arange(1 << 16) + 0.5) / (1 << 16)))), LEAST_WORDS
).astype(np.int64)
"""Log-normal document lengths in words, by quantile."""
ZIPF_CLASSES = np.cumsum(1 / np.arange(1, CLASSES + 1)) / np.sum(1 / np.arange(1, CLASSES + 1))
ZIPF_HEADERS = np.cumsum(1 / np.arange(1, HEADERS + 1) ** 1.5) / np.sum(1 / np.arange(1, HEADERS + 1) ** 1.5)

SINGLE, FAMILY, MEGA = range(3)
KINDS = ("single", "family", "mega")
EMAIL, PHONE, IP_ADDRESS = range(3)
PERSONAL = ("email", "phone", "ip_address")
PERSONAL_SHARES = np.cumsum((0.04, 0.03, 0.02))


@dataclass(frozen=True)
class Documents:
    """Make-up of texts, an entry a document; runs have the shape (documents, RUNS), all else (documents,)."""

    content: Words
    """Content of the base: documents with equal content have the same words before they are edited."""
    length: Ints
    """Words, after the edits."""
    label: Ints
    operation: Ints
    edit: Words
    """Randomness of this document alone."""
    form: Words
    """Documents with the same content and another form differ in capitals and punctuation."""
    run_start: Ints
    run_end: Ints
    """Ends of the replaced, deleted, inserted or moved words; chained documents have up to three runs."""
    target: Ints
    """Position up to which the words behind a moved run move before it."""
    scattered: Ints
    """Probability of replacing a word, in 65,536ths."""
    header: Ints
    """-1: none."""
    header_length: Ints
    serial: Ints
    """Number in a document too short to be unique otherwise; -1 in longer ones."""
    personal: Ints
    """An entry of PERSONAL, or -1."""
    accented: npt.NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.content)

    def take(self, rows: Ints) -> "Documents":
        return Documents(**{name: getattr(self, name)[rows] for name in self.__dataclass_fields__})


@dataclass(frozen=True)
class Slots:
    """Plan of some slots. `family`: -1 for single records; `member`: place in the family."""

    kind: Ints
    family: Ints
    member: Ints
    documents: Documents


@dataclass(frozen=True)
class Plan:
    """Data set of `records` records."""

    records: int
    seed: int
    malformed_share: float

    @cached_property
    def mega(self) -> int:
        """Members of the mega-cluster."""
        return int(self.records * MEGA_SHARE)

    @cached_property
    def periods(self) -> int:
        return int(self.records * FAMILY_SHARE) // PERIOD

    @cached_property
    def families(self) -> int:
        """Number of families without the mega-cluster, which has this number as a family."""
        return self.periods * len(FAMILIES)

    @cached_property
    def _permutation(self) -> Permutation:
        return Permutation(self.records, key_of(self.seed, 1))

    @cached_property
    def _keys(self) -> list[int]:
        return [key_of(self.seed, stream) for stream in range(2, 16)]

    def slots_of(self, records: Ints) -> Ints:
        return self._permutation.forward(records)

    def records_of(self, slots: Ints) -> Ints:
        return self._permutation.backward(slots)

    def slots_of_family(self, family: Ints, member: Ints) -> Ints:
        starts = np.array([0, *accumulate(map(len, FAMILIES))])
        found: Ints = self.mega + family // len(FAMILIES) * PERIOD + starts[family % len(FAMILIES)] + member
        return found

    def malformed(self, records: Ints, kind: Ints) -> Ints:
        """Return an entry of MALFORMED, or -1, for each record; only single records are spoilt."""
        drawn = hashed(self._keys[0], records)
        spoilt = (kind == SINGLE) & (shares(drawn) < self.malformed_share)
        return np.where(spoilt, below(drawn, len(MALFORMED)), -1)

    def plan(self, slots: Ints) -> Slots:
        """Plan some slots."""
        in_families = slots - self.mega
        kind = np.where(
            slots < self.mega, MEGA, np.where(in_families < self.periods * PERIOD, FAMILY, SINGLE)
        )
        operations = np.array([operation for family in FAMILIES for operation in family])
        starts = np.array([0, *accumulate(map(len, FAMILIES))])
        place = in_families % PERIOD
        within = np.searchsorted(starts, place, side="right") - 1
        is_family, is_mega = kind == FAMILY, kind == MEGA
        family = np.where(is_family, in_families // PERIOD * len(FAMILIES) + within, -1)
        family[is_mega] = self.families
        member = np.where(is_family, place - starts[within], np.where(is_mega, slots, 0))
        # A third of the mega-cluster are copies, a third has other capitals and punctuation, a third a few other words.
        mega_operations = np.where(member == 0, COPY, np.array([COPY, REFORMED, REPLACED])[member % 3])
        operation = np.where(is_family, operations[place], np.where(is_mega, mega_operations, COPY))
        edited = is_family & np.array([set(f) - {COPY, REFORMED} != set() for f in FAMILIES])[within]
        number = np.where(kind == SINGLE, slots, self.records + family)
        documents = self._documents(number, slots, kind, operation, edited, member)
        return Slots(kind, family, member, documents)

    def _documents(
        self,
        number: Ints,
        slots: Ints,
        kind: Ints,
        operation: Ints,
        edited: npt.NDArray[np.bool_],
        member: Ints,
    ) -> Documents:
        keys = self._keys
        content = hashed(keys[1], number)
        base = hashed(keys[2], number)
        length = LENGTHS[(base >> np.uint64(48)).astype(np.int64)]
        length = np.where(edited, np.maximum(length, LEAST_EDITED_WORDS), length)
        length[kind == MEGA] = MEGA_WORDS
        # Edited documents are long enough without; copies have to be equal, so the number is that of the base.
        serial = np.where((length < 16) & (kind != MEGA), number, -1)
        label = np.searchsorted(ZIPF_CLASSES, shares(hashed(keys[3], number)), side="right")
        edit = hashed(keys[4], slots)
        form = np.where(operation == REFORMED, hashed(keys[5], slots), content)

        header_drawn = hashed(keys[6], slots)
        header = np.searchsorted(ZIPF_HEADERS, shares(header_drawn), side="right")
        single_headed = (kind == SINGLE) & (shares(hashed(keys[7], slots)) < HEADED_SHARE) & (serial < 0)
        operation = np.where(single_headed, HEADED, operation)
        header = np.where(operation == HEADED, header, -1)
        least, most = HEADER_WORDS
        header_length = np.where(header >= 0, least + below(hashed(keys[8], header), most - least + 1), 0)
        # Two different documents under one header stay far from similar: their own words are at least a third of it.
        length = np.where(single_headed, np.maximum(length, header_length // 3 + 8), length)

        run_start, run_end, target = self._runs(length, operation, kind, edit, number, member)
        inserted = run_end[:, 0] - run_start[:, 0]
        change = np.select(
            [operation == DELETED, operation == INSERTED], [-inserted, inserted], header_length
        )
        low, high = np.log(EDITED)
        chance = np.exp(low + (high - low) * shares(hashed(keys[9], slots)))
        scattered = np.where(operation == SCATTERED, np.rint(chance * (1 << 16)), 0).astype(np.int64)

        personal_drawn = shares(hashed(keys[10], number))
        personal = np.searchsorted(PERSONAL_SHARES, personal_drawn, side="right")
        takes_personal = (kind != MEGA) & ~edited & ~single_headed & (length >= 16)
        personal = np.where(takes_personal & (personal < len(PERSONAL)), personal, -1)
        accented = (shares(hashed(keys[11], number)) < 0.12) & (kind != MEGA)
        return Documents(
            content=content, length=length + change, label=label, operation=operation, edit=edit, form=form,
            run_start=run_start, run_end=run_end, target=target, scattered=scattered, header=header,
            header_length=header_length, serial=serial, personal=personal, accented=accented,
        )  # fmt: skip

    def _runs(
        self, length: Ints, operation: Ints, kind: Ints, edit: Words, number: Ints, member: Ints
    ) -> tuple[Ints, Ints, Ints]:
        """Return start and end of the runs, and the target of moved ones."""
        low, high = np.log(EDITED)
        starts = np.zeros((len(length), RUNS), dtype=np.int64)
        ends = np.zeros_like(starts)
        target = np.zeros_like(length)
        single = np.isin(operation, (REPLACED, DELETED, INSERTED, MOVED))
        rows = np.flatnonzero(single)
        if len(rows):
            share = np.exp(low + (high - low) * shares(edit[rows]))
            share[kind[rows] == MEGA] = EDITED[0]
            size = np.maximum(1, np.rint(share * length[rows]).astype(np.int64))
            starts[rows, 0] = below(edit[rows], length[rows] - 2 * size + 1)
            ends[rows, 0] = starts[rows, 0] + size
            # A moved run goes behind the words between its end and the target.
            left = length[rows] - ends[rows, 0]
            target[rows] = ends[rows, 0] + 1 + below(hashed(self._keys[12], edit[rows]), np.maximum(left, 1))
            target[rows] = np.minimum(target[rows], length[rows])
        rows = np.flatnonzero(operation == CHAINED)
        if len(rows):
            # Member k has the first k of three runs, one in each third of the document: the same for all of them.
            third = length[rows] // RUNS
            for run in range(RUNS):
                drawn = hashed(self._keys[13] + run, number[rows])
                size = np.maximum(1, np.rint((0.02 + 0.07 * shares(drawn)) * length[rows]).astype(np.int64))
                start = run * third + below(drawn, third - size + 1)
                has_run = member[rows] > run
                starts[rows, run] = np.where(has_run, start, 0)
                ends[rows, run] = np.where(has_run, start + size, 0)
        return starts, ends, target
