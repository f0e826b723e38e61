"""Fails where a commit that is not on develop yet has a message that is not conventional.

The commit-msg hook asks the same, but it can be left out; CI cannot.
"""

import os
import subprocess
import sys

from conventional_pre_commit.format import ConventionalCommit


def main() -> int:
    """Print each message that is refused; returns the exit code."""
    # In a merge request GitLab names the commit where the branch left its target.
    target = os.environ.get("CI_MERGE_REQUEST_DIFF_BASE_SHA")
    bases = [target] if target else ["origin/develop", "develop"]
    base = next(filter(_is_there, bases), None)
    if base is None:
        if target:
            print(f"{target} is not in this clone: set GIT_DEPTH to 0 in .gitlab-ci.yml")
        return bool(target)
    refused = []
    for commit in _git("rev-list", "--no-merges", f"{base}..HEAD").stdout.split():
        message = _git("log", "-1", "--format=%B", commit).stdout
        if not _is_taken(ConventionalCommit(message)):
            title, _, _ = message.partition("\n")
            refused.append(f"{commit[:10]}: '{title}'")
    if refused:
        print(
            "\n".join([*refused, "write them as `feat: what it does`, by git rebase --interactive"])
        )
    return bool(refused)


def _is_taken(commit: ConventionalCommit) -> bool:
    """Whether the commit-msg hook takes it too."""
    return bool(commit.is_valid() or commit.has_autosquash_prefix())


def _is_there(commit: str) -> bool:
    return _git("rev-parse", "--quiet", "--verify", f"{commit}^{{commit}}").returncode == 0


def _git(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["git", *arguments], capture_output=True, text=True, check=False)


if __name__ == "__main__":
    sys.exit(main())
