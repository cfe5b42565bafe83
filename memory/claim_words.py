"""Reads a free sentence, such as "Late layers need fewer FFN channels than early ones", as a testable claim.

The grammar, in any capitals. Reasons ("because ...", "to lower the loss") are cut off first, and the rest is split into
clauses at commas, semicolons and conjunctions. A clause makes a statement where it has

- a quantity: FFN, MLP, feed-forward, channels, intermediate size or width; heads, KV, attention, groups; hidden size,
  stem, embedding;
- one direction: more, wider, larger, widen, increase, restore ..., or fewer, narrower, smaller, reduce, cut, prune ...;
  keep, retain and their like mean more where nothing else does. What hurts, and what not to do, is turned round;
- parts, or none for all layers: layers A-B, first or last N layers, early, first, shallow; middle; late, last, deep;
- "than ..." or "compared to ...": relative to the parts named there, else to all other layers.

A clause without quantity or parts has those of the clause before it. Several statements are meant together. What is
not understood that way is no claim: nothing is guessed.
"""

import re
from collections.abc import Iterable, Iterator

from memory.claims import REST, Claim, Direction, Quantity, Statement

_QUANTITIES: dict[Quantity, str] = {
    "intermediate_size": r"ffns?|feed-?\s?forwards?|mlps?|channels?|intermediates?|widths?",
    "num_key_value_heads": r"(?:kv|key/value|key-value|key value)?[ -]?(?:heads?|groups?)|kv|attention|gqa|key/value",
    "hidden_size": r"hidden|stem|embeddings?|residual|d_model",
}
_MORE = (
    r"more|wide|wider|widest|widen\w*|large|larger|largest|big|bigger|biggest|increas\w*|grow|grows|growing|grown|"
    r"expand\w*|enlarg\w*|restor\w*|high|higher|extra|additional|rais\w*"
)
_FEWER = (
    r"few|fewer|fewest|less|narrow|narrower|narrowest|narrow(?:s|ed|ing)|reduc\w*|cut|cuts|cutting|shrink\w*|shrunk|"
    r"small|smaller|smallest|decreas\w*|remov\w*|prun\w*|trim\w*|low|lower|lowered|lowering|slim\w*|thin|thinner|"
    r"thinned|drop\w*|compress\w*"
)
_KEEP = r"keep\w*|kept|retain\w*|preserv\w*|maintain\w*|protect\w*"
_PARTS = {
    "early": r"early|earlier|earliest|first|initial|shallow|shallower|beginning|bottom|front",
    "middle": r"middle|mid|central|intermediate(?= layers?| blocks?)",
    "late": r"late|later|latest|last|final|deep|deeper|deepest|end|ending|top",
}
_ALL = r"all|every|each|throughout|everywhere|uniformly|whole|entire"
_RANGE = r"\d+\s*(?:(?:-|to|through)\s*\d+)?"

