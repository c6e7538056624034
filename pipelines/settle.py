"""Ends a phase: gathers what its workers did, checks it, writes it down, publishes, and names what the next phase reads."""

from __future__ import annotations

import time
from collections.abc import Sequence

from pipelines import forwarding, journal
from pipelines.errors import Failed
from pipelines.facts import Facts, Plain
from pipelines.job import Job
from pipelines.kernel import Program
from pipelines.ledger import imbalances, total
from pipelines.lending import as_of, lent_splits
from pipelines.node import Get, Json, Post, Publication
from pipelines.outcomes import too_many
from pipelines.plan import Station
from pipelines.publishing import due, is_staged
from pipelines.quality.findings import Finding, WholeRules
from pipelines.reading import begin
from pipelines.retry import attempts
from pipelines.wide import spilled_splits, wide_splits


def settle(job: Job, phase: int, facts: Sequence[Facts]) -> list[Plain]:
    """Settles a phase and gives the splits of the next. Called again after a crash it goes on where it was."""
    job = as_of(job, phase)
    held: forwarding.Open = {}
    try:
        spills = _settled_phase(job, phase, facts, held)
    finally:
        forwarding.abandon(held)
    job.watch.spills.extend(spills)
    earlier = [spill for before in range(phase) for spill in _facts_of(job, before).spills]
    known = job.watch.spills if job.is_dry else [*earlier, *spills]
    then = as_of(job, phase + 1)
    if phase + 1 >= then.plan.phases:
        return []
    wide = [*wide_splits(known, job, phase), *lent_splits(then, phase + 1)]
    return [*wide, *spilled_splits(known, then, phase + 1), *begin(then, phase + 1)]


def _settled_phase(job: Job, phase: int, facts: Sequence[Facts], held: forwarding.Open) -> list[Plain]:
    """Checks a phase, writes it down and publishes its posts; gives what it spilled for later ones."""
    known = journal.load_phase(job, phase)
    planned = None if known or job.is_dry else journal.load_planned(job, phase)
    forwarded = [] if known else forwarding.forward(job, phase, held)
    if not held:
        release(job, phase)
    whole = known or gather(job, [Facts(positions=planned["positions"] if planned else {}), *facts, *forwarded])
    findings = _findings(job, phase, whole)
    if known is None and not job.is_dry:
        whole.pieces.extend(_noted(job, planned["notes"] if planned else [], findings))
        journal.save_phase(job, phase, whole)
    _check_balance(job, phase, whole)
    _check_thresholds(job, phase, whole)
    _check_findings(findings)
    spills = list(whole.spills)
    posts = due(job.plan, phase) if not job.is_dry else []
    if len(held) < len(posts):  # what others publish may wait for what the gets keep open
        release(job, phase)
    for post in posts:
        done = whole if post.phase == phase else _facts_of(job, post.phase)
        spills.extend(_publish(job, post, done, held).spills)
    release(job, phase)
    return spills


def release(job: Job, phase: int | None = None) -> None:
    """Lets go of what the gets of a phase (None: of all) kept open while their splits were read."""
    for station in job.plan.gets():
        if phase in (None, station.phase) and isinstance(station.spec.config, Get):
            if phase is not None and _is_kept(station, job, phase):
                continue
            station.spec.config.release(job.scope.inside(station.name))


def _is_kept(station: Station, job: Job, phase: int) -> bool:
    """Whether another get will still read the moment that this one has read, because it had to wait."""
    config = station.spec.config
    alike = [other for other in job.plan.gets() if other.spec.type == station.spec.type]
    return (
        isinstance(config, Get)
        and config.reads_one_moment
        and any(other.phase > phase and other.waits_for for other in alike)
    )


def gather(job: Job, facts: Sequence[Facts]) -> Facts:
    """What all workers did, as one."""

    def later(node: str, one: Json, other: Json) -> Json:
        config = job.plan.stations[node].spec.config
        return config.later(one, other) if isinstance(config, Get) else other

    whole = Facts()
    for some in facts:
        whole.add(some, later)
    return whole


def all_facts(job: Job) -> Facts:
    """Everything the journal knows of a run: its phases, its publications, and receipts of what was published."""
    found: list[Facts] = []
    for phase in range(job.plan.phases):
        facts = journal.load_phase(job, phase)
        if facts is not None:
            found.append(facts)
    for station in job.plan.posts():
        if not is_staged(station.spec.config):
            continue
        settled = journal.load_settled(job, station.name)
        if journal.is_published(job, station.name) and settled is not None:
            found.append(settled)
    whole = gather(job, found)
    for station in job.plan.posts():
        if is_staged(station.spec.config) and journal.is_published(job, station.name):
            whole.pieces.extend(whole.receipts.get(station.name, ()))
    return whole


def _earlier(job: Job, phase: int) -> list[Facts]:
    """What phases before this one, and their publications, have done."""
    posts = [station.name for station in job.plan.posts() if station.phase < phase]
    found = [journal.load_phase(job, before) for before in range(phase)]
    found += [journal.load_settled(job, node) for node in posts]
    return [facts for facts in found if facts is not None]


