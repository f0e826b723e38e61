"""Template upgrades that are rehearsed before they touch the repository.

``copier update`` alone says success where it left a conflict, deletes a file that the owner
edited and the template dropped, and leaves a half-updated tree when it fails. So it is never
run in the owner's repository: it runs in a clone, guards compare what it did with what the
owner had, and only a result without a fault is applied, all of it or nothing.
"""

from mlservice.upgrade.command import compare_versions, take_upgrade

__all__ = ["compare_versions", "take_upgrade"]