_REASON = re.compile(
    r"\b(?:because|since|so that|so as|which|due to|thanks to|as (?:they|it|these|those|this|the)|in order to|"
    r"given that|for (?:better|lower|best)|(?:to|that|and|thereby|thus) "
    r"(?:free\w*|lower\w*|reduc\w*|improv\w*|sav\w*|mak\w*|balanc\w*|minimi[sz]\w*)"
    r"(?: the| a)?(?: validation)? (?:loss|perplexity|error|size|parameters?|cost|room|budget|model|"
    r"accuracy|quality|results?|performance|memory|latency|up for))\b.*"
)
_WORTH = re.compile(
    r"\b(?:lower\w*|reduc\w*|decreas\w*|improv\w*|increas\w*|rais\w*|low|high|higher|better|best|good|small\w*|large\w*|"
    r"minimi[sz]\w*|big\w*)(?: the| its| a)?(?: validation| total| parameter| model)* "
    r"(?:loss\w*|perplexity|error|accuracy|latency|parameters?|costs?|size|quality|performance|results?|budget|designs?|"
    r"models?|count)\b(?! of)"
)
_HARM = re.compile(
    r"\b(?:hurt\w*|harm\w*|worse\w*|degrad\w*|damag\w*|bad|"
    r"(?:higher|more|increas\w*|rais\w*)(?: the| a)?(?: validation)? (?:loss\w*|perplexity|error))\b"
)
_GRADE = re.compile(
    r"\b(?:more|less|most|least|highly|high|low|higher|lower) (?:\w+ly )?(?:sensitiv\w*|salien\w*|important|critical|"
    r"redundan\w*|efficien\w*|useful|stable|balanced|uniform|likely|effective|valuable|robust|importance|often|"
    r"aggressive\w*|expressive|capacity|than)\b"
)
_NEGATION = re.compile(
    r"\b(?:not|never|no|don'?t|doesn'?t|without|avoid\w*|cannot|can't|shouldn'?t|nor|neither|unless|if)\b"
)
_FORBIDDEN = re.compile(
    rf"\b(?:avoid|(?:do|should|must) not|don'?t|shouldn'?t|never|without) (?:be |to )?(?=(?:{_MORE}|{_FEWER})\b)"
)
_THAN = re.compile(r"\b(?:than|compared (?:to|with)|relative to)\b(.*)")
_OTHERS = re.compile(r"\b(?:others?|rest|remaining|average|elsewhere|usual|neighbou?rs?)\b")
_SPLIT = re.compile(r"[,;.:!?]\s|[;]|\b(?:and|but|while|whereas|with|or|then|plus|yet|although|though)\b|&")


def read_claim(sentence: str, depth: int) -> Claim | None:
    """What a sentence claims of a network of this depth; None where it cannot be tested."""
    text = _prepared(sentence)
    statements: list[Statement] = []
    quantities: tuple[Quantity, ...] = ()
    parts: tuple[str, ...] | None = None
    without_parts = False
    for clause in _clauses(text):
        read = _Clause(clause, depth)
        if read.nonsense:
            return None
        quantities = read.quantities or quantities
        if read.parts is not None and without_parts:
            # "Fewer heads and wider FFN in late layers": of the heads, where is not said.
            return None
        parts = read.parts if read.parts is not None else parts
        if read.direction is None:
            continue
        if not quantities:
            return None
        without_parts = without_parts or parts is None
        for quantity in quantities:
            if quantity == "hidden_size" and read.parts not in (None, ("all",)):
                return None
            own = ("all",) if quantity == "hidden_size" or parts is None else parts
            than = () if quantity == "hidden_size" or own == ("all",) else read.than
            statements.append(Statement(quantity=quantity, direction=read.direction, parts=own, than=than))
    statements = list(dict.fromkeys(statements))
    about = {(one.quantity, one.parts) for one in statements}
    # What is to be both larger and smaller cannot be tested.
    return Claim(statements=tuple(statements)) if statements and len(about) == len(statements) else None


