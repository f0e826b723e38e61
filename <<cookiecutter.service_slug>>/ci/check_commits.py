"""Fails where a commit that is not on develop yet has a message that is not conventional.

The commit-msg hook asks the same, but it can be left out; CI cannot.
"""

import argparse
import os
import subprocess
import sys

from conventional_pre_commit.format import ConventionalCommit


def main() -> int:
    """Print each message that is refused; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("base", nargs="?", help="check what came after this commit")
    parser.add_argument("--largest", type=int, help="warn of commits that add more lines")
    given = parser.parse_args()
    # In a merge request GitLab names the commit where the branch left its target.
    target = given.base or os.environ.get("CI_MERGE_REQUEST_DIFF_BASE_SHA")
    bases = [target] if target else ["origin/develop", "develop"]
    base = next(filter(_is_there, bases), None)
    if base is None:
        if target:
            print(f"{target} is not in this clone: set GIT_DEPTH to 0 in .gitlab-ci.yml")
        return bool(target)
    refused = []
    for commit in _git("rev-list", "--no-merges", f"{base}..HEAD").stdout.split():
        message = _git("log", "-1", "--format=%B", commit).stdout
        title, _, _ = message.partition("\n")
        if not _is_taken(ConventionalCommit(message)):
            refused.append(f"{commit[:10]}: '{title}'")
        if given.largest and (added := _added(commit)) > given.largest:
            print(f"warning: {commit[:10]} adds {added:,} lines, make it several: '{title}'")
    if refused:
        print(
            "\n".join([*refused, "write them as `feat: what it does`, by git rebase --interactive"])
        )
    return bool(refused)


def _added(commit: str) -> int:
    """The lines that a commit adds, without those of moved files and of locks."""
    shown = _git("show", "--format=", "--numstat", "--find-renames", "-z", commit).stdout
    # A file is "added<tab>deleted<tab>path"; of a moved one the path is empty, and both follow.
    lines = [field.split("\t") for field in shown.split("\0") if field.count("\t") == 2]
    return sum(int(new) for new, _, path in lines if new != "-" and not _is_lock(path))


def _is_lock(path: str) -> bool:
    return ".lock" in path


def _is_taken(commit: ConventionalCommit) -> bool:
    """Whether the commit-msg hook takes it too."""
    return bool(commit.is_valid() or commit.has_autosquash_prefix())


def _is_there(commit: str) -> bool:
    return _git("rev-parse", "--quiet", "--verify", f"{commit}^{{commit}}").returncode == 0


def _git(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["git", *arguments], capture_output=True, text=True, check=False)


if __name__ == "__main__":
    sys.exit(main())
