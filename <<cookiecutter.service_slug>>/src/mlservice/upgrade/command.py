"""The two things a user asks for: is an upgrade due, and take it.

Nothing is written to the repository before every guard is silent; then ``git apply`` writes
all files and the index, or none.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from mlservice.errors import UpgradeError
from mlservice.upgrade.answers import ANSWERS_FILE, Answers, read_answers
from mlservice.upgrade.copier import require_copier
from mlservice.upgrade.git import Git, clean_environment
from mlservice.upgrade.guards import faults
from mlservice.upgrade.rehearsal import Place, Rehearsal, find_markers, find_rejects, rehearse
from mlservice.upgrade.report import next_steps, summary
from mlservice.upgrade.source import commit_of, fetch, is_due, newest_tag

_NOTHING = "The upgrade was not taken; nothing in this repository has changed."


@dataclass(frozen=True)
class Versions:
    """The recorded and the newest version of the template, and whether an upgrade is due."""

    recorded: str
    newest: str
    due: bool

    def describe(self) -> str:
        """One line for people."""
        verdict = "an upgrade is due: run `make upgrade`" if self.due else "up to date"
        return f"template {self.recorded}, newest {self.newest}: {verdict}"


def compare_versions(folder: Path, environ: Mapping[str, str]) -> Versions:
    """Compare the recorded version with the newest; raises ``UpgradeError``."""
    _locate(folder, environ)
    answers = read_answers(folder)
    with _scratch() as scratch:
        newest, due, _ = _compare(answers, scratch, environ)
    return Versions(answers.commit, newest, due)


def take_upgrade(
    folder: Path, environ: Mapping[str, str], data: Mapping[str, str] | None = None
) -> str:
    """Take the newest version, staged and not committed; returns the report.

    ``data`` answers what the new version asks anew or does not accept any more. Raises
    ``UpgradeError``, with the repository as it was, where anything of the owner's is at stake.
    """
    place = _locate(folder, environ)
    answers = read_answers(folder)
    with _scratch() as scratch:
        newest, due, known = _compare(answers, scratch, environ)
        if not due:
            return _up_to_date(place, answers.commit, newest)
        require_copier()
        _require_clean(place)
        if not known:
            raise UpgradeError(_UNKNOWN.format(commit=answers.commit, newest=newest))
        found = rehearse(place, answers, newest, data or {}, scratch, environ)
        words = summary(found, answers.package, answers.commit, newest)
        if wrong := faults(found, answers.package, newest):
            shown = "\n".join(f"- {fault}" for fault in wrong)
            raise UpgradeError(f"{words}\n{shown}\n{_NOTHING}")
        _apply(place, found)
    return f"{words}\n{next_steps(found, newest)}"


_UNKNOWN = (
    f"_commit: '{{commit}}' in {ANSWERS_FILE} is not in the template any more, so your edits "
    "cannot be told from its text: ask the template's owners to bring the tag or commit back, or "
    "write the tag that your files are nearest to there and commit it (newest: {newest})"
)


@contextmanager
def _scratch() -> Iterator[Path]:
    """A folder for everything that is tried; what cannot be removed from it is no fault."""
    with TemporaryDirectory(prefix="mlservice-upgrade-", ignore_cleanup_errors=True) as folder:
        yield Path(folder).resolve()


def _locate(folder: Path, environ: Mapping[str, str]) -> Place:
    folder = folder.resolve()
    service = Git(folder, clean_environment(environ, alone=False))
    top = service.attempt("rev-parse", "--show-toplevel")
    if top is None:
        raise UpgradeError(f"{folder} is not a git repository: make it one by `make init`")
    if service.attempt("rev-parse", "--verify", "--quiet", "HEAD") is None:
        raise UpgradeError(f"{folder} has no commit yet: `git add --all` and commit first")
    prefix = folder.relative_to(Path(top).resolve()).as_posix()
    outer = Git(Path(top), service.environ)
    return Place(outer, service, "" if prefix == "." else f"{prefix}/")


def _compare(answers: Answers, scratch: Path, environ: Mapping[str, str]) -> tuple[str, bool, bool]:
    """The newest version, whether it is due, and whether the recorded one is still there."""
    template = fetch(answers.source, scratch / "template.git", environ)
    newest = newest_tag(template, answers.source)
    known = commit_of(template, answers.commit) is not None
    return newest, is_due(template, answers.commit, newest), known


def _up_to_date(place: Place, current: str, newest: str) -> str:
    words = f"template {current}, newest {newest}: up to date"
    if place.service.attempt("diff", "--quiet", "HEAD", "--", ANSWERS_FILE) is None:
        words += "; the upgrade to it is not committed yet: review it by `git diff --cached`"
    return words


def _require_clean(place: Place) -> None:
    """Refuse what the clone would lack, and what an earlier upgrade left behind."""
    git = place.service
    status = git.paths(
        "status", "--porcelain", "-z", "--no-renames", "--untracked-files=normal", "."
    )
    dirty = [line[3:] for line in status if not line.startswith("??")]
    untracked = [line[3:] for line in status if line.startswith("??")]
    _refuse(dirty, "changes that are not committed: commit them, or `git stash`")
    _refuse(untracked, "files that git does not know: commit, ignore or remove them")
    _refuse(find_markers(git), "conflict markers of an earlier merge: solve, commit")
    _refuse(find_rejects(git), "rejected changes of an earlier update: work them in and delete")


def _refuse(paths: list[str], fault: str) -> None:
    if paths:
        more = f" and {len(paths) - _SHOWN} more" if len(paths) > _SHOWN else ""
        raise UpgradeError(f"{', '.join(paths[:_SHOWN])}{more}: {fault}; then upgrade again")


_SHOWN = 10


def _apply(place: Place, found: Rehearsal) -> None:
    patch = found.git.run(
        "diff-tree", "-r", "-p", "--binary", "--full-index", "--no-renames", "--no-ext-diff",
        "--no-textconv", "--no-color", "HEAD", found.result_id,
    )  # fmt: skip
    # A copied or touched file has another time than the index knows, which apply would refuse.
    place.top.attempt("update-index", "-q", "--refresh")
    try:
        place.top.run("apply", "--index", "--whitespace=nowarn", "-", stdin=patch)
    except UpgradeError as error:
        raise UpgradeError(
            f"{error}\nmove the files that are named out of the way and upgrade again. {_NOTHING}"
        ) from error
