"""Template upgrades that are rehearsed before they touch the repository.

``copier update`` alone reports success although it left a conflict. It deletes a file that the
owner edited and the template dropped, and it leaves a half-updated tree if it fails. So it never
runs in the owner's repository. It runs in a clone; guards compare its result with what the owner
had; and a result that loses nothing is applied, all of it or nothing.
"""

from mlservice.upgrade.command import compare_versions, take_upgrade

__all__ = ["compare_versions", "take_upgrade"]
