"""``python -m runtide_deploy.broker``; see ``command``."""

import sys

if __name__ == "__main__":
    # kio describes its types to Hypothesis where that is installed: a third of the broker's start and a sixth of its
    # memory, and no use to a broker. None makes the import fail as if it were not installed, in this process only.
    sys.modules["hypothesis"] = None  # type: ignore[assignment]  # documented: None blocks a module's import

from runtide_deploy.broker.command import main  # after the line above, which it is for

if __name__ == "__main__":
    sys.exit(main())
