"""The plain pages, rendered here, in Python: ``layout.py`` is the frame, ``html.py`` escapes everything.

There is no script but the few lines of ``mlflow_links.js``, without which every page can be read, too.
"""

from runtide_queries.server.pages import api, files, models, run, runs, status
from runtide_queries.server.pages.failures import failure_page, is_page

ROUTES = (*runs.ROUTES, *run.ROUTES, *models.ROUTES, *status.ROUTES, *api.ROUTES, *files.ROUTES)

__all__ = ["ROUTES", "failure_page", "is_page"]
