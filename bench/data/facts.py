"""The facts of a case: measured once, and remembered as long as its files do not change."""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from bench.data.cache import cache_dir, write_once
from bench.data.cases import Case
from bench.data.grid import tuples
from bench.data.measure import CaseFacts, Intensity, measure
from results.record import digest_of

#: Part of the address of stored facts: raise it when CaseFacts or what is measured changes.
FACTS_VERSION = 5


def files_of(case: Case) -> tuple[Path, ...]:
    """The image's files, one or one a channel, then the label."""
    return (*case.images, case.label)


def read_facts(cases: Sequence[Case]) -> list[CaseFacts]:
    """The facts of every case, several at a time."""
    with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:  # unzipping and hashing release the lock
        return list(pool.map(case_facts, cases))


def case_facts(case: Case) -> CaseFacts:
    """The facts of a case, from the cache if path, size and time of all files are those of the last reading."""
    facts = _file_facts(case)
    return _merged(facts, case.merged) if case.merged and not facts.errors else facts


def _merged(facts: CaseFacts, classes: int) -> CaseFacts:
    """The facts of a label whose values 1 to classes are one; a value beyond them stays, to be complained of."""
    counts: Counter[int] = Counter()
    for value, number in facts.counts.items():
        counts[1 if 1 <= value <= classes else value] += number
    return replace(facts, label_digest=digest_of([facts.label_digest, "merged"], 64), counts=dict(counts))


def _file_facts(case: Case) -> CaseFacts:
    try:
        stamps = [[str(p.resolve()), p.stat().st_size, p.stat().st_mtime_ns] for p in files_of(case)]
    except (OSError, RuntimeError):  # missing, or a loop of links: measuring it says which
        return measure(files_of(case))
    target = cache_dir() / "facts" / f"{digest_of([FACTS_VERSION, stamps], 32)}.json"
    if target.is_file():
        return _from_json(json.loads(target.read_text()))
    facts = measure(files_of(case))
    if not facts.errors:
        write_once(target, lambda path: _write(path, asdict(facts)))
    return facts


def content_digest(cases: Iterable[Case]) -> str:
    """SHA-256 over ids, patients and uncompressed file contents, in the order of the ids."""
    cases = list(cases)
    return digest_of_facts(cases, [case_facts(case) for case in cases])


def digest_of_facts(cases: Iterable[Case], facts: Iterable[CaseFacts]) -> str:
    """`content_digest` of cases whose facts are known."""
    pairs = zip(cases, facts, strict=True)
    lines = sorted(f"{case.id}\t{case.patient}\t{fact.image_digest}\t{fact.label_digest}\n" for case, fact in pairs)
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _write(path: Path, body: dict[str, Any]) -> None:
    path.write_text(json.dumps(body))


def _from_json(body: dict[str, Any]) -> CaseFacts:
    lists = {key: tuples(value) for key, value in body.items() if isinstance(value, list)}
    counts = {int(value): number for value, number in body["counts"].items()}
    intensity = tuple(Intensity(*values) for values in body["intensity"])
    return CaseFacts(**(body | lists | {"counts": counts, "intensity": intensity}))