class _Clause:
    """What one clause names; `nonsense` where it contradicts itself."""

    def __init__(self, clause: str, depth: int) -> None:
        self.nonsense = False
        self.than: tuple[str, ...] = ()
        compared = _THAN.search(clause)
        if compared is not None:
            clause = clause[: compared.start()]
            self._compare(compared.group(1), depth)
        turned = bool(_HARM.search(clause))
        clause = _HARM.sub(" ", clause)
        forbidden = _FORBIDDEN.search(clause)
        if forbidden is not None:
            turned, clause = not turned, clause[: forbidden.start()] + clause[forbidden.end() :]
        self.quantities = tuple(_quantities(clause))
        self.parts = self._parts(clause, depth)
        self.direction: Direction | None = self._direction(clause, turned)
        if _NEGATION.search(clause) and (self.direction or self.quantities):
            self.nonsense = True

    def _compare(self, words: str, depth: int) -> None:
        found = self._parts(words, depth)
        if found is not None and found != ("all",):
            self.than = found
        elif _OTHERS.search(words):
            self.than = (REST,)
        elif not re.search(r"\b(?:now|before|the parent|parent|source|the source|currently|original|today)\b", words):
            self.nonsense = True

    def _parts(self, clause: str, depth: int) -> tuple[str, ...] | None:
        found: list[str] = []
        for listed in re.finditer(rf"\b(?:layers?|blocks?) ({_RANGE}(?:\s*\+\s*{_RANGE})*)", clause):
            found += [_range(words) for words in listed.group(1).split("+")]
        clause = re.sub(rf"\b(?:layers?|blocks?) {_RANGE}(?:\s*\+\s*{_RANGE})*", " ", clause)
        for name, count in re.findall(r"\b(first|last) (\d+)\b", clause):
            if not int(count):
                # `first 0-4`: neither so many layers nor these.
                self.nonsense = True
                continue
            found.append(f"0-{int(count) - 1}" if name == "first" else f"{max(0, depth - int(count))}-{depth - 1}")
        clause = re.sub(r"\b(?:first|last) \d+\b", " ", clause)
        found += [name for name, words in _PARTS.items() if re.search(rf"\b(?:{words})\b", clause)]
        if any(part[0].isdigit() and not _inside(part, depth) for part in found):
            self.nonsense = True
        if not found and re.search(rf"\b(?:{_ALL})\b", clause):
            return ("all",)
        return tuple(dict.fromkeys(found)) or None

    def _direction(self, clause: str, turned: bool) -> Direction | None:
        more, fewer = (bool(re.search(rf"\b(?:{words})\b", clause)) for words in (_MORE, _FEWER))
        if more and fewer:
            self.nonsense = True
            return None
        if not more and not fewer and not re.search(rf"\b(?:{_KEEP})\b", clause):
            return None
        return "fewer" if fewer is not turned else "more"


def _prepared(sentence: str) -> str:
    """Small letters, one kind of dash, without reasons, and lists of parts and of quantities held together."""
    text = re.sub(r"[\u2010-\u2015\u2212]", "-", sentence.lower()).replace("\u2019", "'")
    # Fewer than 800 channels: of the number itself nothing is tested.
    text = re.sub(r"\bthan (?:about |only )?\d+\b", " ", re.sub(r"\s+", " ", text))
    text = _WORTH.sub(lambda found: " hurts " if _HARM.fullmatch(found.group()) else " ", _REASON.sub(" ", text))
    text = _GRADE.sub(lambda found: found.group() if found.group().endswith("than") else " ", text)
    text = re.sub(rf"(?<=\d)\s*(?:,|and|&|or)\s*(?:layers? )?(?={_RANGE})", "+", text)
    text = re.sub(r"\b(?:ffn|mlp|feed-?\s?forward)(?:'s)? (?:hidden|intermediate)\b", "ffn", text)
    for kinds in (_PARTS.values(), _QUANTITIES.values()):
        words = "|".join(kinds)
        text = re.sub(
            rf"\b((?:{words})(?: layers?| blocks?| sizes?)?),? (?:and|or|&|,) (?=(?:the )?(?:{words})\b)", r"\1 ", text
        )
    return text


def _clauses(text: str) -> Iterator[str]:
    yield from (clause.strip() for clause in _SPLIT.split(text + " ") if clause.strip())


def _quantities(clause: str) -> Iterator[Quantity]:
    """The quantities that are named. Attention and FFN may be named to say of which the heads or channels are."""
    for quantity, words in _QUANTITIES.items():
        found: Iterable[str] = re.findall(rf"(?<![\w-])(?:{words})(?![\w])", clause)
        if quantity == "intermediate_size":
            if re.search(r"\bintermediate (?:layer|block)", clause):
                found = [word for word in found if word != "intermediate"]
            if re.search(r"\b(?:hidden|stem|embedding|attention) (?:widths?|channels?)\b", clause):
                found = [word for word in found if word not in ("width", "widths", "channel", "channels")]
        if list(found):
            yield quantity


def _range(words: str) -> str:
    numbers = re.findall(r"\d+", words)
    return f"{int(numbers[0])}-{int(numbers[-1])}"


def _inside(part: str, depth: int) -> bool:
    first, last = (int(number) for number in part.split("-"))
    return first <= last < depth
