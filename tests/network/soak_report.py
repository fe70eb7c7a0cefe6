"""What a soak reports: in Markdown, its figures and tables."""

from collections import Counter


def report(soak):
    """The report of a soak, so far or at its end."""
    parts = [_figures(soak), _faults(soak), _absences(soak), _memory(soak), [f"- {note}" for note in soak.notes]]
    return "\n".join("\n".join(part) + "\n" for part in parts if part)


def _figures(soak):
    records, sites = soak.found.records, len(soak.found.sites)
    seconds, missed = sorted(item.seconds for item in records[1:]), soak.found.missed
    most = seconds[len(seconds) * 95 // 100]
    kinds, again = len({fault.kind for fault, *_ in soak.done}), sum(soak.again.values())
    text = f"""
- {sites} sites, {len(records) - 1} rounds, {len(soak.done)} faults of {kinds} kinds in {soak.seconds / 60:.0f} minutes
- exit code of the run: {"it goes on" if soak.running.poll() is None else soak.running.poll()}
- seconds per round: median {seconds[len(seconds) // 2]:.1f}, 95 of 100 below {most:.1f}, longest {seconds[-1]:.1f}
- absences: {len(missed)} of {sites * (len(records) - 1)} trainings, in {len({number for _, number in missed})} rounds
- fewest sites in a round: {_fewest(records, sites)}
- everything checked {soak.invariants.count} times
- run resumed by hand {soak.resumes} times; {again} members that had ended started again
"""
    return text.strip().splitlines()


def _fewest(records, sites):
    return min((sum(e.status == "accepted" for e in item.sites.values()) for item in records[1:]), default=sites)


def _faults(soak):
    rows = []
    for kind, times in sorted(Counter(fault.kind for fault, *_ in soak.done).items()):
        took = [seconds for fault, _, seconds in soak.done if fault.kind == kind]
        rows.append(f"| {kind} | {times} | {max(took):.0f} |")
    return ["| fault | times | longest until the next round was committed, s |", "|---|---|---|", *rows]


def _absences(soak):
    entries = [entry for item in soak.found.records[1:] for entry in item.sites.values() if entry.status != "accepted"]
    why = Counter(f"{entry.status}: {entry.reason}" for entry in entries)
    rows = [f"| {reason} | {times} |" for reason, times in why.most_common()]
    return ["| why a site missed a round | times |", "|---|---|", *rows]


def _memory(soak):
    rows = [
        f"| {name}: {what} | {lived} | {early:.0f} | {late:.0f} |"
        for name, what, lived, early, late in sorted(soak.memory.grown())
    ]
    return ["| process | rounds | MB when warm | MB at the end |", "|---|---|---|---|", *rows]