def _facts_of(job: Job, phase: int) -> Facts:
    return journal.load_phase(job, phase) or Facts()


def _check_balance(job: Job, phase: int, whole: Facts) -> None:
    """The ledger of this phase's nodes, before anything is published. What is pending is told by the publication."""
    if job.is_dry:
        return
    here = {name for name, station in job.plan.stations.items() if station.phase == phase}
    so_far = total([whole.ledger, *(facts.ledger for facts in _earlier(job, phase))])
    links = [link for link in job.plan.links() if link[2] in here]
    wrong = list(imbalances(so_far, links, nodes=here, pending=True))
    if wrong:
        raise Failed(
            "the ledger does not balance: " + "; ".join(wrong) + "; nothing staged in this phase was published"
        )


def _check_thresholds(job: Job, phase: int, whole: Facts) -> None:
    for station in job.plan.stations.values():
        counts = whole.ledger.of(station.name)
        limit = station.rejects.limit(counts.taken)
        if station.phase == phase and not job.is_dry and limit is not None and counts.rejected > limit:
            raise Failed(too_many(station, counts.rejected, counts.taken))


def _findings(job: Job, phase: int, whole: Facts) -> list[tuple[Station, Finding]]:
    """What the rules over all records of a node found, before anything is published."""
    return [
        (station, finding)
        for station in job.plan.stations.values()
        if station.phase == phase and not job.is_dry and isinstance(station.spec.config, WholeRules)
        for finding in station.spec.config.verify(
            whole.whole.get(station.name, []), station.schema, job.scope.inside(station.name)
        )
    ]


def _noted(job: Job, notes: Sequence[Sequence[str]], findings: Sequence[tuple[Station, Finding]]) -> list[Plain]:
    """What gets said of what they would read, and every finding, as transactions of the data log."""
    tap = job.open_tap(job.tap_plan)
    for node, note in notes:
        tap.transaction(node, "planned", note=note)
    for station, finding in findings:
        what = "rule held" if finding.passed else "rule broken"
        tap.transaction(
            station.name,
            what,
            rule=finding.rule,
            severity=finding.severity,
            observed=str(finding.observed),
            message=finding.message,
        )
    return [dict(piece) for piece in tap.close()]


def _check_findings(findings: Sequence[tuple[Station, Finding]]) -> None:
    broken = [f"node {station.name!r}: {finding.message}" for station, finding in findings if finding.stops]
    if broken:
        raise Failed("; ".join(broken) + "; nothing staged in this phase was published")


def _publish(job: Job, station: Station, whole: Facts, held: forwarding.Open) -> Facts:
    """Makes one staged post visible, unless it is already; gives what its publication told."""
    settled = journal.load_settled(job, station.name)
    if settled is not None and journal.is_published(job, station.name):
        return settled
    policy = attempts(station.retry, job.watch.stop, lambda attempt, fault: None)
    settled = policy(_publish_once, job, station, whole, held)
    journal.save_published(job, station.name)
    return settled


def _publish_once(job: Job, station: Station, whole: Facts, held: forwarding.Open) -> Facts:
    config = station.spec.config
    assert isinstance(config, Post)
    known = journal.load_settled(job, station.name)
    if known is not None and config.is_published(job.scope.inside(station.name), job.token(station.name)):
        return known  # it had been committed when the process died, or the connection before it could say so
    parts = whole.parts.get(station.name, [])
    if forwarding.is_forwarded(parts):
        return forwarding.publish(job, station, parts, held)
    publication = config.publish(parts, station.schema, job.scope.inside(station.name), job.token(station.name))
    program = Program(job, station.phase)
    try:
        settled = _settled(program, station, publication, sum(part.rows for part in parts))
        _check_refused(station, whole, settled)
        journal.save_settled(job, station.name, settled)
        publication.commit()
    except BaseException:
        publication.abandon()
        raise
    return settled


def _check_refused(station: Station, whole: Facts, settled: Facts) -> None:
    """The threshold once more, now that the target has told what it refuses; nothing of it is committed yet."""
    taken = whole.ledger.of(station.name).taken
    rejected = whole.ledger.of(station.name).rejected + settled.ledger.of(station.name).rejected
    limit = station.rejects.limit(taken)
    if limit is not None and rejected > limit:
        raise Failed(too_many(station, rejected, taken))


def _settled(program: Program, station: Station, publication: Publication, staged_rows: int) -> Facts:
    """Applies what the target tells of records that were pending."""
    config = station.spec.config
    assert isinstance(config, Post)
    counts = program.facts.ledger.of(station.name)
    started = time.perf_counter()
    for batch, outcome in publication.settle():
        counts.pending -= batch.num_rows
        program.apply(station, batch, outcome)
        if config.keeps_ids:
            refused = len(outcome.rejects.codes) if outcome.rejects else 0
            counts.delivered += batch.num_rows - outcome.filtered - refused
    counts.seconds += time.perf_counter() - started
    if not config.keeps_ids:
        counts.delivered += staged_rows
    program.warn(station.name, getattr(publication, "warnings", ()))
    return program.close()
