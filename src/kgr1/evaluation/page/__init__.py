"""The report: evaluations as one HTML page that needs nothing beside it."""

from kgr1.evaluation.page.build import build_page

__all__ = ["build_page"]
