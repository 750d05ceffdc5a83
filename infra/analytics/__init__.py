"""Questions about a store: SQL views, the HTML report, one trajectory in colour. DuckDB is used here only."""

from infra.analytics.database import ask
from infra.analytics.report import report
from infra.analytics.show import show
from infra.analytics.sql import answer, query

__all__ = ["answer", "ask", "query", "report", "show"]
