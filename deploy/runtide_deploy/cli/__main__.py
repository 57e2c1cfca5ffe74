"""``python -m runtide_deploy.cli`` is ``runtide``."""

from runtide_deploy.cli.main import main

main()
